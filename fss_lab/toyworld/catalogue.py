"""The toy worlds by name. Another one is a module with its episodes, and a record here. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from fss_lab.errors import InputError

if TYPE_CHECKING:
    from fss_lab.datasets.protocols import ImageSet
    from fss_lab.episode import Episodes


@dataclass(frozen=True)
class ToyDataSet:
    """about: what it shows, for help. fresh: "module:class" of episodes with scenes of their own, called as
    `LookAlikes`; fixed: of its `ImageSet`, called as `PictogramImages`, so that protocols run on it; or None."""

    name: str
    about: str
    fresh: str
    fixed: str | None = None

    def episodes(self, fold: int, shots: int, seed: int, number: int) -> Episodes:
        """Novel-class episodes with scenes of their own. Raises InputError for another fold or fewer than one shot."""
        return resolve_name(self.fresh)(fold, shots=shots, seed=seed, episodes=number)

    def images(self, fold: int, number: int) -> ImageSet:
        """A fixed set of images with novel classes.

        Raises InputError for another fold, fewer than one image, or a world without a fixed set.
        """
        if self.fixed is None:
            raise InputError(f"{self.name} are fresh scenes; a protocol needs a fixed set of images")
        return resolve_name(self.fixed)(fold, "novel", number)


TOY_WORLDS = {
    world.name: world
    for world in (
        ToyDataSet(
            "pictograms", "the toy world",
            "fss_lab.toyworld.pictograms:Pictograms", "fss_lab.toyworld.pictogram_images:PictogramImages",
        ),
        ToyDataSet(
            "look-alikes", "the toy world with misleading distractors", "fss_lab.toyworld.look_alikes:LookAlikes"
        ),
    )
}  # fmt: skip
"""By the name that --dataset takes."""
