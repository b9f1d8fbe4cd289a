"""Figures of notebook 10: what a protocol asks, and how sure a score is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fss_lab.datasets.protocols import EpisodeList, ImageSet
from fss_lab.figures.style import (
    INK,
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
from fss_lab.metrics import Interval

GRID = "#E6E6E6"


def protocol_figure(images: ImageSet, lists: Sequence[EpisodeList], count: int = 6) -> Picture:
    """The first queries of some episode lists, one row for each list, with the object that is asked for.

    lists: drawn from `images`. count: episodes shown of each. Raises ValueError for no lists or no episodes to show.
    """
    if not lists or count < 1:
        raise ValueError(f"expected at least one list and one episode to show, got {len(lists)} and {count}")
    picture = Picture(9.8, 0.9 + 1.85 * len(lists), "What each protocol asks first")
    panels = picture.subplots(len(lists), count, squeeze=False)
    told = []
    for row, drawn in zip(panels, lists, strict=True):
        queries = []
        for number, axes in enumerate(row):
            if number >= len(drawn):
                axes.set_visible(False)
                continue
            asked = drawn.episodes[number]
            name = images.class_name(asked.class_id)
            overlay(axes, images.image(asked.query), images.label(asked.query) == asked.class_id + 1, TRUTH, width=1)
            order = images.names.index(asked.query)
            name_panel(axes, f"image {order}: {name}", TRUTH, size=SMALL)
            queries.append(f"image {order} {name}")
        row[0].set_ylabel(drawn.protocol, fontsize=TEXT, fontweight="bold", color=INK)
        told.append(f"{drawn.protocol}: {', '.join(queries)}")
    legend(picture, patch(TRUTH, "what is asked for"))
    picture.alt = f"The first queries of each protocol and the class asked for. {'; '.join(told)}."
    return picture


def bootstrap_figure(replicates: np.ndarray, found: Interval, widths: Mapping[int, Interval]) -> Picture:
    """The scores of the replicates with the interval they give, and intervals for several numbers of episodes.

    replicates: (R,) scores in 0..1. found: estimate and interval of all episodes. widths: intervals by the number of
    episodes that a replicate draws. Raises ValueError for no replicates or no intervals.
    """
    if len(replicates) == 0 or not widths:
        raise ValueError(f"expected replicates and intervals, got {len(replicates)} and {len(widths)}")
    picture = Picture(9.8, 3.8, "One score, and how far chance could have moved it")
    left, right = picture.subplots(1, 2)
    estimate, low, high = (100 * value for value in found)
    left.hist(100 * np.asarray(replicates), bins=40, color=PREDICTION, alpha=0.4)
    left.axvline(estimate, color=PREDICTION, linewidth=2.5, label="the score measured")
    for value, label in ((low, "2.5 and 97.5 % quantile"), (high, None)):
        left.axvline(value, color=INK, linestyle="--", linewidth=1.5, label=label)
    left.set(yticks=[])
    left.set_xlabel("mIoU in percent", fontsize=TEXT, color=INK)
    name_panel(left, f"{len(replicates):,} replicates", INK, bold=False)
    picture.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=SMALL, labelcolor=INK)

    for place, each in enumerate(widths.values()):
        middle, bottom, top = (100 * value for value in each)
        right.vlines(place, bottom, top, color=PREDICTION, linewidth=4, alpha=0.45)
        right.plot(place, middle, "o", color=PREDICTION, markersize=8)
    right.set_xticks(range(len(widths)), [str(number) for number in widths])
    right.set_xlim(-0.5, len(widths) - 0.5)
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xlabel("episodes in each replicate", fontsize=TEXT, color=INK)
    right.set_ylabel("mIoU in percent", fontsize=TEXT, color=INK)
    name_panel(right, "estimate and 95 % interval", INK, bold=False)
    _plain(left, "x")
    _plain(right, "y")
    picture.alt = (
        f"Left: a histogram of {len(replicates):,} bootstrap scores around {estimate:.1f} %, 95 % of them between "
        f"{low:.1f} and {high:.1f}. Right: intervals for growing numbers of episodes: "
        f"{', '.join(f'{n}: {100 * each.low:.0f} to {100 * each.high:.0f}' for n, each in widths.items())}."
    )
    return picture


def intervals_figure(
    rows: Mapping[str, Interval], title: str, label: str, colours: Sequence[str] | None = None
) -> Picture:
    """Estimates with their intervals, one below the other; a line marks zero where it is in sight.

    rows: scores or differences of scores, by name. label: of the axis, which counts in percent or points. colours: one
    for each row. Raises ValueError for no rows or another number of colours.
    """
    if not rows:
        raise ValueError("there are no intervals to draw")
    colours = [INK] * len(rows) if colours is None else colours
    if len(colours) != len(rows):
        raise ValueError(f"expected a colour for each of {len(rows)} rows, got {len(colours)}")
    picture = Picture(9.5, 1.3 + 0.4 * len(rows), title)
    axes = picture.subplots()
    told = []
    for place, ((name, each), colour) in enumerate(zip(rows.items(), colours, strict=True)):
        estimate, low, high = (100 * value for value in each)
        axes.hlines(place, low, high, color=colour, linewidth=4, alpha=0.45)
        axes.plot(estimate, place, "o", color=colour, markersize=8)
        axes.annotate(
            shown := f"{_one_digit(estimate)} [{_one_digit(low)}, {_one_digit(high)}]", (1.01, place),
            xycoords=("axes fraction", "data"), va="center", fontsize=SMALL, color=INK,
        )  # fmt: skip
        told.append(f"{name} {shown}")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows), color=INK)
    axes.set_xlabel(label, fontsize=TEXT, color=INK)
    axes.margins(x=0.08)
    left, right = axes.get_xlim()
    if left <= 0 <= right:
        axes.axvline(0, color=INK, linewidth=1.2, linestyle="--")
    _plain(axes, "x")
    picture.alt = f"{title}; {label}: {'; '.join(told)}."
    return picture


def _one_digit(value: float) -> str:
    """With a true minus sign, and without one for what rounds to zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


def _plain(axes: Axes, grid: str) -> None:
    """Only a faint grid along one axis; a panel whose values are read from left to right has no frame beside them."""
    axes.grid(axis="x" if grid == "x" else "y", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
