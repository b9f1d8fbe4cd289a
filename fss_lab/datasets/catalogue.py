"""The data sets of photographs by name, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import fss_lab
from fss_lab.datasets.coco import Coco20i
from fss_lab.datasets.labelled import LabelledPhotos
from fss_lab.datasets.pascal import Pascal5i
from fss_lab.errors import DataError, InputError

REAL: dict[str, Callable[..., LabelledPhotos]] = {
    "pascal": Pascal5i,
    "coco": Coco20i,
    "coco-panet": partial(Coco20i, scheme="panet"),
}
"""By the name that --dataset takes. coco-panet: COCO-20i with the older folds, blocks of 20 classes."""


def open_photos(
    dataset: str,
    root: str | Path | None,
    fold: int,
    split: str,
    *,
    part: str | None = None,
    protocol: str = "fssam",
    skip_bad: bool = False,
) -> LabelledPhotos:
    """A fold of a data set by name; root: None for `data_folder()`. Raises InputError for an unknown name, and as
    `LabelledPhotos`."""
    if dataset not in REAL:
        raise InputError(f"there is no data set {dataset!r}; there is pictograms, {', '.join(REAL)}")
    where = data_folder() if root is None else root
    return REAL[dataset](where, fold, split, part=part, protocol=protocol, skip_bad=skip_bad)


def data_folder() -> Path:
    """`data/` of the clone that this package runs from, where downloads land and their manifest lies.

    Raises DataError for a package installed without its clone.
    """
    folder = Path(fss_lab.__file__).resolve().parents[1] / "data"
    if not (folder / "manifest.json").exists():
        raise DataError(
            "this fss_lab does not run from a clone, whose data/ has the manifest of downloads and is the place for "
            "data. Install it with `python lab.py install` in a clone, or name both: a folder (--root, or --data-root "
            "in train and evaluate) and, for `fss-lab data get`, a --manifest"
        )
    return folder
