"""IMR as the repair of a wound (Sec. IMR): how much of an object that the guess lacks comes back, round by round.

The strict guess P_d is half of the true object; the generous guess P_fg is all of it, or all of it and another object.
So it is known what should come back and what should not, which it is not where both guesses come from features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from fss_lab.episode import collate
from fss_lab.errors import InputError
from fss_lab.method import FSSAM
from fss_lab.method.records import Encoded
from fss_lab.method.trace import Trace
from fss_lab.metrics import coverage, iou
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.toyworld.scenes import IGNORE, Scene

ROUNDS = 6
ORDINARY, HEALABLE, CONTAGIOUS = "no wound", "wound", "wound, and another object in P_fg"
MEASURES = ("iou", "missing", "other", "object_distance", "background_distance")
"""Of each round, in this order. Of the final mask: its IoU with the truth, the share that it covers of what P_d lacks,
and of the other object, all in 0..1. Of the memory: its `memory_distance` to that of the true mask."""


class Wound(NamedTuple):
    """Where a query's object was cut, pixels (H, W) bool."""

    kept: Tensor  # the half that P_d keeps
    missing: Tensor  # the other half
    other: Tensor  # the largest object of another class; empty where none can be seen


def cut(scene: Scene, class_id: int) -> Wound:
    """Cut the class's pixels in a scene in two halves, across their longer extent.

    Raises:
        InputError: the scene shows nothing of the class.
    """
    target = torch.from_numpy(scene.mask(class_id) == 1)
    places = target.nonzero()  # pixels, (row, column)
    if len(places) == 0:
        raise InputError(f"there is nothing to cut: the scene shows no object of the class {class_id}")
    axis = int((places.amax(0) - places.amin(0)).argmax())
    line = places[:, axis].median()
    before = torch.arange(target.shape[axis]) <= line
    kept = target & (before[:, None] if axis == 0 else before[None, :])
    instances = torch.from_numpy(scene.instances)
    others = [instances == i for i, c in enumerate(scene.class_ids, start=1) if c != class_id and i != IGNORE]
    other = max(others, key=lambda pixels: int(pixels.sum()), default=torch.zeros_like(target))
    return Wound(kept, target & ~kept, other)


def guesses(encoded: Encoded, wounds: Sequence[Wound]) -> dict[str, Encoded]:
    """The same B episodes with their own guesses, and with those of their wounds (one for each), by name.

    Raises:
        InputError: episodes that were encoded without priors.
    """
    if encoded.priors is None:
        raise InputError("these episodes have no guesses to replace; encode them with a feature extractor")
    size, kind = encoded.support_masks.shape[-2:], encoded.support_masks.dtype
    kept, missing, other = (
        F.interpolate(torch.stack(part)[:, None].to(encoded.support_masks.device, kind), size, mode="nearest")
        for part in zip(*wounds, strict=True)
    )  # B, 1, S, S
    truth = kept + missing
    given = {HEALABLE: truth, CONTAGIOUS: truth + other}
    return {ORDINARY: encoded} | {
        name: replace(encoded, priors=replace(encoded.priors, discriminative=kept, foreground=generous))
        for name, generous in given.items()
    }


@torch.inference_mode()
def repair(model: FSSAM, encoded: Encoded, rounds: int = ROUNDS) -> tuple[Tensor, Trace]:
    """The mask after 0, 1, ... rounds, (rounds + 1, B, S, S) bool, and the trace of all rounds."""
    runs = [model.variant(rounds=number).predict(encoded, trace=number == rounds) for number in range(rounds + 1)]
    trace = runs[-1].trace
    assert trace is not None
    return torch.stack([run.logits > 0 for run in runs]), trace


def memories(trace: Trace) -> Tensor:
    """The memory that the query reads before refinement and after each round, (rounds + 1, B, D, h, w)."""
    if trace.pseudo_memory is None:
        raise InputError('this trace has no memory of the query; trace a model with memory="pseudo"')
    return torch.stack([trace.pseudo_memory.memory, *(done.memory for done in trace.rounds)])


def memory_distance(memory: Tensor, true: Tensor, covered: Tensor) -> Tensor:
    """How far memories (..., B, D, h, w) are from those of the true mask (B, D, h, w), mean length of the difference.

    covered: the share of each cell that the object covers, (B, h, w). Returns (..., B, 2): on cells of the object, each
    by its share, and on cells that hold nothing of it.
    """
    length = (memory - true).norm(dim=-3)
    areas = torch.stack([covered, (covered == 0).to(covered.dtype)], dim=-3)  # B, 2, h, w with B second to none
    return (length.unsqueeze(-3) * areas).sum((-2, -1)) / areas.sum((-2, -1)).clamp(min=1e-7)


def measure_repairs(
    model: FSSAM, data: Pictograms, rounds: int = ROUNDS, batch_size: int = 8, progress: bool = False
) -> dict[str, np.ndarray]:
    """What `repair` does to every episode of `data`, with its guesses and with its wounds.

    Returns by name of the guesses `MEASURES`, (N, rounds + 1, 5), and under "witnesses, " + name the means of A, B and
    W on cells of what P_d lacks and of the other object, (N, rounds, 3, 2); not a number where there is no such cell.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for start in tqdm(range(0, len(data), batch_size), desc="repaired", disable=None if progress else True):
        indices = range(start, min(start + batch_size, len(data)))
        drawn = [data.scenes(index) for index in indices]
        wounds = [cut(scenes[0], class_id) for class_id, scenes in drawn]
        with torch.inference_mode():
            batch = collate([data[index] for index in indices])
            encoded = model.encode(batch)
            assert encoded.query_masks is not None
            true = model.sam2.remember_without_pointer(encoded.query, encoded.query_masks)
            for name, given in guesses(encoded, wounds).items():
                for kind, values in _measured(model, given, batch.query_masks, wounds, true, rounds).items():
                    parts.setdefault(kind + name, []).append(values.double().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def _measured(
    model: FSSAM, given: Encoded, labels: Tensor, wounds: Sequence[Wound], true: Tensor, rounds: int
) -> Mapping[str, Tensor]:
    """`MEASURES` (B, rounds + 1, 5), and under "witnesses, " the means of A, B and W (B, rounds, 3, 2)."""
    assert given.priors is not None and given.query_masks is not None
    masks, trace = repair(model, given, rounds)  # rounds + 1, B, S, S
    size = masks.shape[-2:]
    labels = F.interpolate(labels[:, None].to(masks.device).float(), size, mode="nearest")[:, 0]
    missing = (labels == 1) & (given.priors.discriminative[:, 0] <= 0.5)
    other = torch.stack([wound.other for wound in wounds])[:, None].to(masks.device).float()
    other = F.interpolate(other, size, mode="nearest")[:, 0] > 0
    grid = true.shape[-2:]
    shares = [(masks & part).sum((-2, -1)) / part.sum((-2, -1)) for part in (missing, other)]
    distances = memory_distance(memories(trace), true, coverage(given.query_masks[:, 0], grid))
    measures = [iou(masks, labels), *shares, *distances.unbind(-1)]
    areas = torch.stack([(coverage(part, grid) > 0.5).float() for part in (missing, other)], dim=1)  # B, 2, h, w
    assert trace.support_similarity is not None
    maps = [torch.cat([trace.support_similarity, done.similarity, done.weight], dim=1) for done in trace.rounds]
    means = torch.stack(maps, dim=1).unsqueeze(3) * areas[:, None, None]  # B, rounds, 3, 2, h, w
    witnesses = means.sum((-2, -1)) / areas.sum((-2, -1))[:, None, None]
    return {"": torch.stack(measures, dim=-1).transpose(0, 1), "witnesses, ": witnesses}
