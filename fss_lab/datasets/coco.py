"""COCO-20i (Nguyen and Todorovic, 2019): the 80 classes of COCO 2014 in four folds.

Expects below `root` (as `fss-lab data get coco` and `fss-lab data prepare coco` leave it), for 2014's train and val:

    train2014/*.jpg, val2014/*.jpg                  the photographs
    annotations/instances_{train,val}2014.json      their instances
    labels/{train,val}2014/*.png                    label maps painted from these, one for each image
"""

from __future__ import annotations

from pathlib import Path

from fss_lab.datasets.labelled import PARTS, LabelledPhotos, default_part
from fss_lab.errors import DataError, InputError

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
_OWN = [f"annotations/instances_{part}2014.json" for part in PARTS] + [f"labels/{part}2014" for part in PARTS]


class Coco20i(LabelledPhotos):
    """An `ImageSet` of one fold of COCO-20i. The list of images is that of the label maps, by COCO's image ids.

    root: the folder with train2014 and val2014, or one with these in `coco`.
    split: "base" (60 classes, to train on) or "novel" (20 classes, to test on).
    part: "train" (train2014) or "val" (val2014); None: train for base, val for novel classes.
    scheme: which classes form a fold, "fwb" or "panet", see `NOVEL`.
    protocol, skip_bad: see `LabelledPhotos`; raises as it does.
    """

    class_uniform = True

    def __init__(
        self,
        root: str | Path,
        fold: int,
        split: str = "novel",
        *,
        part: str | None = None,
        scheme: str = "fwb",
        protocol: str = "fssam",
        skip_bad: bool = False,
    ) -> None:
        if scheme not in NOVEL:
            raise InputError(f'scheme must be "fwb" or "panet", got {scheme!r}')
        root, part = coco_root(root), default_part(split, part)
        super().__init__(
            f"COCO-20i ({scheme}) {part}", root / f"{part}2014", root / "labels" / f"{part}2014",
            label_names(root, part), NOVEL[scheme], CLASS_NAMES,
            fold=fold, split=split, protocol=protocol, skip_bad=skip_bad,
        )  # fmt: skip


def coco_root(root: str | Path) -> Path:
    """The folder with COCO's annotations or label maps: `root` or `root/coco`. Raises DataError where there is none."""
    for path in (Path(root), Path(root) / "coco"):
        if any((path / own).exists() for own in _OWN):
            return path
    raise DataError(
        f"{root} holds no COCO 2014: expected annotations or labels in it or in coco. `fss-lab data get coco` and "
        "`fss-lab data prepare coco` make them; name the folder with --root (--data-root in train and evaluate)"
    )


def label_names(root: Path, part: str) -> list[str]:
    """The images that have a label map, in order. Raises DataError where there is none."""
    folder = root / "labels" / f"{part}2014"
    names = sorted(path.stem for path in folder.glob("*.png") if not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder} holds no label map; run `fss-lab data prepare coco --root {root}`")
    return names
