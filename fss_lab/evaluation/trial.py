"""SCMA on trial, with two switches: whose c, and with or without ā.

SCMA is meant to silence unexpected background in the query memory. So the memory is told the truth and an object of
another class, the planted one, and the mask shows whether it was silenced. The paper has only the row SCMA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.backbones.cache import FeatureCache
from fss_lab.errors import InputError
from fss_lab.figures.prediction import iou, object_cells
from fss_lab.method import FSSAM
from fss_lab.method.calibration import Bias, calibration_bias
from fss_lab.method.prompts import min_max
from fss_lab.method.rereading import Case, bias_without_confidence, make_case
from fss_lab.toyworld.pictograms import Pictograms


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
    "SCMA: own c, with ā": Row(None, confidence=True),
    "true c, with ā": Row(true_c, confidence=True),
    "own c, without ā": Row(None, confidence=False),
    "true c, without ā": Row(true_c, confidence=False),
    "prior as c, without ā": Row(dense_c, confidence=False),
}
COLUMNS = ("planted object in the mask", "IoU, planted", "IoU, ordinary")


def prepare(model: FSSAM, data: Pictograms, count: int) -> Iterator[tuple[Case, Case]]:
    """The first `count` episodes whose query shows an object of another class, each twice: with the query memory told
    the truth and that object, and as FSSAM makes it. Raises InputError where the data hold fewer."""
    for index in range(len(data)):
        planted = data.distractor(index) if count else None
        if planted is not None:
            count, task, cache = count - 1, data[index], FeatureCache()
            yield make_case(model, task, planted, cache), make_case(model, task, None, cache)
    if count:
        raise InputError(
            f"in {len(data)} episodes {count} queries too few show an object of another class; take more episodes"
        )


@torch.inference_mode()
def trial(cases: Iterable[tuple[Case, Case]], rows: Mapping[str, Row] = ROWS) -> dict[str, np.ndarray]:
    """Every row on what `prepare` gives: (N, 3) by row, 0..1.

    `COLUMNS`: the share of the planted object that the mask covers; the mask's IoU with the truth; and the IoU on the
    episode as it is.
    """
    measured: dict[str, list[list[float]]] = {name: [] for name in rows}
    for lie, ordinary in cases:
        for name, row in rows.items():
            mask = row.mask(lie)
            share = float(mask[lie.planted].float().mean())
            measured[name].append([share, iou(mask, lie.truth), iou(row.mask(ordinary), lie.truth)])
    return {name: np.array(values) for name, values in measured.items()}
