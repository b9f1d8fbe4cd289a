"""The planted episodes on which exercise 6.6 is scored, prepared once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from fss_lab.figures.prediction import iou
from fss_lab.method.rereading import Case, bias_without_confidence, make_case
from fss_lab.models.load import load_model
from fss_lab.toyworld.pictograms import Pictograms


@cache
def planted_cases() -> list[Case]:
    """The first planted episode of each novel class of fold 0 (1 shot, episode seed 0): the query memory is told the
    truth and the largest object of another class."""
    model, data = load_model("toy", fold=0), Pictograms(0, "novel", shots=1, seed=0)
    cases: dict[int, Case] = {}
    for index, task in enumerate(data):
        wrong = None if task.class_id in cases else data.distractor(index)
        if wrong is not None:
            cases[task.class_id] = make_case(model, task, wrong)
        if len(cases) == len(data.classes):
            break
    return list(cases.values())


def verdict(judge: Callable[[Case], Tensor]) -> tuple[float, float]:
    """The masks' IoU with the truth, and the share of the planted object that they cover; means over `planted_cases`.

    judge: a case's c, (1, h, w) in 0..1, from which the bias without ā is made.
    """
    scores, shares = [], []
    for case in planted_cases():
        with torch.no_grad():
            c = judge(case)
            mask = case.read(lambda logits, term, c=c: bias_without_confidence(logits, c.expand(term.shape)))  # type: ignore[misc]
        scores.append(iou(mask, case.truth))
        shares.append(float(mask[case.planted].float().mean()))
    return sum(scores) / len(scores), sum(shares) / len(shares)
