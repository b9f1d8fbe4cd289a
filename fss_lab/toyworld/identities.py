"""What makes two individuals of a class look alike: supports that share only some traits with the query's object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fss_lab.datasets.folds import SPLITS
from fss_lab.errors import InputError
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.toyworld.scenes import Identity, Scene

TRAITS = ("everything", "colours", "shape", "nothing")


class SharedTraits(Pictograms):
    """Novel-class episodes whose supports show an individual made for the purpose.

    shared: what it has in common with the query's individual, one of `TRAITS`. "everything": it is that individual
        (`Pictograms` calls this identity="same"). "colours": its colours and texture on another shape of the class.
        "shape": its shape in other colours and texture. "nothing" but the class: another individual (identity="other").
    The queries are the same for all, and so are background, pose and company in the supports. One object of the class
    in every scene.

    Raises InputError for another word, another fold, or fewer than one shot.
    """

    def __init__(self, fold: int, shared: str, shots: int = 1, seed: int = 0, *, episodes: int = 1000) -> None:
        if shared not in TRAITS:
            raise InputError(f"shared must be one of {TRAITS}, got {shared!r}")
        super().__init__(fold, "novel", shots, seed, episodes=episodes, targets=1)
        self.shared = shared

    def scenes(self, index: int) -> tuple[int, list[Scene]]:
        """The class of episode `index` and its scenes: the query's, then the supports'."""
        class_id, (query, *others) = super().scenes(index)
        mine = _individual(query, class_id)
        supports = []
        for shot, scene in enumerate(others, start=1):
            other = _individual(scene, class_id)
            individual = {
                "everything": mine,
                "colours": replace(mine, parts=other.parts),
                "shape": replace(other, parts=mine.parts),
                "nothing": other,
            }[self.shared]
            key = [self.seed, self.fold, SPLITS.index(self.split), index, shot]
            supports.append(self._scene(np.random.default_rng(key), class_id, individual)[0])
        return class_id, [query, *supports]


def _individual(scene: Scene, class_id: int) -> Identity:
    return next(identity for identity in scene.identities if identity.class_id == class_id)
