"""Which columns of the memory an intervention means, and what a traced prediction knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.method import FSSAM, Prediction, Trace
from fss_lab.method.options import CALIBRATIONS
from fss_lab.method.trace import Columns, Inputs


@dataclass(frozen=True)
class Where:
    """A part of what memory attention reads: the product of layers, blocks and cells. None is all of them, () none.

    layer: from 0, -1 is the last. block: of `blocks(...)`, or "support" for all supports at once. cells: (row, column)
    on the memory grid, of every block that has one; pointers have none.
    """

    layer: int | tuple[int, ...] | None = None
    block: str | tuple[str, ...] | None = None
    cells: tuple[tuple[int, int], ...] | None = None


def blocks(prediction: Prediction) -> tuple[str, ...]:
    """The blocks that a traced prediction read: ("support", "query", "pointers"), or "support 1", "support 2", ...
    where several lie side by side; "query" only where there is a query memory. Raises InputError without a trace."""
    return tuple(partition(slices_of(trace_of(prediction))))


def slices_of(trace: Trace, tokens: bool = False) -> dict[str, slice]:
    """The columns of every block by its name, and of "support", all supports. tokens: before shots are averaged."""
    height, width = trace.support_masks_attention.shape[-2:]
    shots = len(inputs_of(trace).supports)
    if not tokens and CALIBRATIONS[trace.calibration].average:
        total, count = trace.layers[0].k.shape[2], 1
    else:
        total, count = len(trace.tokens.tokens), shots
    n = height * width
    parts = Columns.of(count * n, total, trace.tokens.pointer_tokens)
    names = {"support": parts.support}
    if count == shots:
        names |= {f"support {shot + 1}": slice(shot * n, (shot + 1) * n) for shot in range(shots)}
    if parts.query.stop > parts.query.start:
        names["query"] = parts.query
    return names | {"pointers": parts.pointers}


def partition(slices: Mapping[str, slice]) -> list[str]:
    """The names of blocks that do not overlap and are all: "support" if there is one, else "support 1", ..."""
    several = "support 2" in slices
    return [name for name in slices if (name != "support" if several else name != "support 1")]


def layers_of(trace: Trace, where: Where) -> tuple[int, ...]:
    count = len(trace.layers)
    chosen = (where.layer,) if isinstance(where.layer, int) else where.layer
    if chosen is not None and not all(-count <= layer < count for layer in chosen):
        raise InputError(f"the model has layers 0 to {count - 1}, got layer={where.layer!r}")
    return tuple(range(count)) if chosen is None else tuple(layer % count for layer in chosen)


def blocks_of(slices: Mapping[str, slice], where: Where) -> tuple[str, ...]:
    chosen = (where.block,) if isinstance(where.block, str) else where.block
    if chosen is None:
        return tuple(name for name in partition(slices) if where.cells is None or name != "pointers")
    if not set(chosen) <= set(slices):
        averaged = "" if "support 1" in slices else '; supports are averaged here, model.variant(calibration="off") not'
        raise InputError(f"the memory has the blocks {', '.join(slices)}, got block={where.block!r}{averaged}")
    if where.cells is not None and "pointers" in chosen:
        raise InputError("pointers have no cells; leave cells out, or choose another block")
    return tuple(chosen)


def columns_of(prediction: Prediction, where: Where, tokens: bool = False) -> Tensor:
    """The columns of a part, (layers, L) bool. Raises InputError for one that is not there."""
    trace = trace_of(prediction)
    slices = slices_of(trace, tokens)
    grid = torch.ones(trace.support_masks_attention.shape[-2:], dtype=torch.bool)
    if where.cells is not None:
        height, width = grid.shape
        outside = [cell for cell in where.cells if not (0 <= cell[0] < height and 0 <= cell[1] < width)]
        if outside:
            raise InputError(f"cells lie on a grid of {height} x {width}, counted from 0, got {outside[0]}")
        grid[:] = False
        for row, column in where.cells:
            grid[row, column] = True
    columns = torch.zeros(len(trace.layers), slices["pointers"].stop, dtype=torch.bool)
    for name in blocks_of(slices, where):
        part = slices[name]
        cells = torch.ones(1, dtype=torch.bool) if name == "pointers" else grid.flatten()
        for layer in layers_of(trace, where):
            columns[layer, part] = cells.repeat((part.stop - part.start) // len(cells))
    return columns


def traced(model: FSSAM | None, episode: Episode | Prediction) -> Prediction:
    """The traced prediction. Raises InputError without trace or of another model, TypeError for anything else."""
    prediction = model.segment(episode, trace=True) if model and isinstance(episode, Episode) else episode
    if not isinstance(prediction, Prediction):
        raise TypeError(f"expected an Episode or a traced Prediction, got {type(episode).__name__}")
    trace_of(prediction)
    if model is not None and sam2_of(prediction) is not model.sam2:
        raise InputError("this prediction is of another model; segment the episode with the one that is given")
    return prediction


def trace_of(prediction: Prediction) -> Trace:
    if prediction.trace is None or prediction.trace.inputs is None:
        raise InputError("this prediction has no trace; make it with model.segment(..., trace=True)")
    return prediction.trace


def inputs_of(trace: Trace) -> Inputs:
    assert trace.inputs is not None
    return trace.inputs


def sam2_of(prediction: Prediction) -> Sam2Backbone:
    assert prediction.support is not None
    return prediction.support.sam2
