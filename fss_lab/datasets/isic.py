"""ISIC 2018, task 1 (Codella et al., 2019): outlines of skin lesions, in the three classes of cross-domain papers.

Expects below `root`, or below `root/isic`:

    ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg, ...      the photographs, there or in folders of it
    ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png, ...     0 outside, 255 inside the lesion
    class_id.csv        lines such as "ISIC_0000000,nevus" below the head "ID,Class"

The challenge has no classes in this task. Papers on other domains take the table of Lei et al., 2022 (PATNet), whose
repository has it as data/isic/class_id.csv. All three classes are novel: nothing is trained on this set. The
challenge offers 2,594 training images; counts by class are not published.
"""

from __future__ import annotations

import csv

from torch import Tensor

from fss_lab.datasets.listed import ListedPhotos, grey_mask
from fss_lab.errors import DataError, InputError
from fss_lab.images import load_image

CLASS_NAMES = ("nevus", "melanoma", "seborrheic_keratosis")
PHOTOS, MASKS, TABLE = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", "class_id.csv"


class Isic2018(ListedPhotos):
    """All photographs that have a class, each for one; see `ListedPhotos`. names: "ISIC_0000000"."""

    title, layout, below, class_uniform, classes = "ISIC 2018", (MASKS, TABLE), "isic", True, (0, 1, 2)

    def look(self, part: str, drop: bool) -> str:
        if self.split == "base":
            raise InputError("all classes of ISIC are novel: train on another data set, and score those weights here")
        self._photos = {path.stem: path for path in sorted((self.root / PHOTOS).rglob("ISIC_*.jpg"))}
        masks = {path.name.removesuffix("_segmentation.png") for path in (self.root / MASKS).glob("ISIC_*.png")}
        self._counts = {name: (c,) for name, c in self._table().items() if name in self._photos and name in masks}
        if not self._counts:
            raise DataError(f"{self.root} has no photograph in {PHOTOS} with a mask in {MASKS} and a line in {TABLE}")
        return "training"

    def class_name(self, class_id: int) -> str:
        return CLASS_NAMES[class_id]

    def image(self, name: str) -> Tensor:
        return load_image(self._photos[name])

    def label(self, name: str) -> Tensor:
        mask = grey_mask(self.root / MASKS / f"{name}_segmentation.png", self._photos[name])
        return mask * (self.counts_for(name)[0] + 1)

    def _table(self) -> dict[str, int]:
        """Class ids by image."""
        path, ids = self.root / TABLE, {name: class_id for class_id, name in enumerate(CLASS_NAMES)}
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                return {row["ID"]: ids[row["Class"].strip()] for row in csv.DictReader(file)}
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path} is not the table of classes ({type(error).__name__}: {error}); expected the head ID,Class and "
                f"lines such as ISIC_0000000,nevus with one of {', '.join(CLASS_NAMES)}"
            ) from error
