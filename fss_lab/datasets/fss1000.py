"""FSS-1000 (Li et al., 2020): 1,000 classes of ten photographs each, split by class and not by fold.

Expects below `root`, or below `root/fss1000`:

    abacus/1.jpg, abacus/1.png, ...     photographs and their masks, one folder a class; grey from 128 on is the object
    trn.txt, val.txt, test.txt          the names of the classes to train on (520), to validate on (240) and to test on
                                        (240), one a line

The lists do not come with the archive of the photographs, nor with this package: papers that report on FSS-1000 share
those of their published programs. Put these three files beside the class folders.

Two numbers are called mIoU on FSS-1000. HSNet and those after it add up intersection and union over all episodes of a
class and average over the 240 classes; that is what `fss_lab.evaluation` reports. Li et al. average the foreground's
IoU of the single episodes, which weighs every photograph alike. Do not compare one with the other.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from fss_lab.datasets.folds import check_split
from fss_lab.datasets.labelled import default_part, grey_mask, read_list
from fss_lab.datasets.protocols import Counted, benchmark
from fss_lab.episode import IGNORE
from fss_lab.errors import DataError, InputError
from fss_lab.images import load_image

LISTS = ("trn", "val", "test")


class Fss1000(Counted):
    """The classes of one list as an `ImageSet`; every photograph counts for the one class of its folder.

    classes: ids by the place in trn.txt, then val.txt, then test.txt, without the one whose label would be that of
        ignored pixels. names: "class/number", class by class.
    """

    fold, class_uniform = 0, False

    def __init__(
        self,
        root: str | Path,
        fold: int = 0,
        split: str = "novel",
        *,
        part: str | None = None,
        protocol: str = "fssam",
        skip_bad: bool = False,
    ) -> None:
        """fold: 0, there is one. split: "base" (to train and validate on) or "novel" (to test on).

        part: of "base", "train" (trn.txt, the default) or "val" (val.txt). protocol: changes nothing here, for no
        photograph has two classes. skip_bad: read all files now, and leave out the bad.
        Raises InputError for another fold, split, part or protocol; DataError for missing lists, folders or files.
        """
        benchmark(protocol)
        if fold != 0:
            raise InputError(f"FSS-1000 has no folds, only 0, got {fold!r} (--fold 0, --folds 0)")
        check_split(split)
        self.root, self.split = self.home(root), split
        lists = {name: read_list(self.root / f"{name}.txt") for name in LISTS}
        chosen = {("base", "train"): "trn", ("base", "val"): "val"}.get((split, default_part(split, part)), "test")
        everything = [name for names in lists.values() for name in names]
        if len(set(everything)) < len(everything):
            twice = min(name for name in everything if everything.count(name) > 1)
            raise DataError(f"two of {self.root}'s lists name the class {twice}: training would see the test")
        ids = [number for number in range(len(everything) + 1) if number + 1 != IGNORE]
        self._class_names = dict(zip(ids, everything, strict=False))
        self.classes = tuple(c for c, name in self._class_names.items() if name in set(lists[chosen]))
        names = ((name, class_id) for class_id in self.classes for name in self._names(self.class_name(class_id)))
        self._counts = {name: (class_id,) for name, class_id in names}
        self.skipped = self.leave_out_bad() if skip_bad else ()
        left_out = f" ({len(self.skipped)} bad file(s) left out)" if self.skipped else ""
        self.name = f"FSS-1000 {chosen}, {len(self.classes)} classes, {len(self._counts)} images{left_out}"

    @staticmethod
    def home(root: str | Path) -> Path:
        """The folder of the classes: `root` itself or `root/fss1000`. Raises DataError where there is none."""
        for path in (Path(root), Path(root) / "fss1000"):
            if (path / "test.txt").is_file() or (path / "abacus").is_dir():
                return path
        raise DataError(
            f"{root} holds no FSS-1000: expected folders such as abacus with 1.jpg and 1.png, and beside them trn.txt, "
            "val.txt and test.txt, in it or in fss1000"
        )

    def class_name(self, class_id: int) -> str:
        """The name of a class, that of its folder."""
        return self._class_names[class_id]

    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8. Raises ImageError or FileNotFoundError that name a bad photograph."""
        return load_image(self.root / f"{name}.jpg")

    def label(self, name: str) -> Tensor:
        """(H, W) int16: 0 = background, class id + 1. Raises DataError for a bad mask or one of another size."""
        return grey_mask(self.root / f"{name}.png", self.root / f"{name}.jpg") * (self.counts_for(name)[0] + 1)

    def _names(self, class_name: str) -> list[str]:
        """The photographs of a class in the order of their numbers."""
        folder = self.root / class_name
        stems = [path.stem for path in folder.glob("*.jpg") if not path.name.startswith(".")]
        if not stems:
            raise DataError(f"{folder} holds no photograph, but a list names this class; unpack FSS-1000 again")
        return [f"{class_name}/{stem}" for stem in sorted(stems, key=lambda stem: (len(stem), stem))]
