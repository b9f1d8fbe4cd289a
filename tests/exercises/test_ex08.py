"""Notebook 08: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

import math

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex08

# ---- 8.1


def test_masses_written_in_another_way():
    def part_masses(attention, columns):
        lengths = [part.stop - part.start for part in (columns.support, columns.query, columns.pointers)]
        return torch.stack([part.sum(-1) for part in attention.mean(0).split(lengths, dim=-1)], dim=-1)

    ex08.check_part_masses(part_masses)


def _masses(reduce, heads=lambda x: x.mean(0), order=("support", "query", "pointers")):
    return lambda a, columns: torch.stack([reduce(heads(a)[..., getattr(columns, p)]) for p in order], -1)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (_masses(lambda x: x.mean(-1)), "mean weight of a part"),
        (_masses(lambda x: x.sum(-1), heads=lambda x: x.sum(0)), "add up the heads"),
        (_masses(lambda x: x.sum(-1), heads=lambda x: x[0]), "first head only"),
        (_masses(lambda x: x.sum(-1), order=("support", "pointers", "query")), "swapped"),
        (_masses(lambda x: x.sum(-1), heads=lambda x: x), "mean over the heads"),
        (lambda a, c: torch.stack([a.mean(0)[:, p].sum(-1) for p in (c.support, c.query, c.pointers)]), "last axis"),
        (_masses(lambda x: x.sum(-1).mean(0)), r"\(2, 3\)"),
    ],
)
def test_wrong_masses(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex08.check_part_masses(wrong)


# ---- 8.2


def test_a_map_made_in_another_way():
    def attention_map(weights, cell, part, grid):
        by_place = weights.view(*grid, -1)[cell[0], cell[1]]
        return torch.stack([by_place[part][start : start + grid[1]] for start in range(0, grid[0] * grid[1], grid[1])])

    ex08.check_attention_map(attention_map)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda w, c, p, g: w[c[1] * g[0] + c[0], p].view(g), "down the columns: cell"),
        (lambda w, c, p, g: w[c[0] * g[0] + c[1], p].view(g), "a row of the grid has w cells"),
        (lambda w, c, p, g: w[c[0] * g[1] + c[1], : g[0] * g[1]].view(g), "belong to the support"),
        (lambda w, c, p, g: w[:, p.start + c[0] * g[1] + c[1]].view(g), "who looks AT"),
        (lambda w, c, p, g: w[c[0] * g[1] + c[1], p].view(g[1], g[0]).T, "laid out down the columns"),
        (lambda w, c, p, g: w[c[0] * g[1] + c[1], 8:16].view(g), "use `part`"),
        (lambda w, c, p, g: w[c[0] * g[1] + c[1], p], r"\(2, 4\)"),
    ],
)
def test_wrong_maps(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex08.check_attention_map(wrong)


# ---- 8.3


def test_effective_cells_written_in_another_way():
    def effective_cells(weights):
        share = weights[weights > 0] / weights.sum()
        return 1 / (share**share).prod()

    ex08.check_effective_cells(effective_cells)


def _entropy(p):
    p = p / p.sum()
    return -torch.xlogy(p, p).sum()


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (_entropy, "in nats"),
        (lambda p: _entropy(p) / math.log(2), "in bits; take the power"),
        (lambda p: (-_entropy(p)).exp(), "minus sign"),
        (lambda p: (_entropy(p) / math.log(2)).exp(), "use the natural logarithm"),
        (lambda p: 1 / (p / p.sum()).square().sum(), "another measure"),
        (lambda p: (p > 0).sum(), "not 0"),
        (lambda p: _entropy(p.softmax(0)).exp(), "softmax of the weights"),
        (lambda p: (-(p / p.sum() * (p / p.sum()).log()).sum()).exp(), "0 · ln 0"),
        (lambda p: (-torch.xlogy(p, p).sum()).exp(), "Divide by the sum first"),
    ],
)
def test_wrong_effective_cells(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex08.check_effective_cells(wrong)


# ---- 8.4


def test_recalibrated_in_another_way():
    ex08.check_recalibrate(lambda before, bias: (before.log() + bias).softmax(-1))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda p, b: p * b.exp(), "no longer sum to 1"),
        (lambda p, b: (p + b).softmax(-1), "Weights are no logits"),
        (lambda p, b: (p + b) / (p + b).sum(-1, keepdim=True), "makes some < 0"),
        (lambda p, b: (p.log() - b).softmax(-1), "turns the bias round"),
        (lambda p, b: (p * b.exp()).softmax(-1), "then take a softmax"),
        (lambda p, b: p * b / (p * b).sum(-1, keepdim=True), "multiply the weights by the bias"),
        (lambda p, b: p * b.exp() / (p * b.exp()).sum(), "sum over everything"),
        (lambda p, b: p * b.exp() / (p * b.exp()).sum(0, keepdim=True), "over the query cells"),
        (lambda p, b: (p * b.exp() / (p * b.exp()).sum(-1, keepdim=True))[0], r"\(2, 3\)"),
    ],
)
def test_wrong_recalibrations(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex08.check_recalibrate(wrong)


# ---- all


def _recalibrated(before, bias):
    return (before.log() + bias).softmax(-1)


@pytest.mark.parametrize(
    ("check", "right"),
    [
        (ex08.check_part_masses, _masses(lambda x: x.sum(-1))),
        (ex08.check_attention_map, lambda w, cell, part, grid: w[cell[0] * grid[1] + cell[1], part].reshape(grid)),
        (ex08.check_effective_cells, lambda p: _entropy(p).exp()),
        (ex08.check_recalibrate, _recalibrated),
    ],
)
def test_an_answer_that_changes_what_it_is_given_is_refused(check, right):
    def changing(first, *others):
        result = right(first, *others).clone()
        first.add_(1)
        return result

    check(right)
    with pytest.raises(ExerciseError, match="changes its argument first in place"):
        check(changing)
