"""Photographs with label maps as an `ImageSet`, by the rules of PFENet, BAM and FSSAM, for PASCAL-5i and COCO-20i.

An image counts for a class that covers at least 2 x 32 x 32 = 2,048 of its pixels. Base classes: images that show a
novel class, from its first pixel on, are dropped, or kept with it as background, as the protocol says. An image that
counts for no class of the split is left out of it.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from fss_lab.datasets.folds import classes_of
from fss_lab.datasets.index import LabelMap, read_label, refuse, scan_labels, scan_photos, size_mismatch
from fss_lab.datasets.protocols import Counted, benchmark
from fss_lab.errors import DataError, InputError
from fss_lab.images import load_image

LEAST_AREA = 2 * 32 * 32
PARTS = ("train", "val")


@dataclass(frozen=True)
class Files:
    """Of one list of a data set: the folders of `name.jpg` and `name.png`, and the names to choose from."""

    photos: Path
    labels: Path
    names: Sequence[str]


class LabelledPhotos(Counted, ABC):
    """The images of one fold and split of a data set, an `ImageSet`; a data set is a subclass that says where they are.

    title: in the set's name. class_names: of all classes, by class id; a class's label is one more. novel: class ids
    that each fold holds out.
    """

    title: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    novel: ClassVar[tuple[tuple[int, ...], ...]]
    class_uniform = False

    def __init__(
        self,
        root: str | Path,
        fold: int,
        split: str = "novel",
        *,
        part: str | None = None,
        protocol: str = "fssam",
        skip_bad: bool = False,
    ) -> None:
        """root: the data set's folder, see `home`. fold: 0..3, whose classes are novel.

        split: "base" or "novel", which classes are asked for.
        part: which list, "train" or "val"; None: train for base, val for novel classes. Base classes in "val" are
            images seen neither in training nor in any test.
        protocol: says what happens to images of base classes that show a novel one too, see
            `fss_lab.datasets.protocols.Benchmark`.
        skip_bad: leave bad files out with a warning that names them (photographs are then all decoded once); otherwise
            bad label maps are refused now, and bad photographs when they are read.

        Raises InputError for another fold, split, part or protocol; DataError for missing lists, bad label maps, or no
        image at all.
        """
        part = default_part(split, part)
        files = self.files(self.home(root), part)
        self.classes = classes_of(self.novel, fold, split)
        self.photos, self.labels, self.fold, self.split = files.photos, files.labels, fold, split
        maps, bad = scan_labels(files.labels, files.names, len(self.class_names))
        if skip_bad:
            bad += scan_photos(files.photos, maps)
            for name in {file.path.stem for file in bad}:
                maps.pop(name, None)
        else:
            refuse(bad, str(files.labels))
        drop = self.novel[fold] if split == "base" and benchmark(protocol).training_images == "drop" else ()
        self._counts = select(maps, self.classes, drop)
        self._sizes = {name: maps[name].size for name in self._counts}
        if not self._counts:
            raise DataError(
                f"{files.labels}: no image counts for the {split} classes of fold {fold}; see `fss-lab data check`"
            )
        left_out = f" ({len(bad)} bad file(s) left out)" if bad else ""
        self.name = f"{self.title} {part}, {len(self._counts)} images{left_out}"
        self.skipped = tuple(bad)
        if bad:
            warnings.warn(f"{self.title} {part}: skipped {'; '.join(map(str, bad))}", stacklevel=2)

    @staticmethod
    @abstractmethod
    def home(root: str | Path) -> Path:
        """The data set's folder: `root`, or one below it. Raises DataError where there is none."""

    @staticmethod
    @abstractmethod
    def files(home: Path, part: str) -> Files:
        """The files of "train" or "val". Raises DataError for missing or wrong lists."""

    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8. Raises DataError, ImageError or FileNotFoundError that name a bad photograph."""
        path = self.photos / f"{name}.jpg"
        image = load_image(path)
        if image.shape[1:] != self._sizes[name]:
            raise DataError(f"{path} {size_mismatch(image.shape[1:], self._sizes[name])}")
        return image

    def label(self, name: str) -> Tensor:
        """(H, W) uint8: 0 = background, class id + 1, 255 = ignore. Raises DataError for a bad label map."""
        return torch.from_numpy(read_label(self.labels / f"{name}.png"))

    def class_name(self, class_id: int) -> str:
        """What a class shows."""
        return self.class_names[class_id]


def select(
    maps: Mapping[str, LabelMap], classes: Sequence[int], drop: Sequence[int] = ()
) -> dict[str, tuple[int, ...]]:
    """The images that count for some of `classes`, and for which; without those that show a pixel of a `drop` class."""
    counts = {}
    for name, label in maps.items():
        if not any(c + 1 in label.areas for c in drop):
            covering = tuple(c for c in classes if label.areas.get(c + 1, 0) >= LEAST_AREA)
            if covering:
                counts[name] = covering
    return counts


def default_part(split: str, part: str | None) -> str:
    """Which list of a data set a split is taken from, if nobody chooses: novel classes are tested on "val".

    Raises InputError for another part.
    """
    part = part or ("train" if split == "base" else "val")
    if part not in PARTS:
        raise InputError(f'part must be "train" or "val", got {part!r}')
    return part


def read_list(path: Path) -> list[str]:
    """The names in an image list, one a line. Raises DataError for a missing or empty list, or a name given twice."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "is no text"
        raise DataError(f"{path} {reason}; it comes with the data set: see `fss-lab data get --help`") from error
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not names:
        what = f"names {', '.join(twice[:5])} more than once" if twice else "names no image"
        raise DataError(f"{path} {what}; take the data set's own file")
    return names
