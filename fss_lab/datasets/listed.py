"""Photographs of a data set in a format of its own, as an `ImageSet`: what such sets share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fss_lab.datasets.folds import check_fold, check_split
from fss_lab.datasets.labelled import default_part
from fss_lab.datasets.protocols import Counted, ImageSet, benchmark
from fss_lab.errors import DataError, InputError
from fss_lab.images import DECODING_ERRORS

THRESHOLD = 128  # grey level from which a pixel of a black and white mask is the object


class ListedPhotos(Counted, ABC):
    """The images of one fold and split, an `ImageSet`; a data set is a subclass that says which these are.

    title: in the set's name. folds: how many. layout: files or folders of it, of which one must be there; below: its
    usual folder. skipped: the images that were left out.
    """

    title: ClassVar[str]
    folds: ClassVar[int] = 1
    layout: ClassVar[tuple[str, ...]]
    below: ClassVar[str]
    classes: tuple[int, ...]
    class_uniform = False

    def __init__(
        self,
        root: str | Path,
        fold: int = 0,
        split: str = "novel",
        *,
        part: str | None = None,
        protocol: str = "fssam",
        skip_bad: bool = False,
    ) -> None:
        """As `fss_lab.datasets.labelled.LabelledPhotos`; skip_bad: read all files now, and leave out the bad.

        Raises InputError for another fold, split, part or protocol; DataError for missing or damaged files.
        """
        if fold != 0 and self.folds == 1:
            raise InputError(f"{self.title} has no folds, only 0, got {fold!r} (--fold 0, --folds 0)")
        check_fold(fold, self.folds)
        check_split(split)
        self.root, self.fold, self.split = self.home(root), fold, split
        drop = benchmark(protocol).training_images == "drop" and split == "base"
        chosen = self.look(default_part(split, part), drop)
        self.skipped = tuple(name for name in self.names if problem(self, name)) if skip_bad else ()
        for name in self.skipped:
            del self._counts[name]
        left_out = f" ({len(self.skipped)} bad file(s) left out)" if self.skipped else ""
        self.name = f"{self.title} {chosen}, {len(self.classes)} classes, {len(self)} images{left_out}"

    @classmethod
    def home(cls, root: str | Path) -> Path:
        """The data set's folder: `root` itself or the usual one below. Raises DataError where there is none."""
        for path in (Path(root), Path(root) / cls.below):
            if any((path / name).exists() for name in cls.layout):
                return path
        raise DataError(f"{root} holds no {cls.title}: expected {', '.join(cls.layout)} in it or in {cls.below}")

    @abstractmethod
    def look(self, part: str, drop: bool) -> str:
        """Set `classes` and `_counts` for "train" or "val", without images of novel classes if `drop`; returns the name
        of the list."""

    @abstractmethod
    def class_name(self, class_id: int) -> str:
        """What a class shows."""

    @abstractmethod
    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8. Raises ImageError or FileNotFoundError that name a bad photograph."""

    @abstractmethod
    def label(self, name: str) -> Tensor:
        """(H, W) int16: 0 = background, class id + 1, 255 = ignore. Raises DataError for a bad mask."""


def grey_mask(path: Path, photo: Path) -> Tensor:
    """A black and white mask, (H, W) int16: 1 from grey level `THRESHOLD` on, else 0.

    Raises DataError for a file that cannot be read, and for a mask of another size than its photograph.
    """
    try:
        with Image.open(path) as image, Image.open(photo) as beside:
            size, grey = beside.size, np.array(image.convert("L"))
    except DECODING_ERRORS as error:
        raise DataError(f"{path} or its photograph cannot be used ({error}); unpack it again") from error
    if grey.shape[::-1] != size:
        raise DataError(f"{path} is {grey.shape[1]} x {grey.shape[0]} pixels, its photograph {size[0]} x {size[1]}")
    return torch.from_numpy((grey >= THRESHOLD).astype(np.int16))


def problem(images: ImageSet, name: str) -> str:
    """What is wrong with an image or its label, in words, or ""."""
    try:
        images.image(name), images.label(name)
    except (OSError, ValueError) as error:
        return str(error)
    return ""
