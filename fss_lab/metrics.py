"""Scores of few-shot segmentation: mIoU over the classes of a fold, FB-IoU, bootstrap intervals; separation of a map.

The scores of masks follow from five integers per episode: the class, and intersection and union of foreground and
of background, counted over the pixels whose target is not 255. They are kept, so that parts add up exactly and
intervals can be computed afterwards. All scores are fractions in 0..1. `METRICS` lists what tables, files and figures
show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.errors import InputError

REPLICATES = 2000  # of a bootstrap
TAILS = ((1 - 0.95) / 2, (1 + 0.95) / 2)
COUNTS = ("class_id", "inter_fg", "union_fg", "inter_bg", "union_bg")


@dataclass(frozen=True)
class Metric:
    """A score computed from sums of counts.

    label: its name in tables and figures. compute: (..., classes, 4), `COUNTS` without the class, summed over the
    episodes of each class -> (...) in 0..1.
    """

    label: str
    compute: Callable[[np.ndarray], np.ndarray]


def _miou(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums[..., 0], sums[..., 1]).mean(axis=-1)


def _fb_iou(sums: np.ndarray) -> np.ndarray:
    total = sums.sum(axis=-2)
    return (_ratio(total[..., 0], total[..., 1]) + _ratio(total[..., 2], total[..., 3])) / 2


METRICS = {"miou": Metric("mIoU", _miou), "fb_iou": Metric("FB-IoU", _fb_iou)}
"""By name, in the order of the columns."""


def iou(mask: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of masks with truths (..., H, W) of 0, 1 and 255 (left out); 0 for no union. (...)."""
    predicted, true = mask.bool() & (truth != 255), truth == 1
    return (predicted & true).sum((-2, -1)) / (predicted | true).sum((-2, -1)).clamp(min=1)


def soft_iou(one: Tensor, other: Tensor) -> Tensor:
    """Sum of minima over sum of maxima of maps (..., h, w) in 0..1; 0 where both are empty. Returns (...)."""
    return torch.minimum(one, other).sum((-2, -1)) / torch.maximum(one, other).sum((-2, -1)).clamp(min=1e-7)


def coverage(mask: Tensor, grid: Sequence[int]) -> Tensor:
    """The share of each cell of a grid (h, w) that an object covers, 1 in a mask (..., H, W): (..., h, w) in 0..1."""
    flat = (mask == 1).float().reshape(-1, *mask.shape[-2:])
    return F.adaptive_avg_pool2d(flat, (grid[0], grid[1])).reshape(*mask.shape[:-2], grid[0], grid[1])


class Interval(NamedTuple):
    """A score or a difference of scores with its bootstrap interval."""

    estimate: float
    low: float
    high: float


class SegmentationScore:
    """Adds up the intersections and unions of many episodes.

    mIoU: per class, foreground intersection and union are summed over all its episodes and divided; then the
    mean over `class_ids`, where a class without episodes scores 0. FB-IoU: the same sums over all episodes,
    for background and for foreground, divided and averaged.
    """

    def __init__(self, class_ids: Sequence[int], counts: np.ndarray | None = None) -> None:
        """class_ids: the classes of the fold. counts: (N, 5) integers as in `counts`, to continue from.

        Raises:
            InputError: no classes, repeated classes, or counts of another shape or of other classes.
        """
        self.class_ids = tuple(int(class_id) for class_id in class_ids)
        if len(self.class_ids) == 0 or len(set(self.class_ids)) < len(self.class_ids):
            raise InputError(f"class_ids must be one or more different classes, got {list(self.class_ids)}")
        self._rows = [] if counts is None else _check(counts, self.class_ids).tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def update(self, prediction: Tensor, target: Tensor, class_id: int) -> None:
        """Add one episode.

        prediction: (H, W) bool. target: (H, W) of 0, 1 and 255 (left out). class_id: one of `class_ids`.

        Raises:
            TypeError: a prediction that is not bool.
            InputError: other shapes, values or classes.
        """
        if prediction.dtype != torch.bool:
            raise TypeError(f"prediction must be bool, got {prediction.dtype}; threshold it, e.g. logits > 0")
        if prediction.ndim != 2 or prediction.shape != target.shape:
            raise InputError(
                "prediction and target must share one shape (H, W), "
                f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
            )
        class_id = int(class_id)
        if class_id not in self.class_ids:
            raise InputError(f"class {class_id} is not among the classes scored, {list(self.class_ids)}")
        foreground, background = target == 1, target == 0
        valid = foreground | background
        if not (valid | (target == 255)).all():
            raise InputError(f"target may hold 0, 1 and 255, got {target.unique().tolist()[:10]}")
        counted = torch.stack(
            [
                prediction & foreground,
                (prediction | foreground) & valid,
                ~prediction & background,
                (~prediction | background) & valid,
            ]
        )
        self._rows.append([class_id, *counted.sum(dim=(1, 2)).tolist()])

    @property
    def counts(self) -> np.ndarray:
        """(N, 5) int64, one row per episode in the order of the updates; the columns are `COUNTS`."""
        return np.array(self._rows, dtype=np.int64).reshape(-1, len(COUNTS))

    @property
    def iou_per_class(self) -> dict[int, float]:
        """Foreground IoU of every class, 0 where it was not tested."""
        sums = _class_sums(self.counts, self.class_ids)
        return dict(zip(self.class_ids, _ratio(sums[:, 0], sums[:, 1]).tolist(), strict=True))

    @property
    def untested(self) -> tuple[int, ...]:
        """The classes of `class_ids` that no episode shows. As in published results they count as 0 in `miou`; so what
        runs a list of episodes scores `of_tested`."""
        asked = set(self.counts[:, 0].tolist())
        return tuple(class_id for class_id in self.class_ids if class_id not in asked)

    def of_tested(self) -> SegmentationScore:
        """The score of the classes that some episode shows, alone; of a score without episodes, itself.

        A class that a short list leaves out by chance says nothing of the model, and as a 0 it would imitate an effect.
        """
        untested = self.untested
        return SegmentationScore([c for c in self.class_ids if c not in untested] or self.class_ids, self.counts)

    def value(self, metric: str) -> float:
        """One of `METRICS`.

        Raises:
            InputError: an unknown metric.
        """
        return float(_metric(metric).compute(_class_sums(self.counts, self.class_ids)))

    @property
    def miou(self) -> float:
        """The mean of `iou_per_class`."""
        return self.value("miou")

    @property
    def fb_iou(self) -> float:
        """The mean of the IoUs of foreground and background over all episodes, whatever their class."""
        return self.value("fb_iou")

    def over_processes(self, add: Callable[[np.ndarray], np.ndarray]) -> SegmentationScore:
        """The score of all processes' episodes, one row a class. add: the sum of an array over the processes."""
        sums = add(_class_sums(self.counts, self.class_ids))
        rows = np.concatenate([np.array(self.class_ids)[:, None], sums], axis=1)
        return SegmentationScore(self.class_ids, rows[sums.any(axis=1)])  # a class in no episode has no pixels at all


def merge_scores(scores: Iterable[SegmentationScore]) -> SegmentationScore:
    """The score of all episodes together, e.g. of several folds or seeds, in order.

    Its classes are those of any of the scores; where all have as many, its mIoU is the mean of theirs.

    Raises:
        InputError: no scores.
    """
    parts = list(scores)
    class_ids = dict.fromkeys(class_id for score in parts for class_id in score.class_ids)
    return SegmentationScore(tuple(class_ids), np.concatenate([score.counts for score in parts]) if parts else None)


def bootstrap_interval(
    score: SegmentationScore, metric: str = "miou", *, replicates: int = REPLICATES, seed: int = 0
) -> Interval:
    """95 % percentile bootstrap interval of one of `METRICS` over the episodes.

    Episodes are drawn with replacement within each class, so every replicate tests every class as often as
    the run did; drawing over all of them would leave classes out by chance and score them 0. The same seed
    gives the same interval.

    Raises:
        InputError: a score without episodes, an unknown metric, or no replicates.
    """
    return _bootstrap([score], metric, replicates, seed)


def paired_bootstrap(score: SegmentationScore, baseline: SegmentationScore, metric: str = "miou") -> Interval:
    """Interval of the difference `score` - `baseline` of two variants on the same episodes in the same order.

    Both are resampled with the same draws, which removes what the episodes have in common: the interval is
    far narrower than those of the two scores suggest.

    Raises:
        InputError: a score without episodes, an unknown metric, or episodes that are not the same (other classes,
            order, or number of counted pixels).
    """
    if score.class_ids != baseline.class_ids:
        raise InputError(
            "a paired bootstrap needs scores of the same classes, "
            f"got {list(score.class_ids)} and {list(baseline.class_ids)}"
        )
    episodes, others = _identity(score.counts), _identity(baseline.counts)
    if not np.array_equal(episodes, others):
        raise InputError(
            "a paired bootstrap needs both scores on the same episodes in the same order, got "
            f"{len(episodes)} and {len(others)} episodes that differ; use one episode list for both"
        )
    return _bootstrap([score, baseline], metric)


def mean_interval(values: np.ndarray, baseline: np.ndarray | None = None, *, relative: bool = False) -> Interval:
    """95 % percentile bootstrap interval of the mean of something measured once per episode.

    values: (N,). baseline: the same measure of another variant on the same episodes, (N,); then the interval is of
    the difference of the means, or with relative=True of mean(values) / mean(baseline) - 1, with paired draws.

    Raises:
        InputError: other shapes, no episodes, values that are not finite, or relative=True without a baseline.
    """
    table = np.stack([values] if baseline is None else [values, baseline]).astype(np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise InputError(f"expected finite values of shape (N,), N at least 1, got {table.shape[1:]}")
    if relative and baseline is None:
        raise InputError("a relative change needs a baseline")
    n = table.shape[1]
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=REPLICATES)  # replicates, N
    means = np.concatenate([table.mean(axis=1, keepdims=True), table @ drawn.T / n], axis=1)  # observed first
    result = means[0]
    if baseline is not None:
        result = means[0] / means[1] - 1 if relative else means[0] - means[1]
    low, high = np.quantile(result[1:], TAILS)
    return Interval(float(result[0]), float(low), float(high))


def separation(scores: Tensor, inside: Tensor) -> float:
    """How well a map separates an object's cells from all others: the area under the ROC curve, in 0..1.

    The probability that a cell of the object scores higher than a cell that is not; a tie counts half. 1: perfect; 0.5:
    chance. Only the order of the scores matters.
    scores, inside: one shape, e.g. (h, w); inside is bool, true on the object's cells.

    Raises:
        InputError: other shapes, an inside that is not bool, or no cell on one of the two sides.
    """
    if scores.shape != inside.shape or inside.dtype != torch.bool or inside.all() or not inside.any():
        raise InputError(
            "expected scores and a bool mask of one shape with cells inside and outside, got scores "
            f"{tuple(scores.shape)} and a mask {tuple(inside.shape)} {inside.dtype}, true on {int(inside.sum())} cells"
        )
    difference = scores[inside][:, None] - scores[~inside]
    return float((difference.sign() + 1).double().mean() / 2)


def _bootstrap(scores: list[SegmentationScore], metric: str, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Interval of the first score, or of the first minus the second."""
    compute = _metric(metric).compute
    if replicates < 1:
        raise InputError(f"replicates must be at least 1, got {replicates}")
    if len(scores[0]) == 0:
        raise InputError("there are no episodes to resample; call update() first")
    class_ids = scores[0].class_ids
    tables = np.stack([score.counts for score in scores])  # S, N, 5
    rng = np.random.default_rng(seed)
    sums = np.zeros((len(scores), replicates, len(class_ids), 4))
    for index, class_id in enumerate(class_ids):
        rows = tables[:, tables[0, :, 0] == class_id, 1:].astype(np.float64)  # S, n, 4
        n = rows.shape[1]
        if n:
            # how often each episode is drawn; sums of pixel counts stay exact in float64
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=replicates).astype(np.float64)
            sums[:, :, index] = drawn @ rows
    replicated = compute(sums)  # S, replicates
    observed = compute(np.stack([_class_sums(table, class_ids) for table in tables]))  # S
    if len(scores) == 2:
        replicated, observed = replicated[0] - replicated[1], observed[0] - observed[1]
    low, high = np.quantile(replicated, TAILS)
    return Interval(float(np.squeeze(observed)), float(low), float(high))


def _class_sums(counts: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """(classes, 4): the counts added up per class."""
    return np.stack([counts[counts[:, 0] == class_id, 1:].sum(axis=0) for class_id in class_ids])


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, got {name!r}")
    return METRICS[name]


def _ratio(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """intersection / union, and 0 where nothing was counted."""
    return intersection / np.maximum(union, 1)


def _identity(counts: np.ndarray) -> np.ndarray:
    """(N, 2): what two runs on one episode share, the class and the number of pixels not ignored."""
    return np.stack([counts[:, 0], counts[:, 1] + counts[:, 4]], axis=1)


def _check(counts: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != len(COUNTS) or counts.dtype.kind not in "iu":
        raise InputError(
            f"counts must be integers of shape (N, 5), columns {COUNTS}, got {counts.shape} {counts.dtype}"
        )
    unknown = sorted(set(counts[:, 0].tolist()) - set(class_ids))
    if unknown:
        raise InputError(f"counts hold the classes {unknown}, which are not among {list(class_ids)}")
    return counts
