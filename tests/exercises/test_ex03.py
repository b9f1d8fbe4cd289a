"""Notebook 03: right answers unlike the solutions pass, and wrong ones are told what is wrong."""

import random

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex03

# ---- 3.1


def test_separation_from_ranks_passes():
    def answer(scores, inside):
        """The Mann-Whitney statistic, with mean ranks for ties."""
        flat = scores.flatten()
        ranks = (flat[:, None] > flat).sum(1) + ((flat[:, None] == flat).sum(1) + 1) / 2
        n, m = inside.sum(), (~inside).sum()
        return (ranks[inside.flatten()].sum() - n * (n + 1) / 2) / (n * m)

    ex03.check_separation(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, m: (s[m][:, None] > s[~m]).float().mean(), "count it as lost"),
        (lambda s, m: (s[m][:, None] >= s[~m]).float().mean(), "count it as won"),
        (lambda s, m: 1 - ex_separation(s, m), "swap the sides"),
        (lambda s, m: s[m].mean() - s[~m].mean(), "difference of the two means"),
        (lambda s, m: ((s > 0.5) == m).float().mean(), "needs no threshold"),
        (lambda s, m: ex_separation(s, m) * s[m].numel() * s[~m].numel(), "divide it by the number of pairs"),
        (lambda s, m: ex_separation(s, m) * 8 / 36, "divide by all pairs"),
        (lambda s, m: s[m][:, None] > s[~m], "one number"),
        (lambda s, m: (s[m].mean() > s[~m]).float().mean(), "below the object's mean"),
        (lambda s, m: ex_separation(s.sub_(s.min()), m), "changes its argument s"),
    ],
)
def test_separation_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex03.check_separation(answer)


def ex_separation(s, m):
    x, y = s[m][:, None], s[~m]
    return ((x > y).float() + 0.5 * (x == y).float()).mean()


# ---- 3.2


def test_mass_by_matrix_products_passes():
    def answer(attention, query, support):
        padded = torch.cat([support.float(), torch.zeros(attention.shape[1] - len(support))])
        return query.float() @ attention @ padded / query.sum()

    ex03.check_mass_on_object(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda a, q, s: a[:, : len(s)][:, s].sum(1).mean(), "all query cells"),
        (lambda a, q, s: a[q][:, : len(s)][:, s].mean(), "mean over the chosen columns"),
        (lambda a, q, s: a[q][:, : len(s)][:, s].sum(), "sum over the query's cells"),
        (lambda a, q, s: a[s][:, : len(q)][:, q].sum(1).mean(), "swapped"),
        (lambda a, q, s: a[q][:, : len(s)][:, ~s].sum(1).mean(), "beside the object"),
        (lambda a, q, s: a[q][:, : len(s)][:, s].sum(1).mean() + a[q][:, len(s) :].sum(1).mean(), "Pointer tokens"),
        (lambda a, q, s: a[q][:, s].sum(1).mean(), "(?s)stopped with IndexError.*pointers"),
    ],
)
def test_mass_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex03.check_mass_on_object(answer)


# ---- 3.3


def quantiles(values, low=0.025, high=0.975):
    return values.quantile(low), values.quantile(high)


def test_paired_interval_drawn_separately_with_the_same_numbers_passes():
    def answer(same, other, drawn):
        means = torch.stack([same[rows].mean() - other[rows].mean() for rows in drawn])
        return quantiles(means)

    ex03.check_paired_interval(answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda a, b, d: quantiles(a[d].mean(1) - b[d.flip(0)].mean(1)), "draw the same episodes for both"),
        (lambda a, b, d: quantiles((b - a)[d].mean(1)), "sign is reversed"),
        (lambda a, b, d: quantiles((a - b)[d].mean(1), 0.05, 0.95), "hold 90 %"),
        (lambda a, b, d: quantiles(a - b), "mean for each replicate first"),
        (lambda a, b, d: quantiles((a - b)[d].flatten()), "single draws"),
        (lambda a, b, d: ((a - b)[d].mean(1).min(), (a - b)[d].mean(1).max()), "smallest and the largest"),
        (
            lambda a, b, d: tuple((a - b).mean() + side * 1.96 * (a - b).std() / len(a) ** 0.5 for side in (-1, 1)),
            "standard errors",
        ),
        (lambda a, b, d: quantiles((a - b)[d].mean(1))[::-1], "order is"),
        (lambda a, b, d: quantiles((a - b)[d].mean(0)), "means over the replicates"),
        (
            lambda a, b, d: tuple(x - y for x, y in zip(quantiles(a[d].mean(1)), quantiles(b[d].mean(1)), strict=True)),
            "subtract quantiles",
        ),
        (lambda a, b, d: (a - b).mean(), "two numbers"),
    ],
)
def test_paired_interval_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex03.check_paired_interval(answer)


# ---- 3.4


def test_loans_sorted_by_class_pass():
    def answer(class_ids):
        """A shift among the episodes in the order of their classes, as far as the largest class is wide."""
        order = sorted(range(len(class_ids)), key=lambda i: -class_ids[i])
        widest = max(map(class_ids.count, class_ids))
        return [order[(order.index(i) - widest) % len(order)] for i in range(len(class_ids))]

    ex03.check_lend_supports(answer)


def next_of_another_class(ids):
    count = len(ids)
    return [next(j % count for j in range(i + 1, i + count) if ids[j % count] != ids[i]) for i in range(count)]


def shuffled(ids):
    order = sorted(range(len(ids)), key=lambda i: (ids[i], random.random()))
    widest = max(map(ids.count, ids))
    return [order[(order.index(i) + widest) % len(ids)] for i in range(len(ids))]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda ids: [(i + 1) % len(ids) for i in range(len(ids))], "is of the same class"),
        (lambda ids: list(range(len(ids))), "its own support"),
        (shuffled, "leave chance out"),
        (lambda ids: [i + 1 for i in range(len(ids))], "episodes are numbered"),
        (lambda ids: [0], "list of 3 ints"),
        (lambda ids: [next(j for j, c in enumerate(ids) if c != mine) for mine in ids], "episode 0 is lent 2 times"),
        (next_of_another_class, "is lent 2 times. Lend each once"),
    ],
)
def test_control_gone_wrong(answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex03.check_lend_supports(answer)
