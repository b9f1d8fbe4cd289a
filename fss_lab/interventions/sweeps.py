"""One knock-out after the other, many in a forward pass: what is lost without what."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.interventions.changes import Altered, logits_of, read_again
from fss_lab.interventions.where import Where, blocks_of, columns_of, inputs_of, layers_of, slices_of, trace_of, traced
from fss_lab.method import FSSAM, Prediction
from fss_lab.metrics import iou

AXES = ("layer", "block", "cells")
"""What `sweep` runs over."""
Effect = Callable[[Tensor], Tensor]
"""Logits (B, H, W) at the query's size -> a number for each, (B,)."""


@dataclass(frozen=True)
class Sweep:
    """What was lost by each of many interventions.

    values: whole minus the effect with the intervention, one axis for each of `axes`, on the CPU. axes: of "layer",
    "block", "row", "column". labels: by axis, what its places are. whole: the effect without intervention.
    """

    values: Tensor
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[int | str, ...]]
    whole: float


def sweep(
    model: FSSAM | None,
    episode: Episode | Prediction,
    over: str | Sequence[str] = ("layer", "block"),
    *,
    effect: str | Effect = "iou",
    where: Where | None = None,
    how: str = "renormalise",
    progress: Callable[[int, int], None] | None = None,
    chunk: int | None = None,
) -> Sweep:
    """Knock out one part after the other, and measure what is lost without it.

    model: None will do for a traced prediction, which knows its own.
    over: one or more of `AXES`; their product is swept. "cells" makes two axes, row and column, and hides a cell in
    every block that has a grid, or with "block" in one after the other. where: the whole of which parts are taken.
    effect: "iou" with the truth; "logit", the mean logit of the truth's object, or of the predicted one where no truth
    is known; or a function. how: as in `knock_out`. progress: called with (done, total). chunk: interventions in one
    forward pass, None: as many as fit in about 100 MB. In a batch numbers differ from `knock_out` by rounding.

    Raises InputError as `knock_out`, and for other axes, an effect that is unknown or finds no object.
    """
    axes = (over,) if isinstance(over, str) else tuple(over)
    if not axes or len(set(axes)) < len(axes) or not set(axes) <= set(AXES):
        raise InputError(f"over must be different ones of {', '.join(AXES)}, got {over!r}")
    prediction, where = traced(model, episode), where or Where()
    trace = trace_of(prediction)
    measure = _effect(effect, prediction)
    labels, choices = _places(prediction, where, axes)
    parts = [replace(where, **dict(zip(axes, place, strict=True))) for place in itertools.product(*choices)]
    chunk = chunk or max(1, 2**23 // max(prediction.logits.numel(), trace.layers[0].logits.numel()))
    size, losses = prediction.logits.shape, []
    whole = measure(prediction.logits[None])[0]
    for start in range(0, len(parts), chunk):
        columns = torch.stack([columns_of(prediction, part) for part in parts[start : start + chunk]], dim=1)
        decoded = read_again(prediction, Altered(trace, columns, how), columns.shape[1])[1]
        losses.append(whole - measure(logits_of(trace, decoded, size)))
        if progress is not None:
            progress(min(start + chunk, len(parts)), len(parts))
    shape = [len(places) for places in labels.values()]
    return Sweep(torch.cat(losses).reshape(shape), tuple(labels), labels, float(whole))


def _effect(effect: str | Effect, prediction: Prediction) -> Effect:
    truth = inputs_of(trace_of(prediction)).truth
    if callable(effect):
        return effect
    if effect == "iou" and truth is not None:
        known = truth.cpu()
        return lambda logits: iou(logits.sigmoid() > 0.5, known)
    if effect == "logit":
        inside = prediction.mask if truth is None else truth.cpu() == 1
        if not inside.any():
            raise InputError('effect="logit" needs an object, and truth and prediction show none; give a function')
        return lambda logits: logits[:, inside].mean(1)
    known_to = 'the truth, which this query lacks; use "logit"' if effect == "iou" else 'one of "iou", "logit"'
    raise InputError(f"effect={effect!r} needs to be a function of logits, or needs {known_to}")


def _places(
    prediction: Prediction, where: Where, axes: Sequence[str]
) -> tuple[dict[str, tuple[int | str, ...]], list[list[Any]]]:
    """The labels of a sweep's axes, and for each of `axes` the values of `Where` that it runs through."""
    trace = trace_of(prediction)
    labels: dict[str, tuple[int | str, ...]] = {}
    choices: list[list[Any]] = []
    for axis in axes:
        if axis == "cells":
            if where.cells is not None:
                raise InputError("a sweep over cells takes all of them; leave cells out of where")
            height, width = trace.support_masks_attention.shape[-2:]
            labels |= {"row": tuple(range(height)), "column": tuple(range(width))}
            choices.append([((row, column),) for row in range(height) for column in range(width)])
            continue
        gridded = replace(where, cells=()) if "cells" in axes else where
        places = layers_of(trace, where) if axis == "layer" else blocks_of(slices_of(trace), gridded)
        labels[axis] = places
        choices.append(list(places))
    return labels, choices
