"""Figures of evaluations, ablations and training runs, in the colours and the style of `fss_lab.figures`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import name_panel
from fss_lab.figures.style import Picture, chart, interval_row, legend
from fss_lab.metrics import METRICS, Interval, SegmentationScore, bootstrap_interval, mean_interval

MARKERS = "osD^v"
ORIGINS = {"IMR": style.PRIOR, "SCMA": style.PREDICTION, "SAM 2": style.SUPPORT}  # of a map, by a word of its name
MANY_ROWS = 12  # of a log; more are drawn as a line
Row = Mapping[str, float]
Scores = Mapping[str, SegmentationScore]
Results = Mapping[tuple[str, str], Interval]
SHIPPED = Path(__file__).parents[1] / "weights" / "results.csv"


def shipped_results(shots: int, fold: int | str = "all") -> Results:
    """What the shipped toy weights scored on many episodes of novel classes: mIoU in 0..1 with its 95 % interval.

    fold: 0..3, or "all". By (variant, ""), and for all folds differences on the same episodes by (variant, the other).
    Empty for numbers of shots that were not measured. Source: docs/results.md, which names the command.
    """
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["shots"], row["fold"]) == (str(shots), str(fold))]
    return {(r["variant"], r["over"]): Interval(float(r["miou"]), float(r["low"]), float(r["high"])) for r in rows}


def results_figure(
    scores: Scores | Mapping[int, Scores],
    colours: Sequence[str] | None = None,
    title: str = "Scores",
    metric: str = "miou",
    fold: int | None = None,
) -> Picture:
    """One of `METRICS` of every variant with its 95 % bootstrap interval, best read beside `evaluation.table`.

    scores: by variant; or by shots, then by variant, which makes a panel for each number of shots. colours: one for
    each variant, in order; None: by what a variant's name says that it is given: blue, support memory only; green, the
    truth; vermilion, all else. fold: that of the scores, if they are mIoU by shots of the shipped toy weights on novel
    classes: `shipped_results` of it are drawn pale behind them.

    Raises:
        InputError: no scores, another number of colours, or an unknown metric.
    """
    panels: Mapping[Any, Any] = scores
    if any(isinstance(value, SegmentationScore) for value in scores.values()):
        panels = {None: scores}
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    if not names:
        raise InputError("there are no scores to draw")
    colours = [_colour(name) for name in names] if colours is None else colours
    if len(colours) != len(names):
        raise InputError(f"expected a colour for each of {len(names)} variants, got {len(colours)}")
    picture = Picture(max(9.5, 2.5 + 3.5 * len(panels)), 1.4 + 0.4 * len(names), title)
    numbers = []
    for axes, (shots, panel) in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        heading = "" if shots is None else f"{shots}-shot"
        behind = {} if fold is None else shipped_results(shots, fold)
        for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
            if name not in panel:
                continue
            if (name, "") in behind:
                large, low, high = (100 * value for value in behind[name, ""])
                axes.barh(row, high - low, 0.75, low, color=style.PALE, alpha=0.45, zorder=0)
                axes.vlines(large, row - 0.37, row + 0.37, color=style.PALE, linewidth=2.5, zorder=0)
            estimate, _, _ = interval_row(axes, row, bootstrap_interval(panel[name], metric), colour)
            axes.text(102, row, f"{estimate:.1f}", va="center", fontsize=style.SMALL, color=style.INK)
            numbers.append(" ".join(filter(None, (name, heading, f"{estimate:.0f}"))))
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), names if axes.get_subplotspec().is_first_col() else [])
        name_panel(axes, heading)
        chart(axes, f"{METRICS[metric].label} in percent; line: 95 % interval", grid="x")
    if any(axes.patches for axes in picture.axes):
        label = f"400 episodes of fold {fold}"
        many = Line2D([], [], color=style.PALE, marker="|", linewidth=8, alpha=0.6, label=label)
        legend(picture, Line2D([], [], color=style.INK, marker="o", linewidth=3, label="this run"), many)
    picture.alt = f"{title}; {METRICS[metric].label} in percent: {', '.join(numbers)}."
    return picture


def waterfall_figure(results: Mapping[int, Results], steps: Mapping[str, str], title: str) -> Picture:
    """What each step adds to the score of the step before it: bars that begin where the last one ended.

    results: by shots, as `shipped_results` gives them. steps: what to write for each variant, in order; the first is
    drawn from 0. Raises InputError where a step or the difference to the step before it was not measured.
    """
    names = list(steps)
    picture = Picture(9.8, 1.2 + 0.5 * len(names), title)
    captions = []
    for axes, (shots, values) in zip(picture.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        needed = [(name, "") for name in names] + list(zip(names[1:], names, strict=False))
        if missing := [pair for pair in needed if pair not in values]:
            raise InputError(f"no {shots}-shot result of {missing[0]}; name variants of evaluation.variants.steps")
        start = 0.0
        for row, name in enumerate(names):
            end = 100 * values[name, ""].estimate
            change = values[name, names[row - 1]] if row else values[name, ""]
            estimate, low, high = (100 * value for value in change)
            axes.barh(row, end - start, 0.62, start, color=_colour(name), alpha=0.75)
            axes.vlines(end, row - 0.31, min(row + 1.31, len(names) - 0.69), color=style.INK, linewidth=1)
            text = f"{estimate:{'+' if row else ''}.1f} [{low:.1f}, {high:.1f}]".replace("-", "−")
            left = end > 60
            place = {"ha": "right" if left else "left", "va": "center", "fontsize": style.SMALL, "color": style.INK}
            axes.text(min(start, end) - 1.5 if left else end + 1.5, row, text, **place)
            captions.append(f"{shots}-shot {steps[name]} {text}")
            start = end
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticks(range(len(names)), list(steps.values()) if axes.get_subplotspec().is_first_col() else [])
        name_panel(axes, f"{shots}-shot")
        chart(axes, "mIoU in percent", grid="x")
    picture.alt = f"{title}; points of mIoU with 95 % intervals: {'; '.join(captions)}."
    return picture


def _colour(variant: str) -> str:
    if "support" in variant:
        return style.SUPPORT
    return style.TRUTH if "truth" in variant or "true" in variant else style.PREDICTION


def rounds_figure(values: Mapping[str, Sequence[Interval]], title: str, measure: str = "IoU") -> Picture:
    """A measure after each round of refinement, with its interval; one line for each variant of IMR.

    values: by variant, for rounds 0, 1, ... in 0..1. measure: its name.

    Raises:
        InputError: there are none.
    """
    if not values:
        raise InputError("there is nothing to draw")
    picture = Picture(6.5, 3.9, title)
    axes = picture.subplots()
    words = []
    for number, (name, row) in enumerate(values.items()):
        colour = (style.DEEP_PRIOR, style.PRIOR)[number % 2]
        estimates, lows, highs = np.array(row).T
        rounds = np.arange(len(row))
        axes.fill_between(rounds, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axes.plot(rounds, estimates, f"-{MARKERS[number % len(MARKERS)]}", color=colour, label=name)
        words.append(f"{name}: {', '.join(f'{value:.3f}' for value in estimates)}")
    axes.set_xticks(rounds)
    axes.legend(frameon=False, fontsize=style.SMALL)
    chart(axes, "rounds of refinement", measure, grid="y")
    picture.alt = f"{title}; {measure} by round, from 0: {'; '.join(words)}. Bands: 95 % intervals."
    return picture


def separation_figure(separations: Mapping[str, Sequence[np.ndarray]], title: str) -> Picture:
    """How well every map separates the query's object from the rest: the mean over episodes, drawn from chance on.

    separations: by map, for each fold (or other group) the values of its episodes, (N,) in 0..1; dots are the means of
    the folds where there are several.

    Raises:
        InputError: there are none.
    """
    if not separations:
        raise InputError("there is nothing to draw")
    picture = Picture(8.5, 1.3 + 0.42 * len(separations), title)
    axes, words, left = picture.subplots(), [], 0.3
    for row, (name, groups) in enumerate(separations.items()):
        estimate, low, high = mean_interval(np.concatenate(groups))
        colour = next((colour for word, colour in ORIGINS.items() if word in name), style.INK)
        axes.barh(row, estimate - 0.5, left=0.5, color=colour, alpha=0.75, height=0.62)
        axes.hlines(row, low, high, color=style.INK, linewidth=2)
        if len(groups) > 1:
            axes.plot([group.mean() for group in groups], [row] * len(groups), "o", color=style.INK, markersize=3.5)
        axes.text(1.02, row, f"{estimate:.2f}", va="center", fontsize=style.SMALL, color=style.INK)
        words.append(f"{name} {estimate:.2f}")
        left = min(left, low - 0.02)
    axes.axvline(0.5, color=style.INK, linewidth=1)
    axes.set(xlim=(left, 1.0), ylim=(len(separations) - 0.5, -0.5))
    axes.set_yticks(range(len(separations)), list(separations))
    dots = "; dots: folds" if any(len(groups) > 1 for groups in separations.values()) else ""
    chart(axes, f"separation of object and rest: 0.5 is chance, 1 perfect\nline: 95 % interval{dots}", grid="x")
    picture.alt = f"{title}; separation from 0 to 1, 0.5 is chance: {', '.join(words)}."
    return picture


def attention_figure(masses: Mapping[str, Sequence[Interval]], title: str) -> Picture:
    """The attention that the query's object gives to memory background, by layer, for each mode of SCMA.

    masses: by mode, for the layers and last their mean, in 0..1.

    Raises:
        InputError: there are none.
    """
    if not masses:
        raise InputError("there is nothing to draw")
    picture = Picture(7.5, 3.9, title)
    axes = picture.subplots()
    width, words = 0.8 / len(masses), []
    for number, (name, values) in enumerate(masses.items()):
        estimates, lows, highs = 100 * np.array(values).T
        places = np.arange(len(values)) + width * (number - (len(masses) - 1) / 2)
        errors = np.maximum([estimates - lows, highs - estimates], 0)
        colour = ("#F0B48F", style.PREDICTION, "#888888", style.PALE, style.INK)[number % 5]
        axes.bar(places, estimates, 0.92 * width, yerr=errors, color=colour, ecolor=style.INK, label=name)
        words.append(f"{name}: {', '.join(f'{value:.1f}' for value in estimates)}")
    layers = len(values) - 1
    axes.set_xticks(range(layers + 1), [*(f"layer {layer + 1}" for layer in range(layers)), "mean"])
    picture.legend(loc="outside lower center", ncols=len(masses), frameon=False, fontsize=style.SMALL, title="SCMA")
    chart(axes, y="attention on memory background\nin percent", grid="y")
    picture.alt = f"{title}; percent by layer and mean: {'; '.join(words)}. Bars: 95 % intervals."
    return picture


def curves_figure(log: Sequence[Row], validation: Sequence[Row] = ()) -> Picture:
    """A run's Dice loss, and beside it the mIoU on held-out base-class episodes, if it has some, the best one marked.

    log: rows with "step" and "loss" (means since the row before); validation: rows with "step" and "miou" in 0..1.

    Raises:
        InputError: an empty log.
    """
    if not log:
        raise InputError("a run needs at least one row in log.csv to be drawn")
    picture = Picture(9 if validation else 5, 3.7, "The curves of the run")
    panels = picture.subplots(1, 2 if validation else 1, squeeze=False)[0]
    left = panels[0]
    steps, losses = [row["step"] for row in log], [row["loss"] for row in log]
    if len(log) > MANY_ROWS:
        left.plot(steps, losses, color=style.PREDICTION)
    else:
        for start, stop, loss in zip([0, *steps], steps, losses, strict=False):
            left.hlines(loss, start, stop, color=style.PREDICTION, linewidth=3)
            left.annotate(
                f"{loss:.3f}", ((start + stop) / 2, loss), (0, 5), textcoords="offset points", ha="center",
                fontsize=style.SMALL, color=style.INK,
            )  # fmt: skip
        left.set_ylim(min(losses) - 0.03, max(losses) + 0.03)
    left.set_xlim(0, steps[-1])
    chart(left, "step", "Dice loss, mean over these steps")
    name_panel(left, "training episodes", style.PREDICTION)
    picture.alt = (
        f"Dice loss from {losses[0]:.3f} up to step {steps[0]:.0f} to {losses[-1]:.3f} up to step {steps[-1]:.0f}."
    )
    if validation:
        right = panels[1]
        at, scores = [row["step"] for row in validation], [100 * row["miou"] for row in validation]
        best = int(np.argmax(scores))
        right.plot(at, scores, "-o", color=style.INK)
        right.plot(
            at[best], scores[best], "*", color=style.PREDICTION, markersize=17, label=f"best: {scores[best]:.1f}"
        )
        chart(right, "step", "mIoU in percent")
        right.legend(frameon=False, fontsize=style.SMALL, loc="lower right")
        name_panel(right, "held-out episodes of the base classes", style.INK)
        picture.alt += (
            f" mIoU on held-out base-class episodes from {scores[0]:.1f} to {scores[-1]:.1f}, the best "
            f"{scores[best]:.1f} at step {at[best]:.0f}."
        )
    return picture
