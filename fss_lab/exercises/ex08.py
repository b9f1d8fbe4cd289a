"""Checks of notebook 08: looking inside the attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_number, check_tensor, compare, exercise
from fss_lab.method.trace import Columns


@exercise()
def check_part_masses(function: Callable[[Tensor, Columns], Tensor]) -> str:
    """Exercise 8.1.

    function(attention: (heads, N, L), columns) -> (N, 3), what support, query memory and pointers get.
    """
    columns = Columns.of(support=3, total=6, pointers=1)  # 3 support, 2 query, 1 pointer
    first = torch.tensor([[0.1, 0.1, 0.2, 0.2, 0.1, 0.3], [0.0, 0.3, 0.3, 0.1, 0.1, 0.2]])
    second = torch.tensor([[0.2, 0.2, 0.2, 0.1, 0.1, 0.2], [0.5, 0.1, 0.0, 0.0, 0.4, 0.0]])
    attention = torch.stack([first, second])  # 2, 2, 6
    right = torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.3, 0.1]])
    sizes = torch.tensor([3.0, 2.0, 1.0])
    answer = call(function, attention, columns)
    if isinstance(answer, Tensor) and tuple(answer.shape) == (2, 2, 3):
        raise ExerciseError("You keep one row for each head and cell, (heads, N, 3); take the mean over the heads.")
    if isinstance(answer, Tensor) and tuple(answer.shape) == (3, 2):
        raise ExerciseError("Your tensor is (3, N); it must be (N, 3): stack the parts along the last axis.")
    check_tensor(answer, (2, 3), "the tensor of masses")
    compare(
        answer,
        right,
        "the tensor of masses",
        {
            "You take the mean weight of a part; its mass is the sum. (A part with more keys gets more by that.)": right
            / sizes,
            "You add up the heads; take their mean, so that the three masses sum to 1.": 2 * right,
            "You use the first head only; take the mean over all heads.": torch.tensor(
                [[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]
            ),
            "Pointers and query memory are swapped: the order is support, query memory, pointers.": right[:, [0, 2, 1]],
            "You average over the query cells too; keep one row for each of them.": right.mean(0).expand(2, 3),
        },
    )
    return "part_masses adds up each part's columns and takes the mean over the heads."


@exercise()
def check_attention_map(function: Callable[[Tensor, tuple[int, int], slice, tuple[int, int]], Tensor]) -> str:
    """Exercise 8.2.

    function(weights: (N, L), cell, part, grid) -> (h, w), how the cell's weights lie on the grid of a part.
    """
    grid = (2, 4)
    weights = torch.arange(8 * 18).view(8, 18).float()  # the value tells row and column: 18 i + j
    part = slice(8, 16)
    row = weights[1 * 4 + 2, part]
    answer = check_tensor(call(function, weights, (1, 2), part, grid), grid, "the map")
    compare(
        answer,
        row.view(grid),
        "the map of cell (1, 2)",
        {
            "You count down the columns: cell (row, column) is number row · w + column, row by row.": weights[
                2 * 2 + 1, part
            ].view(grid),
            "You multiply the row by h; a row of the grid has w cells.": weights[1 * 2 + 2, part].view(grid),
            "You read the first columns, which belong to the support; take those of `part`.": weights[6, :8].view(grid),
            "That is who looks AT the cell (a column of weights); the task asks where the cell looks (a row).": weights[
                :, 8 + 6
            ].view(grid),
            "The map is laid out down the columns; the keys lie row by row (view, not a transpose).": row.view(4, 2).T,
        },
    )
    compare(
        call(function, weights, (0, 1), slice(0, 8), grid),
        weights[1, :8].view(grid),
        "the map of cell (0, 1) over the support",
        {"Only the query memory's map is right: use `part` for the columns.": weights[1, 8:16].view(grid)},
    )
    return "attention_map finds the row of the cell and lays the part's columns out on the grid."


@exercise()
def check_effective_cells(function: Callable[[Tensor], Tensor]) -> str:
    """Exercise 8.3.

    function(weights: (L,), at least 0, any positive sum) -> how many cells share them, exp(entropy).
    """
    even = check_number(call(function, torch.full((4,), 0.25)), "effective_cells of four equal weights")
    compare(
        even,
        4.0,
        "effective_cells of four equal weights",
        {
            "That is the entropy itself, in nats; take its exponential.": math.log(4),
            "That is the entropy itself, in bits; take the power of the same base.": 2.0,
            "The entropy has a minus sign: H = −Σ p ln p.": 0.25,
            "You take exp of an entropy in bits; use the natural logarithm for both.": math.exp(2),
        },
    )
    uneven = math.exp(1.5 * math.log(2))  # of 1/2, 1/4, 1/4
    compare(
        call(function, torch.tensor([0.5, 0.25, 0.25])),
        uneven,
        "effective_cells of 1/2, 1/4, 1/4",
        {
            "That is 1 / Σp², another measure of the same kind; the task asks for exp(entropy).": 1 / 0.375,
            "That is the number of weights that are not 0.": 3.0,
            "You take a softmax of the weights. They come out of one already: divide them by their sum.": math.exp(
                float(torch.special.entr(torch.tensor([0.5, 0.25, 0.25]).softmax(0)).sum())
            ),
        },
    )
    compare(
        call(function, torch.tensor([0.5, 0.5, 0.0, 0.0])),
        2.0,
        "effective_cells of 1/2, 1/2, 0, 0",
        {"A weight of 0 gives 0 · ln 0 = NaN; its part of the entropy is 0 (leave it out).": math.nan},
    )
    part = torch.tensor([0.1, 0.1])
    raw = math.exp(float(-(part * part.log()).sum()))
    compare(
        call(function, part),
        2.0,
        "effective_cells of 0.1, 0.1 (a part of the memory that gets 20 % in all)",
        {"Divide by the sum first: the weights of one part do not sum to 1.": raw},
    )
    return "effective_cells: 1 for a single cell, n for n equal ones."


@exercise()
def check_recalibrate(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Exercise 8.4.

    function(before: (..., L) softmax weights, bias: (..., L)) -> softmax(logits + bias), without the logits.
    """
    before = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]])
    bias = torch.tensor([[0.0, 0.0, -math.log(2)], [0.0, 0.0, 0.0]])
    right = torch.tensor([[4 / 7, 2 / 7, 1 / 7], [0.2, 0.4, 0.4]])
    scaled = before * bias.exp()
    answer = check_tensor(call(function, before, bias), (2, 3), "the weights")
    compare(
        answer,
        right,
        "the weight after the bias",
        {
            "The weights of a row no longer sum to 1: divide by their sum.": scaled,
            "Weights are no logits: a softmax over weights + bias starts from the wrong numbers. Use ln(weights), or "
            "multiply the weights by e^bias.": (before + bias).softmax(-1),
            "The bias is added to logits, so it multiplies weights by e^bias; added to weights it makes some < 0.": (
                before + bias
            )
            / (before + bias).sum(-1, keepdim=True),
            "You multiply by e^bias and then take a softmax, which would turn logits into weights. These are weights: "
            "divide by their sum.": scaled.softmax(-1),
            "You multiply the weights by the bias; they are to be multiplied by e^bias (a bias of 0 changes "
            "nothing).": before * bias / (before * bias).sum(-1, keepdim=True),
            "e^(−bias) turns the bias round: a negative bias must take weight away.": before
            * (-bias).exp()
            / (before * (-bias).exp()).sum(-1, keepdim=True),
            "You divide by the sum over everything; every query cell shares out its own 1 (sum over the last "
            "axis).": scaled / scaled.sum(),
            "You divide by the sum over the query cells; the softmax runs over the keys, the last axis.": scaled
            / scaled.sum(0, keepdim=True),
        },
    )
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    extra = -10 * torch.rand(2, 4, 7, generator=torch.Generator().manual_seed(1))
    compare(
        call(function, logits.softmax(-1), extra),
        (logits + extra).softmax(-1),
        "for random logits, the weight after the bias",
    )
    return "recalibrate: multiply by e^bias, then divide by the new sum of the row."
