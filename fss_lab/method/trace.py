"""What a traced forward pass leaves behind: every tensor of every step, as the ordinary pass computed it.

B queries, K shots, H x W image, h x w memory grid, N = h * w, C feature and D memory channels, L key columns of d
channels in each head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from fss_lab.backbones.sam2 import Decoded, ImageFeatures, Memory, MemoryTokens
from fss_lab.method.prompts import Priors
from fss_lab.method.refinement import Round


@dataclass(frozen=True)
class Columns:
    """Slices of the key columns: [support | query memory | pointers]. `query` is empty for memory="support"."""

    support: slice
    query: slice
    pointers: slice

    @staticmethod
    def of(support: int, total: int, pointers: int) -> Columns:
        """Layout of `total` columns, the first `support` of them support, the last `pointers` pointer tokens."""
        return Columns(slice(0, support), slice(support, total - pointers), slice(total - pointers, total))


@dataclass(frozen=True)
class LayerTrace:
    """One cross-attention (Sec. SCMA of the paper)."""

    q: Tensor  # B, heads, N, d: queries after projection and rotary encoding
    k: Tensor  # B, heads, L, d: keys likewise, shots averaged
    v: Tensor  # B, heads, L, d: values
    shot_similarity: Tensor | None  # B, heads, K, h, w: c_i; None without bias
    calibration: Tensor | None  # B, heads, h, w: c; None without bias
    logits: Tensor  # B, heads, N, L: q k / sqrt(d), before the bias
    bias: Tensor  # B, heads, N, L: the calibration, in [-10, 0]; 0 outside the biased columns
    attention_before: Tensor  # B, heads, N, L: softmax(logits), what the attention would have been
    attention: Tensor  # B, heads, N, L: softmax(logits + bias), what it was (before dropout)
    output: Tensor  # B, N, C: attention x values, heads merged, output projection
    columns: Columns  # which of the L columns are support, query memory, pointers
    biased: slice | None  # the columns that the bias reaches; None without


@dataclass(frozen=True)
class Inputs:
    """What was segmented, by reference and at its own size."""

    query: Tensor  # 3, H, W in 0..255
    supports: list[Tensor]  # K of 3, H, W in 0..255
    truth: Tensor | None = None  # H, W of 0, 1, 255; None where nobody knows it
    class_name: str = ""  # of an `Episode`


@dataclass(frozen=True)
class Trace:
    """One forward pass, step by step."""

    priors: Priors | None  # similarities per shot, priors per shot and mean (PPG)
    support_masks: Tensor  # B, K, H, W in {0, 1}
    support_masks_refine: Tensor  # B, K, h, w: bilinear, for IMR
    support_masks_attention: Tensor  # B, K, h, w: nearest neighbour, for SCMA
    support_memory: Memory  # (B, K, ...): Mem_S of every shot, with position code and object pointer
    foreground_memory: Memory | None  # batch B: Mem_fg; None if nothing needs it
    pseudo_memory: Memory | None  # batch B: the query memory before refinement; None for memory="support"
    pseudo_prior: Tensor | None  # B, 1, H, W: the mask that became it
    support_similarity: Tensor | None  # B, 1, h, w: A of IMR; None without refinement
    rounds: list[Round]  # of IMR, each with similarity (B), weight W, memory, prior
    tokens: MemoryTokens  # what memory attention read, L', B, D (before shots are averaged)
    layers: list[LayerTrace]  # of memory attention
    attended: Tensor  # B, C, h, w: memory attention's output
    decoded: Decoded  # candidate masks, predicted IoUs, object score
    features: ImageFeatures  # batch B: the query as memory attention and decoder were given it
    calibration: str  # a key of `options.CALIBRATIONS`
    inputs: Inputs | None = None  # what `FSSAM.segment` was given; None for a pass over tensors

    def __repr__(self) -> str:
        return f"Trace({len(self.layers)} layers, {len(self.rounds)} rounds, batch of {len(self.attended)})"


def map_tensors(function: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """Apply a function to the tensors in equal places of one or more like-built structures.

    Structures: dataclasses, tuples and lists of tensors; anything else is taken from the first one.
    """
    if isinstance(first, Tensor):
        return function(first, *others)
    if isinstance(first, tuple | list):
        return type(first)(map_tensors(function, *items) for items in zip(first, *others, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        parts = {
            field.name: map_tensors(function, *(getattr(item, field.name) for item in (first, *others)))
            for field in fields(first)
        }
        return replace(first, **parts)
    return first
