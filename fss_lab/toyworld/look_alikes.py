"""Scenes made to mislead: distractors that wear the target's colours and some of its parts."""

from __future__ import annotations

from dataclasses import replace

from fss_lab.toyworld.drawing_tools import fit, shift
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.toyworld.scenes import Identity, Rng

TARGETS = 2  # objects of the target class in every scene


class LookAlikes(Pictograms):
    """Novel-class episodes in which colour is no help and a part is not enough.

    Every scene shows two objects of the target class. Each of its 1 to 3 distractors has the colours and the texture of
    one of them, and carries a third of that one's parts at half their size, at a corner of its own drawing.

    fold, shots, seed, episodes: see `Pictograms`. Raises InputError for another fold, or fewer than one shot.
    """

    def __init__(self, fold: int, shots: int = 1, seed: int = 0, *, episodes: int = 1000) -> None:
        super().__init__(fold, "novel", shots, seed, episodes=episodes, targets=TARGETS)

    def _cast(self, rng: Rng, class_id: int, count: int, individual: Identity | None) -> list[Identity]:
        cast = super()._cast(rng, class_id, count, individual)
        return cast[:count] + [_disguise(rng, other, cast[int(rng.integers(count))]) for other in cast[count:]]


def _disguise(rng: Rng, distractor: Identity, target: Identity) -> Identity:
    """The distractor in the target's colours, with some of its parts."""
    count = max(1, len(target.parts) // 3)
    first = int(rng.integers(len(target.parts) - count + 1))
    x, y = (0.8 * (1 - 2 * int(rng.integers(2))) for _ in range(2))
    borrowed = shift(fit(target.parts[first : first + count]), x, y, 0.5)
    return replace(target, class_id=distractor.class_id, parts=tuple(fit([*distractor.parts, *borrowed])))
