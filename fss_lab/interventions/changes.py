"""Knock-outs and patches: the memory of a traced prediction read again, with something hidden or exchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.backbones.sam2 import Decoded, MemoryTokens, RoPEAttention
from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.interventions.where import Where, columns_of, inputs_of, sam2_of, slices_of, trace_of, traced
from fss_lab.method import FSSAM, Output, Prediction, Trace
from fss_lab.method.calibration import CalibratedCrossAttention
from fss_lab.method.prompts import resize

PARTS = ("memory", "keys", "values", "calibration")
"""What `patch` exchanges."""


def knock_out(model: FSSAM, episode: Episode | Prediction, where: Where, how: str = "renormalise") -> Prediction:
    """The prediction without a part of the memory, traced.

    episode: or its traced prediction, which saves encoding it. how: "renormalise" sets the attention to the part to 0
    and shares it out among the rest of each row (a bias of -inf); "mean" leaves the attention and replaces the part's
    values by the mean of all values of the layer.

    Raises InputError for a part that is not there, another `how`, a prediction without trace or of another model, and
    where a layer would have nothing left to read.
    """
    prediction = traced(model, episode)
    return _answer(model, prediction, Altered(trace_of(prediction), columns_of(prediction, where)[:, None], how))


def patch(
    model: FSSAM, episode: Episode | Prediction, donor: Episode | Prediction, where: Where, what: str = "memory"
) -> Prediction:
    """The prediction with a part of the memory taken from another episode's run, traced.

    donor: an episode with as many supports, or its traced prediction. what: "memory", the tokens before projection (the
    layer makes keys, values and calibration of them; a block "support" is all shots, each with its donor's); "keys" or
    "values" after projection, the calibration staying as it was; "calibration", the bias. The supports' masks stay.

    Raises InputError as `knock_out`, for another `what`, and for a donor whose memory is laid out otherwise.
    """
    if what not in PARTS:
        raise InputError(f"what must be one of {', '.join(PARTS)}, got {what!r}")
    prediction, other = traced(model, episode), traced(model, donor)
    trace, gift = trace_of(prediction), trace_of(other)
    if slices_of(trace, tokens=True) != slices_of(gift, tokens=True):
        shots = (len(inputs_of(trace).supports), len(inputs_of(gift).supports))
        raise InputError(f"a donor needs as many supports as the episode, got {shots[1]} for {shots[0]}")
    columns = columns_of(prediction, where, tokens=what == "memory")[:, None]
    return _answer(model, prediction, Altered(trace, columns, what, gift))


class Altered(CalibratedCrossAttention):
    """The attention of a trace with columns hidden, or taken from a donor's trace.

    columns: (layers, B, L) bool, for what="memory" of the tokens before shots are averaged.
    """

    def __init__(self, trace: Trace, columns: Tensor, what: str, donor: Trace | None = None) -> None:
        super().__init__(trace.support_masks_attention, trace.calibration, explicit=True)
        if donor is None and what not in ("renormalise", "mean"):
            raise InputError(f'how must be "renormalise" or "mean", got {what!r}')
        if what == "renormalise" and bool(columns.all(-1).any()):
            raise InputError(
                "with these columns hidden a layer has nothing left to read; leave some, or use how='mean'"
            )
        self.support_masks = self.support_masks.expand(columns.shape[1], -1, -1, -1)
        self.columns, self.what, self.donor = columns.to(trace.attended.device), what, donor

    def __call__(
        self, layer: int, attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor, pointer_tokens: int
    ) -> Tensor:
        if self.what == "memory" and self.donor is not None:
            chosen, tokens = self.columns[layer][..., None], self.donor.tokens  # B, L, 1
            v = torch.where(chosen, tokens.tokens.transpose(0, 1), v)
            k = torch.where(chosen, (tokens.tokens + tokens.position).transpose(0, 1), k)
        return super().__call__(layer, attention, q, k, v, pointer_tokens)

    def alter(self, layer: int, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        columns = self.columns[layer]  # B, L
        if self.what == "memory" or not columns.any():
            return k, v, bias
        row, column = columns[:, None, None], columns[:, None, :, None]
        if self.what == "mean":
            return k, torch.where(column, v.mean(2, keepdim=True), v), bias
        if self.donor is None:
            bias = k.new_zeros(()) if bias is None else bias
            n = self.support_masks.shape[-2] * self.support_masks.shape[-1]
            return k, v, bias.expand(*k.shape[:2], n, k.shape[2]).masked_fill(row, -math.inf)
        gift = self.donor.layers[layer]
        if self.what == "keys":
            return torch.where(column, gift.k, k), v, bias
        if self.what == "values":
            return k, torch.where(column, gift.v, v), bias
        return k, v, torch.where(row, gift.bias, gift.bias.new_zeros(()) if bias is None else bias)


@torch.no_grad()
def read_again(prediction: Prediction, attention: CalibratedCrossAttention, count: int = 1) -> tuple[Tensor, Decoded]:
    """Memory attention and the decoder once more, `count` times in a batch."""
    trace, sam2 = trace_of(prediction), sam2_of(prediction)
    tokens, features = trace.tokens, trace.features[[0] * count]
    memory, position = (x.expand(-1, count, -1) for x in (tokens.tokens, tokens.position))
    attended = sam2.attend(features, MemoryTokens(memory, position, tokens.pointer_tokens), attention)
    return attended, sam2.decode(attended, features)


def _answer(model: FSSAM, prediction: Prediction, attention: CalibratedCrossAttention) -> Prediction:
    trace = trace_of(prediction)
    attended, decoded = read_again(prediction, attention)
    low = decoded.low_res_logits
    traced = replace(trace, layers=attention.layers, attended=attended, decoded=decoded)
    output = Output(upsampled(trace, low), low, decoded.ious, decoded.object_score, traced)
    with torch.no_grad():
        return model.finish(output, prediction.image, prediction.dense, prediction.support)


def upsampled(trace: Trace, low: Tensor) -> Tensor:
    """(B, 1, S/4, S/4) -> (B, S, S), as `FSSAM.predict`."""
    return F.interpolate(low, trace.support_masks.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


def logits_of(trace: Trace, decoded: Decoded, size: Sequence[int]) -> Tensor:
    """(B, H, W) at the query's size, as `FSSAM.finish`."""
    return resize(upsampled(trace, decoded.low_res_logits).unsqueeze(1).float(), size)[:, 0].cpu()
