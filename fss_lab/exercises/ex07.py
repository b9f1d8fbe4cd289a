"""Checks of notebook 07: all of FSSAM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise


@exercise()
def check_key_columns(function: Callable[[int, int, int, bool], int]) -> str:
    """Exercise 7.1: function(shots, cells, pointer_tokens, averaged) -> how many keys a query cell can look at."""
    one = call(function, 1, 256, 4, False)
    compare(
        one,
        520,
        "with one shot the number of keys",
        {
            "You left out the query's own memory: FSSAM remembers the query with its prior, too (256 more cells).": 264,
            "You left out the query's object pointer: there is one for each shot and one for the query.": 516,
            "You left out the object pointers: each is cut into pointer_tokens tokens.": 512,
            "A pointer is not one key: it is cut into pointer_tokens tokens.": 514,
        },
    )
    compare(
        call(function, 5, 256, 4, False),
        6 * 256 + 24,
        "with five shots side by side the number of keys",
        {
            "You have the supports' memories once; without averaging every shot keeps its own block of cells.": 536,
            "The pointers grow with the shots: one for each, and one for the query.": 6 * 256 + 8,
            "You left out the query's object pointer: there is one for each shot and one for the query.": 6 * 256 + 20,
            "You left out the query's own memory: K support blocks and one query block.": 5 * 256 + 24,
        },
    )
    compare(
        call(function, 5, 256, 4, True),
        2 * 256 + 24,
        "with five averaged shots the number of keys",
        {
            "SCMA averages the shots' memories, not their pointers: those stay side by side.": 2 * 256 + 8,
            "With averaged=True the supports' blocks become one; you still have one for each shot.": 6 * 256 + 24,
            "The query memory is not part of the average: it keeps its own block.": 256 + 24,
        },
    )
    compare(
        call(function, 3, 4, 2, True), 16, "for 3 averaged shots, 4 cells and 2 tokens a pointer the number of keys"
    )
    return "key_columns counts support memory, query memory and pointers."


@exercise()
def check_vote(function: Callable[[Tensor], Tensor]) -> str:
    """Exercise 7.2: function(masks: (K, H, W) bool) -> (H, W) bool, HSNet's vote."""
    votes = torch.tensor([[6, 5, 4, 3, 2, 0]])
    masks = torch.arange(9)[:, None, None] < votes  # 9, 1, 6
    answer = check_tensor(call(function, masks), (1, 6), "the vote", torch.bool)
    compare(
        answer,
        [[1, 1, 1, 1, 0, 0]],
        "the vote over 9 masks with 6, 5, 4, 3, 2 and 0 votes",
        {
            "That is the majority of all K masks. The rule compares with the pixel that has most votes: 3 of 6 is "
            "half, so it counts.": 2 * votes > 9,
            "`more than half` loses the pixel with exactly half of the most votes; the rule says `at least`.": votes
            > 3,
            "One vote is not enough: that is the union of the masks.": votes > 0,
            "All need not agree: that is the intersection of the masks.": votes == 9,
            "Only the pixels with most votes remain; half as many are enough.": votes == 6,
        },
    )
    nothing = check_tensor(call(function, torch.zeros(5, 2, 3, dtype=torch.bool)), (2, 3), "the vote", torch.bool)
    compare(
        nothing,
        torch.zeros(2, 3),
        "the vote where no mask shows anything",
        {
            "Where nobody votes, 0 is at least half of 0: ask for at least one vote as well, or an empty answer "
            "becomes all foreground.": torch.ones(2, 3)
        },
    )
    odd = torch.arange(5)[:, None, None] < torch.tensor([[5, 3, 2, 0]])  # 5, 1, 4
    compare(
        call(function, odd),
        [[1, 1, 0, 0]],
        "the vote over 5 masks with 5, 3, 2 and 0 votes",
        {"Half of 5 votes are 2.5, so 2 are not enough: do not round the half down (`//`).": [[1, 1, 1, 0]]},
    )
    one = masks[3:4]
    compare(call(function, one), one[0], "the vote of one mask, which must be that mask,")
    return "vote keeps what has at least half of the most votes, and nothing where nobody votes."


@exercise()
def check_paired_gain(function: Callable[[Sequence[float], Sequence[float]], tuple[float, float]]) -> str:
    """Exercise 7.3: function(new, old) -> mean difference and its standard error."""
    new, old = [0.6, 0.7, 0.8, 0.4, 0.9], [0.5, 0.3, 0.9, 0.4, 0.5]  # differences .1 .4 −.1 .0 .4
    answer = _two_numbers(call(function, new, old), "(mean, standard error)")
    spread = math.sqrt(0.212 / 4)
    compare(
        answer[0],
        0.16,
        "the mean difference",
        {
            "The sign is turned round: a gain is new minus old.": -0.16,
            "That is the sum of the differences; divide by their number.": 0.8,
            "You take the differences without their sign; where the new model is worse, the gain is negative.": 0.2,
            "That is the median; the mean counts every difference.": 0.1,
        },
    )
    both = torch.tensor([new, old]).double()
    apart = float((both.var(1).sum() / 5).sqrt())
    compare(
        answer[1],
        spread / 5**0.5,
        "the standard error",
        {
            "That is the standard deviation of the differences; that of their mean is smaller by √N.": spread,
            "You divide the squared deviations by N; with N episodes the spread is estimated with N − 1.": math.sqrt(
                0.212 / 25
            ),
            "That is the standard error of two separate samples. Subtract episode by episode first: what makes an "
            "episode hard is in both scores and cancels.": apart,
            "You divide by N where √N belongs.": spread / 5,
            "That is the variance of the mean; take the root.": spread**2 / 5,
            "You divide the variance by √N; take its root first.": spread**2 / 5**0.5,
        },
    )
    shifted = _two_numbers(call(function, [0.75, 0.5, 0.25], [0.5, 0.25, 0.0]), "(mean, standard error)")
    compare(shifted, [0.25, 0.0], "for scores that all rise by 0.25, (mean, standard error)")
    return "paired_gain subtracts episode by episode, then gives mean and standard error."


@exercise()
def check_error_origin(function: Callable[[Tensor, Tensor, Tensor], tuple[int, int, int, int]]) -> str:
    """Exercise 7.4.

    function(prior, mask, truth) -> (missed by both, missed later, extra in both, extra later) in pixels.
    """
    # two pixels missed by both, one later; two extra in both, three later; then right ones and four to ignore
    prior = torch.tensor([[0.2, 0.1, 0.8, 0.7, 0.9, 0.5, 0.2, 0.3, 0.9, 0.3, 0.6, 0.1, 0.6, 0.8, 0.2, 0.4]])
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1]]).bool()
    truth = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 255, 255, 255, 255]], dtype=torch.uint8)
    pixels = _counts(call(function, prior, mask, truth))
    guess, known, wanted = prior > 0.5, truth != 255, truth == 1
    extra = known & ~wanted & mask

    def count(*kinds: Tensor) -> list[int]:
        return [int(kind.sum()) for kind in kinds]

    compare(
        pixels,
        [2, 1, 2, 3],
        "(missed by both, missed later, extra in both, extra later)",
        {
            "0.5 itself is not above 0.5: the prior is cut at > 0.5, not at ≥ 0.5.": [2, 1, 3, 2],
            "Pixels of 255 are neither object nor background: some of yours are counted as extra.": [2, 1, 3, 4],
            "Pixels of 255 are neither object nor background: some of yours are counted as missed (`truth.bool()` "
            "makes them object).": [3, 2, 2, 3],
            "The fourth kind is what only the mask takes for object; you count all of its extras.": [2, 1, 2, 5],
            "The second kind is what the prior had and the mask lost; you count all that the mask misses.": [
                2,
                3,
                2,
                3,
            ],
            "You count what the prior alone decides. Every kind asks for a wrong pixel of the mask: object without "
            "`mask`, or background with it.": count(
                wanted & ~guess, wanted & guess & ~mask, known & ~wanted & guess, extra & ~guess
            ),
            "The second kind is lost: the prior had it and the mask does not.": count(
                wanted & ~mask & ~guess, wanted & guess, extra & guess, extra & ~guess
            ),
            "You count what the prior gets wrong and what the mask gets wrong, each on its own. Every wrong pixel of "
            "the mask belongs to one kind: the prior had it wrong already, or not. (What the mask repaired is no "
            "mistake.)": count(wanted & ~guess, wanted & ~mask, known & ~wanted & guess, extra),
            "The two kinds of missed pixels are swapped: first those that the prior misses too, then those that it had "
            "and the mask lost.": [1, 2, 2, 3],
            "The two kinds of missed pixels are swapped, and so are the extras: first those that the prior has wrong "
            "already.": [1, 2, 3, 2],
            "Missed and extra are swapped: missed is object that the mask lacks, extra is background that it has.": [
                2,
                3,
                2,
                1,
            ],
        },
    )
    rng = torch.Generator().manual_seed(0)
    prior, mask = torch.rand(9, 9, generator=rng), torch.rand(9, 9, generator=rng) > 0.5
    truth = (torch.rand(9, 9, generator=rng) > 0.4).to(torch.uint8)
    pixels = _counts(call(function, prior, mask, truth))
    wrong = int((mask != (truth == 1)).sum())
    compare(sum(pixels), wrong, "on a random example the sum of the four, which must be the number of wrong pixels,")
    return "error_origin sorts every wrong pixel by where it first went wrong."


def _two_numbers(answer: Any, what: str) -> list[float]:
    try:
        first, second = (float(value) for value in answer)
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError(f"the result must be two numbers, {what}, but is {answer!r:.80}.") from None
    return [first, second]


def _counts(answer: Any) -> list[int]:
    try:
        pixels = [int(value) for value in answer]
    except (TypeError, ValueError, RuntimeError):
        pixels = []
    if len(pixels) != 4:
        raise ExerciseError(f"the result must be four numbers of pixels, but is {answer!r:.80}.")
    return pixels
