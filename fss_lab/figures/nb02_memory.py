"""Figures of notebook 02: a clip, what the memory encoder sees and makes, what a cell reads, how tracking goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
import torch
from matplotlib.colors import Normalize, PowerNorm
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import contour, feature_panel, heat, mark_cell, mask_panel, name_panel, principal_colours
from fss_lab.figures.prediction import coverage, iou
from fss_lab.figures.style import Picture, cell_entry, chart, colour_bar, legend, patch

LINES = (style.SUPPORT, "#E69F00", style.PREDICTION, "#56B4E9", style.TRUTH)
DASHES = ("-", ":", "--", "-", "-.")
WIDTHS = (5, 2.2, 2.2, 1.2, 1.2)  # so that lines on top of each other are all seen


def clip_figure(
    images: Tensor, truths: Tensor, masks: Tensor | None = None, title: str = "A clip", panels: int = 8
) -> Picture:
    """Frames of a clip: the first with the mask that is given, the others with the truth or a prediction.

    images: (T, 3, H, W) in 0..255. truths: (T, H, W) of 0, 1 and 255. masks: (T, H, W) bool, predictions, or None.
    panels: how many frames are shown at most, evenly spread from the first to the last.
    """
    times = sorted({round(t) for t in np.linspace(0, len(images) - 1, min(panels, len(images)))})
    rows = math.ceil(len(times) / 4)
    picture = Picture(8.6, 2.25 * rows + 0.75, title)
    scores = []
    for t, axes in zip_longest(times, np.ravel(picture.subplots(rows, 4))):
        if t is None:
            axes.axis("off")
        elif t == 0:
            mask_panel(axes, images[0], truths[0], "frame 0: given", style.SUPPORT)
        elif masks is None:
            mask_panel(axes, images[t], truths[t], f"frame {t}", style.TRUTH)
        else:
            score = iou(masks[t], truths[t])
            scores.append(f"{100 * score:.0f} in frame {t}")
            mask_panel(axes, images[t], masks[t], f"frame {t}: IoU {100 * score:.0f} %", style.PREDICTION)
            contour(axes, truths[t], style.TRUTH, width=1)
    entries = [patch(style.SUPPORT, "mask given"), patch(style.TRUTH, "truth")]
    legend(picture, *entries, *([] if masks is None else ["prediction"]))
    picture.alt = f"{title}: {len(times)} frames in which the same objects move; the mask of one is given in frame 0."
    if scores:
        picture.alt += f" The predictions' IoUs in percent: {', '.join(scores)}."
    return picture


def mask_code_figure(values: Sequence[float] = (0.4, 0.5, 0.6), colour: str = style.SUPPORT) -> Picture:
    """What the memory encoder is given for a mask value M in 0..1: 20 sigmoid(20 M - 10) - 10, nearly a step.

    values: of M, that are marked with what becomes of them.
    """
    picture = Picture(6.5, 3.3, "A soft mask is pushed apart at 0.5")
    axes = picture.subplots()
    m = torch.linspace(0, 1, 201)
    axes.plot(m, _mask_code(m), color=colour, linewidth=2.5)
    marks = []
    for value, code in zip(values, _mask_code(torch.tensor(values)).tolist(), strict=True):
        axes.plot(value, code, "o", color=colour, markersize=7)
        marks.append(f"{value:g} → {code:.1f}".replace("-", "−"))
        place = (8, -14) if code > -5 else (-62, 9)
        axes.annotate(marks[-1], (value, code), place, textcoords="offset points", fontsize=style.TEXT)
    axes.set(xlim=(0, 1), ylim=(-11, 11.5), yticks=[-10, -5, 0, 5, 10])
    chart(axes, "mask value M", "what the encoder is given")
    picture.alt = f"A curve from −10 at mask value 0 to 10 at mask value 1, steep at 0.5: {', '.join(marks)}."
    return picture


def _mask_code(values: Tensor) -> Tensor:
    return 20 * torch.sigmoid(20 * values - 10) - 10


def memory_figure(image: Tensor, mask: Tensor, features: Tensor, memory: Tensor, empty: Tensor) -> Picture:
    """What the memory encoder makes of features and a mask; vectors are shown as colours, like vectors alike.

    image: (3, H, W). mask: (H, W). features: (C, h, w). memory: (D, h, w). empty: the memory of the same image with an
    empty mask, (D, h, w).
    """
    picture = Picture(9.5, 3.5, "A memory is the image, fused with the mask")
    axes = picture.subplots(1, 4)
    mask_panel(axes[0], image, mask, "image and mask", style.SUPPORT)
    for panel, values, name in ((axes[1], features, "features F"), (axes[2], memory, "memory Mem")):
        name = f"{name}\n{' × '.join(map(str, values.shape))}"
        feature_panel(panel, principal_colours(values)[0], name, mask, style.SUPPORT)
    change = (memory - empty).norm(dim=0)
    lengths = heat(axes[3], change, style.PRIOR_MAP, Normalize(0, max(float(change.max()), 1e-6)), mask.shape)
    contour(axes[3], mask, style.SUPPORT, mask.shape, width=1)
    name_panel(axes[3], "what the mask\nchanged")
    colour_bar(picture, lengths, [axes[3]], "length of the difference")
    legend(picture, patch(style.SUPPORT, "mask"))
    inside = coverage(mask, change.shape)
    share = float((change.cpu() * inside.cpu()).sum() / change.sum().clamp(min=1e-6))
    picture.alt = (
        "Four panels: the image with its mask; the grid of features and the grid of memory vectors, as colours; and "
        f"how much the mask changed each memory vector: {100 * share:.0f} percent of the change is inside the object."
    )
    return picture


def reading_figure(
    image: Tensor, truth: Tensor, cell: tuple[int, int], weights: Tensor, memory_image: Tensor, memory_mask: Tensor,
    name: str = "",
) -> Picture:  # fmt: skip
    """Which cells of the remembered frame one cell of the current frame reads.

    cell: (row, column) on the grid. weights: (h, w), its attention to the memory's cells; they may sum to less than 1.
    """
    size, grid = image.shape[-2:], weights.shape
    inside = coverage(memory_mask, grid)
    share = float((weights.cpu() * (inside > inside.max() / 2).cpu()).sum())  # thin objects fill no cell
    picture = Picture(9.3, 3.75, f"What one cell reads{f' ({name})' if name else ''}")
    axes = picture.subplots(1, 3)
    mask_panel(axes[0], image, truth, "current frame", style.TRUTH)
    mark_cell(axes[0], cell, grid, size)
    mask_panel(axes[1], memory_image, memory_mask, "remembered frame", style.SUPPORT)
    percent = heat(axes[2], 100 * weights, style.ATTENTION_MAP, PowerNorm(0.5, 0, 100 * float(weights.max())), size)
    contour(axes[2], memory_mask, style.SUPPORT, size, width=1)
    name_panel(axes[2], f"{100 * share:.0f} % on the object's cells")
    colour_bar(picture, percent, [axes[2]], "attention in percent")
    legend(picture, "truth", patch(style.SUPPORT, "remembered mask"), cell_entry("the cell that reads"))
    picture.alt = (
        f"The current frame with the cell at row {cell[0]}, column {cell[1]}; the remembered frame with its mask; and "
        f"how the cell spreads its attention over the remembered frame: {100 * share:.0f} percent on the object."
    )
    return picture


def tracks_figure(tracks: Mapping[str, Sequence[float]], title: str = "How long does the memory hold") -> Picture:
    """IoU in each frame, one line for each kind of memory.

    tracks: name -> T scores in 0..1, the first one being the given mask's. Raises InputError for no tracks.
    """
    if not tracks:
        raise InputError("there are no tracks to draw")
    picture = Picture(8.5, 3.9, title)
    axes = picture.subplots()
    captions = []
    for i, (name, scores) in enumerate(tracks.items()):
        percent = [100 * float(score) for score in scores]
        colour, dashes, width = LINES[i % len(LINES)], DASHES[i % len(DASHES)], WIDTHS[i % len(WIDTHS)]
        axes.plot(range(len(percent)), percent, color=colour, linestyle=dashes, linewidth=width, label=name)
        captions.append(f"{name}: {', '.join(f'{value:.0f}' for value in percent)}")
    lowest = min(100 * float(score) for scores in tracks.values() for score in scores)
    axes.set(ylim=(max(0, 10 * math.floor(lowest / 10) - 10), 102), xticks=range(len(percent)))
    chart(axes, "frame (the mask is given in frame 0)", "IoU in percent")
    legend(picture, *axes.lines)
    picture.alt = f"{title}. IoU in percent by frame. {'; '.join(captions)}."
    return picture
