"""One query memory, read again and again with other biases: an experiment on SCMA, not the paper's method."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import Episode, collate
from fss_lab.method.calibration import STRENGTH, Bias, CalibratedCrossAttention, calibration_bias
from fss_lab.method.fssam import FSSAM
from fss_lab.method.records import Encoded
from fss_lab.method.trace import Trace


@dataclass(frozen=True)
class Case:
    """An episode whose memory is read again and again, each time with another bias.

    F_Q (1, c, h, w), F_S (1, K, c, h, w): the dense features of query and supports, their mean over each cell of the
    memory grid.
    """

    model: FSSAM
    encoded: Encoded
    trace: Trace  # of the pass that made the memory
    truth: Tensor  # H, W of 0, 1, 255
    planted: Tensor | None  # H, W bool: what the query memory was told besides the truth; None: its own prior
    F_Q: Tensor
    F_S: Tensor

    @property
    def Mem_Q(self) -> Tensor:
        """The query memory that is read, (1, D, h, w)."""
        assert self.trace.pseudo_memory is not None
        return self.trace.rounds[-1].memory if self.trace.rounds else self.trace.pseudo_memory.memory

    @property
    def Mem_S(self) -> Tensor:
        """The supports' memories, (1, K, D, h, w)."""
        return self.encoded.support_memory.memory

    @property
    def M_S(self) -> Tensor:
        """The supports' masks on the memory grid, (1, K, h, w) in {0, 1}."""
        return self.trace.support_masks_attention

    def read(self, bias: Bias = calibration_bias) -> Tensor:
        """The mask (H, W) bool that SAM 2 makes of the memory with another bias; the default is SCMA's."""
        attention = CalibratedCrossAttention(self.M_S, bias=bias)
        attended = self.model.sam2.attend(self.encoded.query, self.trace.tokens, attention)
        low = self.model.sam2.decode(attended, self.encoded.query).low_res_logits
        return F.interpolate(low, self.truth.shape, mode="bilinear", align_corners=False)[0, 0].cpu() > 0


@torch.no_grad()
def make_case(model: FSSAM, task: Episode, planted: Tensor | None = None, cache: FeatureCache | None = None) -> Case:
    """The query memory of an episode, told the truth and a planted object (H, W) bool; None: as FSSAM makes it."""
    cache = FeatureCache() if cache is None else cache
    encoded = model.encode(collate([task]), cache)
    if planted is not None:
        told = model.fit_masks(((task.query_mask == 1) | planted)[None, None])
        encoded, model = replace(encoded, query_masks=told), model.variant(prior="truth")
    trace = model.predict(encoded, trace=True).trace
    dense = model.encode_images([task.query_image, *task.support_images], cache)[1]
    assert trace is not None and dense is not None
    height, width = trace.support_masks_attention.shape[-2:]
    dense = F.adaptive_avg_pool2d(dense, (height, width))
    return Case(model, encoded, trace, task.query_mask, planted, F_Q=dense[:1], F_S=dense[None, 1:])


def bias_without_confidence(logits: Tensor, term: Tensor) -> Tensor:
    """SCMA's bias without its second witness: 10 (c - 1) for every cell that looks. Shapes as in `Bias`."""
    return (STRENGTH * (term.flatten(-2).unsqueeze(-2) - 1)).expand(logits.shape)
