"""Figures of dense features and of the priors that the pseudo prompt generator makes of them (Sec. PPG)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.colors import Colormap, Normalize
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import (
    DEEP_PRIOR,
    INK,
    PRIOR,
    PRIOR_MAP,
    SMALL,
    SUPPORT,
    TEXT,
    TRUTH,
    Picture,
    bare,
    colour_bar,
    contour,
    heat,
    legend,
    name_panel,
    overlay,
    patch,
)  # fmt: skip
from fss_lab.method.prompts import resize

SIMILARITY_MAP = "viridis"  # raw similarities, before they are stretched to a prior


def principal_colours(*maps: Tensor) -> list[Tensor]:
    """Feature maps as pictures: equal features get equal colours, in all maps.

    maps: (C, h, w) each, of one C. Red, green and blue are the first three principal components over all positions of
    all maps. Returns one RGB image (3, h, w) in 0..255 for each.
    """
    vectors = torch.cat([each.detach().float().cpu().flatten(1).T for each in maps])  # positions, C
    vectors = vectors - vectors.mean(0)
    axes = torch.linalg.svd(vectors, full_matrices=False).Vh[:3]  # 3, C
    colours = vectors @ axes.T  # positions, 3
    low, high = colours.quantile(0.02, 0), colours.quantile(0.98, 0)
    colours = ((colours - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * 255
    parts = colours.split([each[0].numel() for each in maps])
    return [part.T.unflatten(1, each.shape[-2:]) for part, each in zip(parts, maps, strict=True)]


def features_figure(task: Episode, support: Tensor, query: Tensor, name: str = "features") -> Picture:
    """An episode's first support and its query, each beside its map of features or memory in colours.

    support, query: (C, h, w) each.
    """
    picture = Picture(9.5, 3.3, f"Equal colours, similar {name}")
    axes = picture.subplots(1, 4)
    size = task.query_mask.shape
    pairs = (
        (task.support_images[0], task.support_masks[0], SUPPORT, "support"),
        (task.query_image, task.query_mask, TRUTH, "query"),
    )
    for column, ((image, mask, colour, title), shown) in enumerate(
        zip(pairs, principal_colours(support, query), strict=True)
    ):
        overlay(axes[2 * column], image, mask, colour, width=1)
        name_panel(axes[2 * column], title, colour)
        panel = axes[2 * column + 1]
        bare(panel)
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        panel.imshow(shown.to(torch.uint8).permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")
        contour(panel, mask, colour, size, width=1)
        name_panel(panel, f"its {name}", INK)
    legend(picture, patch(SUPPORT, "support mask"), patch(TRUTH, "truth (hidden from the model)"))
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
    overlay(axes[0], task.support_images[0], task.support_masks[0], SUPPORT, width=1)
    name_panel(axes[0], "support", SUPPORT)
    for panel, values, name in ((axes[1], region, "for the object: M"), (axes[2], 1 - region, "background: 1 − M")):
        shown = heat(panel, values, "Blues", Normalize(0, 1))
        name_panel(panel, name, SUPPORT)
    colour_bar(picture, shown, [axes[2]], "weight in the prototype")
    legend(picture, patch(SUPPORT, "support mask"))
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
    size = task.query_mask.shape
    maps = {"cosine with p_fg": like_object.detach().float(), "cosine with p_bg": like_background.detach().float()}
    picture = Picture(10, 3.5, "Raw cosines: similar, but from where on?")
    axes = picture.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
    overlay(axes[0], task.query_image, task.query_mask, TRUTH, width=1)
    name_panel(axes[0], f"query ({task.class_name})", TRUTH)
    both = torch.stack(list(maps.values()))
    norm = Normalize(float(both.min()), float(both.max()))
    for panel, (name, values) in zip(axes[1:3], maps.items(), strict=True):
        shown = heat(panel, values, SIMILARITY_MAP, norm, size)
        contour(panel, task.query_mask, TRUTH, size, width=1)
        name_panel(panel, name, INK)
    colour_bar(picture, shown, [axes[2]], "cosine")

    values = maps["cosine with p_fg"]
    inside = resize((task.query_mask == 1).float()[None, None], values.shape)[0, 0] > 0.5
    bins = np.linspace(float(values.min()), float(values.max()) + 1e-6, 25).tolist()
    for part, colour, name in ((~inside, INK, "outside"), (inside, TRUTH, "in the object")):
        axes[3].hist(values[part].cpu().numpy(), bins, density=True, color=colour, alpha=0.55, label=name)
    axes[3].set(yticks=[])
    axes[3].set_xlabel("cosine with p_fg", fontsize=TEXT, color=INK)
    axes[3].tick_params(labelsize=SMALL)
    axes[3].spines[["top", "right", "left"]].set_visible(False)
    axes[3].set_box_aspect(1)
    axes[3].legend(fontsize=SMALL, frameon=False, loc="upper right")
    name_panel(axes[3], "query's patches", INK)
    legend(picture, Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison"))
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
    cmap: str | Colormap = PRIOR_MAP,
    outline: bool = True,
) -> Picture:
    """The query and maps over it, all on the scale 0..1.

    maps: name -> (h, w) of any size. outline: draw the truth on them.
    """
    size = task.query_mask.shape
    columns = min(4, len(maps) + 1)
    rows = math.ceil((len(maps) + 1) / columns)
    picture = Picture(2.4 * columns + 0.4, 2.45 * rows + 0.85, title)
    axes = np.ravel(picture.subplots(rows, columns))
    for spare in axes[len(maps) + 1 :]:
        spare.axis("off")
    overlay(axes[0], task.query_image, task.query_mask if outline else None, TRUTH, width=1)
    name_panel(axes[0], f"query ({task.class_name})" if outline else "query", TRUTH if outline else INK)
    inside, told = task.query_mask == 1, []
    for panel, (name, values) in zip(axes[1:], maps.items(), strict=False):
        shown = heat(panel, values, cmap, Normalize(0, 1), size)
        if outline:
            contour(panel, task.query_mask, TRUTH, size, width=1)
        name_panel(panel, name, DEEP_PRIOR if cmap is PRIOR_MAP else INK)
        fine = resize(values.detach().float().cpu()[None, None], size)[0, 0]
        told.append(f"{name} {float(fine[inside].mean()):.2f} and {float(fine[~inside].mean()):.2f}")
    colour_bar(picture, shown, [axes[columns - 1]], label)
    if outline:
        legend(picture, Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison"))
    picture.alt = (
        f"{title}. Maps over a query ({task.class_name}); their means inside and outside the object: {'; '.join(told)}."
    )
    return picture


def guess_figure(task: Episode, prior: Tensor, threshold: float, name: str = "prior") -> Picture:
    """A prior and the mask that a threshold makes of it, with its IoU. prior: (H, W) in 0..1, of the query's size."""
    mask = prior > threshold
    score = 100 * iou(mask, task.query_mask)
    picture = Picture(7.5, 4.1, f"{name}, cut at {threshold:g}: IoU {score:.0f} %")
    axes = picture.subplots(1, 2)
    shown = heat(axes[0], prior, PRIOR_MAP, Normalize(0, 1))
    name_panel(axes[0], name, DEEP_PRIOR)
    overlay(axes[1], task.query_image, mask, PRIOR)
    name_panel(axes[1], f"the mask above {threshold:g}", DEEP_PRIOR)
    for panel in axes:
        contour(panel, task.query_mask, TRUTH)
    colour_bar(picture, shown, [axes[0]], "from 0 (no) to 1 (yes)")
    truth = Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison")
    legend(picture, patch(PRIOR, "mask cut from the prior"), truth)
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
    styles = (("-", DEEP_PRIOR), ("--", PRIOR), (":", INK))
    told = []
    for (name, values), (line, colour) in zip(curves.items(), styles, strict=False):
        axes.plot(thresholds.numpy(), 100 * values.numpy(), line, color=colour, linewidth=2.5, label=name)
        told.append(f"{name} is best, {100 * float(values.max()):.0f} %, at {float(thresholds[values.argmax()]):.2f}")
    axes.axvline(0.5, color=TRUTH, linewidth=1.2, label="where SAM 2's memory cuts")
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.set_xlabel("threshold on the prior", fontsize=TEXT, color=INK)
    axes.set_ylabel("mean IoU in percent", fontsize=TEXT, color=INK)
    axes.tick_params(labelsize=SMALL)
    axes.grid(color="#E6E6E6")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False)
    picture.alt = f"{title}: curves over the threshold. {'; '.join(told)}."
    return picture
