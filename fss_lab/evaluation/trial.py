"""SCMA on trial, with two switches: whose c, and with or without ā.

SCMA is meant to silence unexpected background in the query memory. So the memory is told the truth and an object of
another class, the planted one, and the mask shows whether it was silenced. The paper has only the row SCMA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import Episode, collate
from fss_lab.errors import InputError
from fss_lab.evaluation.separation import object_cells
from fss_lab.figures.prediction import iou
from fss_lab.method import FSSAM
from fss_lab.method.calibration import STRENGTH, Bias, CalibratedCrossAttention, calibration_bias
from fss_lab.method.prompts import min_max
from fss_lab.method.records import Encoded
from fss_lab.method.trace import Trace
from fss_lab.toyworld.pictograms import Pictograms


@dataclass(frozen=True)
class Case:
    """One episode whose memory is read again and again, each time with another bias.

    F_Q (1, c, h, w), F_S (1, K, c, h, w): the dense features of query and supports, the mean over each cell of the
    memory grid. Mem_S (1, K, D, h, w), M_S (1, K, h, w): the supports' memories and masks there.
    """

    model: FSSAM
    encoded: Encoded
    trace: Trace  # of the pass that made the memory
    truth: Tensor  # H, W of 0, 1, 255
    planted: Tensor | None  # H, W bool: what the query memory was told besides the truth; None: its own prior
    F_Q: Tensor
    F_S: Tensor

    @property
    def Mem_S(self) -> Tensor:
        return self.encoded.support_memory.memory

    @property
    def M_S(self) -> Tensor:
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


@dataclass(frozen=True)
class Row:
    """judge: a case's c, (h, w) or (1, h, w) in 0..1; None: SCMA's own, in every layer. confidence: with ā."""

    judge: Callable[[Case], Tensor] | None
    confidence: bool

    def mask(self, case: Case) -> Tensor:
        """The mask (H, W) bool with this bias."""
        rule: Bias = calibration_bias if self.confidence else bias_without_confidence
        if self.judge is None:
            return case.read(rule)
        c = self.judge(case).to(case.M_S)
        return case.read(lambda logits, term: rule(logits, c.expand(term.shape)))


def no_objection(case: Case) -> Tensor:
    """1 for every cell, which makes every bias 0."""
    return torch.ones(case.M_S.shape[-2:])


def true_c(case: Case) -> Tensor:
    """1 on the object's cells, 0 elsewhere."""
    return object_cells(case.truth, case.M_S.shape[-2:]).float()


def dense_c(case: Case) -> Tensor:
    """P_fg of the dense features, the mean over each cell, stretched to 0..1."""
    assert case.encoded.priors is not None
    height, width = case.M_S.shape[-2:]
    return min_max(F.adaptive_avg_pool2d(case.encoded.priors.foreground[0, 0][None], (height, width)))[0]


ROWS: dict[str, Row] = {
    "no bias": Row(no_objection, confidence=True),
    "SCMA: its own c, with ā": Row(None, confidence=True),
    "true c, with ā": Row(true_c, confidence=True),
    "its own c, without ā": Row(None, confidence=False),
    "true c, without ā": Row(true_c, confidence=False),
    "c = P_fg, without ā": Row(dense_c, confidence=False),
}
COLUMNS = ("planted object in the mask", "IoU, planted", "IoU, ordinary")


@torch.inference_mode()
def trial(model: FSSAM, data: Pictograms, count: int, rows: Mapping[str, Row] = ROWS) -> dict[str, np.ndarray]:
    """Every row on the first `count` episodes whose query shows an object of another class: (count, 3) by row, 0..1.

    `COLUMNS`: the share of the planted object that the mask covers; the mask's IoU with the truth; and the same on the
    episode as it is, whose memory is FSSAM's own. Raises InputError where the data hold fewer such episodes.
    """
    measured: dict[str, list[list[float]]] = {name: [] for name in rows}
    for index in range(len(data)):
        wrong = data.distractor(index)
        if wrong is None:
            continue
        cache = FeatureCache()
        lie, ordinary = (make_case(model, data[index], planted, cache) for planted in (wrong, None))
        for name, row in rows.items():
            mask = row.mask(lie)
            left = float(mask[wrong].float().mean())
            measured[name].append([left, iou(mask, lie.truth), iou(row.mask(ordinary), lie.truth)])
        if len(measured[name]) == count:
            return {name: np.array(values) for name, values in measured.items()}
    raise InputError(f"{count} planted episodes were wanted, but only some of {len(data)} can have one; give more")
