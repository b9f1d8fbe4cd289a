"""Checks of notebook 12: reproducing a paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, compare, exercise


@exercise()
def check_key_blocks(function: Callable[[int, int, int], Sequence[tuple[int, int]]]) -> str:
    """Exercise 12.1: function(K, N, P) -> (first, last + 1) of each block: K supports, query memory, pointers."""
    for K, N, P in ((1, 4, 2), (2, 2, 1), (5, 256, 24)):
        blocks = call(function, K, N, P)
        if len(blocks) != K + 2:
            raise ExerciseError(
                f"with K = {K} there are {K + 2} blocks: supports, query memory, pointers; not {len(blocks)}."
            )
        right = [(i * N, (i + 1) * N) for i in range(K + 1)] + [((K + 1) * N, (K + 1) * N + P)]
        published = [*right[:K], (N, 2 * N), right[-1]]
        compare(
            [list(block) for block in blocks],
            right,
            f"with K = {K}, N = {N}, P = {P} the blocks",
            {
                "That is the published error: with several supports the columns N to 2N are the second support; the "
                "query memory follows the last one.": published,
                "The pointers are not N columns but P.": [*right[:-1], ((K + 1) * N, (K + 2) * N)],
                "You begin with number 1; the first column is 0.": [(a + N, b + N) for a, b in right],
                "The query memory comes after the supports, not before them.": [*right[1:-1], right[0], right[-1]],
                "The end is the first column that no longer belongs, as in a slice.": [(a, b - 1) for a, b in right],
                "You give the length of a block in the place of its end.": [(a, b - a) for a, b in right],
            },
        )
    return "key_blocks finds supports, query memory and pointers for any number of supports."


@exercise()
def check_moved(function: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Sequence[str]]) -> str:
    """Exercise 12.2: function(before, after) -> the names of the tensors that differ in any value, in order."""
    before = {"a": torch.zeros(3), "b": torch.tensor([1.0, 2.0]), "c": torch.ones(2, 2), "d": torch.tensor([5.0, 6.0])}
    after = {name: value.clone() for name, value in before.items()}
    after["a"][1] = 1e-7
    after["b"] = torch.tensor([2.0, 1.0])
    after["d"][1] = 7.0
    names = call(function, before, after)
    if isinstance(names, str | int) or not all(isinstance(name, str) for name in names):
        raise ExerciseError(f"the result must be a list of names, but is {names!r:.80}.")
    names = list(names)
    for diagnosis, wrong in {
        "You list what stayed as it was; what moved is wanted.": ["c"],
        "A tensor that moved by 0.0000001 has moved: compare exactly, not with a tolerance.": ["b", "d"],
        "Values can change while their sum or mean stays: compare value by value.": ["a", "d"],
        "One value is enough; you ask that all have changed.": ["b"],
        "Every tensor of `after` is another object; compare the values.": ["a", "b", "c", "d"],
    }.items():
        if names == wrong:
            raise ExerciseError(diagnosis)
    if names != ["a", "b", "d"]:
        raise ExerciseError(
            f"of a, b, c and d, a, b and d have moved, in this order; you say {', '.join(names) or 'none'}."
        )
    return "moved names every tensor in which any value differs."


@exercise()
def check_survives(function: Callable[[Tensor, int], bool]) -> str:
    """Exercise 12.3: function(mask (H, W) bool, cell) -> whether nearest neighbour keeps any of it."""
    places = {  # rows and columns of an object in 12 x 12 pixels, cells of 4
        "over the upper left pixel of a cell": (slice(3, 5), slice(7, 9)),
        "in the middle of a cell": (slice(5, 7), slice(6, 7)),
        "on the upper row of a cell but for its first pixel": (slice(4, 5), slice(5, 8)),
        "of three quarters of a cell": (slice(1, 5), slice(1, 4)),
        "on the first column of a cell but for its first pixel": (slice(5, 8), slice(8, 9)),
        "of the upper left pixel of a cell alone": (slice(8, 9), slice(4, 5)),
    }
    masks = torch.zeros(len(places), 12, 12, dtype=torch.bool)
    for mask, (rows, columns) in zip(masks, places.values(), strict=True):
        mask[rows, columns] = True

    def any_of(pixels: Tensor) -> Tensor:
        return pixels.flatten(1).any(1)

    compare(
        [int(bool(call(function, mask, 4))) for mask in masks],
        any_of(masks[:, ::4, ::4]),
        f"which objects survive (1) or vanish (0), in this order: {'; '.join(places)}. The answer",
        {
            "You ask whether there is any object at all; nearest neighbour reads one pixel of each cell.": any_of(
                masks
            ),
            "You look at the middle of each cell; its upper left pixel is read.": any_of(masks[:, 2::4, 2::4]),
            "You keep what fills half a cell; one pixel of it is read.": any_of(F.avg_pool2d(masks.float(), 4) >= 0.5),
            "You skip rows and take all columns; nearest neighbour skips in both directions.": any_of(masks[:, ::4]),
            "You skip columns and take all rows; nearest neighbour skips in both directions.": any_of(masks[:, :, ::4]),
            "That is the reverse: whether the object vanishes.": ~any_of(masks[:, ::4, ::4]),
        },
    )
    return "survives looks at one pixel of each cell, in both directions."
