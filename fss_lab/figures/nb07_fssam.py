"""Figures of notebook 07: several shots, what each part adds, and where failures come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import (
    DEEP_PRIOR,
    INK,
    PALE,
    PREDICTION,
    PRIOR_MAP,
    SMALL,
    SUPPORT,
    TEXT,
    TRUTH,
    Picture,
    colour_bar,
    contour,
    heat,
    legend,
    name_panel,
    overlay,
    patch,
)  # fmt: skip
from fss_lab.method.trace import Trace
from fss_lab.metrics import Interval

Failure = tuple[Episode, Tensor, Tensor, Tensor]
"""An episode, its refined prior (h, w) in 0..1, the mask (H, W) of FSSAM, and that with the true mask as prior."""


def shots_figure(episode: Episode, trace: Trace) -> Picture:
    """Every support, the prior that it alone gives, and the mean of these priors (Sec. PPG of the paper).

    trace: of the episode's query (batch 1). Raises ValueError for a trace without priors.
    """
    if trace.priors is None:
        raise ValueError('this trace has no priors; trace a model with memory="pseudo" and a feature extractor')
    priors = [*trace.priors.discriminative_per_shot[0], trace.priors.discriminative[0, 0]]  # K + 1 of H, W
    scores = [100 * iou(prior.cpu() > 0.5, episode.query_mask) for prior in priors]
    shots = episode.shots
    title = f"Find the {episode.class_name}: {shots} support{'s' * (shots > 1)}, one prior from each, and their mean"
    picture = Picture(min(9.5, 2.6 + 1.9 * (shots + 1)), 4.6 if shots > 2 else 5.2, title)
    axes = picture.subplots(2, shots + 1)
    for shot in range(shots):
        overlay(axes[0, shot], episode.support_images[shot], episode.support_masks[shot], SUPPORT, width=1)
        name_panel(axes[0, shot], f"support {shot + 1}", SUPPORT)
    overlay(axes[0, -1], episode.query_image, episode.query_mask, TRUTH, width=1)
    name_panel(axes[0, -1], "query", TRUTH)
    for number, (panel, prior, score) in enumerate(zip(axes[1], priors, scores, strict=True), start=1):
        drawn = heat(panel, prior, PRIOR_MAP, Normalize(0, 1))
        contour(panel, episode.query_mask, TRUTH, width=1)
        name = "mean" if number > shots else f"prior {number}"
        name_panel(panel, f"{name}\nIoU {score:.0f} %", DEEP_PRIOR)
    colour_bar(picture, drawn, [axes[1, -1]], "prior, 0 to 1")
    legend(
        picture,
        patch(SUPPORT, "support mask"),
        Line2D([], [], color=TRUTH, linewidth=2, label="truth, hidden from the model"),
    )
    told = ", ".join(f"{score:.0f}" for score in scores[:-1])
    picture.alt = (
        f"{shots} support images of the class {episode.class_name} and the prior that each gives for the query. Cut at "
        f"0.5 they overlap the truth with an IoU of {told} %, their mean with {scores[-1]:.0f} %."
    )
    return picture


def gains_figure(gains: Mapping[str, Mapping[str, Interval]], title: str) -> Picture:
    """What steps add, with their paired intervals, beside a line at 0; one panel for each setting.

    gains: by setting (such as "1-shot"), then by step; in 0..1. Raises ValueError for none.
    """
    if not gains or not all(gains.values()):
        raise ValueError("there are no gains to draw")
    names = list(dict.fromkeys(name for own in gains.values() for name in own))
    picture = Picture(9.5, 1.6 + 0.42 * len(names), title)
    told = []
    panels = picture.subplots(1, len(gains), squeeze=False, sharex=True)[0]
    for axes, (setting, own) in zip(panels, gains.items(), strict=True):
        axes.axvline(0, color=INK, linewidth=1)
        for row, name in enumerate(names):
            if name not in own:
                continue
            estimate, low, high = (100 * value for value in own[name])
            colour, marker = (PREDICTION, "o") if low > 0 else (INK, "X") if high < 0 else (PALE, "D")
            axes.hlines(row, low, high, color=colour, linewidth=3.5, alpha=0.45)
            axes.plot(estimate, row, marker, color=colour, markersize=8)
            axes.annotate(
                f"{estimate:+.1f}", (estimate, row), (0, 9), textcoords="offset points", ha="center", fontsize=SMALL,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )  # fmt: skip
            told.append(f"{setting}, {name}: {estimate:+.1f} [{low:+.1f}, {high:+.1f}]")
        axes.set(ylim=(len(names) - 0.5, -0.7))
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [], fontsize=TEXT, color=INK)
        axes.set_xlabel("points of mIoU; line: 95 % interval", fontsize=SMALL, color=INK)
        name_panel(axes, setting, INK)
        axes.grid(axis="x", color="#E6E6E6")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    legend(
        picture,
        Line2D([], [], color=PREDICTION, marker="o", linewidth=3, label="helps"),
        Line2D([], [], color=INK, marker="X", linewidth=3, label="hurts"),
        Line2D([], [], color=PALE, marker="D", linewidth=3, label="not told apart from 0"),
    )
    picture.alt = f"{title}. Points of mIoU: {'; '.join(told)}."
    return picture


def prior_matters_figure(priors: Sequence[float], scores: Sequence[float], perfect: Sequence[float]) -> Picture:
    """Each episode's IoU over the quality of its prior, and above it what the true mask in its place would give.

    priors: soft IoU of the refined prior; scores: IoU of FSSAM; perfect: IoU with the true mask. N each, in 0..1.
    Raises ValueError for unequal numbers or none.
    """
    if not len(priors) == len(scores) == len(perfect) or not len(priors):
        raise ValueError(f"expected equal numbers, got {len(priors)}, {len(scores)} and {len(perfect)}")
    x, y, top = (100 * np.asarray(values, dtype=float) for values in (priors, scores, perfect))
    picture = Picture(6.5, 4.6, "Does a better prior give a better mask?")
    axes = picture.subplots()
    axes.vlines(x, y, top, color=PALE, linewidth=1)
    axes.plot(x, top, "^", color=TRUTH, markersize=7, label="with the true mask as prior")
    axes.plot(x, y, "o", color=PREDICTION, markersize=8, label="FSSAM, with its own prior")
    axes.set(ylim=(-3, 103))
    axes.set_xlabel("soft IoU of the refined prior in percent", fontsize=TEXT, color=INK)
    axes.set_ylabel("IoU of the final mask in percent", fontsize=TEXT, color=INK)
    axes.grid(color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False)
    correlation = f"{np.corrcoef(x, y)[0, 1]:.2f}" if len(x) > 1 and x.std() and y.std() else "not defined"
    picture.alt = (
        f"{len(x)} episodes: IoU of the final mask over the soft IoU of the prior, correlation {correlation}. The "
        f"median IoU is {np.median(y):.0f} %, and {np.median(top):.0f} % with the true mask as prior."
    )
    return picture


def failures_figure(failures: Sequence[Failure], title: str) -> Picture:
    """One row for each failure: support, query, refined prior, FSSAM's mask, and its mask with the truth as prior.

    Raises ValueError for none.
    """
    if not failures:
        raise ValueError("there is no failure to draw")
    picture = Picture(9.5, 1.25 + 2.05 * len(failures), title)
    told = []
    for row, (episode, prior, mask, perfect) in zip(
        picture.subplots(len(failures), 5, squeeze=False), failures, strict=True
    ):
        size = episode.query_mask.shape
        overlay(row[0], episode.support_images[0], episode.support_masks[0], SUPPORT, width=1)
        name_panel(row[0], f"support: {episode.class_name}", SUPPORT)
        overlay(row[1], episode.query_image, episode.query_mask, TRUTH, width=1)
        name_panel(row[1], "query and truth", TRUTH)
        heat(row[2], prior, PRIOR_MAP, Normalize(0, 1), size)
        contour(row[2], episode.query_mask, TRUTH, size, width=1)
        name_panel(row[2], "refined prior", DEEP_PRIOR)
        scores = [100 * iou(answer.cpu(), episode.query_mask) for answer in (mask, perfect)]
        for axes, answer, name, score in zip(row[3:], (mask, perfect), ("FSSAM", "true prior"), scores, strict=True):
            overlay(axes, episode.query_image, answer, PREDICTION, width=1)
            name_panel(axes, f"{name}: IoU {score:.0f} %", PREDICTION)
        told.append(f"{episode.class_name}: {scores[0]:.0f} %, with the true prior {scores[1]:.0f} %")
    legend(picture, patch(SUPPORT, "support mask"), patch(TRUTH, "truth"), patch(PREDICTION, "prediction"))
    picture.alt = f"{title}. One row each, with the IoU of the prediction. {'; '.join(told)}."
    return picture
