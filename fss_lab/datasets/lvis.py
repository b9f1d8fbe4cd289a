"""LVIS-92i (Liu et al., 2024, with Matcher): classes of LVIS v1 in ten folds, on photographs of COCO 2017.

Expects below `root`, or below `root/lvis`:

    lvis_v1_train.json, lvis_v1_val.json        the annotations (or in annotations/)
    train2017/*.jpg, val2017/*.jpg              the photographs of COCO 2017 (or in coco/); LVIS's val is of both

A class counts if the val annotations show it in at least two images. Of these, in the order of their ids, fold i holds
out every tenth. Matcher reports 920 such classes, 92 a fold; counts of images are not published, and its own lists come
as pickles, which are not read here. It asks 2,300 queries a fold (`--episodes 2300`), the classes in turn.

An image counts for a class from its first pixel on, and all instances of the class there are the object. LVIS marks
some classes of an image as not exhaustively annotated; they count like all others, as in Matcher's program.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fss_lab.datasets.folds import classes_of
from fss_lab.datasets.label_maps import coco_map
from fss_lab.datasets.listed import ListedPhotos
from fss_lab.episode import IGNORE
from fss_lab.errors import DataError, needs
from fss_lab.images import load_image

FOLDS = 10
LEAST_IMAGES = 2  # of a class


class Lvis92i(ListedPhotos):
    """One fold and split, see `ListedPhotos`; lists "train" and "val" are LVIS's.

    An image is listed once for each of its classes, so that instances of other classes hide nothing. names:
    "class/val2017/000000000001.jpg". classes: LVIS's category ids less one, but from 255 on the ids themselves, for a
    label of 255 means ignore.
    """

    title, folds, below, class_uniform = "LVIS-92i", FOLDS, "lvis", True
    layout = ("lvis_v1_val.json", "annotations/lvis_v1_val.json")

    def look(self, part: str, drop: bool) -> str:
        val = _read(self.root, "val")
        novel = _folds(val)
        content = val if part == "val" else _read(self.root, part)
        self._class_names = {_class_id(one["id"]): one["name"] for one in content["categories"]}
        self._outlines = _outlines(content)
        self._sizes = {_file(one): (one["height"], one["width"]) for one in content["images"]}
        asked = set(classes_of(novel, self.fold, self.split))
        shown = {image for image, class_id in self._outlines if drop and class_id in novel[self.fold]}
        pairs = [(image, c) for image, c in self._outlines if c in asked and image not in shown]
        number = Counter(class_id for _, class_id in pairs)  # base classes of val may be rare in train
        self.classes = tuple(sorted(class_id for class_id, images in number.items() if images >= LEAST_IMAGES))
        kept = set(self.classes)
        self._places = {f"{self.class_name(c)}/{image}": (image, c) for image, c in pairs if c in kept}
        self._counts = {name: (class_id,) for name, (_, class_id) in self._places.items()}
        return part

    def class_name(self, class_id: int) -> str:
        return self._class_names[class_id]

    def image(self, name: str) -> Tensor:
        return load_image(self._path(name))

    def label(self, name: str) -> Tensor:
        image, class_id = self._places[name]
        with needs("painting the instances of LVIS", "real"):
            import pycocotools.mask  # noqa: F401
        try:
            mask = coco_map((self._sizes[image], [(1, outline) for outline in self._outlines[image, class_id]]))
        except Exception as error:  # pycocotools raises many kinds
            raise DataError(f"an instance of {self.class_name(class_id)} in {image} is damaged ({error})") from error
        with Image.open(self._path(name)) as photo:
            if photo.size[::-1] != mask.shape:
                raise DataError(f"{self._path(name)} is {photo.size} pixels, LVIS says {mask.shape[::-1]}")
        return torch.from_numpy(mask.astype(np.int16) * (class_id + 1))

    def _path(self, name: str) -> Path:
        image, _ = self._places[name]
        beside = self.root / image
        return beside if beside.exists() else self.root / "coco" / image


def _class_id(category: int) -> int:
    return category - 1 if category < IGNORE else category


def _file(image: Mapping[str, Any]) -> str:
    """val2017/000000000001.jpg."""
    return "/".join(image["coco_url"].split("/")[-2:])


def _read(root: Path, part: str) -> dict[str, Any]:
    name = f"lvis_v1_{part}.json"
    path = root / name if (root / name).exists() else root / "annotations" / name
    return _parsed(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=2)
def _parsed(path: Path, changed: int) -> dict[str, Any]:
    """Kept for the next fold: the file of train has more than a gigabyte."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _outlines(content), [(one["id"], one["name"]) for one in content["categories"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is missing or no file of LVIS's annotations ({type(error).__name__}: {error}); get it again from "
            "lvisdataset.org"
        ) from error
    return content


def _outlines(content: Mapping[str, Any]) -> dict[tuple[str, int], list[Any]]:
    """The outlines of the instances by image file and class id, in the order of the images and ids."""
    files = {one["id"]: _file(one) for one in content["images"]}
    outlines: dict[tuple[str, int], list[Any]] = {}
    for one in content["annotations"]:
        outlines.setdefault((files[one["image_id"]], _class_id(one["category_id"])), []).append(one["segmentation"])
    return dict(sorted(outlines.items()))


def _folds(val: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The class ids that each fold holds out."""
    images = Counter(class_id for _, class_id in _outlines(val))
    counting = sorted(class_id for class_id, number in images.items() if number >= LEAST_IMAGES)
    whole = len(counting) // FOLDS * FOLDS  # the rest is nobody's, as in Matcher's program
    return tuple(tuple(counting[fold:whole:FOLDS]) for fold in range(FOLDS))
