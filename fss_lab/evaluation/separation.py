"""How well every map of the method separates the query's object from the rest: one measure for all of them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.episode import Episodes, collate
from fss_lab.errors import InputError
from fss_lab.figures.prediction import object_cells
from fss_lab.method import FSSAM
from fss_lab.method.prompts import cosine_map, min_max, prototype
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import Trace
from fss_lab.metrics import separation


def separation_maps(features: EpisodeFeatures, trace: Trace) -> dict[str, Tensor]:
    """What the method compares the query's cells by, from the first map to the last: name -> (B, h, w).

    The cosines with the support's object in the dense features (P_fg, the mean over each cell) and in SAM 2's features;
    A and the first B of IMR; c of SCMA in each layer, the mean over the heads. Raises InputError for a trace that lacks
    the priors, the rounds of IMR or the calibration.
    """
    if features.priors is None or not trace.rounds or any(layer.calibration is None for layer in trace.layers):
        raise InputError('the maps need priors, IMR and SCMA; use memory="pseudo", rounds=3, calibration="corrected"')
    assert trace.support_similarity is not None  # of the same rounds
    masks = trace.support_masks_refine  # B, K, h, w
    height, width = masks.shape[-2:]
    prototypes = prototype(features.support.top, masks.unsqueeze(2))  # B, K, C, 1, 1
    alike = min_max(cosine_map(features.query.top.unsqueeze(1), prototypes)).mean(1)
    maps = {
        "dense features": F.adaptive_avg_pool2d(features.priors.foreground, (height, width)),
        "SAM 2's features": alike,
        "A of IMR": trace.support_similarity,
        "B of IMR": trace.rounds[0].similarity,
    }
    for number, layer in enumerate(trace.layers, start=1):
        maps[f"c of SCMA, layer {number}"] = layer.calibration.mean(1, keepdim=True)  # type: ignore[union-attr]
    return {name: values.squeeze(1) for name, values in maps.items()}


@torch.inference_mode()
def separations(model: FSSAM, episodes: Episodes, batch_size: int = 8) -> dict[str, np.ndarray]:
    """`metrics.separation` of every map of `separation_maps`, by its name: (N,) each, in 0..1.

    An episode's object cells are those of `object_cells` on the memory grid; all other cells, those of other objects
    too, are on the other side. Raises InputError as `separation_maps`, and for a query without an object.
    """
    rows = []
    for start in range(0, len(episodes), batch_size):
        tasks = [episodes[index] for index in range(start, min(start + batch_size, len(episodes)))]
        features = model.extract(collate(tasks))
        trace = model.predict(model.encode(features), trace=True).trace
        assert trace is not None
        maps = separation_maps(features, trace)
        for place, task in enumerate(tasks):
            inside = object_cells(task.query_mask, trace.support_masks_refine.shape[-2:])
            rows.append({name: separation(values[place].cpu(), inside) for name, values in maps.items()})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
