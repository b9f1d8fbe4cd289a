"""PASCAL-5i (Shaban et al., 2017): the 20 classes of VOC 2012 in four folds, label maps of VOC and SBD.

Expects below `root` (as `fss-lab data get voc sbd` and `fss-lab data prepare pascal` leave it):

    JPEGImages/*.jpg                             the photographs
    SegmentationClassAug/*.png                   VOC's label maps, and SBD's for images that VOC does not label
    ImageSets/Segmentation/{train,val}.txt       VOC's own lists
    train_noval.txt                              SBD's training images outside VOC's val (may lie beside VOC's lists)
"""

from __future__ import annotations

from pathlib import Path

from fss_lab.datasets.label_maps import voc_map
from fss_lab.datasets.labelled import Files, LabelledPhotos, read_list
from fss_lab.datasets.prepare import Prepared, make_maps
from fss_lab.errors import DataError, needs
from fss_lab.files import alone, write_atomically

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip
"""By class id, 0..19; its label in a map is one more."""
NOVEL = tuple(tuple(range(5 * fold, 5 * fold + 5)) for fold in range(4))
"""Class ids that each fold holds out."""


class Pascal5i(LabelledPhotos):
    """An `ImageSet` of one fold of PASCAL-5i, see `LabelledPhotos`.

    Its root is the VOC2012 folder, or one that holds VOCdevkit/VOC2012. Its lists are "train" (VOC's train and SBD's
    train_noval) and "val" (VOC's val).
    """

    title = "PASCAL-5i"
    class_names = CLASS_NAMES
    novel = NOVEL

    @staticmethod
    def home(root: str | Path) -> Path:
        """The VOC2012 folder: `root` itself, or VOCdevkit/VOC2012 below it. Raises DataError where there is none."""
        for path in (Path(root), Path(root) / "VOCdevkit" / "VOC2012"):
            if (path / "ImageSets").is_dir() or (path / "SegmentationClassAug").is_dir():
                return path
        raise DataError(
            f"{root} holds no PASCAL VOC 2012: expected SegmentationClassAug and ImageSets in it or in "
            "VOCdevkit/VOC2012. `fss-lab data get voc sbd` and `fss-lab data prepare pascal` make them; name the "
            "folder with --root (--data-root in train and evaluate)"
        )

    @staticmethod
    def files(home: Path, part: str) -> Files:
        """The files of "train" or "val". Raises DataError for lists that are missing, empty or overlap."""
        return Files(home / "JPEGImages", home / "SegmentationClassAug", image_lists(home)[part])


def image_lists(root: Path) -> dict[str, list[str]]:
    """The names in "train" (VOC's, then SBD's that VOC's lacks) and in "val". Raises DataError for a list that
    is missing, empty or names an image twice, and where the two overlap."""
    lists = root / "ImageSets" / "Segmentation"
    beside = lists / "train_noval.txt"
    extra = beside if beside.exists() else root / "train_noval.txt"
    names = {
        "train": list(dict.fromkeys([*read_list(lists / "train.txt"), *read_list(extra)])),
        "val": read_list(lists / "val.txt"),
    }
    both = set(names["train"]) & set(names["val"])
    if both:
        raise DataError(
            f"{extra} or {lists / 'train.txt'} names images of val.txt, such as {min(both)}: training would see the "
            "test. Take the data sets' own lists (not SBD's train.txt)"
        )
    return names


# ---- label maps


def prepare(
    root: str | Path, *, workers: int | None = None, skip_bad: bool = False, progress: bool = False
) -> list[Prepared]:
    """Make SegmentationClassAug: VOC's own label maps, and SBD's for the images that VOC does not label.

    root: with VOCdevkit/VOC2012 and benchmark_RELEASE/dataset, as `fss-lab data get voc sbd` leaves it. Also puts SBD's
    train_noval.txt beside. Needs scipy. workers: processes; skip_bad: list bad sources instead of refusing.
    Raises DataError for missing folders or bad sources (the other maps are made nevertheless), MissingPackageError
    without scipy.
    """
    root = Path(root)
    voc, sbd = Pascal5i.home(root), root / "benchmark_RELEASE" / "dataset" / "cls"
    vocs = {path.stem: path for path in sorted((voc / "SegmentationClass").glob("*.png"))}
    sbds = {path.stem: path for path in sorted(sbd.glob("[!.]*.mat"))}  # no "._x.mat" that macOS puts into archives
    for maps, where, source in ((vocs, voc / "SegmentationClass", "voc"), (sbds, sbd, "sbd")):
        if not maps:
            raise DataError(f"{where} holds no label maps; run `fss-lab data get {source} --root {root}` first")
    folder = voc / "SegmentationClassAug"
    tasks = [(folder / f"{name}.png", source) for name, source in {**sbds, **vocs}.items()]
    with alone(voc, "prepare"):
        _place_list(root, voc)
        with needs("reading SBD's MATLAB files", "real"):
            import scipy.io  # noqa: F401
        return [make_maps(tasks, voc_map, folder, workers, skip_bad, progress)]


def _place_list(root: Path, voc: Path) -> None:
    """SBD's train_noval.txt from the downloads to where `Pascal5i` reads it."""
    source, target = root / "downloads" / "train_noval.txt", voc / "train_noval.txt"
    if not source.exists() and not target.exists():
        raise DataError(f"{source} is missing; run `fss-lab data get sbd --root {root}` first")
    if source.exists():
        write_atomically(target, source.read_bytes())
