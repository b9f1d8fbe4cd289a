"""Checks of notebook 09: training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fss_lab.exercises.harness import call, check_number, compare, exercise


@exercise(library=["dice_loss"])
def check_batch_dice(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Exercise 9.1: function(logits (B, H, W), truth (B, H, W) with 0, 1, 255) -> the mean Dice loss of the batch."""
    logits = torch.tensor([[[3.0, 0.0, -1.0, -9.0]], [[-2.0, 1.0, 2.0, 0.5]]])
    truth = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 255, 0]]], dtype=torch.uint8)
    p, y, known = logits.sigmoid(), (truth == 1).float(), (truth != 255).float()

    def dice(p: Tensor, y: Tensor, axes: tuple[int, ...] = (-2, -1), power: int = 2) -> Tensor:
        return 1 - 2 * (p * y).sum(axes) / ((p**power).sum(axes) + (y**power).sum(axes))

    compare(
        check_number(call(function, logits, truth)),
        dice(p, y).mean(),
        "the loss of the batch",
        {
            "Divide for each image; you add up the pixels of the whole batch.": dice(p, y, (0, 1, 2)),
            "That is the sum over the batch; take its mean.": dice(p, y).sum(),
            "You left out the squares below the fraction line.": dice(p, y, power=1).mean(),
            "You put the logits into the formula; p is their sigmoid.": dice(logits, y).mean(),
            "Pixels of 255 are background; `truth.bool()` makes them object.": dice(p, truth.bool().float()).mean(),
            "Pixels of 255 count as background; you leave them out.": dice(p * known, y).mean(),
            "Pixels of 255 went in as the number 255; compare with 1.": dice(p, truth.float()).mean(),
            "That is the overlap, which should grow; the loss is 1 minus it.": 1 - dice(p, y).mean(),
            "The 2 above the fraction line is missing.": 0.5 + dice(p, y).mean() / 2,
        },
    )
    return "batch_dice divides once for each image and takes the mean."


@exercise()
def check_poly_rate(function: Callable[[int, int, float], float]) -> str:
    """Exercise 9.2: function(t, T, rate) -> the learning rate of step t of T."""
    for t, steps, rate in ((0, 10, 1e-3), (5, 10, 1e-3), (99, 400, 0.02), (10, 10, 1.0)):
        left = 1 - t / steps
        compare(
            check_number(call(function, t, steps, rate)),
            rate * left**0.9,
            f"the rate of step {t} of {steps}, beginning with {rate},",
            {
                "1 − t / T, what is left of the run, belongs in the bracket.": rate * (1 - (t / steps) ** 0.9),
                "That is a straight line; the exponent 0.9 is missing.": rate * left,
                "That is the factor alone; multiply it by the rate at the start.": left**0.9,
                "You take the rate to the power, too; it stands outside the bracket.": (rate * left) ** 0.9,
                "You count the steps from 1; the first is 0.": rate * max(0, 1 - (t + 1) / steps) ** 0.9,
                "The rate rises; what is left of the run counts.": rate * (t / steps) ** 0.9,
            },
            tolerance=1e-7,
        )
    return "poly_rate falls from the full rate to 0."


@exercise()
def check_choose(function: Callable[..., int]) -> str:
    """Exercise 9.3: function(steps, base, novel) -> the step whose weights the run keeps."""
    steps, base = [0, 10, 20, 30, 40, 50], [0.5, 0.6, 0.7, 0.7, 0.65, 0.4]
    novel = [0.2, 0.52, 0.3, 0.3, 0.5, 0.1]
    mistakes = {
        "You chose by the novel classes. They are the exam: choose by the held-out base classes.": 10,
        "That is a place in the list; the answer is the step that stands there.": 2,
        "Two steps score the same; the earlier one is as good and trained less.": 30,
        "That is the last step; the best one may come earlier.": 50,
        "You chose by the mean of both scores. That looks at the novel classes, too.": 40,
    }
    compare(check_number(call(function, steps, base, novel)), 20, "the step", mistakes)
    compare(
        check_number(call(function, [0, 5, 9], [0.8, 0.3, 0.6], [0.1, 0.9, 0.2])),
        0,
        "where training only lowers the score, the step",
        {
            "Step 0 counts, too: if training did not help, the run keeps the weights that it began with.": 9,
            "You chose by the novel classes. They are the exam: choose by the held-out base classes.": 5,
        },
    )
    compare(
        check_number(call(function, [0, 7, 8], [0.1, 0.4, 0.2], None)),
        7,
        "without scores of novel classes, which a run does not have, the step",
    )
    return "choose takes the earliest of the best steps, by base classes alone."
