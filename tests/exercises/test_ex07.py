"""Notebook 07: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

import math
from statistics import mean, stdev

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex07

# ---- 7.1


def test_keys_counted_in_another_way():
    def key_columns(shots, cells, pointer_tokens, averaged):
        parts = [cells] * (1 if averaged else shots) + [cells] + [pointer_tokens] * (shots + 1)
        return sum(parts)

    ex07.check_key_columns(key_columns)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda k, n, p, a: (1 if a else k) * n + (k + 1) * p, "left out the query's own memory"),
        (lambda k, n, p, a: (2 if a else k + 1) * n + k * p, "left out the query's object pointer"),
        (lambda k, n, p, a: (2 if a else k + 1) * n, "left out the object pointers"),
        (lambda k, n, p, a: (2 if a else k + 1) * n + k + 1, "not one key"),
        (lambda k, n, p, a: (2 if a else k + 1) * n + (2 if a else k + 1) * p, "not their pointers"),
        (lambda k, n, p, a: (k + 1) * (n + p), "With averaged=True"),
        (lambda k, n, p, a: 2 * n + (k + 1) * p, "without averaging"),
        (lambda k, n, p, a: (1 if a else k + 1) * n + (k + 1) * p, "keeps its own block"),
    ],
)
def test_wrong_counts_of_keys(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex07.check_key_columns(wrong)


# ---- 7.2


def test_a_vote_written_in_another_way():
    def vote(masks):
        share = masks.float().sum(0)
        most = share.max()
        return share >= most / 2 if most > 0 else torch.zeros_like(masks[0])

    ex07.check_vote(vote)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda m: m.float().mean(0) > 0.5, "majority of all K"),
        (lambda m: 2 * m.sum(0) > m.sum(0).max(), "exactly half"),
        (lambda m: m.any(0), "union"),
        (lambda m: m.all(0), "intersection"),
        (lambda m: m.sum(0) == m.sum(0).max(), "half as many are enough"),
        (lambda m: 2 * m.sum(0) >= m.sum(0).max(), "Where nobody votes"),
        (lambda m: (m.sum(0) >= m.sum(0).max() // 2) & m.any(0), "round the half down"),
        (lambda m: (2 * m.sum(0) >= m.sum(0).max()).float(), "type"),
    ],
)
def test_wrong_votes(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex07.check_vote(wrong)


# ---- 7.3


def test_a_gain_written_in_another_way():
    def paired_gain(new, old):
        differences = [a - b for a, b in zip(new, old, strict=True)]
        return mean(differences), stdev(differences) / math.sqrt(len(differences))

    ex07.check_paired_gain(paired_gain)


def _gain(formula):
    return lambda new, old: formula(torch.tensor(new) - torch.tensor(old), torch.tensor([new, old]))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (_gain(lambda d, _: (-d.mean(), d.std() / len(d) ** 0.5)), "sign is turned"),
        (_gain(lambda d, _: (d.sum(), d.std() / len(d) ** 0.5)), "divide by their number"),
        (_gain(lambda d, _: (d.mean(), d.std())), "smaller by √N"),
        (_gain(lambda d, _: (d.mean(), d.std(correction=0) / len(d) ** 0.5)), "N − 1"),
        (_gain(lambda d, both: (d.mean(), (both.var(1).sum() / len(d)).sqrt())), "two separate samples"),
        (_gain(lambda d, _: (d.mean(), d.std() / len(d))), "where √N belongs"),
        (_gain(lambda d, _: (d.mean(), d.var() / len(d) ** 0.5)), "take its root first"),
        (_gain(lambda d, _: d.mean()), "two numbers"),
        (_gain(lambda d, _: (d.abs().mean(), d.std() / len(d) ** 0.5)), "without their sign"),
        (_gain(lambda d, _: (d.median(), d.std() / len(d) ** 0.5)), "the median"),
    ],
)
def test_wrong_gains(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex07.check_paired_gain(wrong)


# ---- 7.4


def test_origins_found_in_another_way():
    def error_origin(prior, mask, truth):
        found = [0, 0, 0, 0]
        for p, m, t in zip(prior.flatten().tolist(), mask.flatten().tolist(), truth.flatten().tolist(), strict=True):
            if t != 255 and m != bool(t):
                found[(0 if t else 2) + ((p > 0.5) != m)] += 1
        return found

    ex07.check_error_origin(error_origin)


def _count(*kinds):
    return [int(kind.sum()) for kind in kinds]


def _origin(p, m, t, wanted=None, background=None):
    wanted = t == 1 if wanted is None else wanted
    background = t == 0 if background is None else background
    guess, missed, extra = p > 0.5, wanted & ~m, background & m
    return _count(missed & ~guess, missed & guess, extra & guess, extra & ~guess)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda p, m, t: _origin(p + 1e-6, m, t), "not at ≥ 0.5"),
        (lambda p, m, t: [_origin(p, m, t)[kind] for kind in (1, 0, 2, 3)], "missed pixels are swapped: first"),
        (lambda p, m, t: _origin(p, m, t, background=t != 1), "counted as extra"),
        (lambda p, m, t: _origin(p, m, t, wanted=t.bool()), "counted as missed"),
        (
            lambda p, m, t: _count((t == 1) & (p <= 0.5), (t == 1) & ~m, (t == 0) & (p > 0.5), (t == 0) & m),
            "Every wrong pixel of the mask",
        ),
        (lambda p, m, t: [*_origin(p, m, t)[:3], int(((t == 0) & m).sum())], "all of its extras"),
        (lambda p, m, t: [(o := _origin(p, m, t))[0], int(((t == 1) & ~m).sum()), *o[2:]], "all that the mask misses"),
        (
            lambda p, m, t: [(o := _origin(p, m, t))[0], int(((t == 1) & (p > 0.5)).sum()), *o[2:]],
            "second kind is lost",
        ),
        (
            lambda p, m, t: [
                int(((t == 1) & (p <= 0.5)).sum()),
                _origin(p, m, t)[1],
                int(((t == 0) & (p > 0.5)).sum()),
                _origin(p, m, t)[3],
            ],
            "what the prior alone decides",
        ),
        (lambda p, m, t: [_origin(p, m, t)[i] for i in (1, 0, 3, 2)], "missed pixels are swapped"),
        (lambda p, m, t: [_origin(p, m, t)[i] for i in (2, 3, 0, 1)], "Missed and extra are swapped"),
        (lambda p, m, t: _origin(p, m, t)[:2], "four numbers"),
        (lambda p, m, t: _origin(p, ~m, t), r"\(missed by both"),
    ],
)
def test_wrong_origins(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex07.check_error_origin(wrong)
