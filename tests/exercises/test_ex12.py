"""Notebook 12: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F

from fss_lab.exercises import ExerciseError, ex12


def test_blocks_written_in_another_way():
    assert ex12.check_key_blocks(lambda K, N, P: list(pairwise(accumulate([0, *[N] * (K + 1), P])))) is None


def blocks(K, N, P):
    return [(i * N, (i + 1) * N) for i in range(K + 1)] + [((K + 1) * N, (K + 1) * N + P)]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda K, N, P: [*blocks(K, N, P)[:K], (N, 2 * N), blocks(K, N, P)[-1]], "the published error"),
        (lambda K, N, P: [*blocks(K, N, P)[:-1], ((K + 1) * N, (K + 2) * N)], "not N columns but P"),
        (lambda K, N, P: [(a + N, b + N) for a, b in blocks(K, N, P)], "begin with number 1"),
        (lambda K, N, P: [*blocks(K, N, P)[1:-1], (0, N), blocks(K, N, P)[-1]], "after the supports"),
        (lambda K, N, P: [(a, b - 1) for a, b in blocks(K, N, P)], "no longer belongs"),
        (lambda K, N, P: [(a, b - a) for a, b in blocks(K, N, P)], "length of a block"),
        (lambda K, N, P: blocks(K, N, P)[:-1], "3 blocks: supports, query memory, pointers; not 2"),
    ],
)
def test_wrong_blocks(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex12.check_key_blocks(wrong)


def test_moved_written_in_another_way():
    assert ex12.check_moved(lambda one, two: tuple(n for n, x in one.items() if (x != two[n]).any())) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda one, two: [n for n in one if torch.equal(one[n], two[n])], "what stayed"),
        (lambda one, two: [n for n in one if not torch.allclose(one[n], two[n], atol=1e-5)], "compare exactly"),
        (lambda one, two: [n for n in one if one[n].sum() != two[n].sum()], "value by value"),
        (lambda one, two: [n for n in one if (one[n] != two[n]).all()], "One value is enough"),
        (lambda one, two: [n for n in one if one[n] is not two[n]], "another object"),
        (lambda one, two: 3, "list of names"),
        (lambda one, two: ["d", "b", "a"], "in this order"),
    ],
)
def test_wrong_names(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex12.check_moved(wrong)


def test_survival_written_in_another_way():
    def survives(mask, cell):
        small = [side // cell for side in mask.shape]
        return F.interpolate(mask[None, None].float(), small, mode="nearest").any()

    assert ex12.check_survives(survives) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda mask, cell: mask.any(), "any object at all"),
        (lambda mask, cell: mask[cell // 2 :: cell, cell // 2 :: cell].any(), "middle of each cell"),
        (lambda mask, cell: (F.avg_pool2d(mask[None].float(), cell) >= 0.5).any(), "fills half a cell"),
        (lambda mask, cell: mask[::cell].any(), "take all columns"),
        (lambda mask, cell: mask[:, ::cell].any(), "take all rows"),
        (lambda mask, cell: not mask[::cell, ::cell].any(), "the reverse"),
        (lambda mask, cell: mask.sum() >= cell, "which objects survive"),
    ],
)
def test_wrong_survival(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex12.check_survives(wrong)
