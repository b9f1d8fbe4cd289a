"""COCO-20i (Nguyen and Todorovic, 2019): the 80 classes of COCO 2014 in four folds.

Expects below `root` (as `fss-lab data get coco` and `fss-lab data prepare coco` leave it), for 2014's train and val:

    train2014/*.jpg, val2014/*.jpg                  the photographs
    annotations/instances_{train,val}2014.json      their instances
    labels/{train,val}2014/*.png                    label maps painted from these, one for each image
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fss_lab.datasets.label_maps import coco_map
from fss_lab.datasets.labelled import PARTS, Files, LabelledPhotos
from fss_lab.datasets.prepare import Prepared, Task, make_maps
from fss_lab.errors import DataError, InputError, needs
from fss_lab.files import alone, write_atomically

_NUMBERS = [n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
CLASS_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""By class id, 0..79; its label in a map is one more."""
CATEGORIES = {number: class_id for class_id, number in enumerate(_NUMBERS)}
"""Class ids by COCO's category ids, which have gaps."""
NOVEL = {
    "fwb": tuple(tuple(range(fold, 80, 4)) for fold in range(4)),
    "panet": tuple(tuple(range(20 * fold, 20 * fold + 20)) for fold in range(4)),
}
"""Class ids that each fold holds out: "fwb", in use today, takes every fourth class; the older "panet" blocks of 20."""
RULES = ("last", "smaller")
"""Where instances of different classes overlap: "last" paints them in the order of the annotation file, so that the
later one wins; "smaller" paints from the largest to the smallest, so that the smaller one wins. The published lists do
not say how theirs were painted; "last" is what the plainest program does."""
_CONTENT = [f"annotations/instances_{part}2014.json" for part in PARTS] + [f"labels/{part}2014" for part in PARTS]


class Coco20i(LabelledPhotos):
    """An `ImageSet` of one fold of COCO-20i, see `LabelledPhotos`; the folds take every fourth class.

    Its root is the folder with train2014 and val2014, or one with these in `coco`. Its lists, "train" (train2014) and
    "val" (val2014), are those of the label maps, by COCO's image ids.
    """

    title = "COCO-20i (fwb)"
    class_names = CLASS_NAMES
    novel = NOVEL["fwb"]
    class_uniform = True

    @staticmethod
    def home(root: str | Path) -> Path:
        """The folder with annotations or label maps: `root` or `root/coco`. Raises DataError where there is none."""
        for path in (Path(root), Path(root) / "coco"):
            if any((path / name).exists() for name in _CONTENT):
                return path
        raise DataError(
            f"{root} holds no COCO 2014: expected annotations or labels in it or in coco. `fss-lab data get coco` and "
            "`fss-lab data prepare coco` make them; name the folder with --root (--data-root in train and evaluate)"
        )

    @staticmethod
    def files(home: Path, part: str) -> Files:
        """The images of "train" or "val" that have a label map, in order. Raises DataError where there is none."""
        labels = home / "labels" / f"{part}2014"
        names = sorted(path.stem for path in labels.glob("*.png") if not path.name.startswith("."))
        if not names:
            raise DataError(f"{labels} holds no label map; run `fss-lab data prepare coco --root {home}`")
        return Files(home / f"{part}2014", labels, names)


class Coco20iPanet(Coco20i):
    """COCO-20i with the older folds: blocks of 20 classes."""

    title = "COCO-20i (panet)"
    novel = NOVEL["panet"]


# ---- label maps


def prepare(
    root: str | Path, *, rule: str = "last", workers: int | None = None, skip_bad: bool = False, progress: bool = False
) -> list[Prepared]:
    """Paint COCO's label maps, for train2014 and val2014, from `annotations/instances_*.json`.

    Every image of the annotations gets one; regions annotated as crowds are painted like all others. rule: see `RULES`.
    Needs pycocotools. workers, skip_bad: as in `pascal.prepare`. Raises InputError for another rule, DataError for
    missing, broken or bad annotations, and for maps that were painted by another rule; MissingPackageError without
    pycocotools.
    """
    if rule not in RULES:
        raise InputError(f"rule must be one of {RULES}, got {rule!r}")
    root = Coco20i.home(root)
    with needs("painting COCO's instances", "real"):
        import pycocotools.mask  # noqa: F401
    prepared = []
    with alone(root, "prepare"):
        _keep_rule(root / "labels" / "rule.json", rule)
        for part in ("train", "val"):
            content = _read_instances(root / "annotations" / f"instances_{part}2014.json")
            folder = root / "labels" / f"{part}2014"
            prepared.append(
                make_maps(_coco_tasks(content, folder, rule), coco_map, folder, workers, skip_bad, progress)
            )
    return prepared


def _coco_tasks(content: dict[str, Any], folder: Path, rule: str) -> list[Task]:
    """What to paint for each image, in the order of painting."""
    regions: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for instance in content["annotations"]:
        regions[instance["image_id"]].append(instance)
    tasks = []
    for image in content["images"]:
        instances = regions[image["id"]]
        if rule == "smaller":
            instances = sorted(instances, key=lambda instance: -instance["area"])
        outlines = [(CATEGORIES[one["category_id"]] + 1, one["segmentation"]) for one in instances]
        name = Path(image["file_name"]).stem
        tasks.append((folder / f"{name}.png", ((image["height"], image["width"]), outlines)))
    return tasks


def _read_instances(path: Path) -> dict[str, Any]:
    """An annotation file of COCO whose images, annotations and categories fit together."""
    if not path.exists():
        raise DataError(f"{path} is missing; run `fss-lab data get coco` first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        for number, name in names.items():
            if number not in CATEGORIES or CLASS_NAMES[CATEGORIES[number]] != name:
                raise InputError(f"category {number} is {name!r}, which is none of COCO's 80")
        sizes = {image["id"]: (image["file_name"], image["height"], image["width"]) for image in content["images"]}
        for instance in content["annotations"]:
            if instance["image_id"] not in sizes or instance["category_id"] not in names:
                raise InputError(f"annotation {instance['id']} is of an image or category that is not listed")
            if not {"segmentation", "area"} <= instance.keys():
                raise InputError(f"annotation {instance['id']} lacks its segmentation or area")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no file of COCO's instances ({type(error).__name__}: {error}); delete annotations/ and get it "
            "again with `fss-lab data get coco`"
        ) from error
    return content


def _keep_rule(path: Path, rule: str) -> None:
    """Write down by which rule maps are painted; refuse to mix two."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["overlap"] if path.exists() else rule
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; delete {path.parent} to paint the label maps again") from error
    if before != rule:
        raise DataError(
            f"{path.parent} holds label maps painted with --overlap {before}, not {rule}; delete that folder to paint "
            "them again"
        )
    write_atomically(path, f"{json.dumps({'overlap': rule})}\n".encode())
