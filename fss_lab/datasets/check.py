"""Counting a data set fold by fold, comparing with the published counts, and listing what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fss_lab.datasets.catalogue import DATASETS, DataSet, FoldCounts
from fss_lab.datasets.folds import classes_of
from fss_lab.datasets.index import Bad, LabelMap, scan_labels, scan_photos
from fss_lab.datasets.labelled import PARTS, select
from fss_lab.errors import DataError, InputError


@dataclass(frozen=True)
class Check:
    """folds: the counts. skipped: bad files that were left out on demand; wrong: all else, in words."""

    dataset: DataSet
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
            by_class = _in_words(counts.images_per_novel_class or ())
            lines.append(f"| {fold} | {counts.training_images} | {counts.pairs} | {counts.test_images} | {by_class} |")
        return "\n".join(lines)

    def text(self) -> str:
        """The table, what was skipped, and what is wrong."""
        lines = [f"{self.dataset.title}: {self.label_maps:,} label maps in {self.root}", "", self.table(), ""]
        if self.skipped:
            lines += [f"Skipped {len(self.skipped)} bad file(s):", *(f"- {bad}" for bad in self.skipped), ""]
        if self.wrong:
            lines += [self.dataset.caveat, ""] if self.dataset.caveat else []
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
    """Count the images of a data set below `root`, from its label maps, and look at every photograph.

    dataset: a name of `DATASETS` with published counts. labels_only: without the photographs, which need not be there.
    skip_bad: leave out bad files and list them instead of counting them as wrong. workers: threads.
    Raises InputError for another data set, DataError for a root without its lists.
    """
    if dataset not in DATASETS or not DATASETS[dataset].published:
        raise InputError(f"{dataset!r} is no data set with published counts, such as pascal, to compare with")
    record = DATASETS[dataset]
    images = record.images()
    home = images.home(root)
    names, novel = images.class_names, images.novel
    maps: dict[str, dict[str, LabelMap]] = {}
    bad: list[Bad] = []
    for part in PARTS:
        files = images.files(home, part)
        maps[part], wrong = scan_labels(files.labels, files.names, len(names), workers=workers, progress=progress)
        if not labels_only:
            wrong += scan_photos(files.photos, maps[part], workers=workers, progress=progress)
        for file in wrong if skip_bad else ():
            maps[part].pop(file.path.stem, None)
        bad += wrong
    folds = tuple(count(maps["train"], maps["val"], novel, fold) for fold in range(len(novel)))
    problems = [] if skip_bad else list(map(str, bad))
    problems += _empty_classes(folds, novel, names) + differences(folds, record.published)
    total = sum(map(len, maps.values()))
    return Check(record, home, total, folds, tuple(bad if skip_bad else ()), tuple(problems))


def present(root: str | Path, datasets: Iterable[str]) -> list[str]:
    """Which of these data sets lie below `root`. Raises DataError that says where each is expected, if none does."""
    names, reasons = [], []
    for dataset in datasets:
        try:
            DATASETS[dataset].images().home(root)
            names.append(dataset)
        except DataError as error:
            reasons.append(str(error))
    if not names:
        raise DataError(". ".join(reasons))
    return names


def count(
    train: Mapping[str, LabelMap], val: Mapping[str, LabelMap], novel: Sequence[tuple[int, ...]], fold: int
) -> FoldCounts:
    """The counts of one fold from the label maps of both parts."""
    training = select(train, classes_of(novel, fold, "base"), novel[fold])
    tests = select(val, novel[fold])
    per_class = tuple(sum(c in classes for classes in tests.values()) for c in novel[fold])
    return FoldCounts(len(training), sum(map(len, training.values())), len(tests), per_class)


def differences(counted: Sequence[FoldCounts], published: Sequence[FoldCounts]) -> list[str]:
    """In words, where counts are not those published."""
    lines = []
    for fold, (ours, theirs) in enumerate(zip(counted, published, strict=True)):
        for key, value in vars(theirs).items():
            if value is not None and getattr(ours, key) != value:
                here, there = _in_words(getattr(ours, key)), _in_words(value)
                lines.append(f"fold {fold}: {key.replace('_', ' ')} {here}, published {there}")
    return lines


def _in_words(count: int | tuple[int, ...]) -> str:
    return " ".join(map(str, count)) if isinstance(count, tuple) else str(count)


def _empty_classes(folds: Sequence[FoldCounts], novel: Sequence[tuple[int, ...]], names: Sequence[str]) -> list[str]:
    return [
        f"fold {fold}: no test image counts for {names[c]!r}; its label maps or images are missing"
        for fold, counts in enumerate(folds)
        for c, images in zip(novel[fold], counts.images_per_novel_class or (), strict=True)
        if not images
    ]
