"""Counting a data set fold by fold, comparing with the published counts, and listing what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fss_lab.datasets.catalogue import DATASETS, DataSet, FoldCounts, open_photos
from fss_lab.datasets.folder_folds import FolderFold
from fss_lab.datasets.folds import classes_of
from fss_lab.datasets.index import Bad, LabelMap, scan_labels, scan_photos
from fss_lab.datasets.labelled import PARTS, LabelledPhotos, select
from fss_lab.datasets.listed import problem
from fss_lab.errors import DataError, InputError

MOST_LISTED = 20  # classes of a fold whose counts the table lists


@dataclass(frozen=True)
class Check:
    """seen: how many label maps, or pairs of image and class. folds: the counts. skipped: bad files that were left out
    on demand; wrong: all else, in words. note: what else there is to know."""

    dataset: DataSet
    root: Path
    seen: int
    folds: tuple[FoldCounts, ...]
    skipped: tuple[Bad | str, ...]
    wrong: tuple[str, ...]
    note: str = ""

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
        what = "label maps" if self.dataset.maker else "pairs of image and class"
        lines = [f"{self.dataset.title}: {self.seen:,} {what} in {self.root}", "", self.table(), ""]
        if self.skipped:
            lines += [f"Skipped {len(self.skipped)} bad file(s):", *(f"- {bad}" for bad in self.skipped), ""]
        if self.wrong:
            lines += [self.dataset.caveat, ""] if self.dataset.caveat else []
            return "\n".join([*lines, f"{len(self.wrong)} thing(s) wrong:", *(f"- {what}" for what in self.wrong)])
        fine = "Everything is as published." if self.dataset.published else "Nothing is wrong. No counts are published."
        return "\n".join([*lines, *([self.note, ""] if self.note else []), fine])


def check(
    dataset: str,
    root: str | Path,
    *,
    labels_only: bool = False,
    skip_bad: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> Check:
    """Count the images of a data set below `root`, and look at every photograph and label.

    dataset: a name of `DATASETS`. labels_only: of data sets with label maps, without the photographs, which need not be
    there. skip_bad: leave out bad files and list them instead of counting them as wrong. workers: threads.
    Raises InputError for another data set, DataError for a root without its lists.
    """
    if dataset not in DATASETS:
        raise InputError(f"there is no data set {dataset!r} to check; there is {', '.join(DATASETS)}")
    record = DATASETS[dataset]
    images = record.images()
    if not issubclass(images, LabelledPhotos):
        if labels_only:
            raise InputError(f"--labels-only is for data sets with label maps, {dataset} has none")
        return _check_listed(record, root, skip_bad, progress)
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


def _check_listed(record: DataSet, root: str | Path, skip_bad: bool, progress: bool) -> Check:
    """The same of a data set that lists its images itself; what several folds share is read once."""
    first: Any = open_photos(record.name, root, 0)
    folds: list[FoldCounts] = []
    problems: dict[str, str] = {}
    number = len(first.folds) if record.folds is None else record.folds
    for fold in range(number):
        novel: Any = open_photos(record.name, root, fold)
        base: Any = None if record.tested_only else open_photos(record.name, root, fold, "base")
        for images in filter(None, (novel, base)):
            names = [name for name in images.names if name not in problems]
            for name in tqdm(names, desc=images.name, disable=None if progress else True):
                problems[name] = problem(images, name)
        count = Counter(class_id for name in novel.names for class_id in novel.counts_for(name))
        trained = 0 if base is None else len(base)
        per_class = tuple(count[c] for c in novel.classes) if len(novel.classes) <= MOST_LISTED else None
        folds.append(FoldCounts(trained, trained, len(novel), per_class))
    wrong = [text for text in problems.values() if text]
    doubts, note = [], ""
    if isinstance(first, FolderFold):
        doubts = [text for text in first.check() if text not in wrong]
        lines = "".join(f"\n{fold}: [{', '.join(names)}]" for fold, names in enumerate(first.folds))
        note = f"The folds, as lines of a file for --folds:\n{lines}"
    skipped, left = (wrong, doubts) if skip_bad else ([], wrong + doubts)
    return Check(record, Path(root), len(problems), tuple(folds), tuple(skipped), tuple(left), note)


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
    for fold, (ours, theirs) in enumerate(zip(counted, published, strict=bool(published))):
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
