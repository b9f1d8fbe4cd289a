"""Figures of notebook 10: what a protocol asks, and how sure a score is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fss_lab.datasets.protocols import EpisodeList, ImageSet
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import name_panel, overlay
from fss_lab.figures.style import Picture, chart, interval_row, legend, patch
from fss_lab.metrics import Interval


def protocol_figure(images: ImageSet, lists: Sequence[EpisodeList], count: int = 6) -> Picture:
    """The first queries of some episode lists, one row for each list, with the object that is asked for.

    lists: drawn from `images`. count: episodes shown of each. Raises InputError for no lists or no episodes to show.
    """
    if not lists or count < 1:
        raise InputError(f"expected at least one list and one episode to show, got {len(lists)} and {count}")
    picture = Picture(9.8, 0.9 + 1.85 * len(lists), "What each protocol asks first")
    panels = picture.subplots(len(lists), count, squeeze=False)
    captions = []
    for row, episodes in zip(panels, lists, strict=True):
        queries = []
        for number, axes in enumerate(row):
            if number >= len(episodes):
                axes.set_visible(False)
                continue
            task = episodes.episodes[number]
            name = images.class_name(task.class_id)
            overlay(axes, images.image(task.query), images.label(task.query) == task.class_id + 1, style.TRUTH, width=1)
            order = images.names.index(task.query)
            name_panel(axes, f"image {order}: {name}", style.TRUTH, size=style.SMALL)
            queries.append(f"image {order} {name}")
        row[0].set_ylabel(episodes.protocol, fontsize=style.TEXT, fontweight="bold", color=style.INK)
        captions.append(f"{episodes.protocol}: {', '.join(queries)}")
    legend(picture, patch(style.TRUTH, "what is asked for"))
    picture.alt = f"The first queries of each protocol and the class asked for. {'; '.join(captions)}."
    return picture


def bootstrap_figure(replicates: np.ndarray, interval: Interval, widths: Mapping[int, Interval]) -> Picture:
    """The scores of the replicates with the interval they give, and intervals for several numbers of episodes.

    replicates: (R,) scores in 0..1. interval: the estimate and its interval, of all episodes. widths: intervals by the
    number of episodes that a replicate draws. Raises InputError for no replicates or no intervals.
    """
    if len(replicates) == 0 or not widths:
        raise InputError(f"expected replicates and intervals, got {len(replicates)} and {len(widths)}")
    picture = Picture(9.8, 3.8, "One score, and how far chance could have moved it")
    left, right = picture.subplots(1, 2)
    estimate, low, high = (100 * value for value in interval)
    left.hist(100 * np.asarray(replicates), bins=40, color=style.PREDICTION, alpha=0.4)
    left.axvline(estimate, color=style.PREDICTION, linewidth=2.5, label="the score measured")
    for value, label in ((low, "2.5 and 97.5 % quantile"), (high, None)):
        left.axvline(value, color=style.INK, linestyle="--", linewidth=1.5, label=label)
    left.set(yticks=[])
    name_panel(left, f"{len(replicates):,} replicates", bold=False)
    picture.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=style.SMALL, labelcolor=style.INK)

    for place, width in enumerate(widths.values()):
        middle, bottom, top = (100 * value for value in width)
        right.vlines(place, bottom, top, color=style.PREDICTION, linewidth=4, alpha=0.45)
        right.plot(place, middle, "o", color=style.PREDICTION, markersize=8)
    right.set_xticks(range(len(widths)), [str(number) for number in widths])
    right.set_xlim(-0.5, len(widths) - 0.5)
    right.yaxis.set_major_locator(MaxNLocator(integer=True))
    name_panel(right, "estimate and 95 % interval", bold=False)
    chart(left, "mIoU in percent", grid="x")
    chart(right, "episodes in each replicate", "mIoU in percent", grid="y")
    picture.alt = (
        f"Left: a histogram of {len(replicates):,} bootstrap scores around {estimate:.1f} %, 95 % of them between "
        f"{low:.1f} and {high:.1f}. Right: intervals for growing numbers of episodes: "
        f"{', '.join(f'{n}: {100 * width.low:.0f} to {100 * width.high:.0f}' for n, width in widths.items())}."
    )
    return picture


def intervals_figure(
    rows: Mapping[str, Interval],
    title: str,
    label: str,
    colours: Sequence[str] | None = None,
    behind: Interval | None = None,
) -> Picture:
    """Estimates with their intervals, one below the other; a line marks zero where it is in sight.

    rows: scores or differences of scores, by name. label: of the axis, which counts in percent or points. colours: one
    for each row. behind: a score on many more episodes, drawn as a pale band behind all rows. Raises InputError for no
    rows or another number of colours.
    """
    if not rows:
        raise InputError("there are no intervals to draw")
    colours = [style.INK] * len(rows) if colours is None else colours
    if len(colours) != len(rows):
        raise InputError(f"expected a colour for each of {len(rows)} rows, got {len(colours)}")
    picture = Picture(9.5, 1.3 + 0.4 * len(rows), title)
    axes = picture.subplots()
    captions = []
    if behind is not None:
        middle, bottom, top = (100 * value for value in behind)
        axes.axvspan(bottom, top, color=style.PALE, alpha=0.45, linewidth=0, zorder=0)
        axes.axvline(middle, color=style.PALE, linewidth=2.5, zorder=0)
        legend(picture, Patch(color=style.PALE, alpha=0.6, label="the same weights on many more episodes"))
        captions.append(f"pale, on many more episodes {_one_digit(middle)}")
    for place, ((name, interval), colour) in enumerate(zip(rows.items(), colours, strict=True)):
        estimate, low, high = map(_one_digit, interval_row(axes, place, interval, colour))
        text = f"{estimate} [{low}, {high}]"
        beside = axes.get_yaxis_transform()
        axes.text(1.01, place, text, transform=beside, va="center", fontsize=style.SMALL, color=style.INK)
        captions.append(f"{name} {text}")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows), color=style.INK)
    axes.margins(x=0.08)
    left, right = axes.get_xlim()
    if left <= 0 <= right:
        axes.axvline(0, color=style.INK, linewidth=1.2, linestyle="--")
    chart(axes, label, grid="x")
    picture.alt = f"{title}; {label}: {'; '.join(captions)}."
    return picture


def _one_digit(value: float) -> str:
    """With a true minus sign, and without one for what rounds to zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")
