"""Figures of notebook 03: one query with several supports, what is like them, and where the query's object looks."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.colors import Normalize, PowerNorm
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import (
    ATTENTION_MAP,
    DEEP_PRIOR,
    INK,
    PREDICTION,
    PRIOR_MAP,
    SUPPORT,
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


def supports_figure(episodes: Mapping[str, Episode], masks: Mapping[str, Tensor]) -> Picture:
    """One query, several supports for it, and below each of them what was predicted with it.

    episodes: name of the support -> 1-shot episode; the query is the same in all. masks: the same names -> prediction,
    (H, W) bool. Raises ValueError for other names in masks, or no episodes.
    """
    if not episodes or set(episodes) != set(masks):
        raise ValueError(f"expected a mask for each of {list(episodes)}, got {list(masks)}")
    task, columns = next(iter(episodes.values())), 1 + len(episodes)
    side = min(2.7, 9.3 / columns)
    title = f"One {task.class_name}, and what the memory shows"
    picture = Picture(max(side * columns + 0.3, 6.0), 2 * side + 1.35, title)
    axes = picture.subplots(2, columns)
    overlay(axes[0, 0], task.query_image)
    name_panel(axes[0, 0], "query", INK)
    overlay(axes[1, 0], task.query_image, task.query_mask, TRUTH)
    name_panel(axes[1, 0], "truth", TRUTH)
    told = []
    for (name, episode), panels in zip(episodes.items(), axes.T[1:], strict=True):
        score = iou(masks[name], task.query_mask)
        overlay(panels[0], episode.support_images[0], episode.support_masks[0], SUPPORT)
        name_panel(panels[0], name, SUPPORT)
        overlay(panels[1], task.query_image, masks[name], PREDICTION)
        name_panel(panels[1], f"IoU {100 * score:.0f} %", PREDICTION)
        told.append(f"{name}: {100 * score:.0f} percent")
    legend(picture, patch(SUPPORT, "support mask"), patch(TRUTH, "truth"), patch(PREDICTION, "prediction"))
    picture.alt = (
        f"A query that shows the class {task.class_name}, and what SAM 2 segments in it with different supports. "
        f"IoU by support: {', '.join(told)}."
    )
    return picture


def likeness_figure(episode: Episode, maps: Mapping[str, Mapping[str, Tensor]], notes: Mapping[str, Mapping[str, float]]
                    ) -> Picture:  # fmt: skip
    """How like the support's object each query cell is: a row for each kind of features, a column for each support.

    maps: features -> support -> (h, w) cosines. notes: the same names -> separation in 0..1, shown in the title.
    """
    rows, supports, size = len(maps), list(next(iter(maps.values()))), episode.query_mask.shape
    picture = Picture(
        2.75 * (1 + len(supports)) + 0.9, 2.75 * rows + 0.9, "What in the query is like the support's object?"
    )
    axes = picture.subplots(rows, 1 + len(supports), squeeze=False)
    for line, (features, found) in zip(axes, maps.items(), strict=True):
        overlay(line[0], episode.query_image, episode.query_mask, TRUTH, width=1)
        name_panel(line[0], f"query, {features}", INK)
        low, high = (float(f([float(g(m)) for m in found.values()])) for f, g in ((min, Tensor.min), (max, Tensor.max)))
        for panel, support in zip(line[1:], supports, strict=True):
            shown = heat(panel, found[support], PRIOR_MAP, Normalize(low, high), size)
            contour(panel, episode.query_mask, TRUTH, size, width=1)
            name_panel(panel, f"{support}\nseparation {notes[features][support]:.2f}", DEEP_PRIOR)
        colour_bar(picture, shown, [line[-1]], "cosine")
    legend(picture, Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth"))
    told = "; ".join(
        f"{features}, {support}: {value:.2f}" for features, row in notes.items() for support, value in row.items()
    )
    picture.alt = (
        f"Maps of the cosine between each query cell and the support's {episode.class_name}, with the truth's outline. "
        f"How well they separate object from rest (1 = perfectly, 0.5 = not at all): {told}."
    )
    return picture


def looks_figure(episodes: Mapping[str, Episode], maps: Mapping[str, Tensor], shares: Mapping[str, float]) -> Picture:
    """Where the cells of the query's object look in each support, their mean.

    episodes: name -> 1-shot episode. maps: the same names -> (h, w) attention, of sum 1 at most. shares: the
    same names -> how much of it falls on the support's object, 0..1.
    """
    picture = Picture(2.9 * len(episodes) + 1.0, 6.9, "Where the query's object looks")
    axes = picture.subplots(2, len(episodes), squeeze=False)
    norm = PowerNorm(0.5, 0, 100 * max(float(values.max()) for values in maps.values()))
    for (name, episode), panels in zip(episodes.items(), axes.T, strict=True):
        overlay(panels[0], episode.support_images[0], episode.support_masks[0], SUPPORT)
        name_panel(panels[0], name, SUPPORT)
        shown = heat(panels[1], 100 * maps[name], ATTENTION_MAP, norm, episode.query_mask.shape)
        contour(panels[1], episode.support_masks[0], SUPPORT, width=1)
        name_panel(panels[1], f"{100 * shares[name]:.0f} % on its object", INK)
    colour_bar(picture, shown, [axes[1, -1]], "attention in percent")
    legend(picture, patch(SUPPORT, "support mask"))
    told = ", ".join(f"{name}: {100 * share:.0f} percent" for name, share in shares.items())
    picture.alt = f"Attention of the query's object over each support; on the support's object falls {told}."
    return picture
