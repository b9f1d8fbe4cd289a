"""Figures of dense features and of the priors that the pseudo prompt generator makes of them (Sec. PPG)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.colors import Colormap, Normalize
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures import style
from fss_lab.figures.panels import (
    contour,
    feature_panel,
    heat,
    map_panel,
    mask_panel,
    name_panel,
    overlay,
    principal_colours,
)
from fss_lab.figures.prediction import iou, support_panel, truth_panel
from fss_lab.figures.style import Picture, chart, colour_bar, legend, patch, truth_line
from fss_lab.method.prompts import resize

SIMILARITY_MAP = "viridis"  # raw similarities, before they are stretched to a prior


def features_figure(task: Episode, support: Tensor, query: Tensor, name: str = "features") -> Picture:
    """An episode's first support and its query, each beside its map of features or memory in colours.

    support, query: (C, h, w) each.
    """
    picture = Picture(9, 3.15, f"Equal colours, similar {name}")
    axes = picture.subplots(1, 4)
    support_colours, query_colours = principal_colours(support, query)
    support_panel(axes[0], task, "support")
    feature_panel(axes[1], support_colours, f"its {name}", task.support_masks[0], style.SUPPORT)
    truth_panel(axes[2], task, "query")
    feature_panel(axes[3], query_colours, f"its {name}", task.query_mask, style.TRUTH)
    legend(picture, "support mask", patch(style.TRUTH, "truth (hidden from the model)"))
    picture.alt = (
        f"The support and the query of the class {task.class_name}, each beside a map of its {name} in three colours "
        "that stand for the three strongest principal components; the outlines of the object are drawn on all four."
    )
    return picture


def regions_figure(task: Episode, region: Tensor) -> Picture:
    """The first support's mask on the grid of the features, and what is left for the background.

    region: (h, w) in 0..1, the weight of each patch.
    """
    picture = Picture(8, 3.3, "How much each patch counts")
    axes = picture.subplots(1, 3)
    support_panel(axes[0], task, "support")
    for panel, values, name in ((axes[1], region, "for the object: M"), (axes[2], 1 - region, "background: 1 − M")):
        weights = heat(panel, values, "Blues", Normalize(0, 1))
        name_panel(panel, name, style.SUPPORT)
    colour_bar(picture, weights, [axes[2]], "weight in the prototype")
    legend(picture, "support mask")
    share = 100 * float(region.mean())
    picture.alt = (
        f"The support's {task.class_name} tinted blue; the weight of every patch for the object, soft at its border, "
        f"together {share:.0f} % of the map; and the weights for the background, which are the rest."
    )
    return picture


def similarity_figure(task: Episode, like_object: Tensor, like_background: Tensor) -> Picture:
    """Raw cosines of the query with the two prototypes, as maps and as distributions inside and outside the object.

    like_object, like_background: (h, w) in -1..1.
    """
    maps = {"cosine with p_fg": like_object.detach().float(), "cosine with p_bg": like_background.detach().float()}
    picture = Picture(10, 3.5, "Raw cosines: similar, but from where on?")
    axes = picture.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
    truth_panel(axes[0], task)
    both = torch.stack(list(maps.values()))
    norm = Normalize(float(both.min()), float(both.max()))
    for panel, (name, values) in zip(axes[1:3], maps.items(), strict=True):
        cosines = map_panel(panel, values, name, SIMILARITY_MAP, norm, task.query_mask)
    colour_bar(picture, cosines, [axes[2]], "cosine")

    values = maps["cosine with p_fg"]
    inside = resize((task.query_mask == 1).float()[None, None], values.shape)[0, 0] > 0.5
    bins = np.linspace(float(values.min()), float(values.max()) + 1e-6, 25).tolist()
    for part, colour, name in ((~inside, style.INK, "outside"), (inside, style.TRUTH, "in the object")):
        axes[3].hist(values[part].cpu().numpy(), bins, density=True, color=colour, alpha=0.55, label=name)
    axes[3].set(yticks=[])
    chart(axes[3], "cosine with p_fg", grid="x")
    axes[3].set_box_aspect(1)
    axes[3].legend(fontsize=style.SMALL, frameon=False, loc="upper right")
    name_panel(axes[3], "query's patches")
    legend(picture, truth_line())
    middle = [float(values[part].median()) if part.any() else 0.0 for part in (inside, ~inside)]
    picture.alt = (
        f"Two maps of cosines over the query of the class {task.class_name}, and the distribution of its cosine with "
        f"the object's prototype: the median is {middle[0]:.2f} inside the object and {middle[1]:.2f} outside."
    )
    return picture


def maps_figure(
    task: Episode,
    maps: Mapping[str, Tensor],
    title: str,
    label: str = "from 0 (no) to 1 (yes)",
    cmap: str | Colormap = style.PRIOR_MAP,
    outline: bool = True,
) -> Picture:
    """The query and maps over it, all on the scale 0..1.

    maps: name -> (h, w) of any size. outline: draw the truth on them.
    """
    columns = min(4, len(maps) + 1)
    rows = math.ceil((len(maps) + 1) / columns)
    picture = Picture(2.4 * columns + 0.4, 2.45 * rows + 0.85, title)
    axes = np.ravel(picture.subplots(rows, columns))
    for spare in axes[len(maps) + 1 :]:
        spare.axis("off")
    if outline:
        truth_panel(axes[0], task)
        legend(picture, truth_line())
    else:
        mask_panel(axes[0], task.query_image, None, "query", style.INK)
    inside, captions = task.query_mask == 1, []
    for panel, (name, values) in zip(axes[1:], maps.items(), strict=False):
        drawn = heat(panel, values, cmap, Normalize(0, 1), inside.shape)
        if outline:
            contour(panel, task.query_mask, style.TRUTH, inside.shape, width=1)
        name_panel(panel, name, style.DEEP_PRIOR if cmap is style.PRIOR_MAP else style.INK)
        fine = resize(values.detach().float().cpu()[None, None], inside.shape)[0, 0]
        captions.append(f"{name} {float(fine[inside].mean()):.2f} and {float(fine[~inside].mean()):.2f}")
    colour_bar(picture, drawn, [axes[columns - 1]], label)
    means = "; ".join(captions)
    picture.alt = f"{title}. Maps over a query ({task.class_name}); their means inside and outside the object: {means}."
    return picture


def guess_figure(task: Episode, prior: Tensor, threshold: float, name: str = "prior") -> Picture:
    """A prior and the mask that a threshold makes of it, with its IoU. prior: (H, W) in 0..1, of the query's size."""
    mask = prior > threshold
    score = 100 * iou(mask, task.query_mask)
    picture = Picture(6.6, 3.7, f"{name}, cut at {threshold:g}: IoU {score:.0f} %")
    axes = picture.subplots(1, 2)
    drawn = heat(axes[0], prior, style.PRIOR_MAP, Normalize(0, 1))
    name_panel(axes[0], name, style.DEEP_PRIOR)
    overlay(axes[1], task.query_image, mask, style.PRIOR)
    name_panel(axes[1], f"the mask above {threshold:g}", style.DEEP_PRIOR)
    for panel in axes:
        contour(panel, task.query_mask, style.TRUTH)
    colour_bar(picture, drawn, [axes[0]], "from 0 (no) to 1 (yes)")
    legend(picture, patch(style.PRIOR, "mask cut from the prior"), truth_line())
    picture.alt = (
        f"The prior of a query ({task.class_name}) and the mask where it exceeds {threshold:g}, with the outline of "
        f"the truth; the mask's IoU is {score:.0f} %."
    )
    return picture


def thresholds_figure(curves: Mapping[str, Tensor], thresholds: Tensor, title: str) -> Picture:
    """Mean IoU of the masks that each threshold cuts from each prior.

    curves: name -> (T,) in 0..1; thresholds: (T,).
    """
    picture = Picture(7.5, 3.9, title)
    axes = picture.subplots()
    styles = (("-", style.DEEP_PRIOR), ("--", style.PRIOR), (":", style.INK))
    captions = []
    for (name, values), (line, colour) in zip(curves.items(), styles, strict=False):
        axes.plot(thresholds.numpy(), 100 * values.numpy(), line, color=colour, linewidth=2.5, label=name)
        best = float(thresholds[values.argmax()])
        captions.append(f"{name} is best, {100 * float(values.max()):.0f} %, at {best:.2f}")
    axes.axvline(0.5, color=style.TRUTH, linewidth=1.2, label="where SAM 2's memory cuts")
    axes.set(xlim=(0, 1), ylim=(0, None))
    chart(axes, "threshold on the prior", "mean IoU in percent")
    axes.legend(fontsize=style.SMALL, frameon=False)
    picture.alt = f"{title}: curves over the threshold. {'; '.join(captions)}."
    return picture
