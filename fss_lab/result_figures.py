"""Figures of evaluations and ablations, in the colours and the style of `fss_lab.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from fss_lab.errors import InputError
from fss_lab.figures.style import DEEP_PRIOR, INK, PALE, PREDICTION, PRIOR, SMALL, SUPPORT, TEXT, TRUTH, Picture
from fss_lab.metrics import Interval, SegmentationScore, bootstrap_interval

MARKERS = "osD^v"


def scores_figure(scores: Mapping[int, Mapping[str, SegmentationScore]], title: str = "Scores") -> Picture:
    """mIoU of every variant with its 95 % bootstrap interval, one panel for each number of shots.

    scores: by shots, then by variant. A variant's colour tells what it is: blue, support memory only; green, given the
    truth; vermilion, all else. Raises InputError for no scores.
    """
    if not scores or not all(scores.values()):
        raise InputError("there are no scores to draw")
    names = list(dict.fromkeys(name for own in scores.values() for name in own))
    picture = Picture(max(9.5, 2.5 + 3.5 * len(scores)), 1.4 + 0.36 * len(names), title)
    told = []
    for axes, (shots, own) in zip(picture.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True):
        for row, name in enumerate(names):
            if name not in own:
                continue
            estimate, low, high = (100 * value for value in bootstrap_interval(own[name], "miou"))
            colour = SUPPORT if "support" in name else TRUTH if "truth" in name or "true" in name else PREDICTION
            axes.hlines(row, low, high, color=colour, linewidth=3.5, alpha=0.45)
            axes.plot(estimate, row, "o", color=colour, markersize=8)
            axes.text(102, row, f"{estimate:.1f}", va="center", fontsize=SMALL, color=INK)
            told.append(f"{name} {shots}-shot {estimate:.0f}")
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names if axes.get_subplotspec().is_first_col() else [])
        axes.set_title(f"{shots}-shot", fontsize=TEXT, color=INK, fontweight="bold")
        axes.set_xlabel("mIoU in percent; line: 95 % interval", fontsize=SMALL, color=INK)
        _plain(axes, "x")
    picture.alt = f"{title}; mIoU in percent: {', '.join(told)}."
    return picture


def rounds_figure(soft_ious: Mapping[str, Sequence[Interval]], title: str) -> Picture:
    """The prior's soft IoU after each round of refinement, with its interval; one line for each variant of IMR.

    soft_ious: by variant, for rounds 0, 1, ... in 0..1. Raises InputError for none.
    """
    if not soft_ious:
        raise InputError("there is nothing to draw")
    picture = Picture(6.5, 3.9, title)
    axes = picture.subplots()
    told = []
    for number, (name, values) in enumerate(soft_ious.items()):
        colour = (DEEP_PRIOR, PRIOR)[number % 2]
        estimates, lows, highs = np.array(values).T
        rounds = np.arange(len(values))
        axes.fill_between(rounds, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axes.plot(rounds, estimates, f"-{MARKERS[number % len(MARKERS)]}", color=colour, label=name)
        told.append(f"{name}: {', '.join(f'{value:.3f}' for value in estimates)}")
    axes.set_xticks(rounds)
    axes.set_xlabel("rounds of refinement", fontsize=TEXT, color=INK)
    axes.set_ylabel("soft IoU of the prior with the truth", fontsize=TEXT, color=INK)
    axes.legend(frameon=False, fontsize=SMALL)
    _plain(axes, "y")
    picture.alt = f"{title}; soft IoU by round, from 0: {'; '.join(told)}. Bands: 95 % intervals."
    return picture


def attention_figure(masses: Mapping[str, Sequence[Interval]], title: str) -> Picture:
    """The attention that the query's object gives to memory background, by layer, for each mode of SCMA.

    masses: by mode, for the layers and last their mean, in 0..1. Raises InputError for none.
    """
    if not masses:
        raise InputError("there is nothing to draw")
    picture = Picture(7.5, 3.9, title)
    axes = picture.subplots()
    width, told = 0.8 / len(masses), []
    for number, (name, values) in enumerate(masses.items()):
        estimates, lows, highs = 100 * np.array(values).T
        places = np.arange(len(values)) + width * (number - (len(masses) - 1) / 2)
        errors = np.maximum([estimates - lows, highs - estimates], 0)
        colour = ("#F0B48F", PREDICTION, "#888888", PALE, INK)[number % 5]
        axes.bar(places, estimates, 0.92 * width, yerr=errors, color=colour, ecolor=INK, label=name)
        told.append(f"{name}: {', '.join(f'{value:.1f}' for value in estimates)}")
    layers = len(values) - 1
    axes.set_xticks(range(layers + 1), [*(f"layer {layer + 1}" for layer in range(layers)), "mean"])
    axes.set_ylabel("attention on memory background\nin percent", fontsize=TEXT, color=INK)
    picture.legend(loc="outside lower center", ncols=len(masses), frameon=False, fontsize=SMALL, title="SCMA")
    _plain(axes, "y")
    picture.alt = f"{title}; percent by layer and mean: {'; '.join(told)}. Bars: 95 % intervals."
    return picture


def _plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.grid(axis=grid, color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
