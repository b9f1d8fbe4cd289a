"""Your own classes as a benchmark: the photos of a `Folder`, cut by class into folds.

Without a file of folds the classes are dealt out by the hash of their names, so the same folder has the same folds
everywhere, and one more class moves no other by more than its place in the row. A file of folds is YAML or JSON:

    0: [mug, shoe]              the number of each fold, and the classes that it holds out as novel
    1: [cup, plate, spoon]

One photo in five of a base class is held out to validate, if the class has ten or more; of a smaller class all
photos train and validate.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fss_lab.datasets.folder import Folder, Photo
from fss_lab.datasets.folds import FOLDS, classes_of
from fss_lab.datasets.labelled import default_part
from fss_lab.datasets.protocols import benchmark
from fss_lab.errors import DataError, InputError
from fss_lab.files import read_yaml

SEED = 0  # of the folds that are drawn
ENOUGH, EVERY = 10, 5  # photos of a class from which on every fifth one is held out to validate

Folds = tuple[tuple[str, ...], ...]  # class names that each fold holds out


class FolderFold(Folder):
    """One fold and split of a folder, an `ImageSet` as `fss_lab.datasets.labelled.LabelledPhotos`.

    folds: the class names that each fold holds out.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        fold: int,
        split: str = "novel",
        *,
        part: str | None = None,
        protocol: str = "fssam",
        skip_bad: bool = False,
        folds: str | os.PathLike[str] | None = None,
    ) -> None:
        """fold, split, protocol: as in `LabelledPhotos`. part: of base classes "train" or "val", held out to validate.

        folds: a file of folds; None: they are drawn.
        Raises FileNotFoundError and InputError as `Folder`; InputError for another fold, split, part or protocol, for
        a file of folds that does not fit the folder, and for fewer classes than folds.
        """
        super().__init__(root, skip_bad=skip_bad)
        part, names = default_part(split, part), list(self.photos)
        self.folds = draw_folds(names) if folds is None else read_folds(folds, names)
        ids = {name: class_id for class_id, name in self._class_names.items()}
        novel = tuple(tuple(sorted(ids[name] for name in held_out)) for held_out in self.folds)
        self.classes, self.fold, self.split = classes_of(novel, fold, split), fold, split
        if not self.classes:
            raise InputError(f"{folds} has one fold, which leaves no base class to train on; name two or more folds")
        drop = split == "base" and benchmark(protocol).training_images == "drop"
        shown = {photo.image for name in self.folds[fold] if drop for photo in self.photos[name]}
        chosen = {self.class_name(class_id) for class_id in self.classes}
        photos = {name: photo for name, photo in self._by_name.items() if photo.class_name in chosen}
        if split == "base":
            photos = _of_part(photos, part)
        self._counts = {name: self._counts[name] for name, photo in photos.items() if photo.image not in shown}
        held = ", held out to validate" if split == "base" and part == "val" else ""
        self.name = f"{self.name}, {len(self)} images{held}"

    @staticmethod
    def home(root: str | os.PathLike[str]) -> Path:
        """Raises DataError: any folder could be one, so it is never looked for."""
        raise DataError(
            f"{root} may hold your own photos: name the data set, `fss-lab data check folder --root FOLDER`"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The folds, and a SHA-256 over all photos and masks of the folder."""
        content = hashlib.sha256()
        for name, photo in self._by_name.items():
            content.update(f"{name} {_digest(photo.image)} {_digest(photo.mask)}\n".encode())
        return {"folds": [list(names) for names in self.folds], "photos": content.hexdigest()}


def _of_part(photos: Mapping[str, Photo], part: str) -> dict[str, Photo]:
    """Those of base classes to train on, or to validate on; a photo with two classes is in one part with both."""
    members: dict[str, list[Photo]] = {}
    for photo in photos.values():
        members.setdefault(photo.class_name, []).append(photo)
    large = {name for name, of_class in members.items() if len(of_class) >= ENOUGH}
    held = {photo.image for name in large for photo in members[name][EVERY - 1 :: EVERY]}
    if part == "train":
        return {name: photo for name, photo in photos.items() if photo.image not in held}
    return {name: photo for name, photo in photos.items() if photo.image in held or photo.class_name not in large}


def draw_folds(names: Sequence[str], folds: int = FOLDS) -> Folds:
    """Deal the classes out to so many folds, in the order of a hash of their names.

    Raises InputError for fewer classes than folds.
    """
    if len(names) < folds:
        raise InputError(
            f"{len(names)} class(es) are fewer than {folds} folds: {', '.join(names)}. Add classes, or write a file of "
            "fewer folds for --folds, with lines such as `0: [mug, shoe]`"
        )
    order = sorted(names, key=lambda name: hashlib.sha256(f"{SEED} {name}".encode()).digest())
    return tuple(tuple(sorted(order[fold::folds])) for fold in range(folds))


def read_folds(path: str | os.PathLike[str], names: Sequence[str]) -> Folds:
    """The folds of a YAML or JSON file; names: of the folder's classes.

    Raises InputError for a file that is missing or is none, and where its classes are not the folder's, each once.
    """
    try:
        content = read_yaml(path)
        folds = {int(fold): tuple(map(str, held_out)) for fold, held_out in content.items()}
        lists = all(isinstance(held_out, list) for held_out in content.values())
        if not lists or not folds or sorted(folds) != list(range(len(folds))):
            raise InputError(f"its keys must be 0, 1, ... and each have a list of classes, got {content}")
    except Exception as error:  # PyYAML's and OmegaConf's errors have no common base
        raise InputError(f"{path} is no file of folds ({error}); expected lines such as `0: [mug, shoe]`") from error
    count = Counter(name for held_out in folds.values() for name in held_out)
    wrong = [f"fold {fold} holds out no class" for fold, held_out in folds.items() if not held_out]
    wrong += [f"{name} is in {n} folds" for name, n in count.items() if n > 1]
    wrong += [f"there is no class {name}" for name in count if name not in names]
    wrong += [f"{name} is in no fold" for name in names if name not in count]
    if wrong:
        raise InputError(
            f"{path} does not fit the photos: {'; '.join(wrong)}. Each of {', '.join(names)} belongs to one fold"
        )
    return tuple(folds[fold] for fold in range(len(folds)))


def _digest(path: Path) -> str:
    stat = path.stat()
    return _file_digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _file_digest(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
