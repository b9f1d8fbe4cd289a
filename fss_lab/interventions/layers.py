"""The lens: what the mask decoder makes of the states between the layers of memory attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fss_lab.interventions.changes import logits_of, read_again
from fss_lab.interventions.where import inputs_of, sam2_of, trace_of
from fss_lab.method import Prediction
from fss_lab.method.calibration import CalibratedCrossAttention
from fss_lab.metrics import iou


@dataclass(frozen=True)
class Lens:
    """What SAM's decoder answers before the first layer of memory attention (place 0) and after each of S layers.

    logits: (S + 1, H, W) at the query's size, the last those of the prediction to the last bit. ious: (S + 1,) with the
    truth, in 0..1; None where nobody knows it.
    """

    logits: Tensor
    ious: Tensor | None

    @property
    def masks(self) -> Tensor:
        """(S + 1, H, W) bool: probability > 0.5."""
        return self.logits.sigmoid() > 0.5


@torch.no_grad()
def lens(prediction: Prediction) -> Lens:
    """What SAM's decoder would answer before memory attention and after each of its layers.

    The decoder was trained on the last layer's output behind memory attention's final norm. So every state passes
    through that norm first. Raises InputError for a prediction without a trace.
    """
    trace = trace_of(prediction)
    sam2, states = sam2_of(prediction), list[Tensor]()
    stock = sam2.model.memory_attention
    # the norms are called with the state between two layers, in the stock path and in `Sam2Backbone.attend` alike
    norms = [*(layer.norm1 for layer in stock.layers), stock.norm]
    hooks = [norm.register_forward_pre_hook(lambda _, given: states.append(given[0])) for norm in norms]
    attention = CalibratedCrossAttention(trace.support_masks_attention, trace.calibration, explicit=True)
    try:
        read_again(prediction, attention)
    finally:
        for hook in hooks:
            hook.remove()
    shape, size = trace.features.top.shape, prediction.logits.shape
    answers = [sam2.decode(stock.norm(state).transpose(1, 2).reshape(shape), trace.features) for state in list(states)]
    logits = torch.cat([logits_of(trace, answer, size) for answer in answers])
    truth = inputs_of(trace).truth
    return Lens(logits, None if truth is None else iou(logits.sigmoid() > 0.5, truth.cpu()))
