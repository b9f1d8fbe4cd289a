"""Figures of evaluations, ablations and training runs, in the colours and the style of `fss_lab.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from fss_lab.errors import InputError
from fss_lab.figures.style import (
    DEEP_PRIOR,
    INK,
    PALE,
    PREDICTION,
    PRIOR,
    SMALL,
    SUPPORT,
    TEXT,
    TRUTH,
    Picture,
    name_panel,
)
from fss_lab.metrics import Interval, SegmentationScore, bootstrap_interval

MARKERS = "osD^v"
MANY_ROWS = 12  # of a log; more are drawn as a line
Row = Mapping[str, float]


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


def results_figure(
    scores: Mapping[str, SegmentationScore], colours: Sequence[str] | None = None, title: str = "Scores"
) -> Picture:
    """mIoU of each variant with its 95 % bootstrap interval, best read beside `evaluation.table`.

    colours: one for each variant, in order. Raises ValueError for no scores or another number of colours.
    """
    if not scores:
        raise ValueError("there are no scores to draw")
    colours = [INK] * len(scores) if colours is None else colours
    if len(colours) != len(scores):
        raise ValueError(f"expected a colour for each of {len(scores)} variants, got {len(colours)}")
    picture = Picture(9.5, 1.35 + 0.42 * len(scores), title)
    axes = picture.subplots()
    told = []
    for row, (name, score) in enumerate(scores.items()):
        estimate, low, high = (100 * value for value in bootstrap_interval(score, "miou"))
        axes.hlines(row, low, high, color=colours[row], linewidth=3.5, alpha=0.45)
        axes.plot(estimate, row, "o", color=colours[row], markersize=9)
        axes.text(102, row, f"{estimate:.1f}", va="center", fontsize=TEXT, color=INK)
        told.append(f"{name} {estimate:.0f}")
    axes.set(xlim=(0, 100), ylim=(len(scores) - 0.5, -0.5))
    axes.set_yticks(range(len(scores)), list(scores), fontsize=TEXT, color=INK)
    axes.set_xticks(range(0, 101, 20), [str(tick) for tick in range(0, 101, 20)], fontsize=SMALL)
    axes.set_xlabel("mIoU in percent; line: 95 % bootstrap interval over episodes", fontsize=TEXT, color=INK)
    axes.grid(axis="x", color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    picture.alt = f"{title}, mIoU in percent: {', '.join(told)}."
    return picture


def curves_figure(log: Sequence[Row], validation: Sequence[Row] = ()) -> Picture:
    """A run's Dice loss, and beside it the mIoU on held-out base-class episodes, if it has some, the best one marked.

    log: rows with "step" and "loss" (means since the row before); validation: rows with "step" and "miou" in 0..1.
    Raises ValueError for an empty log.
    """
    if not log:
        raise ValueError("a run needs at least one row in log.csv to be drawn")
    picture = Picture(9 if validation else 5, 3.7, "The curves of the run")
    panels = picture.subplots(1, 2 if validation else 1, squeeze=False)[0]
    left = panels[0]
    steps, losses = [row["step"] for row in log], [row["loss"] for row in log]
    if len(log) > MANY_ROWS:
        left.plot(steps, losses, color=PREDICTION)
    else:
        for start, stop, loss in zip([0, *steps], steps, losses, strict=False):
            left.hlines(loss, start, stop, color=PREDICTION, linewidth=3)
            left.annotate(
                f"{loss:.3f}", ((start + stop) / 2, loss), (0, 5), textcoords="offset points", ha="center",
                fontsize=SMALL, color=INK,
            )  # fmt: skip
        left.set_ylim(min(losses) - 0.03, max(losses) + 0.03)
    left.set_xlim(0, steps[-1])
    left.set_ylabel("Dice loss, mean over these steps", fontsize=TEXT, color=INK)
    name_panel(left, "training episodes", PREDICTION)
    picture.alt = (
        f"Dice loss from {losses[0]:.3f} up to step {steps[0]:.0f} to {losses[-1]:.3f} up to step {steps[-1]:.0f}."
    )
    if validation:
        right = panels[1]
        at, scores = [row["step"] for row in validation], [100 * row["miou"] for row in validation]
        best = int(np.argmax(scores))
        right.plot(at, scores, "-o", color=INK)
        right.plot(at[best], scores[best], "*", color=PREDICTION, markersize=17, label=f"best: {scores[best]:.1f}")
        right.set_ylabel("mIoU in percent", fontsize=TEXT, color=INK)
        right.legend(frameon=False, fontsize=SMALL, loc="lower right")
        name_panel(right, "held-out episodes of the base classes", INK)
        picture.alt += (
            f" mIoU on held-out base-class episodes from {scores[0]:.1f} to {scores[-1]:.1f}, the best "
            f"{scores[best]:.1f} at step {at[best]:.0f}."
        )
    for axes in panels:
        axes.set_xlabel("step", fontsize=TEXT, color=INK)
        axes.grid(color="#E6E6E6")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return picture


def _plain(axes: Axes, grid: Literal["x", "y"]) -> None:
    axes.grid(axis=grid, color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
