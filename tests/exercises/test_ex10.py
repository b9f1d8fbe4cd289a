"""Notebook 10: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex10


def weights(pixels, side):
    return torch.ones_like(pixels) if side is None else side**2 / pixels


def test_a_class_counted_in_another_way():
    def class_iou(inter, union, pixels, side):
        area = pixels if side is None else [side * side] * len(pixels)
        sums = [sum(x * a / p for x, a, p in zip(counts, area, pixels, strict=True)) for counts in (inter, union)]
        return sums[0] / sums[1]

    assert ex10.check_class_iou(class_iou) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda i, u, p, s: i.sum() / u.sum(), "at the labels' own size"),
        (lambda i, u, p, s: (i / weights(p, s)).sum() / (u / weights(p, s)).sum(), "Turned round: a small image"),
        (lambda i, u, p, s: (i / u).mean(), "Add up first"),
        (lambda i, u, p, s: i.sum() / u.sum() if s is None else (i / u).mean(), "Add up first"),
        (lambda i, u, p, s: (weights(p, s) * i).sum() / u.sum(), "intersections only"),
        (lambda i, u, p, s: (weights(p, s) ** 0.5 * i).sum() / (weights(p, s) ** 0.5 * u).sum(), "ratio of the sides"),
        (lambda i, u, p, s: i / u, "must be one number"),
    ],
)
def test_wrong_counts(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex10.check_class_iou(wrong)


def test_replicates_written_in_another_way():
    assert ex10.check_replicated_iou(lambda w, i, u: torch.stack([(r * i).sum() / (r * u).sum() for r in w])) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda w, i, u: (w @ (i / u)) / w.sum(1), "mean of the IoUs"),
        (lambda w, i, u: ((w > 0).double() @ i) / ((w > 0).double() @ u), "however often"),
        (lambda w, i, u: (w @ i) / u.sum(), "Only the intersections"),
        (lambda w, i, u: (i.sum() / u.sum()).expand(len(w)), "draws are ignored"),
        (lambda w, i, u: w @ i, "sum of the intersections"),
        (lambda w, i, u: (w @ u) / (w @ i), "on its head"),
        (lambda w, i, u: ((w @ i) / (w @ u)).mean(), "shape"),
    ],
)
def test_wrong_replicates(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex10.check_replicated_iou(wrong)


def test_a_number_of_episodes_written_in_another_way():
    def episodes_needed(episodes, width, wanted):
        number = 1
        while width * (episodes / number) ** 0.5 > wanted + 1e-12:
            number += 1
        return number

    assert ex10.check_episodes_needed(episodes_needed) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda n, d, wanted: n * d / wanted, "do not halve"),
        (lambda n, d, wanted: n * (d / wanted) ** 0.5, "to be squared"),
        (lambda n, d, wanted: n * (wanted / d) ** 2, "Turned round"),
        (lambda n, d, wanted: int(n * (d / wanted) ** 2), "too few"),
        (lambda n, d, wanted: n * (d / wanted) ** 2, "Whole episodes"),
        (lambda n, d, wanted: (d / wanted) ** 2, "factor"),
        (lambda n, d, wanted: [n], "expected 160|must be one number|160"),
    ],
)
def test_wrong_numbers_of_episodes(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex10.check_episodes_needed(wrong)
