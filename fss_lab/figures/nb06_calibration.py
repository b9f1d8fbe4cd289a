"""Figures of the support's calibration of memory attention (Sec. SCMA of the paper)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.colors import Normalize, PowerNorm
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures import style
from fss_lab.figures.nb04_prompts import SIMILARITY_MAP
from fss_lab.figures.panels import contour, map_panel, mark_cell, name_panel, overlay
from fss_lab.figures.prediction import iou, prediction_panel, truth_panel
from fss_lab.figures.style import Picture, cell_entry, colour_bar, legend, patch, truth_line


def bias_figure() -> Picture:
    """The bias 10 min(0, a + c - 1) over all pairs of a and c."""
    picture = Picture(5.6, 4.2, "Who is silenced: the bias in nats")
    axes = picture.subplots()
    a, c = torch.meshgrid(torch.linspace(0, 1, 101), torch.linspace(0, 1, 101), indexing="xy")
    bias = 10 * (a + c - 1).clamp(max=0)
    drawn = axes.imshow(bias.numpy(), style.DIFFERENCE_MAP, Normalize(-10, 10), origin="lower", extent=(0, 1, 0, 1))
    lines = axes.contour(
        a.numpy(), c.numpy(), bias.numpy(), levels=[-7.5, -5, -2.5], colors="black", linewidths=1, linestyles="solid"
    )
    axes.clabel(lines, fontsize=9)
    axes.text(0.68, 0.75, "no bias", ha="center", fontsize=style.TEXT, color=style.INK)
    axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xlabel("ā: how much this cell wants to look there", fontsize=style.TEXT, color=style.INK)
    axes.set_ylabel("c: how much the key resembles\nthe support's object", fontsize=style.TEXT, color=style.INK)
    axes.tick_params(labelsize=style.SMALL, length=2)
    colour_bar(picture, drawn, [axes], "bias in nats", (-10, 0))
    picture.alt = (
        "A map over ā and c from 0 to 1: in the upper right half, where ā + c exceeds 1, the bias is 0; from the "
        "diagonal it falls to −10 at the lower left corner."
    )
    return picture


def calibration_figure(
    task: Episode,
    cell: tuple[int, int],
    similarity: Tensor,
    confidence: Tensor,
    bias: Tensor,
    before: Tensor,
    after: Tensor,
) -> Picture:
    """One query cell and the query memory: c, its stretched logits, its bias, its attention before and after.

    cell: (row, column) on the grid. similarity, confidence (0..1), bias (-10..0), before, after (attention weights):
    (h, w) each, over the query memory.
    """
    picture = Picture(9, 6.3, "How one cell's look at the query memory is calibrated")
    axes = picture.subplots(2, 3)
    grid, size = bias.shape, task.query_mask.shape
    truth_panel(axes[0, 0], task, "query and\nthe cell that looks")
    mark_cell(axes[0, 0], cell, grid, size)
    both = 100 * torch.stack([before, after]).detach().float()
    attention = PowerNorm(0.5, 0, max(float(both.max()), 1e-6))
    panels = (
        (axes[0, 1], "c: like the support's\nobject", similarity, SIMILARITY_MAP, Normalize(0, 1), "0 to 1"),
        (axes[0, 2], "ā: the cell's logits,\nstretched", confidence, SIMILARITY_MAP, Normalize(0, 1), "0 to 1"),
        (axes[1, 0], "bias", bias, style.DIFFERENCE_MAP, Normalize(-10, 10), "nats"),
        (axes[1, 1], "attention before", both[0], style.ATTENTION_MAP, attention, "percent"),
        (axes[1, 2], "attention after", both[1], style.ATTENTION_MAP, attention, "percent"),
    )
    for panel, name, values, cmap, norm, label in panels:
        drawn = map_panel(panel, values, name, cmap, norm, task.query_mask)
        mark_cell(panel, cell, grid, size)
        colour_bar(picture, drawn, [panel], label, (-10, 0) if values is bias else None)
    legend(picture, patch(style.TRUTH, "truth, for comparison"), cell_entry())
    picture.alt = (
        f"Maps over the query memory for one query cell: c, the stretched logits, the bias (mean "
        f"{float(bias.mean()):.1f}), and the attention before and after, which takes {float(both[0].sum()):.0f} % and "
        f"{float(both[1].sum()):.0f} % of the cell's attention."
    )
    return picture


def trial_figure(task: Episode, planted: Tensor, masks: Mapping[str, Tensor]) -> Picture:
    """A query memory with a planted object, and the mask that comes of it with every bias.

    planted: (H, W) bool, the object of another class that the memory was told besides the truth. masks: by bias, the
    prediction, (H, W) bool.
    """
    columns = (len(masks) + 2) // 2
    picture = Picture(2.65 * columns, 6.2, "An object of another class planted in the memory: which bias silences it?")
    (first, *others) = picture.subplots(2, columns).flat
    overlay(first, task.query_image, planted, style.PRIOR, width=1)
    contour(first, task.query_mask, style.TRUTH)
    name_panel(first, "planted in the\nquery memory", style.DEEP_PRIOR)
    captions = []
    for panel, (name, mask) in zip(others, masks.items(), strict=False):
        score, share = 100 * iou(mask, task.query_mask), 100 * float(mask[planted].float().mean())
        prediction_panel(panel, task, mask, f"{name}\nIoU {score:.0f} %, planted {share:.0f} %")
        contour(panel, planted, style.PRIOR)
        contour(panel, task.query_mask, style.TRUTH)
        captions.append(f"{name} {score:.0f} and {share:.0f} %")
    for panel in others[len(masks) :]:
        panel.set_axis_off()
    legend(picture, truth_line("outline of the truth"), patch(style.PRIOR, "planted object"), "prediction")
    picture.alt = (
        f"The query's {task.class_name} and another object, both remembered as the object; the predictions' IoU with "
        f"the truth, and the share of the planted object in them: {', '.join(captions)}."
    )
    return picture
