"""Figures of memories and of their refinement (Sec. IMR of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.nb02_memory import mask_code_figure
from fss_lab.figures.nb04_prompts import SIMILARITY_MAP
from fss_lab.figures.panels import feature_panel, map_panel, name_panel, principal_colours
from fss_lab.figures.prediction import support_panel, truth_panel
from fss_lab.figures.style import Picture, chart, colour_bar, legend, truth_line


def sharpening_figure() -> Picture:
    """What SAM 2's memory encoder is given for a value of the prior."""
    return mask_code_figure((0.3, 0.5, 0.7), style.DEEP_PRIOR)


def memories_figure(task: Episode, memories: Sequence[Tensor], priors: Sequence[Tensor]) -> Picture:
    """The three memories in colours, each below the mask that it was made with; last, where the query's two differ.

    memories: Mem_S of the first support, Mem_fg and Mem_d, each (D, h, w). priors: P_fg and P_d, each (h, w).
    """
    picture = Picture(10, 5.7, "Three memories and the masks that they remember")
    axes = picture.subplots(2, 4)
    support_panel(axes[0, 0], task, "support and mask")
    for panel, prior, name in zip(axes[0, 1:3], priors, ("P_fg", "P_d"), strict=True):
        drawn = map_panel(panel, prior, name, style.PRIOR_MAP, Normalize(0, 1), task.query_mask, style.DEEP_PRIOR)
    truth_panel(axes[0, 3], task)
    support_memory, *query_memories = principal_colours(*memories)
    feature_panel(axes[1, 0], support_memory, "Mem_S", task.support_masks[0], style.SUPPORT, style.SUPPORT)
    for panel, colours, name in zip(axes[1, 1:3], query_memories, ("Mem_fg", "Mem_d"), strict=True):
        feature_panel(panel, colours, name, task.query_mask, style.TRUTH, style.DEEP_PRIOR)
    colour_bar(picture, drawn, [axes[0, 2]], "prior, 0 to 1")
    change = (memories[1] - memories[2]).norm(dim=0)
    scale = Normalize(0, max(float(change.max()), 1e-6))
    lengths = map_panel(axes[1, 3], change, "Mem_fg − Mem_d", SIMILARITY_MAP, scale, task.query_mask)
    colour_bar(picture, lengths, [axes[1, 3]], "length of the difference")
    legend(picture, "support mask", truth_line())
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
        drawn = panel.imshow(w.numpy(), SIMILARITY_MAP, Normalize(0, 1), origin="lower", extent=(0, 1, 0, 1))
        lines = panel.contour(
            a.numpy(), b.numpy(), w.numpy(), levels=[0.001, 0.25, 0.5, 0.75], colors="white", linewidths=1
        )
        panel.clabel(lines, levels=[0.25, 0.5, 0.75], fontsize=9, inline_spacing=12)
        panel.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        panel.set_xlabel("A", fontsize=style.TEXT, color=style.INK)
        panel.tick_params(labelsize=style.SMALL, length=2)
        name_panel(panel, name)
    axes[0].set_ylabel("B", fontsize=style.TEXT, color=style.INK)
    colour_bar(picture, drawn, [axes[2]], "weight W")
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
    Raises InputError without a round.
    """
    if not rounds:
        raise InputError("there is no round to draw; refine at least once")
    columns = len(rounds) + 1
    picture = Picture(min(10, 2.3 * columns + 0.7), 7.3, "Round by round")
    axes = picture.subplots(3, columns)
    truth_panel(axes[0, 0], task)
    first = [("A: like the\nsupport's object", support_similarity), ("P_d before", prior)]
    cells = [(axes[row, 0], *first[row - 1], row) for row in (1, 2)]
    for i, maps in enumerate(rounds, start=1):
        names = (f"B, round {i}", f"W, round {i}", f"P_d after round {i}")
        cells += [(axes[row, i], names[row], maps[row], row) for row in range(3)]
    for panel, name, values, row in cells:
        cmap, colour = (style.PRIOR_MAP, style.DEEP_PRIOR) if row == 2 else (SIMILARITY_MAP, style.INK)
        drawn = map_panel(panel, values, name, cmap, Normalize(0, 1), task.query_mask, colour)
        if panel is axes[row, -1]:
            colour_bar(picture, drawn, [panel], ("similarity", "weight", "prior")[row])
    legend(picture, truth_line())
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
    axes.plot(rounds, percent.T, color=style.PALE, linewidth=1)
    axes.plot(rounds, percent.mean(0), "o-", color=style.DEEP_PRIOR, linewidth=3, markersize=8)
    lines = [
        Line2D([], [], color=style.DEEP_PRIOR, linewidth=3, marker="o", label="mean"),
        Line2D([], [], color=style.PALE, label="one episode"),
    ]
    axes.set_xticks(rounds, ["before", *map(str, rounds[1:])], fontsize=style.SMALL)
    axes.set(ylim=(0, 100))
    chart(axes, "rounds of refinement", label)
    legend(picture, *lines)
    means = ", ".join(f"{value:.0f}" for value in percent.mean(0))
    picture.alt = f"{title}: {label} before and after each round, mean of {len(values)} episodes: {means}."
    return picture
