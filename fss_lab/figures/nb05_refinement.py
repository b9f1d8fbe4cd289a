"""Figures of memories and of their refinement (Sec. IMR of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.figures.nb04_prompts import SIMILARITY_MAP, principal_colours
from fss_lab.figures.style import (
    DEEP_PRIOR,
    INK,
    PALE,
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


def sharpening_figure() -> Picture:
    """What SAM 2's memory encoder sees of a mask value: 20 sigmoid(20 m - 10) - 10."""
    picture = Picture(6.5, 3.4, "What the memory encoder sees of a soft mask")
    axes = picture.subplots()
    m = torch.linspace(0, 1, 201)
    axes.plot(m.numpy(), (20 * torch.sigmoid(20 * m - 10) - 10).numpy(), color=DEEP_PRIOR, linewidth=2.5)
    for value in (0.3, 0.5, 0.7):
        seen = float(20 * torch.sigmoid(torch.tensor(20 * value - 10)) - 10)
        axes.plot(value, seen, "o", color=DEEP_PRIOR, markersize=7)
        place = (8, -14) if value > 0.4 else (-62, 9)
        axes.annotate(
            f"{value} → {seen:.1f}".replace("-", "−"), (value, seen), place, textcoords="offset points", fontsize=TEXT
        )
    axes.set(xlim=(0, 1), ylim=(-11, 11.5), yticks=[-10, -5, 0, 5, 10])
    axes.set_xlabel("value of the mask or prior, m", fontsize=TEXT, color=INK)
    axes.set_ylabel("what is encoded", fontsize=TEXT, color=INK)
    _plain(picture)
    picture.alt = (
        "A steep curve from −10 to 10: a mask value of 0.3 is encoded as −9.6, 0.5 as 0 and 0.7 as 9.6, so a soft mask "
        "is almost cut at one half."
    )
    return picture


def memories_figure(task: Episode, memories: Sequence[Tensor], priors: Sequence[Tensor]) -> Picture:
    """The three memories in colours, each below the mask that it was made with; last, where the query's two differ.

    memories: Mem_S of the first support, Mem_fg and Mem_d, each (D, h, w). priors: P_fg and P_d, each (h, w).
    """
    picture = Picture(10, 5.7, "Three memories and the masks that they remember")
    axes = picture.subplots(2, 4)
    size = task.query_mask.shape
    overlay(axes[0, 0], task.support_images[0], task.support_masks[0], SUPPORT, width=1)
    for panel, prior in zip(axes[0, 1:3], priors, strict=True):
        shown = heat(panel, prior, PRIOR_MAP, Normalize(0, 1), size)
        contour(panel, task.query_mask, TRUTH, size, width=1)
    names = ("support and mask", "P_fg", "P_d")
    for panel, name, colour in zip(axes[0, :3], names, (SUPPORT, DEEP_PRIOR, DEEP_PRIOR), strict=True):
        name_panel(panel, name, colour)
    overlay(axes[0, 3], task.query_image, task.query_mask, TRUTH, width=1)
    name_panel(axes[0, 3], f"query ({task.class_name})", TRUTH)
    masks = (task.support_masks[0], task.query_mask, task.query_mask)
    for i, (panel, colours) in enumerate(zip(axes[1, :3], principal_colours(*memories), strict=True)):
        bare(panel)
        extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
        panel.imshow(colours.to(torch.uint8).permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")
        contour(panel, masks[i], TRUTH if i else SUPPORT, size, width=1)
        name_panel(panel, ("Mem_S", "Mem_fg", "Mem_d")[i], SUPPORT if i == 0 else DEEP_PRIOR)
    colour_bar(picture, shown, [axes[0, 2]], "prior, 0 to 1")
    change = (memories[1] - memories[2]).norm(dim=0)
    shown = heat(axes[1, 3], change, SIMILARITY_MAP, Normalize(0, max(float(change.max()), 1e-6)), size)
    contour(axes[1, 3], task.query_mask, TRUTH, size, width=1)
    name_panel(axes[1, 3], "Mem_fg − Mem_d", INK)
    colour_bar(picture, shown, [axes[1, 3]], "length of the difference")
    truth = Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison")
    legend(picture, patch(SUPPORT, "support mask"), truth)
    picture.alt = (
        f"Above: the support with its {task.class_name}, and the two priors of the query. Below: the memory of each in "
        "three colours for its three strongest principal components; places with equal colours are remembered alike. "
        "Last, the query and how far its two memories differ."
    )
    return picture


def agreement_figure() -> Picture:
    """Three ways to ask "A and B?", over all pairs of values: max(0, A + B - 1), A B and min(A, B)."""
    picture = Picture(9, 3.5, "How sure must A and B be together?")
    axes = picture.subplots(1, 3)
    a, b = torch.meshgrid(torch.linspace(0, 1, 101), torch.linspace(0, 1, 101), indexing="xy")
    ways = {"max(0, A + B − 1): used here": (a + b - 1).clamp(min=0), "A · B": a * b, "min(A, B)": torch.minimum(a, b)}
    for panel, (name, w) in zip(axes, ways.items(), strict=True):
        shown = panel.imshow(w.numpy(), SIMILARITY_MAP, Normalize(0, 1), origin="lower", extent=(0, 1, 0, 1))
        lines = panel.contour(
            a.numpy(), b.numpy(), w.numpy(), levels=[0.001, 0.25, 0.5, 0.75], colors="white", linewidths=1
        )
        panel.clabel(lines, levels=[0.25, 0.5, 0.75], fontsize=9, inline_spacing=12)
        panel.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        panel.set_xlabel("A", fontsize=TEXT, color=INK)
        panel.tick_params(labelsize=SMALL, length=2)
        name_panel(panel, name, INK)
    axes[0].set_ylabel("B", fontsize=TEXT, color=INK)
    colour_bar(picture, shown, [axes[2]], "weight W")
    picture.alt = (
        "Three maps over A and B from 0 to 1. The sum minus one is zero in the whole lower left triangle; the product "
        "and the minimum are zero only where A or B is zero."
    )
    return picture


def rounds_figure(
    task: Episode, support_similarity: Tensor, prior: Tensor, rounds: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> Picture:
    """What each round of refinement computes.

    support_similarity: A; prior: P_d before; rounds: (B, W, P_d after) of each. All maps (h, w) in 0..1.
    Raises ValueError without a round.
    """
    if not rounds:
        raise ValueError("there is no round to draw; refine at least once")
    columns = len(rounds) + 1
    picture = Picture(min(10, 2.3 * columns + 0.7), 7.3, "Round by round")
    axes = picture.subplots(3, columns)
    size = task.query_mask.shape
    overlay(axes[0, 0], task.query_image, task.query_mask, TRUTH, width=1)
    name_panel(axes[0, 0], f"query ({task.class_name})", TRUTH)
    first = [("A: like the\nsupport's object", support_similarity), ("P_d before", prior)]
    cells = [(axes[row, 0], *first[row - 1], row) for row in (1, 2)]
    for i, maps in enumerate(rounds, start=1):
        names = (f"B, round {i}", f"W, round {i}", f"P_d after round {i}")
        cells += [(axes[row, i], names[row], maps[row], row) for row in range(3)]
    for panel, name, values, row in cells:
        shown = heat(panel, values, PRIOR_MAP if row == 2 else SIMILARITY_MAP, Normalize(0, 1), size)
        contour(panel, task.query_mask, TRUTH, size, width=1)
        name_panel(panel, name, DEEP_PRIOR if row == 2 else INK)
        if panel is axes[row, -1]:
            colour_bar(picture, shown, [panel], ("similarity", "weight", "prior")[row])
    legend(picture, Line2D([], [], color=TRUTH, linewidth=2, label="outline of the truth, for comparison"))
    means = ", ".join(f"{float(maps[1].mean()):.2f}" for maps in rounds)
    picture.alt = (
        f"For a query of the class {task.class_name}: the likeness B to the guess, the weight W and the prior, in "
        f"{len(rounds)} rounds. The mean weight is {means}."
    )
    return picture


def progress_figure(values: Tensor, title: str, label: str) -> Picture:
    """One thin line for each episode over the rounds, and their mean. values: (episodes, rounds + 1) in 0..1."""
    picture = Picture(7, 3.8, title)
    axes = picture.subplots()
    percent, rounds = 100 * values.numpy(), np.arange(values.shape[1])
    for each in percent:
        axes.plot(rounds, each, color=PALE, linewidth=1)
    axes.plot(rounds, percent.mean(0), "o-", color=DEEP_PRIOR, linewidth=3, markersize=8)
    lines = [
        Line2D([], [], color=DEEP_PRIOR, linewidth=3, marker="o", label="mean"),
        Line2D([], [], color=PALE, label="one episode"),
    ]
    axes.set_xticks(rounds, ["before", *map(str, rounds[1:])], fontsize=SMALL)
    axes.set(ylim=(0, 100))
    axes.set_xlabel("rounds of refinement", fontsize=TEXT, color=INK)
    axes.set_ylabel(label, fontsize=TEXT, color=INK)
    _plain(picture)
    legend(picture, *lines)
    means = ", ".join(f"{value:.0f}" for value in percent.mean(0))
    picture.alt = f"{title}: {label} before and after each round, mean of {len(values)} episodes: {means}."
    return picture


def _plain(picture: Picture) -> None:
    """A quiet frame for every chart of the picture."""
    for axes in picture.axes:
        axes.grid(color="#E6E6E6")
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
