"""Figures of notebook 09: the loss, what trains, the recipe's schedule, a run's curves, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import (
    INK,
    PALE,
    PREDICTION,
    SMALL,
    TEXT,
    TRUTH,
    Picture,
    legend,
    name_panel,
    overlay,
    patch,
)  # fmt: skip


def small_objects_figure(shares: Sequence[float], losses: Mapping[str, Sequence[float]]) -> Picture:
    """What an answer costs while the object shrinks: one line for each loss.

    shares: of the image that the object covers, in 0..1. losses: by name, one value for each share.
    Raises ValueError for no loss, or one with another number of values.
    """
    if not losses or any(len(values) != len(shares) for values in losses.values()):
        raise ValueError(f"expected one or more losses with a value for each of the {len(shares)} shares")
    picture = Picture(7, 3.9, "One answer for all pixels, and what it costs")
    axes = picture.subplots()
    percent, told = 100 * np.asarray(shares, dtype=float), []
    for (name, values), colour, marker in zip(losses.items(), (PREDICTION, INK, PALE), "osD", strict=False):
        axes.plot(percent, [float(value) for value in values], f"-{marker}", color=colour, label=name)
        told.append(f"{name} from {float(values[0]):.2f} to {float(values[-1]):.2f}")
    axes.set_xscale("log")
    axes.set_xticks(percent, [f"{value:g}" for value in percent])
    axes.minorticks_off()
    axes.set_xlabel("part of the image that the object covers, in percent", fontsize=TEXT, color=INK)
    axes.set_ylabel("loss", fontsize=TEXT, color=INK)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=SMALL)
    axes.grid(color="#E6E6E6")
    axes.spines[["top", "right"]].set_visible(False)
    picture.alt = (
        f"The loss of an answer that is the same for all pixels, for objects from {percent[0]:g} to {percent[-1]:g} % "
        f"of the image: {'; '.join(told)}."
    )
    return picture


def parameters_figure(parts: Mapping[str, tuple[int, int]]) -> Picture:
    """How many parameters each part has, and how many of them train.

    parts: name -> (trained, all). Raises ValueError for none.
    """
    if not parts:
        raise ValueError("there are no parts to draw")
    picture = Picture(8.5, 1.5 + 0.36 * len(parts), "What trains, and what stays as it was")
    axes = picture.subplots()
    largest = max(total for _, total in parts.values())
    for row, (trained, total) in enumerate(parts.values()):
        axes.barh(row, trained / 1e6, color=PREDICTION, height=0.6)
        axes.barh(row, (total - trained) / 1e6, left=trained / 1e6, color=PALE, height=0.6)
        axes.text((total + 0.015 * largest) / 1e6, row, f"{trained:,} of {total:,}", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(parts)), list(parts), fontsize=TEXT, color=INK)
    axes.set(ylim=(len(parts) - 0.5, -0.5), xlim=(0, 1.4 * largest / 1e6))
    axes.set_xlabel("million parameters", fontsize=TEXT, color=INK)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    swatches = {"trained": PREDICTION, "frozen": PALE}
    legend(picture, *(Line2D([], [], color=c, linewidth=7, label=name) for name, c in swatches.items()))
    told = ", ".join(f"{name} {trained:,} of {total:,}" for name, (trained, total) in parts.items())
    picture.alt = f"Trained parameters of each part of the model: {told}."
    return picture


def schedule_figure(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Learning rates over the steps of a run, one line for each schedule. Raises ValueError for none."""
    if not rates:
        raise ValueError("there is no schedule to draw")
    picture = Picture(6.5, 3.4, "The learning rate over a run")
    axes = picture.subplots()
    for (name, values), colour, style in zip(rates.items(), (PREDICTION, INK, PALE), ("-", "--", ":"), strict=False):
        axes.plot(range(len(values)), values, style, color=colour, linewidth=2, label=name)
    axes.set_xlabel("step", fontsize=TEXT, color=INK)
    axes.set_ylabel("learning rate", fontsize=TEXT, color=INK)
    axes.set_ylim(bottom=0)
    axes.grid(color="#E6E6E6")
    axes.legend(frameon=False, fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    told = "; ".join(f"{name} from {values[0]:.2g} to {values[-1]:.2g}" for name, values in rates.items())
    picture.alt = f"Learning rate over {max(map(len, rates.values()))} steps: {told}."
    return picture


def before_after_figure(episodes: Sequence[Episode], before: Sequence[Tensor], after: Sequence[Tensor]) -> Picture:
    """Queries with the masks that a model gave before and after its training; one column for each episode.

    before, after: masks (H, W), bool. Raises ValueError for unequal numbers or none.
    """
    if not len(episodes) == len(before) == len(after) or not episodes:
        raise ValueError(f"expected equal numbers, got {len(episodes)}, {len(before)} and {len(after)}")
    picture = Picture(min(9.5, 1 + 1.7 * len(episodes)), 5.9, "The same queries before and after training")
    rows = picture.subplots(3, len(episodes), squeeze=False)
    told = []
    for column, (episode, *masks) in enumerate(zip(episodes, before, after, strict=True)):
        overlay(rows[0, column], episode.query_image, episode.query_mask, TRUTH, width=1)
        name_panel(rows[0, column], episode.class_name, TRUTH)
        scores = [100 * iou(mask, episode.query_mask) for mask in masks]
        for axes, word, mask, score, colour in zip(
            rows[1:, column], ("before", "after"), masks, scores, (INK, PREDICTION), strict=True
        ):
            overlay(axes, episode.query_image, mask, colour, width=1)
            name_panel(axes, f"{word}: IoU {score:.0f} %", INK)
        told.append(f"{episode.class_name} {scores[0]:.0f} to {scores[1]:.0f} %")
    legend(picture, patch(TRUTH, "truth"), patch(INK, "before"), patch(PREDICTION, "after"))
    picture.alt = f"Queries with their masks before and after training; IoU: {', '.join(told)}."
    return picture
