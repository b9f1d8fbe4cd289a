"""Checks of notebook 10: evaluation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fss_lab.exercises.harness import call, check_number, check_tensor, compare, exercise


@exercise()
def check_class_iou(function: Callable[..., float]) -> str:
    """Exercise 10.1: function(inter, union, pixels, side) -> IoU of a class at the labels' size or in a square."""
    inter, union = torch.tensor([30.0, 2.0, 6.0]), torch.tensor([40.0, 10.0, 9.0])  # (episodes,)
    pixels = torch.tensor([100.0, 25.0, 50.0])
    own_size = inter.sum() / union.sum()
    compare(
        check_number(call(function, inter, union, pixels, None)),
        own_size,
        "with side=None the IoU",
        {"That is the mean of the episodes' IoUs. Add up first, then divide once.": (inter / union).mean()},
    )
    w = 400 / pixels  # a square of 20 x 20
    compare(
        check_number(call(function, inter, union, pixels, 20)),
        (w * inter).sum() / (w * union).sum(),
        "in the square the IoU",
        {
            "You count at the labels' own size; with a side every image is stretched to side² pixels.": own_size,
            "Turned round: a small image is stretched, its pixels count more.": (inter / w).sum() / (union / w).sum(),
            "That is the mean of the episodes' IoUs. Add up first, then divide once.": (inter / union).mean(),
            "You weigh the intersections only, not the unions.": (w * inter).sum() / union.sum(),
            "You weigh by the ratio of the sides, not of the pixels.": (w.sqrt() * inter).sum()
            / (w.sqrt() * union).sum(),
        },
    )
    return "class_iou adds up first, by weight, and divides once."


@exercise()
def check_replicated_iou(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Exercise 10.2: function(w (R, n), inter (n,), union (n,)) -> IoU of each replicate, (R,)."""
    inter, union = torch.tensor([2.0, 9.0, 1.0]).double(), torch.tensor([4.0, 10.0, 6.0]).double()
    w = torch.tensor([[2, 0, 1], [1, 2, 0], [1, 1, 1], [0, 0, 3]]).double()  # the draws of the table, and one more
    once = (w > 0).double()
    answer = check_tensor(torch.as_tensor(call(function, w, inter, union)), (4,), "the IoU of four replicates")
    compare(
        answer,
        (w @ inter) / (w @ union),
        "the IoU of the replicates",
        {
            "That is the mean of the IoUs of the drawn episodes. Add up intersections and unions first, then divide.": (
                w @ (inter / union)
            )
            / w.sum(1),
            "You count an episode once however often it was drawn; w says how often.": (once @ inter) / (once @ union),
            "Only the intersections are drawn; the unions of the same episodes belong below the line.": (w @ inter)
            / union.sum(),
            "The draws are ignored: every replicate is the original score.": (inter.sum() / union.sum()).expand(4),
            "That is the sum of the intersections; divide by that of the unions.": w @ inter,
            "The fraction stands on its head: intersection over union.": (w @ union) / (w @ inter),
        },
        tolerance=1e-6,
    )
    return "replicated_iou adds up what was drawn, as often as it was drawn, and divides once."


@exercise()
def check_episodes_needed(function: Callable[[int, float, float], int]) -> str:
    """Exercise 10.3: function(episodes, width, wanted) -> how many episodes give an interval as narrow as wanted."""
    for episodes, width, wanted, needed in ((40, 0.16, 0.08, 160), (50, 0.1, 0.03, 556), (100, 0.05, 0.1, 25)):
        ratio = width / wanted
        compare(
            check_number(call(function, episodes, width, wanted)),
            needed,
            f"{episodes} episodes give a width of {width}; for {wanted} the number of episodes",
            {
                "Twice as many episodes do not halve the width: it falls with the root of their number.": episodes
                * ratio,
                "The ratio is to be squared; you took its root.": episodes * ratio**0.5,
                "Turned round: a narrower interval takes more episodes.": episodes / ratio**2,
                "That many are just too few: round up.": int(episodes * ratio**2),
                "Whole episodes only: round up.": episodes * ratio**2,
                "That is the factor; multiply it by the episodes that you have.": ratio**2,
            },
            tolerance=1e-9,
        )
    return "episodes_needed grows with the square of the ratio."
