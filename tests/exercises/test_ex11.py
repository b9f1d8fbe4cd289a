"""Notebook 11: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex11

# ---- 11.1


def test_points_stretched_in_another_way():
    def to_square(points, width, height, side):
        x, y = points.unbind(1)
        return torch.stack([x / width, y / height], dim=1) * side

    ex11.check_to_square(to_square)


def _scaled(x=lambda w, h: w, y=lambda w, h: h, after=lambda p: p):
    return lambda p, w, h, s: after(torch.stack([p[:, 0] * s / x(w, h), p[:, 1] * s / y(w, h)], 1))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (_scaled(y=lambda w, h: w), "the width's factor"),
        (_scaled(x=lambda w, h: h), "the height's factor"),
        (_scaled(x=lambda w, h: h, y=lambda w, h: w), "swapped"),
        (lambda p, w, h, s: p * torch.tensor([w / s, h / s]), "divide by the factor"),
        (_scaled(after=torch.round), "whole pixels"),
        (_scaled(after=lambda p: p.flip(1)), r"return \(y, x\)"),
        (lambda p, w, h, s: p / torch.tensor([w, h]), "shares of the photo"),
        (lambda p, w, h, s: p * torch.tensor([s / 480, s / 360]), "photo of 20 x 40"),
        (lambda p, w, h, s: (p[0] * s / w).tolist(), "must be a tensor"),
    ],
)
def test_wrong_points(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex11.check_to_square(wrong)


# ---- 11.2


def test_shares_counted_in_another_way():
    def miss_and_alarm(present, absent, threshold):
        missed = sum(score < threshold for score in present.tolist())
        return missed / len(present), 1 - sum(score < threshold for score in absent.tolist()) / len(absent)

    ex11.check_miss_and_alarm(miss_and_alarm)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda p, a, t: ((p >= t).float().mean(), (a >= t).float().mean()), "Those are the hits"),
        (lambda p, a, t: ((a >= t).float().mean(), (p < t).float().mean()), "wrong order"),
        (lambda p, a, t: ((p < t).sum(), (a >= t).sum()), "You count"),
        (lambda p, a, t: ((p < t).sum() / 9, (a >= t).sum() / 9), "number of all photos"),
        (lambda p, a, t: ((p < t).float().mean(), (a < t).float().mean()), "you count those below"),
        (lambda p, a, t: ((p <= t).float().mean(), (a > t).float().mean()), "counts as present, as in"),
        (lambda p, a, t: ((p < t).float().mean(), (a > t).float().mean()), "counts as present in both"),
        (lambda p, a, t: ((p <= t).float().mean(), (a >= t).float().mean()), "at once in yours"),
        (lambda p, a, t: p < t, "two numbers"),
    ],
)
def test_wrong_shares(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex11.check_miss_and_alarm(wrong)


# ---- 11.3


def test_a_label_map_made_in_another_way():
    def label_map(probabilities, scores, threshold):
        labels, best = torch.zeros(probabilities.shape[1:], dtype=torch.long), torch.zeros(probabilities.shape[1:])
        for number, (row, score) in enumerate(zip(probabilities, scores, strict=True), 1):
            better = (row > 0.5) & (row * score > best) & (score >= threshold)
            labels[better], best[better] = number, (row * score)[better]
        return labels

    ex11.check_label_map(label_map)


def _present(p, s, t):
    return p * (s >= t)[:, None, None]


def _labels(p, s, above=0.5, first=1):
    """Without looking at the threshold of the scores."""
    best, number = (p * s[:, None, None] * (p > above)).max(0)
    return torch.where(best > 0, number + first, 0)


def _painted(order):
    def label_map(p, s, t):
        labels = torch.zeros(p.shape[1:])
        for number in order(range(len(p))):
            labels[(p[number] > 0.5) & (s[number] >= t)] = number + 1
        return labels

    return label_map


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda p, s, t: _labels(_present(p, s, t), torch.ones(len(s))), "compare probabilities alone"),
        (
            lambda p, s, t: torch.where((p * s[:, None, None]).amax(0) > 0.5, _labels(_present(p, s, t), s), 0),
            "the product against one half",
        ),
        (lambda p, s, t: _labels(_present(p, s, t), s, above=-1), "Every pixel has a class"),
        (lambda p, s, t: _labels(_present(p, s, t), s, first=0), "begin with 1"),
        (_painted(list), "the last class wins"),
        (_painted(reversed), "the first class wins"),
        (lambda p, s, t: _labels(p, s), "must get no pixel"),
        (lambda p, s, t: _labels(p[s >= t], s[s >= t]), "renumber"),
        (lambda p, s, t: _labels(p * (s > t)[:, None, None], s), "exactly|equal"),
        (lambda p, s, t: _labels(p, s).flatten(), r"\(1, 5\)"),
    ],
)
def test_wrong_label_maps(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex11.check_label_map(wrong)
