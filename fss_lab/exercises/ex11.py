"""Checks of notebook 11: photographs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise


@exercise()
def check_to_square(function: Callable[[Tensor, int, int, int], Tensor]) -> str:
    """Exercise 11.1: function(points: (N, 2) of x and y, width, height, side) -> (N, 2) in the model's square."""
    points = torch.tensor([[240.0, 90.0], [0.0, 360.0], [480.0, 1.0]])
    answer = check_tensor(call(function, points, 480, 360, 256), (3, 2), "the tensor of points")
    scale = torch.tensor([256 / 480, 256 / 360])
    compare(
        answer,
        points * scale,
        "the tensor of points in a photo of 480 x 360",
        {
            "Both axes shrink by the width's factor. The photo is stretched, so y has a factor of its own, side / "
            "height.": points * scale[0],
            "Both axes shrink by the height's factor. The photo is stretched, so x has a factor of its own, side / "
            "width.": points * scale[1],
            "Width and height are swapped: x runs along the width.": points * scale.flip(0),
            "You divide by the factor. The square is smaller than this photo, so the numbers get smaller.": points
            / scale,
            "You round to whole pixels. A click may lie between pixels; SAM 2 takes fractions.": (
                points * scale
            ).round(),
            "You return (y, x), as an array is indexed; a point is (x, y).": (points * scale).flip(1),
            "These are shares of the photo, 0..1; multiply by the side of the square.": points
            / torch.tensor([480.0, 360.0]),
        },
    )
    small = torch.tensor([[10.0, 20.0]])
    compare(call(function, small, 20, 40, 256), small * torch.tensor([12.8, 6.4]), "a point of a photo of 20 x 40")
    return "to_square stretches a point as the photo is stretched, each axis by its own factor."


@exercise()
def check_miss_and_alarm(function: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Exercise 11.2: function(present: (N,), absent: (M,), threshold) -> (missed, false alarms), shares in 0..1."""
    present, absent = torch.tensor([0.9, 0.7, 0.6, 0.2]), torch.tensor([0.8, 0.6, 0.3, 0.2, 0.1])
    compare(
        _pair(call(function, present, absent, 0.75)),
        [0.75, 0.2],
        "(missed, false alarms) at 0.75",
        {
            "Those are the hits. Missed are the photos with the object whose score is below the threshold.": [
                0.25,
                0.2,
            ],
            "The two are in the wrong order: the missed ones come first.": [0.2, 0.75],
            "You count; divide by how many photos there are of that kind.": [3.0, 1.0],
            "You divide by the number of all photos. Each share is of its own kind: of the photos with the object, and "
            "of those without.": [3 / 9, 1 / 9],
            "A false alarm is a photo without the object whose score reaches the threshold; you count those below.": [
                0.75,
                0.8,
            ],
        },
    )
    compare(
        _pair(call(function, present, absent, 0.6)),
        [0.25, 0.4],
        "(missed, false alarms) at 0.6, which two photos have exactly",
        {
            "A score equal to the threshold counts as present, as in `segment_classes` and on the command line.": [
                0.5,
                0.2,
            ],
            "A score equal to the threshold counts as present in both rows; you use < in one and > in the other.": [
                0.25,
                0.2,
            ],
            "A score equal to the threshold is missed and a false alarm at once in yours.": [0.5, 0.4],
        },
    )
    return "miss_and_alarm: one threshold, two kinds of mistakes."


def _pair(answer: Any) -> list[float]:
    try:
        missed, alarms = (float(value) for value in answer)
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError("Return two numbers, (missed, false alarms).") from None
    return [missed, alarms]


@exercise()
def check_label_map(function: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Exercise 11.3: function(probabilities: (C, H, W), scores: (C,), threshold) -> (H, W) of 0, 1, ..., C."""
    maps = torch.tensor([[[0.9, 0.6, 0.2, 0.45, 0.1]], [[0.6, 0.8, 0.3, 0.48, 0.9]], [[0.7, 0.1, 0.6, 0.4, 0.2]]])
    answer = check_tensor(call(function, maps, torch.tensor([0.6, 0.95, 0.8]), 0.5), (1, 5), "the label map")
    compare(
        answer,
        [[2, 2, 3, 0, 2]],
        "the label map of three classes that are all present",
        {
            "You compare probabilities alone; the product of probability and score decides between classes.": [
                [1, 2, 3, 0, 2]
            ],
            "You hold the product against one half. A class takes part where its probability is above one half; the "
            "product only decides between those.": [[2, 2, 0, 0, 2]],
            "Every pixel has a class in yours. Where no probability is above one half, the label is 0, background.": [
                [2, 2, 3, 2, 2]
            ],
            "Labels begin with 1 for the first class; 0 is background.": [[1, 1, 2, 0, 1]],
            "Where masks overlap, the last class wins in yours; the one with the largest product should.": [
                [3, 2, 3, 0, 2]
            ],
            "Where masks overlap, the first class wins in yours; the one with the largest product should.": [
                [1, 1, 3, 0, 2]
            ],
        },
    )
    compare(
        call(function, maps, torch.tensor([0.9, 0.2, 0.8]), 0.5),
        [[1, 1, 3, 0, 0]],
        "the label map where the second class is absent (score 0.2)",
        {
            "A class whose score is below the threshold must get no pixel.": [[1, 1, 3, 0, 2]],
            "You renumber the classes that are left; class 3 stays 3.": [[1, 1, 2, 0, 0]],
        },
    )
    compare(
        call(function, maps, torch.tensor([0.5, 0.1, 0.1]), 0.5),
        [[1, 1, 0, 0, 0]],
        "the label map where one class alone is present, with a score of exactly the threshold",
        {"A score equal to the threshold counts as present.": [[0, 0, 0, 0, 0]]},
    )
    return "label_map: every pixel one class or background."
