"""Notebook 09: right answers unlike the solutions pass, and plausible wrong ones are told what is wrong."""

import numpy as np
import pytest
import torch

from fss_lab.exercises import ExerciseError, ex09


def dice(p, y):
    return 1 - 2 * (p * y).sum() / (p.pow(2).sum() + y.pow(2).sum())


def batch(loss):
    """The mean of a loss over the images."""
    return lambda logits, truth: torch.stack([loss(a, b) for a, b in zip(logits, truth, strict=True)]).mean()


def test_a_loss_written_in_another_way():
    assert ex09.check_batch_dice(batch(lambda a, b: dice(a.sigmoid(), (b == 1).float()))) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda a, b: dice(a.sigmoid(), (b == 1).float()), "pixels of the whole batch"),
        (lambda a, b: 2 * batch(lambda x, y: dice(x.sigmoid(), (y == 1).float()))(a, b), "take its mean"),
        (batch(lambda a, b: 1 - 2 * (a.sigmoid() * (b == 1)).sum() / (a.sigmoid() + (b == 1)).sum()), "the squares"),
        (batch(lambda a, b: dice(a, (b == 1).float())), "p is their sigmoid"),
        (batch(lambda a, b: dice(a.sigmoid(), b.bool().float())), "makes them object"),
        (batch(lambda a, b: dice(a.sigmoid() * (b != 255), (b == 1).float())), "you leave them out"),
        (batch(lambda a, b: dice(a.sigmoid(), b.float())), "the number 255"),
        (batch(lambda a, b: 1 - dice(a.sigmoid(), (b == 1).float())), "1 minus it"),
        (batch(lambda a, b: (1 + dice(a.sigmoid(), (b == 1).float())) / 2), "The 2 above"),
        (lambda a, b: a.sigmoid(), "must be one number"),
    ],
)
def test_wrong_losses(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex09.check_batch_dice(wrong)


def test_a_schedule_written_in_another_way():
    assert ex09.check_poly_rate(lambda t, T, rate: rate * np.exp(0.9 * np.log((T - t) / T)) if t < T else 0.0) is None


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda t, T, rate: rate * (1 - (t / T) ** 0.9), "what is left of the run, belongs in the bracket"),
        (lambda t, T, rate: rate * (1 - t / T), "straight line"),
        (lambda t, T, rate: (1 - t / T) ** 0.9, "factor alone"),
        (lambda t, T, rate: (rate * (1 - t / T)) ** 0.9, "the rate to the power"),
        (lambda t, T, rate: rate * max(0, 1 - (t + 1) / T) ** 0.9, "count the steps from 1"),
        (lambda t, T, rate: rate * (t / T) ** 0.9, "The rate rises"),
        (lambda t, T, rate: rate * (1 - t / T) ** 0.5, "the rate of step 5 of 10"),
    ],
)
def test_wrong_schedules(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex09.check_poly_rate(wrong)


def test_a_choice_written_in_another_way():
    assert (
        ex09.check_choose(lambda steps, base, novel: min(zip((-score for score in base), steps, strict=True))[1])
        is None
    )


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda steps, base, novel: steps[np.argmax(novel)], "You chose by the novel classes"),
        (lambda steps, base, novel: int(np.argmax(base)), "a place in the list"),
        (lambda steps, base, novel: max(zip(base, steps, strict=True))[1], "the earlier one"),
        (lambda steps, base, novel: steps[-1], "last step"),
        (lambda steps, base, novel: steps[np.argmax(np.add(base, novel))], "looks at the novel classes"),
        (lambda steps, base, novel: steps[1 + int(np.argmax(base[1:]))], "Step 0 counts"),
        (lambda steps, base, novel: [steps[np.argmax(base)], novel[0]][0], "TypeError"),
    ],
)
def test_wrong_choices(wrong, hint):
    with pytest.raises(ExerciseError, match=hint):
        ex09.check_choose(wrong)
