"""Figures of notebook 02: a clip, what the memory encoder sees and makes, what a cell reads, how tracking goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.figures.prediction import iou
from fss_lab.figures.style import (
    ATTENTION_MAP,
    INK,
    PREDICTION,
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
    mark_cell,
    name_panel,
    overlay,
    patch,
)  # fmt: skip

LINES = (SUPPORT, "#E69F00", PREDICTION, "#56B4E9", TRUTH)
STYLES = ("-", ":", "--", "-", "-.")
WIDTHS = (5, 2.2, 2.2, 1.2, 1.2)  # so that lines on top of each other are all seen


def clip_figure(
    images: Tensor, truths: Tensor, masks: Tensor | None = None, title: str = "A clip", panels: int = 8
) -> Picture:
    """Frames of a clip: the first with the mask that is given, the others with the truth or a prediction.

    images: (T, 3, H, W) in 0..255. truths: (T, H, W) of 0, 1 and 255. masks: (T, H, W) bool, predictions, or None.
    panels: how many frames are shown at most, evenly spread from the first to the last.
    """
    shown = sorted({round(t) for t in np.linspace(0, len(images) - 1, min(panels, len(images)))})
    rows = math.ceil(len(shown) / 4)
    picture = Picture(8.6, 2.25 * rows + 0.75, title)
    told = []
    for t, axes in zip_longest(shown, np.ravel(picture.subplots(rows, 4))):
        if t is None:
            axes.axis("off")
        elif t == 0:
            overlay(axes, images[0], truths[0], SUPPORT)
            name_panel(axes, "frame 0: given", SUPPORT)
        elif masks is None:
            overlay(axes, images[t], truths[t], TRUTH)
            name_panel(axes, f"frame {t}", TRUTH)
        else:
            score = iou(masks[t], truths[t])
            told.append(f"{100 * score:.0f} in frame {t}")
            overlay(axes, images[t], masks[t], PREDICTION)
            contour(axes, truths[t], TRUTH, width=1)
            name_panel(axes, f"frame {t}: IoU {100 * score:.0f} %", PREDICTION)
    entries = [patch(SUPPORT, "mask given"), patch(TRUTH, "truth")]
    legend(picture, *entries, *([] if masks is None else [patch(PREDICTION, "prediction")]))
    picture.alt = f"{title}: {len(shown)} frames in which the same objects move; the mask of one is given in frame 0."
    if told:
        picture.alt += f" The predictions' IoUs in percent: {', '.join(told)}."
    return picture


def mask_code_figure(scale: float = 20.0, bias: float = -10.0) -> Picture:
    """What the memory encoder is given for a mask value M in 0..1: 20 sigmoid(20 M - 10) - 10, nearly a step."""
    picture = Picture(6.5, 3.3, "A soft mask is almost cut at 0.5")
    axes = picture.subplots()
    m = torch.linspace(0, 1, 201)
    axes.plot(m, scale * torch.sigmoid(20 * m - 10) + bias, color=SUPPORT, linewidth=2.5)
    for value in (0.4, 0.5, 0.6):
        code = float(scale * torch.sigmoid(torch.tensor(20 * value - 10)) + bias)
        axes.plot(value, code, "o", color=SUPPORT, markersize=7)
        axes.annotate(f"{value:g} → {code:.1f}", (value, code), (8, -4), textcoords="offset points", fontsize=TEXT)
    axes.set_xlabel("mask value M", fontsize=TEXT, color=INK)
    axes.set_ylabel("what the encoder is given", fontsize=TEXT, color=INK)
    axes.set(xlim=(0, 1), yticks=[-10, 0, 10])
    _plain(axes)
    picture.alt = (
        "A curve from -10 at mask value 0 to 10 at mask value 1 with a steep step at 0.5: 0.4 becomes -7.6, "
        "0.5 becomes 0, 0.6 becomes 7.6."
    )
    return picture


def memory_figure(image: Tensor, mask: Tensor, features: Tensor, memory: Tensor, empty: Tensor) -> Picture:
    """What the memory encoder makes of features and a mask; vectors are shown as colours, like vectors alike.

    image: (3, H, W). mask: (H, W). features: (C, h, w). memory: (D, h, w). empty: the memory of the same image with an
    empty mask, (D, h, w).
    """
    size = image.shape[-2:]
    picture = Picture(9.5, 3.5, "A memory is the image, fused with the mask")
    axes = picture.subplots(1, 4)
    overlay(axes[0], image, mask, SUPPORT)
    name_panel(axes[0], "image and mask", SUPPORT)
    for panel, values, name in ((axes[1], features, "features F"), (axes[2], memory, "memory Mem")):
        bare(panel)
        panel.imshow(vector_colours(values), extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5), interpolation="nearest")
        name_panel(panel, f"{name}\n{' × '.join(map(str, values.shape))}", INK)
    change = (memory - empty).norm(dim=0)
    shown = heat(axes[3], change, PRIOR_MAP, Normalize(0, max(float(change.max()), 1e-6)), size)
    name_panel(axes[3], "what the mask\nchanged", INK)
    colour_bar(picture, shown, [axes[3]], "length of the difference")
    for panel in axes[1:]:
        contour(panel, mask, SUPPORT, size, width=1)
    legend(picture, patch(SUPPORT, "mask"))
    inside = torch.nn.functional.adaptive_avg_pool2d((mask == 1).float()[None, None], change.shape[-2:])[0, 0]
    share = float((change.cpu() * inside.cpu()).sum() / change.sum().clamp(min=1e-6))
    picture.alt = (
        "Four panels: the image with its mask; the grid of features and the grid of memory vectors, as colours; and "
        f"how much the mask changed each memory vector: {100 * share:.0f} percent of the change is inside the object."
    )
    return picture


def vector_colours(values: Tensor) -> np.ndarray:
    """(C, h, w), C at least 3, to RGB (h, w, 3) in 0..1: the three principal components, each stretched to 0..1."""
    vectors = values.detach().float().cpu().flatten(1).T  # N, C
    vectors = vectors - vectors.mean(0)
    directions = torch.linalg.svd(vectors, full_matrices=False).Vh[:3]  # 3, C
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    parts = vectors @ (directions * largest.sign()).T  # N, 3; the sign of a component is arbitrary otherwise
    low, high = parts.amin(0), parts.amax(0)
    return ((parts - low) / (high - low).clamp(min=1e-6)).reshape(*values.shape[1:], 3).numpy()


def reading_figure(
    image: Tensor, truth: Tensor, cell: tuple[int, int], weights: Tensor, memory_image: Tensor, memory_mask: Tensor,
    name: str = "",
) -> Picture:  # fmt: skip
    """Which cells of the remembered frame one cell of the current frame reads.

    cell: (row, column) on the grid. weights: (h, w), its attention to the memory's cells; they may sum to less than 1.
    """
    size, grid = image.shape[-2:], weights.shape
    inside = torch.nn.functional.adaptive_avg_pool2d((memory_mask == 1).float()[None, None], (grid[0], grid[1]))[0, 0]
    share = float((weights.cpu() * (inside > inside.max() / 2).cpu()).sum())  # thin objects fill no cell
    picture = Picture(9.3, 3.75, f"What one cell reads{f' ({name})' if name else ''}")
    axes = picture.subplots(1, 3)
    overlay(axes[0], image, truth, TRUTH)
    mark_cell(axes[0], cell, grid, size)
    name_panel(axes[0], "current frame", TRUTH)
    overlay(axes[1], memory_image, memory_mask, SUPPORT)
    name_panel(axes[1], "remembered frame", SUPPORT)
    shown = heat(axes[2], 100 * weights, ATTENTION_MAP, PowerNorm(0.5, 0, 100 * float(weights.max())), size)
    contour(axes[2], memory_mask, SUPPORT, size, width=1)
    name_panel(axes[2], f"{100 * share:.0f} % on the object's cells", INK)
    colour_bar(picture, shown, [axes[2]], "attention in percent")
    legend(
        picture,
        patch(TRUTH, "truth"),
        patch(SUPPORT, "remembered mask"),
        Line2D([], [], color="white", marker="s", markersize=8, markeredgecolor="black", linestyle="none",
               label="the cell that reads"),
    )  # fmt: skip
    picture.alt = (
        f"The current frame with the cell at row {cell[0]}, column {cell[1]}; the remembered frame with its mask; and "
        f"how the cell spreads its attention over the remembered frame: {100 * share:.0f} percent on the object."
    )
    return picture


def tracks_figure(tracks: Mapping[str, Sequence[float]], title: str = "How long does the memory hold") -> Picture:
    """IoU in each frame, one line for each kind of memory.

    tracks: name -> T scores in 0..1, the first one being the given mask's. Raises ValueError for no tracks.
    """
    if not tracks:
        raise ValueError("there are no tracks to draw")
    picture = Picture(8.5, 3.9, title)
    axes = picture.subplots()
    told = []
    for i, (name, scores) in enumerate(tracks.items()):
        shown = [100 * float(score) for score in scores]
        colour, style, width = LINES[i % len(LINES)], STYLES[i % len(STYLES)], WIDTHS[i % len(WIDTHS)]
        axes.plot(range(len(shown)), shown, color=colour, linestyle=style, linewidth=width, label=name)
        told.append(f"{name}: {', '.join(f'{value:.0f}' for value in shown)}")
    axes.set_xlabel("frame (the mask is given in frame 0)", fontsize=TEXT, color=INK)
    axes.set_ylabel("IoU in percent", fontsize=TEXT, color=INK)
    lowest = min(100 * float(score) for scores in tracks.values() for score in scores)
    axes.set(ylim=(max(0, 10 * math.floor(lowest / 10) - 10), 102), xticks=range(len(shown)))
    _plain(axes)
    legend(picture, *axes.lines)
    picture.alt = f"{title}. IoU in percent by frame. {'; '.join(told)}."
    return picture


def _plain(axes: Axes) -> None:
    axes.grid(color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, colors=INK)
