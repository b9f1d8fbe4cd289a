"""Stand-ins for data that does not ship: "photographs" and a PASCAL tree made of Pictograms, for lessons and trials.

They are files like anybody's, JPEGs of several sizes with masks or label maps beside them, so that whatever reads real
data reads them too.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from fss_lab.errors import InputError
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms

SIZES = ((480, 360), (360, 480), (400, 400), (512, 384))  # width, height; as wide as photographs are, or as high


def write_sample_photos(root: str | Path, fold: int = 0, seed: int = 0, count: int = 4) -> Path:
    """Write `count` "photographs" of each of two novel classes of the fold, as `fss_lab.datasets.folder.Folder` reads.

    Every photograph shows one object of its class, none of the other class, and distractors. Returns `root`.
    Raises InputError for fewer than one photograph or another fold; OSError where files cannot be written.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count!r}")
    root, world = Path(root), Pictograms(fold, "novel", seed=seed, size=384, targets=1, episodes=10_000)
    world.classes = world.classes[1:3]
    world.shots = 0  # only the queries are rendered
    missing = dict.fromkeys(world.classes, count)
    scenes = (world.scenes(index) for index in range(len(world)))
    while any(missing.values()):
        class_id, (scene, *_) = next(scenes)
        if not missing[class_id] or any(scene.area(other) for other in world.classes if other != class_id):
            continue
        number = count - missing[class_id]
        missing[class_id] -= 1
        size, folder = SIZES[number % len(SIZES)], root / CLASS_NAMES[class_id]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR).save(folder / f"{number}.jpg", quality=92)
        mask = Image.fromarray(np.uint8(255) * (scene.mask(class_id) == 1))
        mask.resize(size, Image.Resampling.NEAREST).save(folder / f"{number}.png")
    return root


def write_sample_pascal(root: str | Path, fold: int = 0, seed: int = 0, count: int = 60) -> Path:
    """Write a tree that `fss_lab.datasets.pascal.Pascal5i` reads: `count` scenes with novel classes of the fold in
    "val", and one of base classes in each training list.

    The label maps hold Pictograms' class ids, under which VOC has other names. Returns `root`.
    Raises InputError for another fold; OSError where files cannot be written.
    """
    root = Path(root)
    lists = root / "ImageSets" / "Segmentation"
    for folder in (root / "JPEGImages", root / "SegmentationClassAug", lists):
        folder.mkdir(parents=True, exist_ok=True)
    for split, name, number in (("novel", "val", count), ("base", "train", 1), ("base", "train_noval", 1)):
        world = Pictograms(fold, split, seed=seed, episodes=number)
        world.shots = 0  # only the queries are rendered
        names = [f"{name}_{index:06d}" for index in range(number)]
        for index, stem in enumerate(names):
            scene = world.scenes(index)[1][0]
            Image.fromarray(scene.image).save(root / "JPEGImages" / f"{stem}.jpg", quality=95)
            Image.fromarray(world.labels(scene)).save(root / "SegmentationClassAug" / f"{stem}.png")
        (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in names), encoding="utf-8")
    return root


def rough_outline(mask: np.ndarray, corners: int = 10) -> list[tuple[float, float]]:
    """The corners (x, y) of a polygon about one object, as a hurried hand would draw it.

    In each of `corners` directions from the object's middle, its farthest pixel. mask: (H, W), 1 on the object.
    Raises InputError for fewer than three corners or an empty mask.
    """
    ys, xs = np.nonzero(np.asarray(mask) == 1)
    if corners < 3 or len(xs) == 0:
        raise InputError(f"expected at least 3 corners and a mask with an object, got {corners} and {len(xs)} pixels")
    x, y = xs.mean(), ys.mean()
    sector = ((np.arctan2(ys - y, xs - x) / (2 * math.pi) * corners).round() % corners).astype(int)
    far = np.hypot(xs - x, ys - y)
    tips = [np.flatnonzero(sector == number) for number in range(corners)]
    farthest = [tip[far[tip].argmax()] for tip in tips if len(tip)]
    return [(float(xs[i]), float(ys[i])) for i in farthest]
