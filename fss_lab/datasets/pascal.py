"""PASCAL-5i (Shaban et al., 2017): the 20 classes of VOC 2012 in four folds, label maps of VOC and SBD.

Expects below `root` (as `fss-lab data get voc sbd` and `fss-lab data prepare pascal` leave it):

    JPEGImages/*.jpg                             the photographs
    SegmentationClassAug/*.png                   VOC's label maps, and SBD's for images that VOC does not label
    ImageSets/Segmentation/{train,val}.txt       VOC's own lists
    train_noval.txt                              SBD's training images outside VOC's val (may lie beside VOC's lists)
"""

from __future__ import annotations

from pathlib import Path

from fss_lab.datasets.labelled import LabelledPhotos, default_part, read_list
from fss_lab.errors import DataError

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip
"""By class id, 0..19; its label in a map is one more."""
NOVEL = tuple(tuple(range(5 * fold, 5 * fold + 5)) for fold in range(4))
"""Class ids that each fold holds out."""


class Pascal5i(LabelledPhotos):
    """An `ImageSet` of one fold of PASCAL-5i.

    root: the VOC2012 folder, or one that holds VOCdevkit/VOC2012.
    split: "base" (15 classes, to train on) or "novel" (5 classes, to test on).
    part: "train" (VOC's train and SBD's train_noval) or "val" (VOC's val); None: train for base, val for novel
        classes. Base classes in "val" are images seen neither in training nor in any test.
    protocol, skip_bad: see `LabelledPhotos`; raises as it does, and DataError for missing lists.
    """

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
        root, part = voc_root(root), default_part(split, part)
        super().__init__(
            f"PASCAL-5i {part}", root / "JPEGImages", root / "SegmentationClassAug", image_lists(root)[part], NOVEL,
            CLASS_NAMES, fold=fold, split=split, protocol=protocol, skip_bad=skip_bad,
        )  # fmt: skip


def voc_root(root: str | Path) -> Path:
    """The VOC2012 folder: `root` itself, or VOCdevkit/VOC2012 below it. Raises DataError where there is none."""
    for path in (Path(root), Path(root) / "VOCdevkit" / "VOC2012"):
        if (path / "ImageSets").is_dir() or (path / "SegmentationClassAug").is_dir():
            return path
    raise DataError(
        f"{root} holds no PASCAL VOC 2012: expected SegmentationClassAug and ImageSets in it or in VOCdevkit/VOC2012. "
        "`fss-lab data get voc sbd` and `fss-lab data prepare pascal` make them; name the folder with --root "
        "(--data-root in train and evaluate)"
    )


def image_lists(root: Path) -> dict[str, list[str]]:
    """The names in "train" (VOC's, then SBD's that VOC's lacks) and in "val". Raises DataError as `read_list`, and
    where the two overlap."""
    lists = root / "ImageSets" / "Segmentation"
    beside = lists / "train_noval.txt"
    extra = beside if beside.exists() else root / "train_noval.txt"
    found = {
        "train": list(dict.fromkeys([*read_list(lists / "train.txt"), *read_list(extra)])),
        "val": read_list(lists / "val.txt"),
    }
    both = set(found["train"]) & set(found["val"])
    if both:
        raise DataError(
            f"{extra} or {lists / 'train.txt'} names images of val.txt, such as {min(both)}: training would see the "
            "test. Take the data sets' own lists (not SBD's train.txt)"
        )
    return found
