"""Figures of notebook 08: what memory attention looks at, before and after the support's calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import map_panel, mark_cell, name_panel, symmetric
from fss_lab.figures.prediction import coverage, memory_maps, object_cells, support_map_panel, truth_panel
from fss_lab.figures.style import Picture, chart, colour_bar, legend, patch
from fss_lab.method.trace import Trace
from fss_lab.metrics import separation

PARTS = {"support memory": style.SUPPORT, "query memory": style.PRIOR, "pointers": style.INK}


def masses_figure(masses: Mapping[str, Tensor], title: str = "Who gets the attention?") -> Picture:
    """How much attention each part of the memory gets, layer by layer, before and after calibration.

    masses: by kind of query cell, (layers, 2, 3): before and after; support memory, query memory, pointers; in 0..1.
    Raises InputError for none.
    """
    if not masses:
        raise InputError("there are no masses to draw")
    picture = Picture(9.5, 3.9, title)
    captions = []
    for axes, (kind, values) in zip(picture.subplots(1, len(masses), squeeze=False)[0], masses.items(), strict=True):
        shares = 100 * values.detach().float().cpu().flatten(0, 1).numpy()  # 2 layers, 3
        names = [f"layer {n // 2 + 1}, {('before', 'after')[n % 2]}" for n in range(len(shares))]
        left = np.zeros(len(shares))
        for part, (name, colour) in enumerate(PARTS.items()):
            axes.barh(names, shares[:, part], left=left, color=colour, alpha=0.75, height=0.7)
            for row, share in enumerate(shares[:, part]):
                if share >= 7:
                    middle = left[row] + share / 2
                    ink = style.INK if colour == style.PRIOR else "white"
                    axes.text(middle, row, f"{share:.0f}", color=ink, ha="center", va="center", fontsize=style.SMALL)
            left += shares[:, part]
            captions.append(f"{kind}, {name}: {', '.join(f'{share:.0f}' for share in shares[:, part])}")
        axes.invert_yaxis()
        axes.set(xlim=(0, 100))
        chart(axes, "attention in percent", grid="x")
        name_panel(axes, kind)
        if not axes.get_subplotspec().is_first_col():
            axes.set_yticklabels([])
    legend(picture, *(Patch(color=colour, alpha=0.75, label=name) for name, colour in PARTS.items()))
    picture.alt = f"{title} In percent, for each layer before and after calibration: {'; '.join(captions)}."
    return picture


def cells_figure(episode: Episode, trace: Trace, cells: Mapping[str, tuple[int, int]], layer: int = -1) -> Picture:
    """Where some cells of the query look, after calibration, in one layer; one row for each cell.

    cells: name -> (row, column) on the memory grid. layer: -1 is the last. Several shots share one map.
    Raises InputError for no cells, and what `memory_maps` raises.
    """
    if not cells:
        raise InputError("there are no cells to draw")
    maps = [memory_maps(trace, layer, cell) for cell in cells.values()]
    number = layer % len(trace.layers) + 1
    picture = Picture(8.2, 1.2 + 2.35 * len(cells), f"Where {len(cells)} cells look (layer {number})")
    captions = []
    rows = picture.subplots(len(cells), 3, squeeze=False)
    for row, (name, cell), (supports, queries, _) in zip(rows, cells.items(), maps, strict=True):
        support, query = supports[1], queries[1]
        norm = PowerNorm(0.5, 0, float(torch.stack([support, query]).max()))
        truth_panel(row[0], episode, name)
        mark_cell(row[0], cell, query.shape, episode.query_mask.shape)
        support_map_panel(row[1], episode, support, f"support memory, {float(support.sum()):.0f} %", norm)
        title = f"query memory, {float(query.sum()):.0f} %"
        drawn = map_panel(row[2], query, title, style.ATTENTION_MAP, norm, episode.query_mask, style.DEEP_PRIOR)
        mark_cell(row[2], cell, query.shape, episode.query_mask.shape)
        colour_bar(picture, drawn, [row[2]], "weight in percent")
        captions.append(f"{name}: {float(support.sum()):.0f} % and {float(query.sum()):.0f} %")
    outlines = [patch(style.SUPPORT, "support's object")] if episode.shots == 1 else []
    legend(picture, *outlines, patch(style.TRUTH, "truth, hidden from the model"))
    picture.alt = (
        f"Attention of single query cells in layer {number} as maps over the support memory and the query memory; what "
        f"these two get: {'; '.join(captions)}."
    )
    return picture


def calibration_figure(episode: Episode, trace: Trace) -> Picture:
    """What SCMA does in each layer to the attention of the query's object (Sec. SCMA of the paper).

    One row for each layer: c; the mean bias that the object's cells apply to each cell of the query memory; the
    attention that they give it before; and what changed. Mean over the heads.
    Raises InputError for a trace without calibration, or a query without object.
    """
    if any(layer.calibration is None for layer in trace.layers):
        raise InputError('this trace has no calibration; trace a model with calibration="corrected"')
    grid = trace.support_masks_attention.shape[-2:]
    covered = coverage(episode.query_mask, grid).flatten()  # N
    inside = object_cells(episode.query_mask, grid)
    if not covered.any():
        raise InputError("the query shows no object, so none of its cells can be looked at")
    shares = covered / covered.sum()
    count = len(trace.layers)
    picture = Picture(9.5, 1.0 + 1.75 * count, "Calibration, seen from the cells of the object")
    captions = []
    for number, (row, layer) in enumerate(zip(picture.subplots(count, 4, squeeze=False), trace.layers, strict=True)):
        similarity = layer.calibration[0].mean(0).detach().float().cpu()  # type: ignore[index]  # checked above
        bias = layer.bias[0].mean(0)[:, layer.columns.query].detach().float().cpu()  # N, N
        both = torch.stack([layer.attention_before[0], layer.attention[0]]).mean(1).detach().float().cpu()  # 2, N, L
        before, after = 100 * shares @ both[..., layer.columns.query]  # N each
        change, apart = after - before, math.nan if inside.all() else separation(similarity, inside)
        maps: list[tuple[str, Tensor, str | Colormap, Normalize, str]] = [
            (f"c: separation {apart:.2f}", similarity, style.PRIOR_MAP, Normalize(0, 1), "from 0 to 1"),
            ("mean bias", shares @ bias, "Blues_r", Normalize(-10, 0), "nats"),
            ("attention before", before, style.ATTENTION_MAP, PowerNorm(0.5, 0, float(before.max())), "percent"),
            ("after minus before", change, style.DIFFERENCE_MAP, symmetric(change), "points"),
        ]
        for axes, (name, values, cmap, norm, unit) in zip(row, maps, strict=True):
            heading = name if number == 0 or values is similarity else ""
            drawn = map_panel(axes, values.reshape(grid), heading, cmap, norm, episode.query_mask)
            colour_bar(picture, drawn, [axes], unit)
        row[0].set_ylabel(f"layer {number + 1}", fontsize=style.TEXT, color=style.INK)
        attention = f"{float(before.sum()):.1f} % before, {float(after.sum()):.1f} % after"
        captions.append(f"layer {number + 1}: {attention}; c separates by {apart:.2f}")
    legend(picture, patch(style.TRUTH, "truth, hidden from the model"))
    picture.alt = (
        "Maps over the query memory for each layer: the similarity c to the support, the mean bias, the attention of "
        f"the object's cells before calibration and its change. The query memory gets {'; '.join(captions)}."
    )
    return picture


def influence_figure(masses: Mapping[str, float], losses: Mapping[str, float]) -> Picture:
    """How much attention each part gets, beside what is lost when the part is hidden.

    masses: by part, in 0..1; losses: by the same parts, IoU with all minus IoU without the part, in -1..1.
    Raises InputError for none or other names.
    """
    if not masses or masses.keys() != losses.keys():
        raise InputError(f"expected the same parts twice, got {list(masses)} and {list(losses)}")
    picture = Picture(9, 3.3, "Looked at, and needed")
    captions = []
    charts = {"attention in percent": masses, "points of IoU lost": losses}
    for axes, (name, values) in zip(picture.subplots(1, 2), charts.items(), strict=True):
        shares = [100 * value for value in values.values()]
        axes.barh(list(values), shares, color=[PARTS.get(part, style.INK) for part in values], alpha=0.75, height=0.6)
        axes.axvline(0, color=style.INK, linewidth=1)
        for row, share in enumerate(shares):
            axes.annotate(f"{round(share)}", (max(share, 0), row), (4, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.margins(x=0.15)
        chart(axes, name, grid="x")
        captions.append(
            f"{name}: {', '.join(f'{part} {share:.0f}' for part, share in zip(values, shares, strict=True))}"
        )
    name_panel(picture.axes[0], "how much it is looked at")
    name_panel(picture.axes[1], "what is lost without it")
    picture.axes[1].set_yticklabels([])
    picture.alt = f"Attention and influence of the parts of the memory. {'; '.join(captions)}."
    return picture


def background_figure(shares: Mapping[str, Sequence[tuple[float, float]]], title: str) -> Picture:
    """Attention of the object's cells on background of the query memory: a line from before to after, by episode.

    shares: by what counts as background, a panel each: (before, after) of each episode, in 0..1. Raises InputError for
    none.
    """
    if not shares or not all(map(len, shares.values())):
        raise InputError("there are no episodes to draw")
    picture = Picture(4.6 * len(shares), 3.9, title)
    captions = []
    for axes, (name, pairs) in zip(picture.subplots(1, len(shares), squeeze=False)[0], shares.items(), strict=True):
        before, after = 100 * np.asarray(pairs, dtype=float).T
        axes.plot([0, 1], [before, after], "-o", color=style.PALE, markersize=4, linewidth=1)
        axes.plot([0, 1], [before.mean(), after.mean()], "-o", color=style.PREDICTION, markersize=9, linewidth=3)
        axes.set_xticks([0, 1], ["before the bias", "after it"])
        axes.set(xlim=(-0.3, 1.3), ylim=(0, 1.1 * max(before.max(), after.max(), 1e-6)))
        chart(axes, y="attention in percent", grid="y")
        name_panel(axes, name)
        captions.append(f"{name}: mean {before.mean():.1f} % before and {after.mean():.1f} % after")
    legend(
        picture,
        Line2D([], [], color=style.PALE, marker="o", label="one episode"),
        Line2D([], [], color=style.PREDICTION, marker="o", linewidth=3, label="mean"),
    )
    picture.alt = f"{title}. {'; '.join(captions)}."
    return picture
