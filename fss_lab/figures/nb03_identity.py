"""Figures of notebook 03: one query with several supports, what is like them, and where the query's object looks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import contour, heat, map_panel, mask_panel, name_panel
from fss_lab.figures.prediction import iou, support_panel, truth_panel
from fss_lab.figures.style import Picture, colour_bar, legend, truth_line


def supports_figure(episodes: Mapping[str, Episode], masks: Mapping[str, Tensor]) -> Picture:
    """One query, several supports for it, and below each of them what was predicted with it.

    episodes: name of the support -> 1-shot episode; the query is the same in all. masks: the same names -> prediction,
    (H, W) bool. Raises InputError for other names in masks, or no episodes.
    """
    if not episodes or set(episodes) != set(masks):
        raise InputError(f"expected a mask for each of {list(episodes)}, got {list(masks)}")
    task, columns = next(iter(episodes.values())), 1 + len(episodes)
    side = min(2.7, 9.3 / columns)
    title = f"One {task.class_name}, and what the memory shows"
    picture = Picture(max(side * columns + 0.3, 6.0), 2 * side + 1.35, title)
    axes = picture.subplots(2, columns)
    mask_panel(axes[0, 0], task.query_image, None, "query", style.INK)
    _outlined(axes[1, 0], task.query_image, task.query_mask, "truth", style.TRUTH)
    captions = []
    for (name, episode), panels in zip(episodes.items(), axes.T[1:], strict=True):
        score = iou(masks[name], task.query_mask)
        _outlined(panels[0], episode.support_images[0], episode.support_masks[0], name, style.SUPPORT)
        _outlined(panels[1], task.query_image, masks[name], f"IoU {100 * score:.0f} %", style.PREDICTION)
        captions.append(f"{name}: {100 * score:.0f} percent")
    legend(picture, "support mask", "truth", "prediction")
    picture.alt = (
        f"A query that shows the class {task.class_name}, and what SAM 2 segments in it with different supports. "
        f"IoU by support: {', '.join(captions)}."
    )
    return picture


def _outlined(axes: Axes, image: Tensor, mask: Tensor, name: str, colour: str) -> None:
    """An image with a mask's outline and no tint: here the objects' own colours are what counts."""
    mask_panel(axes, image, None, name, colour)
    contour(axes, mask, colour, width=2)


def likeness_figure(
    episode: Episode, maps: Mapping[str, Mapping[str, Tensor]], notes: Mapping[str, Mapping[str, float]]
) -> Picture:
    """How like the support's object each query cell is: a row for each kind of features, a column for each support.

    maps: features -> support -> (h, w) cosines. notes: the same names -> separation in 0..1, shown in the title.
    """
    columns, title = 1 + len(next(iter(maps.values()))), "What in the query is like the support's object?"
    picture = Picture(2.75 * columns + 0.9, 2.75 * len(maps) + 0.9, title)
    captions = []
    for row, (features, cosines) in zip(picture.subplots(len(maps), columns, squeeze=False), maps.items(), strict=True):
        truth_panel(row[0], episode, f"query, {features}")
        low, high = torch.stack(list(cosines.values())).aminmax()
        scale = Normalize(float(low), float(high))
        for panel, (support, values) in zip(row[1:], cosines.items(), strict=True):
            separation = notes[features][support]
            name = f"{support}\nseparation {separation:.2f}"
            cosine_map = map_panel(panel, values, name, style.PRIOR_MAP, scale, episode.query_mask, style.DEEP_PRIOR)
            captions.append(f"{features}, {support}: {separation:.2f}")
        colour_bar(picture, cosine_map, [row[-1]], "cosine")
    legend(picture, truth_line("outline of the truth"))
    picture.alt = (
        f"Maps of the cosine between each query cell and the support's {episode.class_name}, with the truth's outline. "
        f"How well they separate object from rest (1 = perfectly, 0.5 = not at all): {'; '.join(captions)}."
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
        support_panel(panels[0], episode, name, width=1.5)
        percent = heat(panels[1], 100 * maps[name], style.ATTENTION_MAP, norm, episode.query_mask.shape)
        contour(panels[1], episode.support_masks[0], style.SUPPORT, width=1)
        name_panel(panels[1], f"{100 * shares[name]:.0f} % on its object")
    colour_bar(picture, percent, [axes[1, -1]], "attention in percent")
    legend(picture, "support mask")
    percents = ", ".join(f"{name}: {100 * share:.0f} percent" for name, share in shares.items())
    picture.alt = f"Attention of the query's object over each support; on the support's object falls {percents}."
    return picture
