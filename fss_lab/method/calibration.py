"""Support-Calibrated Memory Attention (Sec. SCMA of the paper). No parameters of its own.

The pseudo query memory may hold unexpected background. Where the support says "not our class" (c small) and
the attention is not sure (its stretched logit small), the query-memory key loses up to 10 nats.

Shapes: N = h * w queries, L key columns [support | query memory | pointers], d channels per head, K shots.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.backbones.sam2 import RoPEAttention, merge_heads, project_heads
from fss_lab.method.options import CALIBRATIONS
from fss_lab.method.prompts import cosine_map, min_max, prototype
from fss_lab.method.trace import Columns, LayerTrace

STRENGTH = 10.0  # nats
Bias = Callable[[Tensor, Tensor], Tensor]
"""(logits of the query memory's columns (B, heads, N, N), c (B, heads, h, w)) -> their bias (B, heads, N, N)"""


def shot_similarity(query_keys: Tensor, support_keys: Tensor, support_masks: Tensor) -> Tensor:
    """c_i: how much each query-memory key resembles the mean key of shot i's object.

    query_keys: (B, heads, N, d); support_keys: (B, heads, K, N, d); support_masks: (B, K, h, w) in {0, 1}.
    Returns (B, heads, K, h, w) in 0..1.
    """
    grid = support_masks.shape[-2:]
    query_map = query_keys.transpose(-1, -2).unflatten(-1, grid).unsqueeze(2)  # B, heads, 1, d, h, w
    support_map = support_keys.transpose(-1, -2).unflatten(-1, grid)  # B, heads, K, d, h, w
    prototypes = prototype(support_map, support_masks[:, None, :, None])  # B, heads, K, d, 1, 1
    return min_max(cosine_map(query_map, prototypes)).squeeze(3)


def calibration_term(similarity: Tensor, support_masks: Tensor) -> Tensor:
    """c: the mean of c_i over the shots whose object is visible on the memory grid.

    An object smaller than a grid cell can vanish when its mask is resized. Such a shot knows nothing and is
    left out; where no shot is left c = 1, which makes the bias 0: the attention stays as SAM 2 computes it.

    similarity: (B, heads, K, h, w); support_masks: (B, K, h, w) in {0, 1}. Returns (B, heads, h, w) in 0..1.
    """
    visible = support_masks.flatten(2).any(-1).to(similarity.dtype)[:, None, :, None, None]  # B, 1, K, 1, 1
    total = visible.sum(2)
    mean = (similarity * visible).sum(2) / total.clamp(min=1)
    return torch.where(total > 0, mean, torch.ones_like(mean))


def calibration_bias(logits: Tensor, term: Tensor) -> Tensor:
    """10 * min(0, a + c - 1), with each row of logits stretched to 0..1 as a. In [-10, 0], detached.

    logits: query-memory columns only, (B, heads, N, N); term: c, (B, heads, h, w). Returns (B, heads, N, N).
    """
    confidence = min_max(logits.detach(), dim=(-1,))
    return STRENGTH * (confidence + term.detach().flatten(-2).unsqueeze(-2) - 1).clamp(max=0)


def average_shots(x: Tensor, shots: int, positions: int) -> Tensor:
    """Average the K support blocks of keys or values position by position into one block.

    x: (B, heads, K * N + rest, d) -> (B, heads, N + rest, d).
    """
    support, rest = x[:, :, : shots * positions], x[:, :, shots * positions :]
    return torch.cat([support.unflatten(2, (shots, positions)).mean(2), rest], dim=2)


class CalibratedCrossAttention:
    """Computes a layer's cross-attention with SAM 2's weights and the support's calibration.

    Made for one forward pass and handed to `Sam2Backbone.attend`.
    """

    def __init__(
        self, support_masks: Tensor, mode: str = "corrected", explicit: bool = False, bias: Bias = calibration_bias
    ) -> None:
        """support_masks: (B, K, h, w) in {0, 1}, resized to the memory grid by nearest neighbour. mode: a key of
        `options.CALIBRATIONS`, which says what each does.
        explicit: compute softmax and product step by step and keep a `LayerTrace` per layer in `layers`, instead of
        PyTorch's fused attention with the bias as additive mask. Both agree to 1e-5 in float32.
        bias: what c and the logits make of the query memory's columns. Any other than the default is an experiment
        (`evaluation.trial`), not the paper's method.
        """
        self.bias = bias
        self.support_masks = support_masks
        self.mode = CALIBRATIONS[mode]
        self.explicit = explicit
        self.layers: list[LayerTrace] = []

    def alter(self, layer: int, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Where an experiment changes what a layer reads (`fss_lab.interventions`); the method changes nothing.

        k, v: (B, heads, L, d), shots averaged; bias: (B, heads, N, L), None for zeros. Returns the three.
        """
        return k, v, bias

    def __call__(
        self, layer: int, attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor, pointer_tokens: int
    ) -> Tensor:
        """Cross-attention of one layer: q (B, N, C), k and v (B, L, D) -> (B, N, C)."""
        q, k, v = project_heads(attention, q, k, v, pointer_tokens)  # B, heads, tokens, d
        dropout = attention.dropout_p if attention.training else 0.0
        n, shots = q.shape[2], self.support_masks.shape[1]

        similarity = term = bias = biased = None
        if self.mode.judges != "none":
            judges = shots if self.mode.judges == "all" else 1
            masks = self.support_masks[:, :judges]
            fixed = k.detach()  # the bias is a constant: no gradient through it
            support_keys, judged = fixed[:, :, : judges * n], fixed[:, :, judges * n : (judges + 1) * n]
            similarity = shot_similarity(judged, support_keys.unflatten(2, (judges, n)), masks)
            term = calibration_term(similarity, masks) if self.mode.skip_vanished else similarity.mean(2)
            taken = self.bias(q.detach() @ judged.mT / math.sqrt(q.shape[-1]), term)
            first = n if self.mode.average else judges * n  # of the judged columns
            biased = slice(first, first + n)
        if self.mode.average:
            k, v = average_shots(k, shots, n), average_shots(v, shots, n)
            shots = 1
        if biased is not None:
            bias = F.pad(taken.to(q.dtype), (biased.start, k.shape[2] - biased.stop))  # B, heads, N, L
        k, v, bias = self.alter(layer, k, v, bias)

        if not self.explicit:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
            return merge_heads(attention, mixed)

        logits = q @ k.mT / math.sqrt(q.shape[-1])
        weights = (logits if bias is None else logits + bias).softmax(-1)
        output = merge_heads(attention, F.dropout(weights, dropout) @ v)
        self.layers.append(LayerTrace(
            q=q, k=k, v=v, shot_similarity=similarity, calibration=term, logits=logits,
            bias=torch.zeros_like(logits) if bias is None else bias,
            attention_before=logits.softmax(-1), attention=weights, output=output,
            columns=Columns.of(shots * n, k.shape[2], pointer_tokens), biased=biased,
        ))  # fmt: skip
        return output
