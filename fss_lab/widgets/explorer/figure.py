"""What the explorer shows as a figure for print."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.figures import (
    ATTENTION_MAP,
    DIFFERENCE_MAP,
    INK,
    PALE,
    PREDICTION,
    SMALL,
    SUPPORT,
    TRUTH,
    Picture,
    contour,
    heat,
    overlay,
)  # fmt: skip
from fss_lab.figures.panels import mark_cell, name_panel
from fss_lab.figures.style import DEEP_PRIOR, colour_bar, legend
from fss_lab.widgets.explorer.runs import Run

DECADES = 4  # of the logarithmic scale


def explorer_figure(
    run: Run, maps: Mapping[str, np.ndarray], selection: Mapping[str, Any], view: Mapping[str, Any]
) -> Picture:
    """The maps of `Explorer.attention` for a selection and a view, in percent."""
    percents = {name: torch.from_numpy(values) * 100 for name, values in maps.items()}
    show, layers = view["show"], len(run.trace.layers)
    when = {"before": "before calibration", "after": "after calibration", "difference": "after minus before"}[show]
    title = [f"Attention in layer {selection['layer'] + 1} of {layers}, {when}", run.name]
    draw = _readers if "readers" in percents else _memory
    return draw(" · ".join(part for part in title if part), run, percents, selection, view)


def _memory(
    title: str, run: Run, maps: dict[str, Tensor], selection: Mapping[str, Any], view: Mapping[str, Any]
) -> Picture:
    """The query cell, what it gives to every memory cell, and to the pointers."""
    columns = math.ceil(math.sqrt(run.blocks))
    rows = math.ceil(run.blocks / columns)
    widths = [3, 3 * columns / rows, *([3] if "query" in maps else []), 2.2]
    picture = Picture(0.98 * sum(widths), 3.6, title.replace("$", r"\$"))
    grid = GridSpec(1, len(widths), figure=picture, width_ratios=widths)
    query = picture.add_subplot(grid[0])
    _ground(query, run.query, run)
    _query_outlines(query, run, view)
    mark_cell(query, selection["cell"], run.grid, _size(run.query, run), selection["end"])
    name_panel(query, "the query cell" if selection["cell"] == selection["end"] else "the region of the query", INK)

    top = max(float(maps[name].abs().max()) for name in ("support", "query") if name in maps)
    inner = grid[1].subgridspec(rows, columns)
    for block, values in enumerate(maps["support"]):
        axes = picture.add_subplot(inner[block // columns, block % columns])
        shot = min(view["shot"], run.shots - 1) if run.blocks == 1 else block
        size = _size(None if run.supports is None else run.supports[shot], run)
        drawn = _scaled(axes, values, top, size, view)
        if "support" in view["outlines"]:
            contour(axes, run.trace.support_masks[0, shot], SUPPORT, size, width=1)
        single = "support memory" if run.shots == 1 else f"mean of {run.shots} supports"
        name_panel(axes, single if run.blocks == 1 else f"support {block + 1}", SUPPORT)
    if "query" in maps:
        axes = picture.add_subplot(grid[2])
        drawn = _scaled(axes, maps["query"], top, _size(run.query, run), view)
        _query_outlines(axes, run, view)
        name_panel(axes, "query memory", DEEP_PRIOR)
    _scale_bar(picture, drawn, axes)
    _bars(picture, grid[-1], maps["pointers"], run)
    _outline_legend(picture, run, view, support=True)

    sums = {"the support memory": maps["support"].sum(), "the object pointers": maps["pointers"].sum()}
    if "query" in maps:
        sums["the query memory"] = maps["query"].sum()
    gives = "changes by" if view["show"] == "difference" else "gives"
    listed = ", ".join(f"{float(share):.1f} % to {name}" for name, share in sums.items())
    picture.alt = f"{title}. Query cell {_cell(selection)} {gives} {listed}. {_find(run)}"
    return picture


def _readers(
    title: str, run: Run, maps: dict[str, Tensor], selection: Mapping[str, Any], view: Mapping[str, Any]
) -> Picture:
    """A memory cell, and what every query cell gives to it."""
    picture = Picture(7.6, 3.9, title.replace("$", r"\$"))  # names may hold dollars, which are no formulas
    left, right = picture.subplots(1, 2)
    names = {"support": "support-memory cell", "memory": "query-memory cell", "pointers": "pointer token"}
    name = names[selection["map"]]
    if selection["map"] == "pointers":
        left.axis("off")
        left.text(0.5, 0.5, f"{name}\n{selection['cell'][1] + 1}", ha="center", va="center", fontsize=15, color=INK)
    else:
        shot = selection["shot"] if run.blocks > 1 else min(view["shot"], run.shots - 1)
        support = None if run.supports is None else run.supports[shot]
        image = run.query if selection["map"] == "memory" else support
        _ground(left, image, run)
        if selection["map"] == "memory":
            _query_outlines(left, run, view)
        elif "support" in view["outlines"]:
            contour(left, run.trace.support_masks[0, shot], SUPPORT, _size(image, run))
        mark_cell(left, selection["cell"], run.grid, _size(image, run), selection["end"])
        name_panel(left, f"the {name}", SUPPORT if selection["map"] == "support" else DEEP_PRIOR)
    readers = maps["readers"]
    drawn = _scaled(right, readers, float(readers.abs().max()), _size(run.query, run), view)
    _query_outlines(right, run, view)
    name_panel(right, "the query cells that read it", INK)
    _scale_bar(picture, drawn, right)
    _outline_legend(picture, run, view, support=selection["map"] == "support")
    best = divmod(int(readers.abs().argmax()), run.grid[1])
    picture.alt = (
        f"{title}. The {name} {_cell(selection)} is read most by query cell {best}: {float(readers[best]):.2g} %. "
        f"{_find(run)}"
    )
    return picture


def _ground(axes: Axes, image: Tensor | None, run: Run) -> None:
    overlay(axes, torch.full((3, *_size(None, run)), 200.0) if image is None else image)


def _size(image: Tensor | None, run: Run) -> tuple[int, int]:
    """Height and width of an image, or of the model's input where there is none."""
    height, width = (run.trace.support_masks if image is None else image).shape[-2:]
    return height, width


def _query_outlines(axes: Axes, run: Run, view: Mapping[str, Any]) -> None:
    size = _size(run.query, run)
    if "truth" in view["outlines"] and run.truth is not None:
        contour(axes, run.truth, TRUTH, size, width=1)
    if "prediction" in view["outlines"]:
        contour(axes, run.prediction, PREDICTION, size, width=1)


def _bars(picture: Picture, place: SubplotSpec, pointers: Tensor, run: Run) -> None:
    """What each pointer token gets; a line between the pointers."""
    axes = picture.add_subplot(place)
    count = run.shots + run.has_query_memory
    tokens = len(pointers) // count
    axes.bar(np.arange(len(pointers)), pointers.numpy(), color="#8a8a8a", width=0.76)
    for edge in range(tokens, len(pointers), tokens):
        axes.axvline(edge - 0.5, color=PALE, linewidth=0.8)
    names = ["support" if run.shots == 1 else f"{shot + 1}" for shot in range(run.shots)]
    names += ["query" if run.shots < 3 else "q"] * run.has_query_memory
    axes.set_xticks([tokens * (i + 0.5) - 0.5 for i in range(count)], names, fontsize=9)
    axes.tick_params(length=0, labelsize=9)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_box_aspect(1.25)
    axes.set_ylabel("percent", fontsize=SMALL, color=INK)
    name_panel(axes, "object pointers", INK)


def _outline_legend(picture: Picture, run: Run, view: Mapping[str, Any], support: bool) -> None:
    """Names the outlines that can be seen; support: whether a support is drawn."""
    words = {
        "support": ("support's object", SUPPORT, support),
        "truth": ("truth", TRUTH, run.truth is not None and bool((run.truth == 1).any())),
        "prediction": ("prediction", PREDICTION, bool(run.prediction.any())),
    }
    drawn = [(word, colour) for name, (word, colour, seen) in words.items() if seen and name in view["outlines"]]
    if drawn:
        legend(picture, *(Line2D([], [], color=colour, linewidth=2, label=word) for word, colour in drawn))


def _scaled(axes: Axes, values: Tensor, top: float, size: tuple[int, int], view: Mapping[str, Any]) -> AxesImage:
    """A map on the panel's logarithmic scale. top: the largest magnitude of all maps."""
    top = max(top, 1e-9)
    if view["show"] == "difference":
        return heat(axes, values, DIFFERENCE_MAP, SymLogNorm(top / 100, vmin=-top, vmax=top), size)
    return heat(axes, values, ATTENTION_MAP, LogNorm(top / 10**DECADES, top, clip=True), size)


def _scale_bar(picture: Picture, heat_map: AxesImage, axes: Axes) -> None:
    """A colour bar; matplotlib's own ticks of a symmetric logarithm would write over each other."""
    norm = heat_map.norm
    signed = isinstance(norm, SymLogNorm)
    colour_bar(picture, heat_map, [axes], "percentage points" if signed else "attention weight in percent")
    bar = heat_map.colorbar
    if isinstance(norm, SymLogNorm) and bar is not None and norm.vmax is not None:
        ticks = [part * norm.vmax for part in (-1, -0.1, 0, 0.1, 1)]
        bar.set_ticks(ticks, labels=[f"{tick:.1g}" for tick in ticks])
        bar.minorticks_off()


def _cell(selection: Mapping[str, Any]) -> str:
    first, last = selection["cell"], selection["end"]
    return f"{first}" if first == last else f"region {first} to {last}"


def _find(run: Run) -> str:
    return f"The episode asks for the {run.class_name}." if run.class_name else ""
