"""What a traced forward pass leaves behind: every tensor of every step, as the ordinary pass computed it.

B queries, K shots, H x W image, h x w memory grid, N = h * w, C feature and D memory channels, L key columns.

`Trace`
| name | shape | meaning (section of the paper) |
|---|---|---|
| `priors` | `Priors` | similarities per shot, priors per shot and mean (PPG); None without |
| `support_masks` | B, K, H, W | the support masks, 0/1 |
| `support_masks_refine` | B, K, h, w | the same at grid size, bilinear, for IMR |
| `support_masks_attention`| B, K, h, w | the same at grid size, nearest neighbour, for SCMA |
| `support_memory` | `Memory`, (B, K, ..) | Mem_S of every shot, with its position code and object pointer |
| `foreground_memory` | `Memory`, batch B | Mem_fg; None if nothing needs it |
| `pseudo_memory` | `Memory`, batch B | the query memory before refinement; None for memory="support" |
| `pseudo_prior` | B, 1, H, W | the mask that became it |
| `support_similarity` | B, 1, h, w | A of IMR; None without refinement |
| `rounds` | list of `Round` | per round: similarity (B of IMR), weight W, memory, prior |
| `tokens` | `MemoryTokens` | what memory attention read, L', B, D (before shots are averaged) |
| `layers` | list of `LayerTrace` | one per layer of memory attention (SCMA) |
| `attended` | B, C, h, w | memory attention's output |
| `decoded` | `Decoded` | candidate masks, predicted IoUs, object score |

`LayerTrace`
| name | shape | meaning |
|---|---|---|
| `q` | B, heads, N, d | queries after projection and rotary encoding |
| `k`, `v` | B, heads, L, d | keys (after rotary encoding) and values that were attended to, shots averaged |
| `shot_similarity` | B, heads, K, h, w | c_i; None if calibration is off |
| `calibration` | B, heads, h, w | c; None if calibration is off |
| `logits` | B, heads, N, L | q k / sqrt(d), before the bias |
| `bias` | B, heads, N, L | the calibration, in [-10, 0]; 0 outside the calibrated columns |
| `attention_before` | B, heads, N, L | softmax(logits): what the attention would have been |
| `attention` | B, heads, N, L | softmax(logits + bias): what it was (before dropout) |
| `output` | B, N, C | attention x values, heads merged, output projection |
| `columns` | `Columns` | which of the L columns are support, query memory, pointers |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from fss_lab.backbones.sam2 import Decoded, Memory, MemoryTokens
from fss_lab.method.prompts import Priors
from fss_lab.method.refinement import Round


@dataclass(frozen=True)
class Columns:
    """Slices of the key columns: [support | query memory | pointers]. `query` is empty for
    memory="support"."""

    support: slice
    query: slice
    pointers: slice

    @staticmethod
    def of(support: int, total: int, pointers: int) -> Columns:
        """Layout of `total` columns, the first `support` of them support, the last `pointers` pointer
        tokens."""
        return Columns(slice(0, support), slice(support, total - pointers), slice(total - pointers, total))


@dataclass(frozen=True)
class LayerTrace:
    """One cross-attention; the names are explained at the top of this module."""

    q: Tensor
    k: Tensor
    v: Tensor
    shot_similarity: Tensor | None
    calibration: Tensor | None
    logits: Tensor
    bias: Tensor
    attention_before: Tensor
    attention: Tensor
    output: Tensor
    columns: Columns


@dataclass(frozen=True)
class Trace:
    """One forward pass; the names are explained at the top of this module."""

    priors: Priors | None
    support_masks: Tensor
    support_masks_refine: Tensor
    support_masks_attention: Tensor
    support_memory: Memory
    foreground_memory: Memory | None
    pseudo_memory: Memory | None
    pseudo_prior: Tensor | None
    support_similarity: Tensor | None
    rounds: list[Round]
    tokens: MemoryTokens
    layers: list[LayerTrace]
    attended: Tensor
    decoded: Decoded

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
