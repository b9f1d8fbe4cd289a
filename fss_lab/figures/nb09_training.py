"""Figures of notebook 09: the loss, what trains, the recipe's schedule, a run's curves, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import name_panel, overlay
from fss_lab.figures.prediction import iou, truth_panel
from fss_lab.figures.style import Picture, chart, legend, patch

COLOURS = (style.PREDICTION, style.INK, style.PALE)


def small_objects_figure(shares: Sequence[float], losses: Mapping[str, Sequence[float]]) -> Picture:
    """What an answer costs while the object shrinks: one line for each loss.

    shares: of the image that the object covers, in 0..1. losses: by name, one value for each share.
    Raises InputError for no loss, or one with another number of values.
    """
    if not losses or any(len(values) != len(shares) for values in losses.values()):
        raise InputError(f"expected one or more losses with a value for each of the {len(shares)} shares")
    picture = Picture(7, 3.9, "One answer for all pixels, and what it costs")
    axes = picture.subplots()
    percent, captions = 100 * np.asarray(shares, dtype=float), []
    for (name, values), colour, marker in zip(losses.items(), COLOURS, "osD", strict=False):
        axes.plot(percent, [float(value) for value in values], f"-{marker}", color=colour, label=name)
        captions.append(f"{name} from {float(values[0]):.2f} to {float(values[-1]):.2f}")
    axes.set_xscale("log")
    axes.set_xticks(percent, [f"{value:g}" for value in percent])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=style.SMALL)
    chart(axes, "part of the image that the object covers, in percent", "loss")
    picture.alt = (
        f"The loss of an answer that is the same for all pixels, for objects from {percent[0]:g} to {percent[-1]:g} % "
        f"of the image: {'; '.join(captions)}."
    )
    return picture


def parameters_figure(parts: Mapping[str, tuple[int, int]]) -> Picture:
    """How many parameters each part has, and how many of them train.

    parts: name -> (trained, all). Raises InputError for none.
    """
    if not parts:
        raise InputError("there are no parts to draw")
    picture = Picture(8.5, 1.5 + 0.36 * len(parts), "What trains, and what stays as it was")
    axes = picture.subplots()
    largest = max(total for _, total in parts.values())
    for row, (trained, total) in enumerate(parts.values()):
        axes.barh(row, trained / 1e6, color=style.PREDICTION, height=0.6)
        axes.barh(row, (total - trained) / 1e6, left=trained / 1e6, color=style.PALE, height=0.6)
        axes.text((total + 0.015 * largest) / 1e6, row, f"{trained:,} of {total:,}", va="center", fontsize=style.SMALL)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.set(ylim=(len(parts) - 0.5, -0.5), xlim=(0, 1.4 * largest / 1e6))
    chart(axes, "million parameters", grid="x")
    swatches = {"trained": style.PREDICTION, "frozen": style.PALE}
    legend(picture, *(Line2D([], [], color=c, linewidth=7, label=name) for name, c in swatches.items()))
    counts = ", ".join(f"{name} {trained:,} of {total:,}" for name, (trained, total) in parts.items())
    picture.alt = f"Trained parameters of each part of the model: {counts}."
    return picture


def schedule_figure(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Learning rates over the steps of a run, one line for each schedule. Raises InputError for none."""
    if not rates:
        raise InputError("there is no schedule to draw")
    picture = Picture(6.5, 3.4, "The learning rate over a run")
    axes = picture.subplots()
    for (name, values), colour, dashes in zip(rates.items(), COLOURS, ("-", "--", ":"), strict=False):
        axes.plot(range(len(values)), values, dashes, color=colour, linewidth=2, label=name)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=style.SMALL)
    chart(axes, "step", "learning rate")
    ends = "; ".join(f"{name} from {values[0]:.2g} to {values[-1]:.2g}" for name, values in rates.items())
    picture.alt = f"Learning rate over {max(map(len, rates.values()))} steps: {ends}."
    return picture


def before_after_figure(episodes: Sequence[Episode], before: Sequence[Tensor], after: Sequence[Tensor]) -> Picture:
    """Queries with the masks that a model gave before and after its training; one column for each episode.

    before, after: masks (H, W), bool. Raises InputError for unequal numbers or none.
    """
    if not len(episodes) == len(before) == len(after) or not episodes:
        raise InputError(f"expected equal numbers, got {len(episodes)}, {len(before)} and {len(after)}")
    picture = Picture(min(9.5, 1 + 1.7 * len(episodes)), 5.9, "The same queries before and after training")
    rows = picture.subplots(3, len(episodes), squeeze=False)
    captions = []
    for column, (episode, *masks) in enumerate(zip(episodes, before, after, strict=True)):
        truth_panel(rows[0, column], episode, episode.class_name)
        scores = [100 * iou(mask, episode.query_mask) for mask in masks]
        for axes, word, mask, score, colour in zip(
            rows[1:, column], ("before", "after"), masks, scores, (style.INK, style.PREDICTION), strict=True
        ):
            overlay(axes, episode.query_image, mask, colour, width=1)
            name_panel(axes, f"{word}: IoU {score:.0f} %")
        captions.append(f"{episode.class_name} {scores[0]:.0f} to {scores[1]:.0f} %")
    legend(picture, "truth", patch(style.INK, "before"), patch(style.PREDICTION, "after"))
    picture.alt = f"Queries with their masks before and after training; IoU: {', '.join(captions)}."
    return picture
