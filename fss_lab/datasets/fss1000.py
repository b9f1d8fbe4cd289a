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

from torch import Tensor

from fss_lab.datasets.labelled import read_list
from fss_lab.datasets.listed import ListedPhotos, grey_mask
from fss_lab.episode import IGNORE
from fss_lab.errors import DataError
from fss_lab.images import load_image

LISTS = ("trn", "val", "test")


class Fss1000(ListedPhotos):
    """The classes of one list, see `ListedPhotos`; every photograph counts for the one class of its folder.

    classes: ids by the place in trn.txt, then val.txt, then test.txt, without the one whose label would be that of
        ignored pixels. names: "class/number", class by class.
    """

    title, layout, below = "FSS-1000", ("test.txt", "abacus"), "fss1000"

    def look(self, part: str, drop: bool) -> str:
        lists = {name: read_list(self.root / f"{name}.txt") for name in LISTS}
        chosen = {("base", "train"): "trn", ("base", "val"): "val"}.get((self.split, part), "test")
        everything = [name for names in lists.values() for name in names]
        if len(set(everything)) < len(everything):
            twice = min(name for name in everything if everything.count(name) > 1)
            raise DataError(f"two of {self.root}'s lists name the class {twice}: training would see the test")
        ids = [number for number in range(len(everything) + 1) if number + 1 != IGNORE]
        self._class_names = dict(zip(ids, everything, strict=False))
        self.classes = tuple(c for c, name in self._class_names.items() if name in set(lists[chosen]))
        names = ((name, class_id) for class_id in self.classes for name in self._names(self.class_name(class_id)))
        self._counts = {name: (class_id,) for name, class_id in names}
        return chosen

    def class_name(self, class_id: int) -> str:
        return self._class_names[class_id]

    def image(self, name: str) -> Tensor:
        return load_image(self.root / f"{name}.jpg")

    def label(self, name: str) -> Tensor:
        return grey_mask(self.root / f"{name}.png", self.root / f"{name}.jpg") * (self.counts_for(name)[0] + 1)

    def _names(self, class_name: str) -> list[str]:
        """The photographs of a class in the order of their numbers."""
        folder = self.root / class_name
        stems = [path.stem for path in folder.glob("*.jpg") if not path.name.startswith(".")]
        if not stems:
            raise DataError(f"{folder} holds no photograph, but a list names this class; unpack FSS-1000 again")
        return [f"{class_name}/{stem}" for stem in sorted(stems, key=lambda stem: (len(stem), stem))]
