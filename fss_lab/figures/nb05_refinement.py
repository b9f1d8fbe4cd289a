"""Figures of memories and of their refinement (Sec. IMR of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

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
from fss_lab.figures.panels import feature_panel, map_panel, mask_panel, name_panel, principal_colours
from fss_lab.figures.prediction import iou, prediction_panel, support_panel, truth_panel
from fss_lab.figures.style import Picture, chart, colour_bar, legend, patch, truth_line


def sharpening_figure() -> Picture:
    """What SAM 2's memory encoder is given for a value of the prior."""
    return mask_code_figure((0.3, 0.5, 0.7), style.DEEP_PRIOR)


def memories_figure(task: Episode, memories: Sequence[Tensor], priors: Sequence[Tensor]) -> Picture:
    """The three memories in colours, each below the mask that it was made with; last, where the query's two differ.

    memories: Mem_S of the first support, Mem_fg and Mem_d, each (D, h, w). priors: P_fg and P_d, each (h, w).
    """
    picture = Picture(8.6, 5, "Three memories and the masks that they remember")
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
    picture = Picture(min(9, 1.95 * columns + 0.7), 6.4, "Round by round")
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


def wound_figure(
    task: Episode, guesses: Mapping[str, tuple[Tensor, Tensor]], masks: Mapping[str, Sequence[Tensor]],
    rounds: Sequence[int],
) -> Picture:  # fmt: skip
    """What is given and what comes of it: a row for each pair of guesses, with the final masks after some rounds.

    guesses: name -> (P_d, P_fg), masks (H, W) bool. masks: name -> final masks after `rounds`, each (H, W) bool.
    """
    picture = Picture(1.3 * (len(rounds) + 2) + 0.4, 1.6 * len(guesses) + 0.85, "A wound, and what IMR makes of it")
    axes = picture.subplots(len(guesses), len(rounds) + 2, squeeze=False)
    words = []
    for row, (name, given) in zip(axes, guesses.items(), strict=True):
        for panel, mask, guess in zip(row, given, ("P_d", "P_fg"), strict=False):
            mask_panel(panel, task.query_image, mask, guess, style.DEEP_PRIOR)
        row[0].set_ylabel(fill(name, 20), fontsize=style.TEXT, color=style.INK)
        scores = []
        for panel, mask, number in zip(row[2:], masks[name], rounds, strict=True):
            score = 100 * iou(mask, task.query_mask)
            plural = "round" if number == 1 else "rounds"
            prediction_panel(panel, task, mask, f"{number} {plural}: {score:.0f} %", outline=True)
            scores.append(f"{score:.0f} % after {number}")
        words.append(f"{name}: {', '.join(scores)}")
    legend(picture, patch(style.DEEP_PRIOR, "guess (given)"), "prediction", truth_line("truth"))
    picture.alt = (
        f"A query ({task.class_name}) whose guess P_d is half of the true object, with two guesses P_fg, and the final "
        f"masks by rounds of refinement. Their IoU: {'; '.join(words)}."
    )
    return picture


Panels = Mapping[str, Mapping[str, Any]]


def by_round_figure(panels: Panels, title: str, large: Panels | None = None) -> Picture:
    """Measures over the rounds of refinement: a panel for each, with a line for each of up to three conditions.

    panels: measure -> condition -> (N, rounds + 1), a value for each episode; not a number where it has none. Values in
    0..1 are drawn in percent where the measure's name says so. large: the same with the means (rounds + 1,) of 400
    episodes of all folds, drawn pale behind.
    """
    picture = Picture(4.6 * len(panels), 3.9, title)
    styles = (("-o", style.DEEP_PRIOR), ("--s", style.PREDICTION), (":^", style.INK))
    lines, words = {}, []
    row = picture.subplots(1, len(panels), squeeze=False)[0]
    for axes, (measure, conditions) in zip(row, panels.items(), strict=True):
        scale = 100 if "percent" in measure else 1
        for (condition, values), (line, colour) in zip(conditions.items(), styles, strict=False):
            means = scale * np.nanmean(values, axis=0)
            rounds = np.arange(len(means))
            if large is not None:
                pale = scale * np.asarray(large[measure][condition])
                axes.plot(np.arange(len(pale)), pale, color=colour, linewidth=7, alpha=0.2)
            (lines[condition],) = axes.plot(rounds, means, line, color=colour, linewidth=2, label=condition)
            words.append(f"{measure}, {condition}: {', '.join(f'{mean:.{0 if scale > 1 else 2}f}' for mean in means)}")
        axes.set_xticks(rounds)
        axes.set_ylim(0, 100 if scale > 1 else None)
        chart(axes, "rounds of refinement", measure)
    entries = [*lines.values()]
    if large is not None:
        entries.append(Line2D([], [], color=style.INK, linewidth=7, alpha=0.2, label="400 episodes of all folds"))
    legend(picture, *entries)
    picture.alt = f"{title}, by round from 0. {'; '.join(words)}."
    return picture
