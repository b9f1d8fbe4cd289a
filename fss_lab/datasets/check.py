"""Counting a data set fold by fold, comparing with the published counts, and listing what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fss_lab.datasets import coco, pascal
from fss_lab.datasets.folds import TRAINING_IMAGES
from fss_lab.datasets.index import Bad, LabelMap, scan_labels, scan_photos
from fss_lab.datasets.labelled import classes_of, select
from fss_lab.errors import DataError


@dataclass(frozen=True)
class FoldCounts:
    """One line of the table, by the rules of `fss_lab.datasets.labelled`; None where nothing was published.

    training_images: that count for a base class and show no novel one; pairs: of these and their base classes.
    test_images: that count for a novel class; images_per_novel_class: how many for each of them.
    """

    training_images: int
    pairs: int | None
    test_images: int
    images_per_novel_class: tuple[int, ...] | None


_PASCAL = (
    (5749, 364, (81, 63, 89, 61, 71)),
    (4706, 445, (70, 100, 118, 110, 69)),
    (3044, 592, (73, 125, 76, 74, 386)),
    (5832, 336, (63, 53, 90, 82, 69)),
)
_COCO_TEST = (26052, 15305, 13138, 12640)
PUBLISHED: dict[str, tuple[FoldCounts, ...]] = {
    "pascal": tuple(FoldCounts(images, *rest) for images, rest in zip(TRAINING_IMAGES["pascal"], _PASCAL, strict=True)),
    "coco": tuple(
        FoldCounts(images, None, tests, None) for images, tests in zip(TRAINING_IMAGES["coco"], _COCO_TEST, strict=True)
    ),
}
"""Of folds 0 to 3. PASCAL's come out exactly. COCO's depend on which of two overlapping instances wins, which was not
published; see `fss_lab.datasets.prepare.RULES`."""


@dataclass(frozen=True)
class Check:
    """folds: the counts. skipped: bad files that were left out on demand; wrong: all else, in words."""

    dataset: str
    root: Path
    label_maps: int
    folds: tuple[FoldCounts, ...]
    skipped: tuple[Bad, ...]
    wrong: tuple[str, ...]

    def table(self) -> str:
        """The counts as a Markdown table."""
        lines = [
            "| fold | training images | (image, class) pairs | test images | images per novel class |",
            "|---|---|---|---|---|",
        ]
        for fold, counts in enumerate(self.folds):
            each = " ".join(map(str, counts.images_per_novel_class or ()))
            lines.append(f"| {fold} | {counts.training_images} | {counts.pairs} | {counts.test_images} | {each} |")
        return "\n".join(lines)

    def text(self) -> str:
        """The table, what was skipped, and what is wrong."""
        title = {"pascal": "PASCAL-5i", "coco": "COCO-20i, folds of every fourth class"}[self.dataset]
        lines = [f"{title}: {self.label_maps:,} label maps in {self.root}", "", self.table(), ""]
        if self.skipped:
            lines += [f"Skipped {len(self.skipped)} bad file(s):", *(f"- {bad}" for bad in self.skipped), ""]
        if self.dataset == "coco" and self.wrong:
            lines += [
                "COCO's counts depend on an unpublished choice, which of two overlapping instances wins: "
                "`fss-lab data prepare --overlap`.",
                "",
            ]
        if self.wrong:
            return "\n".join([*lines, f"{len(self.wrong)} thing(s) wrong:", *(f"- {what}" for what in self.wrong)])
        return "\n".join([*lines, "Everything is as published."])


def check(
    dataset: str,
    root: str | Path,
    *,
    labels_only: bool = False,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Check:
    """Count the images of "pascal" or "coco" below `root`, from the label maps, and look at every photograph.

    labels_only: without the photographs, which need not be there. skip_bad: leave out bad files and list them instead
    of counting them as wrong. workers: threads. Raises DataError for a root without the data set's lists.
    """
    names: tuple[str, ...]
    if dataset == "pascal":
        root = pascal.voc_root(root)
        listed, names, novel = pascal.image_lists(root), pascal.CLASS_NAMES, pascal.NOVEL
        folders = {part: (root / "SegmentationClassAug", root / "JPEGImages") for part in listed}
    else:
        root = coco.coco_root(root)
        listed = {part: coco.label_names(root, part) for part in ("train", "val")}
        names, novel = coco.CLASS_NAMES, coco.NOVEL["fwb"]
        folders = {part: (root / "labels" / f"{part}2014", root / f"{part}2014") for part in listed}
    maps: dict[str, dict[str, LabelMap]] = {}
    bad: list[Bad] = []
    for part, (labels, photos) in folders.items():
        maps[part], wrong = scan_labels(labels, listed[part], len(names), workers=workers, progress=progress)
        if not labels_only:
            wrong += scan_photos(photos, maps[part], workers=workers, progress=progress)
        for each in wrong if skip_bad else ():
            maps[part].pop(each.path.stem, None)
        bad += wrong
    folds = tuple(count(maps["train"], maps["val"], novel, fold) for fold in range(len(novel)))
    problems = [] if skip_bad else [str(each) for each in bad]
    problems += _empty_classes(folds, novel, names) + differences(folds, PUBLISHED[dataset])
    total = sum(map(len, maps.values()))
    return Check(dataset, root, total, folds, tuple(bad if skip_bad else ()), tuple(problems))


def present(root: str | Path) -> list[str]:
    """Which of "pascal" and "coco" lie below `root`. Raises DataError for none."""
    found = []
    for dataset, find in {"pascal": pascal.voc_root, "coco": coco.coco_root}.items():
        with suppress(DataError):
            find(root)
            found.append(dataset)
    if not found:
        raise DataError(
            f"{root} holds neither PASCAL VOC 2012 (expected in VOCdevkit/VOC2012) nor COCO 2014 (expected in coco); "
            "`fss-lab data get` downloads them, --root names another folder"
        )
    return found


def count(
    train: Mapping[str, LabelMap], val: Mapping[str, LabelMap], novel: Sequence[tuple[int, ...]], fold: int
) -> FoldCounts:
    """The counts of one fold from the label maps of both parts."""
    training = select(train, classes_of(novel, fold, "base"), novel[fold])
    tests = select(val, novel[fold])
    per_class = tuple(sum(c in classes for classes in tests.values()) for c in novel[fold])
    return FoldCounts(len(training), sum(map(len, training.values())), len(tests), per_class)


def differences(found: Sequence[FoldCounts], published: Sequence[FoldCounts]) -> list[str]:
    """In words, where counts are not those published."""
    lines = []
    for fold, (own, other) in enumerate(zip(found, published, strict=True)):
        for key, value in vars(other).items():
            if value is not None and getattr(own, key) != value:
                shown = [" ".join(map(str, v)) if isinstance(v, tuple) else v for v in (getattr(own, key), value)]
                lines.append(f"fold {fold}: {key.replace('_', ' ')} {shown[0]}, published {shown[1]}")
    return lines


def _empty_classes(folds: Sequence[FoldCounts], novel: Sequence[tuple[int, ...]], names: Sequence[str]) -> list[str]:
    return [
        f"fold {fold}: no test image counts for {names[c]!r}; its label maps or images are missing"
        for fold, counts in enumerate(folds)
        for c, images in zip(novel[fold], counts.images_per_novel_class or (), strict=True)
        if not images
    ]
