"""Figures of one episode: its images and masks, its priors, its attention, all of it in one strip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fss_lab import metrics
from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import contour, heat, map_panel, mark_cell, mask_panel, name_panel, symmetric
from fss_lab.figures.style import Picture, cell_entry, chart, colour_bar, legend, patch, truth_line
from fss_lab.method import Prediction
from fss_lab.method.trace import Trace
from fss_lab.metrics import coverage


def support_panel(axes: Axes, episode: Episode, name: str | None = None, width: float = 1.0, shot: int = 0) -> None:
    """One support with its mask. name: default its number, if there are several."""
    number = f" {shot + 1} of {episode.shots}" if episode.shots > 1 else ""
    mask_panel(axes, episode.support_images[shot], episode.support_masks[shot], name or f"support{number}", width=width)


def truth_panel(axes: Axes, episode: Episode, name: str | None = None, width: float = 1.0) -> None:
    """The query with its own mask. name: default the class."""
    name = f"query ({episode.class_name})" if name is None else name
    mask_panel(axes, episode.query_image, episode.query_mask, name, style.TRUTH, width)


def prediction_panel(
    axes: Axes, episode: Episode, mask: Tensor, name: str, width: float = 1.0, outline: bool = False
) -> None:
    """The query with a predicted mask (H, W). outline: draw that of the truth below it."""
    if outline:
        contour(axes, episode.query_mask, style.TRUTH, width=width)
    mask_panel(axes, episode.query_image, mask, name, style.PREDICTION, width)


def object_cells(mask: Tensor, grid: Sequence[int]) -> Tensor:
    """The cells of a grid (h, w) that belong to the object: it covers them at least half as much as its fullest cell.

    mask: (H, W), the object where it is 1. Returns (h, w) bool; all false without an object.
    """
    covered = coverage(mask, grid)
    return (covered >= covered.max() / 2) & (covered > 0)


def central_cell(mask: Tensor, grid: int = 16) -> tuple[int, int]:
    """(row, column) of the grid cell deepest inside the object: covered by it, and near its centre.

    mask: (H, W), 1 where the object is. Raises InputError if there is no object.
    """
    covered = coverage(mask, (grid, grid))
    if not covered.any():
        raise InputError("the mask shows no object (value 1), so it has no central cell")
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    row, column = ((covered * places).sum() / covered.sum() for places in (rows, columns))
    distance = ((rows - row) ** 2 + (columns - column) ** 2).masked_fill(covered < 0.999 * covered.max(), math.inf)
    return divmod(int(distance.argmin()), grid)


def episode_figure(episode: Episode, prediction: Prediction | Tensor | None = None) -> Picture:
    """Supports with their masks, the query with its own mask, and the prediction beside it.

    prediction: a `Prediction`, a mask (H, W) of bool or 0/1, or None for an episode that is still unsolved.
    """
    mask = prediction.mask if isinstance(prediction, Prediction) else prediction
    shots = len(episode.support_images)
    rows = 1 if shots == 1 else 2
    columns = math.ceil(shots / rows)
    queries = 1 if mask is None else 2
    side = min(3.3, 9.0 / (columns / rows + queries))
    task = f"Find the {episode.class_name}: {shots}-shot episode"
    picture = Picture(side * (columns / rows + queries) + 0.3, side + 1.15, task)
    grid = picture.add_gridspec(rows, columns + rows * queries)
    for shot in range(shots):
        axes = picture.add_subplot(grid[shot // columns, shot % columns], anchor="N")
        support_panel(axes, episode, "support" if shots == 1 else f"support {shot + 1}", 1.5 if rows == 1 else 1, shot)
    # the queries are larger than the supports when there are many
    spot = [grid[:, columns + rows * i : columns + rows * (i + 1)] for i in range(queries)]

    axes = picture.add_subplot(spot[0], anchor="N")
    truth_panel(axes, episode, "query and truth", width=1.5)
    entries = [patch(style.SUPPORT, "support mask (given)"), patch(style.TRUTH, "truth (hidden from the model)")]
    picture.alt = (
        f"A {shots}-shot episode of the class {episode.class_name}: support images with the object tinted blue, "
        "and the query image with its true mask in green."
    )
    if mask is not None:
        score = iou(mask, episode.query_mask)
        axes = picture.add_subplot(spot[1], anchor="N")
        prediction_panel(axes, episode, mask, f"prediction, IoU {100 * score:.0f} %", width=1.5, outline=True)
        entries.append(patch(style.PREDICTION, "prediction"))
        picture.alt += f" Beside it the prediction in orange; it overlaps the truth with an IoU of {100 * score:.0f} %."
    legend(picture, *entries)
    return picture


def iou(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union of a mask (H, W) and a truth (H, W) of 0, 1 and 255 (left out); 0 for no union."""
    return float(metrics.iou(mask, truth))


def priors_figure(episode: Episode, trace: Trace) -> Picture:
    """The pseudo prompt before refinement and after each round, and how far the query's memory moved, cell by cell.

    The memory is what attention reads; the refined prior serves the next round alone (Secs. PPG and IMR of the paper).
    trace: of the episode's query (batch 1). Raises InputError for a trace without a prior (memory="support").
    """
    if trace.pseudo_prior is None:
        raise InputError('this trace has no prior; trace a model with memory="pseudo"')
    grid = trace.support_masks_refine.shape[-2:]
    before = F.interpolate(trace.pseudo_prior, grid, mode="bilinear", align_corners=True)[0, 0]  # h, w
    maps = [before, *(refined.prior[0, 0] for refined in trace.rounds)]
    strict = trace.priors is not None and torch.equal(trace.pseudo_prior, trace.priors.discriminative)
    name = "P_d" if strict else "prior"
    named = [(name, before), *((f"{name} after round {i}", values) for i, values in enumerate(maps[1:], start=1))]
    if trace.priors is not None:
        named.insert(0, ("P_fg, like the object", trace.priors.foreground[0, 0]))
        named.insert(1, ("like its background", trace.priors.background_similarity[0].mean(0)))
    panels = 1 + len(named) + bool(trace.rounds)
    rows, columns = math.ceil(panels / 4), 4
    picture = Picture(9.5, 2.3 * rows + 0.85, "The first guess, and what refinement makes of it")
    axes = np.ravel(picture.subplots(rows, columns))
    for spare in axes[panels:]:
        spare.axis("off")

    truth_panel(axes[0], episode)
    for panel, (title, values) in zip(axes[1:], named, strict=False):
        drawn = map_panel(panel, values, title, style.PRIOR_MAP, Normalize(0, 1), episode.query_mask, style.DEEP_PRIOR)
    colour_bar(picture, drawn, [axes[min(panels, columns) - 1]], "from 0 (no) to 1 (yes)")
    truth = coverage(episode.query_mask, grid)

    def share(values: Tensor) -> str:
        """How much of a map (h, w) lies inside the object."""
        return f"{100 * float((values.cpu() * truth).sum() / values.cpu().sum().clamp(min=1e-6)):.0f} %"

    picture.alt = (
        f"Maps of the prior {'P_d ' * strict}for a query of the class {episode.class_name}, with the outline of the "
        f"truth: {share(before)} of the first guess is inside the object"
    )
    if trace.rounds:
        assert trace.pseudo_memory is not None  # of the same prior
        change, panel = (trace.rounds[-1].memory - trace.pseudo_memory.memory)[0].norm(dim=0), axes[panels - 1]
        scale = Normalize(0, max(float(change.max()), 1e-3))
        name = "change of the memory"
        drawn = map_panel(panel, change, name, style.PRIOR_MAP, scale, episode.query_mask, style.DEEP_PRIOR)
        colour_bar(picture, drawn, [panel], "length of the difference")
        picture.alt += (
            f", {share(maps[-1])} after {len(trace.rounds)} rounds. Last, how far refinement moved the query's memory, "
            f"cell by cell: {share(change)} of the change is inside the object"
        )
    picture.alt += "."
    legend(picture, truth_line())
    return picture


def memory_maps(trace: Trace, layer: int, cell: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """What a query cell (row, column) gives to the memory before and after calibration, percent, mean over the heads.

    Returns maps over the support memory, added up over the shots, and the query memory, (2, h, w) each, and what the
    pointers get, (2,).
    Raises InputError for a cell outside the grid or a trace without query memory (memory="support").
    """
    traced, grid = trace.layers[layer], trace.support_masks_attention.shape[-2:]
    row, column = cell
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise InputError(f"the cell must lie on the memory grid of {grid[0]} x {grid[1]}, got {cell}")
    if trace.pseudo_memory is None:
        raise InputError('this trace has no query memory; trace a model with memory="pseudo"')
    weights = torch.stack([traced.attention_before[0], traced.attention[0]]).detach().float().cpu()  # 2, heads, N, L
    weights, parts = 100 * weights[:, :, row * grid[1] + column].mean(1), traced.columns  # 2, L
    support = weights[:, parts.support].unflatten(1, (-1, *grid)).sum(1)
    return support, weights[:, parts.query].unflatten(1, grid), weights[:, parts.pointers].sum(1)


def support_map_panel(axes: Axes, episode: Episode, values: Tensor, name: str, norm: Normalize) -> AxesImage:
    """Attention (h, w) over the support memory; of a single support with the outline of its mask."""
    drawn = heat(axes, values, style.ATTENTION_MAP, norm, episode.query_mask.shape)
    if episode.shots == 1:
        contour(axes, episode.support_masks[0], style.SUPPORT, episode.query_mask.shape, width=1)
    name_panel(axes, name, style.SUPPORT)
    return drawn


def attention_figure(episode: Episode, trace: Trace, cell: tuple[int, int], layer: int = -1) -> Picture:
    """Where one query cell looks, before and after the support's calibration (Sec. SCMA of the paper).

    cell: (row, column) on the memory grid, e.g. from `central_cell`. layer: of memory attention; -1 is the last.
    Mean over the heads. Several shots share one map: what the cell gives to them together. All maps share one colour
    scale, with square-root steps so that small weights stay visible. Raises what `memory_maps` raises.
    """
    support, query, pointers = memory_maps(trace, layer, cell)
    size, grid = episode.query_mask.shape, query.shape[1:]
    shares = torch.stack([support.sum((1, 2)), query.sum((1, 2)), pointers], 1)  # 2, 3

    number = layer % len(trace.layers) + 1
    heads = ", mean over heads" * (trace.layers[layer].attention.shape[1] > 1)
    picture = Picture(9.5, 5.3, f"Where one cell of the query looks (layer {number} of {len(trace.layers)}{heads})")
    axes = picture.subplots(2, 4)
    truth_panel(axes[0, 0], episode, "query and\nthe cell that looks")
    mark_cell(axes[0, 0], cell, grid, size)
    support_panel(axes[1, 0], episode)

    norm = PowerNorm(0.5, 0, float(torch.stack([support, query]).max()))
    for i, when in enumerate(("before calibration", "after calibration")):
        weight_map = support_map_panel(axes[i, 1], episode, support[i], f"support memory\n{when}", norm)
        name = f"query memory\n{when}"
        map_panel(axes[i, 2], query[i], name, style.ATTENTION_MAP, norm, episode.query_mask, style.DEEP_PRIOR)
        mark_cell(axes[i, 2], cell, grid, size)
    change = query[1] - query[0]
    name = "query memory\nafter minus before"
    changed = map_panel(axes[0, 3], change, name, style.DIFFERENCE_MAP, symmetric(change), episode.query_mask)
    _shares(axes[1, 3], shares)
    colour_bar(picture, weight_map, axes[:, 2], "attention weight in percent")
    colour_bar(picture, changed, [axes[0, 3]], "percentage points")
    legend(picture, patch(style.SUPPORT, "support's object"), "truth", cell_entry())
    percent = [[f"{float(share):.0f} %" for share in when] for when in shares]
    picture.alt = (
        f"Attention of one query cell inside the object, in layer {number}, as maps over the support memory and the "
        f"query memory. Before calibration it gives {percent[0][0]} to the support memory, {percent[0][1]} to the "
        f"query memory, {percent[0][2]} to the pointers; after it {percent[1][0]}, {percent[1][1]}, {percent[1][2]}."
    )
    return picture


def overview_figure(episode: Episode, prediction: Prediction) -> Picture:
    """The method in one strip: support and query, prior, where IMR changes the memory, attention, prediction.

    prediction: of the episode, made with trace=True. Raises InputError without a trace, a prior, or refinement.
    The README's picture is this figure of `Pictograms(0)[19]` and `load_model("toy", fold=0)`.
    """
    trace = prediction.trace
    if trace is None or trace.pseudo_prior is None or trace.pseudo_memory is None or not trace.rounds:
        raise InputError("the overview needs a prediction with trace=True of a model with a prior that is refined")
    size, grid = episode.query_mask.shape, trace.support_masks_attention.shape[-2:]
    cell = central_cell(episode.query_mask, grid[0])
    layer = trace.layers[-1]
    weights = layer.attention[0].mean(0)[cell[0] * grid[1] + cell[1], layer.columns.query].unflatten(0, grid)  # h, w
    before = F.interpolate(trace.pseudo_prior, grid, mode="bilinear", align_corners=True)[0, 0]  # h, w

    picture = Picture(11, 2.75, f"From one labelled {episode.class_name} to a mask of another", gap=0.12)
    axes = picture.subplots(1, 6)
    support_panel(axes[0], episode, "support")
    mask_panel(axes[1], episode.query_image, None, "query", style.INK)
    change = (trace.rounds[-1].memory - trace.pseudo_memory.memory)[0].norm(dim=0)  # h, w
    scales = Normalize(0, 1), Normalize(0, max(float(change.max()), 1e-3))
    for panel, values, scale, name in zip(
        axes[2:], (before, change), scales, ("prior (PPG)", "changed by IMR"), strict=False
    ):
        heat(panel, values, style.PRIOR_MAP, scale, size)
        name_panel(panel, name, style.DEEP_PRIOR)
    heat(axes[4], weights, style.ATTENTION_MAP, PowerNorm(0.5, 0, float(weights.max())), size)
    name_panel(axes[4], "attention (SCMA)")
    mark_cell(axes[4], cell, grid, size)
    prediction_panel(axes[5], episode, prediction.mask, "prediction", outline=True)
    for panel, sign in zip(axes[1:], "+→→→→", strict=True):
        mark = panel.text(-0.07, 0.5, sign, transform=panel.transAxes, ha="center", va="center", fontsize=15)
        mark.set_in_layout(False)
    legend(picture, "support mask", patch(style.PRIOR, "prior: the first guess"), "prediction", truth_line("truth"))
    score = iou(prediction.mask, episode.query_mask)
    picture.alt = (
        f"Six panels: a support image with its {episode.class_name} tinted blue, a query image, the prior, how far IMR "
        f"changes the query's memory, the attention of one query cell, and the prediction, which overlaps the truth "
        f"with an IoU of {100 * score:.0f} %."
    )
    return picture


def _shares(axes: Axes, shares: Tensor) -> None:
    """Bars of how much goes to support memory, query memory and pointers. shares: (2, 3), before and after."""
    for i, (when, colour) in enumerate((("before", style.PALE), ("after", style.INK))):
        axes.bar(np.arange(3) + 0.4 * (i - 0.5), shares[i].numpy(), width=0.38, color=colour, label=when)
    axes.set_xticks(range(3), ["support", "query", "pointers"])
    chart(axes, y="share in percent", grid="y")
    axes.set_box_aspect(1)
    axes.set_ylim(0, top := 1.25 * float(shares.max()))  # room for the legend, but no share above 100 %
    axes.set_yticks([tick for tick in MaxNLocator(6).tick_values(0, top) if tick <= min(top, 100)])
    axes.legend(fontsize=9, frameon=False, loc="upper center", ncols=2, borderaxespad=0, columnspacing=1)
    name_panel(axes, "what each part gets")
