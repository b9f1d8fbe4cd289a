"""What the panel's hide, needed and lens ask the kernel, answered in numbers and small masks that travel as JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.interventions import Where, lens, sweep
from fss_lab.interventions.changes import Altered, logits_of, read_again
from fss_lab.interventions.where import columns_of
from fss_lab.method import Prediction
from fss_lab.metrics import iou
from fss_lab.widgets.explorer.runs import Run

SIDE = 128  # pixels of a mask
BLOCKS = {"support": "support", "memory": "query", "pointers": "pointers"}


def answer(run: Run, question: Sequence[Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """The answer to one question of the panel.

    question: ["hide", run, map, shot, cell, end], cell None for a whole block, shot None for all supports; ["needed",
    run, cell, end], query cells; or ["lens", run]. progress: called with (done, total).
    Returns {"mask", "iou", "whole", "changed"}, {"needed", "blocks"} or {"masks", "ious"}; {"error"} where a question
    has no answer. IoUs in 0..1, None where no truth is known.
    """
    try:
        if run.traced is None:
            raise InputError("a bare trace cannot be computed again; give explore() the prediction")
        if question[0] == "lens":
            states = lens(run.traced)
            ious = None if states.ious is None else states.ious.tolist()
            return {"masks": [_small(mask) for mask in states.masks], "ious": ious}
        if question[0] == "hide":
            return _hidden(run, run.traced, part_of(run, *question[2:]))
        return _needed(run, run.traced, question[2], question[3], progress)
    except InputError as error:
        return {"error": str(error)}


def part_of(run: Run, name: str, shot: int | None, cell: Sequence[int] | None, end: Sequence[int] | None) -> Where:
    """What is selected, as the interventions name it: hidden in every layer. Pointers are hidden as a whole."""
    block = BLOCKS[name] if shot is None or name != "support" or run.blocks == 1 else f"support {shot + 1}"
    if cell is None or end is None or name == "pointers":
        return Where(block=block)
    return Where(block=block, cells=tuple(map(tuple, torch.nonzero(_inside(run, cell, end)).tolist())))


def _inside(run: Run, cell: Sequence[int], end: Sequence[int]) -> Tensor:
    """(h, w) bool: the cells of a region."""
    inside = torch.zeros(run.grid, dtype=torch.bool)
    (top, bottom), (left, right) = (sorted(pair) for pair in zip(cell, end, strict=True))
    inside[top : bottom + 1, left : right + 1] = True
    return inside


def _hidden(run: Run, prediction: Prediction, where: Where) -> dict[str, Any]:
    columns = columns_of(prediction, where)[:, None]
    decoded = read_again(prediction, Altered(run.trace, columns, "renormalise"))[1]
    mask = logits_of(run.trace, decoded, prediction.logits.shape)[0].sigmoid() > 0.5
    before, after = (None if run.truth is None else float(iou(m, run.truth.cpu())) for m in (prediction.mask, mask))
    changed = float((mask != prediction.mask).float().mean())
    return {"mask": _small(mask), "iou": after, "whole": before, "changed": changed}


def _needed(
    run: Run, prediction: Prediction, cell: Sequence[int], end: Sequence[int], progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """What the query cells' mean logit loses without each memory cell, which is hidden in every layer."""
    cells = _inside(run, cell, end)[None, None].float()
    inside = F.interpolate(cells, tuple(prediction.logits.shape), mode="nearest-exact")[0, 0] > 0.5

    def effect(logits: Tensor) -> Tensor:
        return logits[:, inside].mean(1)

    lost = sweep(None, prediction, ("block", "cells"), effect=effect, progress=progress)
    return {"blocks": list(lost.labels["block"]), "needed": lost.values.flatten(1).tolist()}


def _small(mask: Tensor) -> dict[str, Any]:
    """A bool mask (H, W) as bits in base64, at SIDE pixels at most."""
    factor = min(1.0, SIDE / max(mask.shape))
    size = [max(1, round(side * factor)) for side in mask.shape]
    small = F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0] > 0.5
    bits = base64.b64encode(np.packbits(small.numpy()).tobytes()).decode()
    return {"height": size[0], "width": size[1], "bits": bits}
