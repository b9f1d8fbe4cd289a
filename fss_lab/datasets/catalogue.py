"""The data sets of photographs by name: one record each, and where they lie.

Another data set is a module with its `ImageSet` (and what makes its label maps), and a record here. Imports nothing
heavy, because the command line makes options from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from fss_lab.datasets.folds import FOLDS
from fss_lab.errors import DataError, InputError

if TYPE_CHECKING:
    from fss_lab.datasets.protocols import ImageSet


@dataclass(frozen=True)
class FoldCounts:
    """One line of the table of `data check`, by the rules of `fss_lab.datasets.labelled`; None: not published.

    training_images: that count for a base class and show no novel one; pairs: of these and their base classes.
    test_images: that count for a novel class; images_per_novel_class: how many for each of them.
    """

    training_images: int
    pairs: int | None
    test_images: int
    images_per_novel_class: tuple[int, ...] | None


@dataclass(frozen=True)
class DataSet:
    """All that the package knows of a data set outside its own module.

    name: what --dataset takes. title: for headings. photos: "module:class" of its `ImageSet`, called as
        `LabelledPhotos`. folds: how many; None: as a file or the classes of a folder say.
    tested_only: nothing is trained on it, so weights of other data sets are scored on it. any_size: photos larger than
        the model's square are averaged down to it before training augments them.
    epochs: of the paper's training, None where it has none. scales: of the paper's augmentation, smallest and largest.
    sources: what of the manifest it needs, for `data get`. maker: "module:function" that makes its label maps, for
        `data prepare`, called as `pascal.prepare`; overlaps: whether that takes a rule for overlapping instances too.
    published: counts of each fold, for `data check` (of a `LabelledPhotos`). caveat: said where the counts differ.
    """

    name: str
    title: str
    photos: str
    folds: int | None = FOLDS
    tested_only: bool = False
    any_size: bool = False
    epochs: int | None = None
    scales: tuple[float, float] = (0.9, 1.1)
    sources: tuple[str, ...] = ()
    maker: str | None = None
    overlaps: bool = False
    published: tuple[FoldCounts, ...] = ()
    caveat: str = ""

    @property
    def looked_for(self) -> bool:
        """Whether `data check` looks for it unasked: not in any folder, and not twice in one of COCO's."""
        return self.folds is not None and bool(self.published or not self.sources)

    def images(self) -> Any:
        """The class of its images."""
        return resolve_name(self.photos)

    def prepare(self, root: str | Path, **options: Any) -> Any:
        """Make the label maps, see the maker.

        Raises DataError for missing or bad sources, InputError for a data set without a maker.
        """
        if self.maker is None:
            raise InputError(f"{self.title} needs no label maps made")
        return resolve_name(self.maker)(root, **options)


DATASETS = {
    record.name: record
    for record in (
        DataSet(
            "pascal", "PASCAL-5i", "fss_lab.datasets.pascal:Pascal5i",
            epochs=300, sources=("voc", "sbd"), maker="fss_lab.datasets.pascal:prepare",
            published=(
                FoldCounts(4208, 5749, 364, (81, 63, 89, 61, 71)),
                FoldCounts(3726, 4706, 445, (70, 100, 118, 110, 69)),
                FoldCounts(2752, 3044, 592, (73, 125, 76, 74, 386)),
                FoldCounts(4510, 5832, 336, (63, 53, 90, 82, 69)),
            ),
        ),
        DataSet(
            "coco", "COCO-20i, folds of every fourth class", "fss_lab.datasets.coco:Coco20i",
            epochs=75, scales=(0.8, 1.25), sources=("coco",), maker="fss_lab.datasets.coco:prepare", overlaps=True,
            published=(
                FoldCounts(21917, None, 26052, None),
                FoldCounts(41809, None, 15305, None),
                FoldCounts(43045, None, 13138, None),
                FoldCounts(44614, None, 12640, None),
            ),
            caveat="COCO's counts depend on an unpublished choice, which of two overlapping instances wins: "
            "`fss-lab data prepare --overlap`.",
        ),
        DataSet(
            "coco-panet", "COCO-20i, the older folds of 20 classes in a row", "fss_lab.datasets.coco:Coco20iPanet",
            scales=(0.8, 1.25), sources=("coco",),
        ),
        DataSet("fss1000", "FSS-1000", "fss_lab.datasets.fss1000:Fss1000", folds=1),
        DataSet("lvis", "LVIS-92i", "fss_lab.datasets.lvis:Lvis92i", folds=10),
        DataSet("isic", "ISIC 2018, skin lesions", "fss_lab.datasets.isic:Isic2018", folds=1, tested_only=True),
        DataSet(
            "folder", "your own photos", "fss_lab.datasets.folder_folds:FolderFold", folds=None, any_size=True
        ),
    )
}  # fmt: skip
"""By the name that --dataset takes. PASCAL's counts come out exactly from the published files."""


def open_photos(
    dataset: str,
    root: str | Path | None,
    fold: int,
    split: str = "novel",
    *,
    part: str | None = None,
    protocol: str = "fssam",
    skip_bad: bool = False,
    folds: str | Path | None = None,
) -> ImageSet:
    """A fold of a data set by name; root: None for `data_folder()`. folds: of "folder", a file of folds.

    Raises InputError for an unknown name, fold, split, part or protocol, DataError for missing or bad files.
    """
    if dataset not in DATASETS:
        raise InputError(f"there is no data set {dataset!r}; there is pictograms, {', '.join(DATASETS)}")
    options: dict[str, Any] = {"part": part, "protocol": protocol, "skip_bad": skip_bad}
    if DATASETS[dataset].folds is not None:
        if folds is not None:
            raise InputError(f"{dataset} has folds of its own; a file of folds ({folds}) is for --dataset folder")
    elif root is None:
        raise InputError(f"--dataset {dataset} needs --data-root: the folder with one sub-folder of photos a class")
    else:
        options["folds"] = folds
    return DATASETS[dataset].images()(data_folder() if root is None else root, fold, split, **options)


def data_folder() -> Path:
    """`data/` of the clone that this package runs from, where downloads land and their manifest lies.

    Raises DataError for a package installed without its clone.
    """
    folder = Path(__file__).resolve().parents[2] / "data"
    if not (folder / "manifest.json").exists():
        raise DataError(
            "this fss_lab does not run from a clone, whose data/ has the manifest of downloads and is the place for "
            "data. Install it with `python lab.py install` in a clone, or name both: a folder (--root, or --data-root "
            "in train and evaluate) and, for `fss-lab data get`, a --manifest"
        )
    return folder
