from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fss_lab.metrics import (
    SegmentationScore,
    bootstrap_interval,
    mean_interval,
    merge_scores,
    paired_bootstrap,
    separation,
)

REFERENCE = Path(os.environ.get("FSS_LAB_REFERENCE", Path(__file__).parent / "reference"))
deterministic = settings(max_examples=50)
CLASSES = (3, 7, 11)


def episodes(seed: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.rand(6, 5, generator=generator) < 0.5,
            torch.tensor([0, 1, 255])[torch.randint(3, (6, 5), generator=generator)],
            CLASSES[int(torch.randint(len(CLASSES), (1,), generator=generator))],
        )
        for _ in range(count)
    ]


def scored(rows: list[tuple[torch.Tensor, torch.Tensor, int]]) -> SegmentationScore:
    score = SegmentationScore(CLASSES)
    for prediction, target, class_id in rows:
        score.update(prediction, target, class_id)
    return score


def simulated(seed: int, count: int, quality: float, noise: float = 0.1) -> SegmentationScore:
    """Counts of `count` episodes of 10,000 pixels whose IoU scatters around `quality`."""
    rng = np.random.default_rng(seed)
    union = rng.integers(1000, 2000, count)
    inter = (union * np.clip(quality + noise * rng.standard_normal(count), 0, 1)).astype(int)
    classes = np.array(CLASSES)[np.arange(count) % len(CLASSES)]
    return SegmentationScore(CLASSES, np.stack([classes, inter, union, 10_000 - union, 10_000 - inter], 1))


def test_reference() -> None:
    stored = load_file(REFERENCE / "metrics.safetensors")
    score = SegmentationScore(range(5))
    for probability, target, class_id in zip(
        stored["in.probability"], stored["in.target"], stored["in.class_index"], strict=True
    ):
        score.update(probability > 0.5, target, int(class_id))
    assert list(score.iou_per_class.values()) == pytest.approx(stored["iou_per_class"].tolist(), abs=1e-6)
    assert score.iou_per_class[4] == 0  # never occurs
    assert score.miou == pytest.approx(stored["miou"].item(), abs=1e-6)
    sums = score.counts[:, 1:].sum(axis=0)
    assert sums[[2, 0]] / sums[[3, 1]] == pytest.approx(stored["iou_background_foreground"].tolist(), abs=1e-6)
    assert score.fb_iou == pytest.approx(stored["fb_iou"].item(), abs=1e-6)


def test_by_hand() -> None:
    score = SegmentationScore([1, 2])
    score.update(torch.tensor([[True, True, False, True]]), torch.tensor([[1, 0, 0, 255]]), 1)
    score.update(torch.tensor([[True, True, False, False]]), torch.tensor([[1, 1, 1, 0]]), 1)
    assert score.counts.tolist() == [[1, 1, 2, 1, 2], [1, 2, 3, 1, 2]]
    assert score.iou_per_class == {1: 3 / 5, 2: 0}
    assert score.miou == pytest.approx(0.3)
    assert score.fb_iou == pytest.approx((3 / 5 + 2 / 4) / 2)


@deterministic
@given(seed=st.integers(0, 10**6), count=st.integers(0, 8))
def test_matches_a_count_pixel_by_pixel(seed: int, count: int) -> None:
    rows = episodes(seed, count)
    pixels = [
        (class_id, bool(p), int(t) == 1)
        for prediction, target, class_id in rows
        for p, t in zip(prediction.flatten(), target.flatten(), strict=True)
        if int(t) != 255
    ]

    def iou(label: bool, class_id: int | None = None) -> float:
        mine = [(p == label, t == label) for c, p, t in pixels if class_id in (None, c)]
        union = sum(p or t for p, t in mine)
        return sum(p and t for p, t in mine) / union if union else 0.0

    score = scored(rows)
    assert score.iou_per_class == pytest.approx({c: iou(True, c) for c in CLASSES})
    assert score.miou == pytest.approx(sum(iou(True, c) for c in CLASSES) / len(CLASSES))
    assert score.fb_iou == pytest.approx((iou(True) + iou(False)) / 2)


@deterministic
@given(seed=st.integers(0, 10**6), count=st.integers(0, 10), cut=st.integers(0, 10))
def test_shards_add_up_exactly(seed: int, count: int, cut: int) -> None:
    rows = episodes(seed, count)
    whole, merged = scored(rows), merge_scores([scored(rows[:cut]), scored(rows[cut:])])
    assert np.array_equal(whole.counts, merged.counts)
    assert (whole.miou, whole.fb_iou) == (merged.miou, merged.fb_iou)
    assert len(merged) == count


@deterministic
@given(seed=st.integers(0, 10**6))
def test_ignored_pixels_drop_out_and_a_perfect_prediction_scores_one(seed: int) -> None:
    rows = episodes(seed, 9)
    flipped = [(prediction ^ (target == 255), target, class_id) for prediction, target, class_id in rows]
    assert np.array_equal(scored(rows).counts, scored(flipped).counts)
    perfect = scored([(target == 1, target, class_id) for _, target, class_id in rows])
    tested = {class_id for *_, class_id in rows}
    assert perfect.iou_per_class == {class_id: float(class_id in tested) for class_id in CLASSES}
    assert set(perfect.untested) == set(CLASSES) - tested
    assert perfect.of_tested().miou == 1 and perfect.of_tested().untested == ()
    assert perfect.fb_iou == 1


def test_a_score_without_episodes_or_pixels_is_zero() -> None:
    score = SegmentationScore(CLASSES)
    assert score.miou == score.fb_iou == 0
    score.update(torch.ones(2, 2, dtype=torch.bool), torch.full((2, 2), 255), 3)
    assert score.miou == score.fb_iou == 0


def test_counts_can_be_stored_and_continued() -> None:
    first = scored(episodes(0, 5))
    again = SegmentationScore(CLASSES, first.counts)
    for prediction, target, class_id in episodes(1, 5):
        first.update(prediction, target, class_id)
        again.update(prediction, target, class_id)
    assert np.array_equal(first.counts, again.counts)


TRUE, TARGET = torch.ones(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("prediction", "target", "class_id", "error", "message"),
    [
        (TRUE.float(), TARGET, 3, TypeError, "threshold it"),
        (TRUE, TARGET[:3], 3, ValueError, r"\(4, 4\) and \(3, 4\)"),
        (TRUE[None], TARGET[None], 3, ValueError, r"\(H, W\)"),
        (TRUE, TARGET * 2, 3, ValueError, r"got \[2\]"),
        (TRUE, TARGET, 4, ValueError, "class 4 is not among"),
    ],
)
def test_bad_updates_are_refused(
    prediction: torch.Tensor, target: torch.Tensor, class_id: int, error: type[Exception], message: str
) -> None:
    score = SegmentationScore(CLASSES)
    with pytest.raises(error, match=message):
        score.update(prediction, target, class_id)
    assert len(score) == 0


def test_bad_classes_and_counts_are_refused() -> None:
    for class_ids in ([], [1, 1]):
        with pytest.raises(ValueError, match="different classes"):
            SegmentationScore(class_ids)
    with pytest.raises(ValueError, match="shape"):
        SegmentationScore(CLASSES, np.zeros((2, 4), dtype=int))
    with pytest.raises(ValueError, match=r"classes \[5\]"):
        SegmentationScore(CLASSES, np.array([[5, 0, 0, 0, 0]]))


@deterministic
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30), metric=st.sampled_from(["miou", "fb_iou"]))
def test_intervals_are_ordered_and_repeatable(seed: int, count: int, metric: str) -> None:
    score = scored(episodes(seed, count))
    first = bootstrap_interval(score, metric, replicates=50, seed=seed)
    assert first == bootstrap_interval(score, metric, replicates=50, seed=seed)
    assert first.estimate == pytest.approx(getattr(score, metric))
    assert 0 <= first.low <= first.high <= 1


def test_an_interval_matches_resampling_episode_by_episode() -> None:
    score = simulated(0, 60, quality=0.6)
    rng = np.random.default_rng(1)
    replicates = []
    for _ in range(1000):
        ious = []
        for class_id in CLASSES:
            rows = score.counts[score.counts[:, 0] == class_id]
            drawn = rows[rng.integers(len(rows), size=len(rows))]
            ious.append(drawn[:, 1].sum() / drawn[:, 2].sum())
        replicates.append(np.mean(ious))
    low, high = np.quantile(replicates, [0.025, 0.975])
    interval = bootstrap_interval(score, "miou")
    assert interval.low == pytest.approx(low, abs=0.003)
    assert interval.high == pytest.approx(high, abs=0.003)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        interval = bootstrap_interval(simulated(seed, 150, quality=0.6), replicates=200, seed=seed)
        hits += interval.low <= 0.6 <= interval.high
    assert 180 <= hits <= 199  # 95 % of 200 is 190


def test_more_episodes_narrow_an_interval_and_identical_ones_close_it() -> None:
    few, many = (bootstrap_interval(simulated(0, count, 0.6)) for count in (30, 3000))
    assert many.high - many.low < (few.high - few.low) / 5
    same = bootstrap_interval(simulated(0, 30, quality=1.0, noise=0.0))
    assert same == (1, 1, 1)


def test_an_untested_class_stays_zero_in_every_replicate() -> None:
    score = SegmentationScore([1, 2], np.array([[1, 10, 10, 5, 5]] * 4))
    assert bootstrap_interval(score, "miou") == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("metric", ["miou", "fb_iou"])
def test_pairing_sees_a_difference_that_single_intervals_hide(metric: str) -> None:
    baseline = simulated(0, 90, quality=0.5, noise=0.2)
    counts = baseline.counts
    gained = counts[:, 2] // 50  # 2 points on every episode; the pixels change sides, none is new
    counts[:, 1] += gained
    counts[:, 4] -= gained
    better = SegmentationScore(CLASSES, counts)
    assert bootstrap_interval(better, metric).low < bootstrap_interval(baseline, metric).high
    difference = paired_bootstrap(better, baseline, metric)
    assert 0 < difference.low <= difference.estimate <= difference.high
    assert difference.estimate == pytest.approx(getattr(better, metric) - getattr(baseline, metric))
    mirrored = paired_bootstrap(baseline, better, metric)
    assert mirrored == pytest.approx((-difference.estimate, -difference.high, -difference.low))
    assert paired_bootstrap(better, better, metric) == (0, 0, 0)


def test_pairing_refuses_other_episodes() -> None:
    score = simulated(0, 9, 0.6)
    with pytest.raises(ValueError, match="same classes"):
        paired_bootstrap(score, SegmentationScore([3, 7]))
    with pytest.raises(ValueError, match="same episodes"):
        paired_bootstrap(score, simulated(0, 8, 0.6))
    with pytest.raises(ValueError, match="same episodes"):
        paired_bootstrap(score, SegmentationScore(CLASSES, score.counts[::-1]))
    larger = score.counts
    larger[0, 4] += 1
    with pytest.raises(ValueError, match="same episodes"):
        paired_bootstrap(score, SegmentationScore(CLASSES, larger))


def test_bad_bootstrap_arguments_are_refused() -> None:
    score = simulated(0, 9, 0.6)
    with pytest.raises(ValueError, match="no episodes"):
        bootstrap_interval(SegmentationScore(CLASSES))
    with pytest.raises(ValueError, match="metric"):
        bootstrap_interval(score, "dice")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="replicates"):
        bootstrap_interval(score, replicates=0)


def test_scores_of_folds_are_merged_over_all_classes():
    first = SegmentationScore([0, 1], np.array([[0, 1, 2, 3, 4], [1, 5, 6, 7, 8]]))
    second = SegmentationScore([5], np.array([[5, 1, 4, 1, 4]]))
    merged = merge_scores([first, second, first])
    assert merged.class_ids == (0, 1, 5)
    assert merged.counts.tolist() == [*first.counts.tolist(), *second.counts.tolist(), *first.counts.tolist()]
    assert merged.miou == pytest.approx((1 / 2 + 5 / 6 + 1 / 4) / 3)
    with pytest.raises(ValueError, match="one or more different classes"):
        merge_scores([])


@given(order=st.permutations(range(8)))
def test_the_order_of_episodes_changes_no_score(order):
    counts = np.array([[i % 3, 10 + i, 30 + i, 50 - i, 70] for i in range(8)])
    one, other = SegmentationScore([0, 1, 2], counts), SegmentationScore([0, 1, 2], counts[list(order)])
    assert (one.miou, one.fb_iou, one.iou_per_class) == (other.miou, other.fb_iou, other.iou_per_class)


def test_mean_interval_of_values_differences_and_relative_changes():
    values = np.arange(100.0)
    estimate, low, high = mean_interval(values)
    assert estimate == 49.5 and low < 45 < 54 < high
    assert mean_interval(values + 3, values) == pytest.approx((3, 3, 3))  # paired: no spread is left
    assert mean_interval(values * 0.75, values, relative=True) == pytest.approx((-0.25, -0.25, -0.25))
    assert mean_interval(values) == mean_interval(values)
    wide, narrow = (mean_interval(np.tile([0.0, 1.0], n)) for n in (10, 1000))
    assert wide.high - wide.low == pytest.approx(10 * (narrow.high - narrow.low), rel=0.15)


@pytest.mark.parametrize("bad", [np.zeros(0), np.array([1.0, np.nan]), np.zeros((2, 2))])
def test_mean_interval_refuses_what_has_no_mean(bad):
    with pytest.raises(ValueError, match="expected finite values of shape"):
        mean_interval(bad)
    with pytest.raises(ValueError, match="needs a baseline"):
        mean_interval(np.ones(3), relative=True)


@deterministic
@given(st.integers(0, 10_000), st.integers(1, 11))
def test_separation_is_the_share_of_pairs_in_order(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 5, (3, 4), generator=generator).float()  # with ties
    inside = torch.zeros(12, dtype=torch.bool)
    inside[torch.randperm(12, generator=generator)[:count]] = True
    inside = inside.view(3, 4)
    pairs = [(x > y) + (x == y) / 2 for x in scores[inside].tolist() for y in scores[~inside].tolist()]
    assert separation(scores, inside) == pytest.approx(np.mean(pairs))
    assert separation(-scores, inside) == pytest.approx(1 - np.mean(pairs))
    assert separation(10 * scores - 100, inside) == separation(scores, inside)


@pytest.mark.parametrize(
    ("scores", "inside"),
    [
        (torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)),
        (torch.zeros(2, 3), torch.ones(3, dtype=torch.bool)),
        (torch.zeros(2, 3), torch.eye(2, 3)),
    ],
)
def test_separation_needs_both_sides(scores: torch.Tensor, inside: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="one shape with cells inside and outside"):
        separation(scores, inside)
