"""Facts of the benchmarks that everything else agrees on: folds, splits, and which classes they ask for.

Imports nothing heavy, because the command line makes options from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fss_lab.errors import InputError

FOLDS = 4
SPLITS = ("base", "novel")


def check_split(split: str) -> None:
    """Raises InputError for another split."""
    if split not in SPLITS:
        raise InputError(f'split must be "base" or "novel", got {split!r}')


def check_fold(fold: int, folds: int) -> None:
    """Raises InputError for another fold than 0 .. folds - 1."""
    if fold not in range(folds):
        raise InputError(f"fold must be one of {', '.join(map(str, range(folds)))}, got {fold!r}")


def classes_of(novel: Sequence[tuple[int, ...]], fold: int, split: str) -> tuple[int, ...]:
    """Class ids of a fold's novel classes, or of its base classes: those of all other folds, ascending.

    Raises InputError for another fold or split.
    """
    check_fold(fold, len(novel))
    check_split(split)
    if split == "novel":
        return novel[fold]
    return tuple(sorted(c for other, classes in enumerate(novel) if other != fold for c in classes))
