"""Figures of notebook 01: numbers in cells, folds, what IoU counts, a query against two prototypes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from fss_lab.datasets.folds import FOLDS
from fss_lab.episode import IGNORE, Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import bare, map_panel, mask_panel, name_panel, symmetric
from fss_lab.figures.prediction import iou, prediction_panel, support_panel, truth_panel
from fss_lab.figures.style import Picture, colour_bar, legend
from fss_lab.toyworld.pictograms import CLASS_NAMES, fold_classes

MISSED = "#F0E442"  # yellow of the same palette: object that the answer left out


def number_grids(grids: Mapping[str, Tensor], title: str, colours: Sequence[str] = ()) -> Picture:
    """Small grids of numbers, to be checked on paper: each cell is as strong as its number, 255 is hatched.

    grids: title -> (h, w), values of 0 or more. colours: one for each grid, default INK.
    Raises InputError for no grids or another number of colours.
    """
    colours = list(colours) or [style.INK] * len(grids)
    if not grids or len(colours) != len(grids):
        raise InputError(f"expected at least one grid and a colour for each, got {len(grids)} and {len(colours)}")
    side = min(2.2, 9.2 / len(grids))
    picture = Picture(max(side * len(grids) + 0.3, 4.5), side + 0.85, title)
    grids = {name: values.detach().cpu().float() for name, values in grids.items()}
    panels = picture.subplots(1, len(grids), squeeze=False)[0]
    for axes, (name, values), colour in zip(panels, grids.items(), colours, strict=True):
        _numbers(axes, values, colour)
        name_panel(axes, name, colour)
    rows = {name: [[float(f"{value:.3g}") for value in row] for row in grid.tolist()] for name, grid in grids.items()}
    numbers = re.sub(r"\.0\b", "", "; ".join(f"{name}: {values}" for name, values in rows.items()))
    picture.alt = f"{title}. Grids of numbers, row by row. {numbers}."
    return picture


def _numbers(axes: Axes, values: Tensor, colour: str) -> None:
    height, width = values.shape
    bare(axes)
    known = values != IGNORE
    strongest = max(float(values[known].max()) if known.any() else 1.0, 1e-6)
    axes.set(xlim=(-0.02, width + 0.02), ylim=(height + 0.02, -0.02), aspect="equal")
    for row in range(height):
        for column in range(width):
            value = float(values[row, column])
            ignored = not known[row, column]
            share = 0 if ignored else 0.75 * max(value, 0) / strongest
            face, hatch = (*to_rgb(colour), share), "///" if ignored else None
            cell = Rectangle((column, row), 1, 1, facecolor=face, edgecolor=style.PALE, linewidth=0.8, hatch=hatch)
            axes.add_patch(cell)
            text = f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
            ink = "white" if share > 0.6 and colour != MISSED else style.INK
            backing = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"} if ignored else None
            x, y = column + 0.5, row + 0.5
            axes.text(x, y, text, ha="center", va="center", fontsize=style.TEXT, color=ink, bbox=backing)


def folds_figure(fold: int) -> Picture:
    """Which classes are novel in which fold, with the chosen fold framed. Raises InputError for another fold."""
    chosen = fold_classes(fold, "novel")
    table = np.zeros((FOLDS, len(CLASS_NAMES)))
    for row in range(FOLDS):
        table[row, list(fold_classes(row, "novel"))] = 1
    picture = Picture(9.5, 2.75, "Four folds: every class is novel exactly once")
    axes = picture.subplots()
    axes.imshow(table, cmap=ListedColormap(["#EEEEEE", style.SUPPORT]), aspect="auto")
    axes.set_xticks(
        range(len(CLASS_NAMES)), CLASS_NAMES, rotation=50, ha="right", rotation_mode="anchor", fontsize=style.SMALL
    )
    axes.set_yticks(range(FOLDS), [f"fold {row}" for row in range(FOLDS)], fontsize=style.TEXT)
    axes.get_yticklabels()[fold].set_fontweight("bold")
    axes.set_xticks(np.arange(1, len(CLASS_NAMES)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, FOLDS) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0, colors=style.INK)
    axes.spines[:].set_visible(False)
    frame = Rectangle((-0.5, fold - 0.5), len(CLASS_NAMES), 1, fill=False, edgecolor="black", linewidth=2.5, zorder=5)
    axes.add_patch(frame).set_clip_on(False)
    legend(
        picture,
        Patch(facecolor=style.SUPPORT, label="novel: kept for testing"),
        Patch(facecolor="#EEEEEE", edgecolor=style.PALE, label="base: seen in training"),
        Patch(facecolor="none", edgecolor="black", linewidth=2, label=f"fold {fold}, used here"),
    )
    picture.alt = (
        f"A table of the twenty classes by four folds. In fold {fold} the novel classes are "
        f"{', '.join(CLASS_NAMES[c] for c in chosen)}; the other fifteen are base classes."
    )
    return picture


def counting_figure(image: Tensor, truth: Tensor, mask: Tensor) -> Picture:
    """What IoU counts: shared, only in the truth, only in the answer, and left out.

    image: (3, H, W) in 0..255. truth: (H, W) of 0, 1 and 255. mask: (H, W) bool.
    """
    mask, truth, image = mask.detach().cpu().bool(), truth.detach().cpu(), image.detach().cpu()
    parts = {
        f"intersection (I): {int((mask & (truth == 1)).sum())} pixels": (style.TRUTH, mask & (truth == 1)),
        f"missed: {int((~mask & (truth == 1)).sum())} pixels": (MISSED, ~mask & (truth == 1)),
        f"too much: {int((mask & (truth == 0)).sum())} pixels": (style.PREDICTION, mask & (truth == 0)),
        "border ring (255), not counted": ("#000000", truth == IGNORE),
    }
    score = iou(mask, truth)
    picture = Picture(9.5, 4.1, f"IoU = I / (I + missed + too much) = {100 * score:.0f} %")
    panels = picture.subplots(1, 3)
    mask_panel(panels[0], image, truth, "truth", style.TRUTH)
    mask_panel(panels[1], image, mask, "prediction", style.PREDICTION)
    pale = 0.6 + 0.4 * image.permute(1, 2, 0).double().mean(-1, keepdim=True).expand(-1, -1, 3) / 255
    for colour, part in parts.values():
        pale[part] = torch.tensor(to_rgb(colour), dtype=pale.dtype)
    bare(panels[2])
    panels[2].imshow(pale.numpy())
    name_panel(panels[2], "what is counted")
    entries = [Patch(facecolor=colour, edgecolor=style.PALE, label=name) for name, (colour, _) in parts.items()]
    legend(picture, *entries)
    picture.alt = (
        "The truth, the prediction, and every pixel by what it counts as: "
        f"{', '.join(parts)}. The IoU is {100 * score:.0f} percent."
    )
    return picture


def prototype_figure(
    episode: Episode, like_object: Tensor, like_background: Tensor, mask: Tensor, margin: float = 0.0
) -> Picture:
    """A query against two prototypes: both similarity maps, their difference, and the mask that follows.

    like_object, like_background: cosines (h, w). mask: (H, W) bool, where their difference exceeds the margin.
    """
    picture = Picture(8.8, 6.9, f"Two prototypes look for the {episode.class_name} (margin {margin:g})")
    axes = picture.subplots(2, 3)
    support_panel(axes[0, 0], episode, width=1.5)
    truth_panel(axes[0, 1], episode, "query and truth", width=1.5)
    score = iou(mask, episode.query_mask)
    prediction_panel(axes[0, 2], episode, mask, f"prediction, IoU {100 * score:.0f} %", width=1.5)
    both = torch.stack([like_object, like_background]).float()
    scale, truth = Normalize(float(both.min()), float(both.max())), episode.query_mask
    map_panel(axes[1, 0], like_object, "like the object, $S_{fg}$", style.PRIOR_MAP, scale, truth, style.DEEP_PRIOR)
    name = "like its background, $S_{bg}$"
    cosines = map_panel(axes[1, 1], like_background, name, style.PRIOR_MAP, scale, truth, style.DEEP_PRIOR)
    change = like_object - like_background
    changes = map_panel(axes[1, 2], change, "$S_{fg} - S_{bg}$", style.DIFFERENCE_MAP, symmetric(change), truth)
    colour_bar(picture, cosines, axes[1, :2], "cosine", below=True)
    colour_bar(picture, changes, axes[1, 2:], "difference: red = more like the object", below=True)
    legend(picture, "support mask", "truth", "prediction")
    picture.alt = (
        f"Support and query of the class {episode.class_name}; maps of how much each query cell is like the support's "
        f"object and like its background; their difference; and the predicted mask with a margin of {margin:g}, IoU "
        f"{100 * score:.0f} percent."
    )
    return picture
