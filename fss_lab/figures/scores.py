"""Figures of scores with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fss_lab.figures.style import INK, SMALL, TEXT, Picture
from fss_lab.metrics import SegmentationScore, bootstrap_interval


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
