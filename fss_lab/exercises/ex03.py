"""Checks of notebook 03: separation, attention mass, a paired interval, a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fss_lab.exercises.harness import ExerciseError, call, check_number, compare, exercise, hint

Answer = Callable[..., Any]


@exercise()
def check_separation(function: Answer) -> str:
    """Exercise 3.1: `separation(scores, inside)`. Raises ExerciseError with a diagnosis."""
    scores = torch.tensor([[0.9, 0.1, 0.4], [0.4, 0.6, 0.0]])
    inside = torch.tensor([[True, False, True], [False, False, False]])  # 0.9 and 0.4 against 0.1, 0.4, 0.6 and 0.0
    compare(
        check_number(call(function, scores, inside)),
        6.5 / 8,
        "the separation",
        {
            "A tie counts half; you count it as lost.": 6 / 8,
            "A tie counts half; you count it as won (>= instead of >).": 7 / 8,
            "This is the probability that the other cell gets the higher score; swap the sides.": 1.5 / 8,
            "This is the difference of the two means; compare every object cell with every other cell.": 0.65 - 0.275,
            "You divide by all pairs of cells; only pairs of an object cell and another cell count.": 6.5 / 36,
            "This is the number of wins; divide it by the number of pairs.": 6.5,
            "This is the share of right cells at the threshold 0.5; the separation needs no threshold.": 4 / 6,
            "You compare the objects' lowest score only with the others' highest.": 0.0,
            "This is the share of the other cells that lie below the object's mean; compare cell with cell.": 1.0,
        },
    )
    compare(
        check_number(call(function, 10 * scores - 100, inside)),
        6.5 / 8,
        "the separation of 10 s - 100 (only the order of the scores may matter)",
    )
    compare(check_number(call(function, torch.zeros(2, 3), inside)), 0.5, "the separation where all scores are equal")
    return "Every object cell against every other cell; ties count half."


@exercise()
def check_mass_on_object(function: Answer) -> str:
    """Exercise 3.2: `mass_on_object(attention, query_cells, support_cells)`. Raises ExerciseError with a diagnosis."""
    attention = torch.tensor([[0.5, 0.1, 0.2, 0.2], [0.1, 0.2, 0.3, 0.4], [0.3, 0.1, 0.6, 0.0]])  # N = 3, L = 4
    query, support = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    chosen = attention[:, :3]
    with hint(IndexError, "attention has more columns than support_cells has cells: the last ones are pointers."):
        answer = check_number(call(function, attention, query, support))
    compare(
        answer,
        0.55,
        "the mass",
        {
            "This is the mean over all query cells; only those of the object may count.": (
                chosen[:, support].sum(1).mean()
            ),
            "This is the mean over the chosen columns; add them up, and take the mean over the rows only.": (
                chosen[query][:, support].mean()
            ),
            "This is the sum over the query's cells; take their mean.": chosen[query][:, support].sum(),
            "Rows and columns are swapped: rows are the query's cells, columns the support's.": (
                chosen[support][:, query].sum(1).mean()
            ),
            "This is the mass beside the object; the object's cells are where support_cells is true.": (
                chosen[query][:, ~support].sum(1).mean()
            ),
            "Pointer tokens are counted too; the support's cells are the first N columns only.": (
                chosen[query][:, support].sum(1).mean() + attention[query, 3].mean()
            ),
            "The rows are scaled to 1 without the pointers; leave the weights as they are.": (
                (chosen / chosen.sum(1, keepdim=True))[query][:, support].sum(1).mean()
            ),
        },
    )
    uniform = torch.full((3, 3), 1 / 3)
    compare(
        check_number(call(function, uniform, query, support)), 2 / 3, "the mass of attention that is even everywhere"
    )
    return "Sum over the support's object, mean over the query's."


@exercise(library=["paired_bootstrap"])
def check_paired_interval(function: Answer) -> str:
    """Exercise 3.3: `paired_interval(same, other, drawn)`. Raises ExerciseError with a diagnosis."""
    drawn = torch.randint(0, 12, (400, 12), generator=torch.Generator().manual_seed(0))
    other = torch.linspace(0.0, 0.55, 12)
    low, high = _pair(call(function, other + 0.3, other, drawn))
    if abs(low + 0.3) < 1e-4 and abs(high + 0.3) < 1e-4:
        raise ExerciseError("The sign is reversed: the difference is same - other.")
    compare(
        (low, high),
        (0.3, 0.3),
        "the interval of a constant difference of 0.3 (it must have no width: draw the same episodes for both)",
    )
    same = torch.tensor([0.9, 0.2, 0.8, 0.7, 0.95, 0.5, 0.85, 0.6, 0.9, 0.3, 0.75, 0.8])
    differences = same - other
    means = differences[drawn].mean(1)

    def quantiles(values: torch.Tensor, *shares: float) -> list[float]:
        return [float(values.quantile(share)) for share in shares]

    spread = float(means.std())
    compare(
        _pair(call(function, same, other, drawn)),
        quantiles(means, 0.025, 0.975),
        "(low, high)",
        {
            "These are the 5 % and 95 % quantiles, which hold 90 % between them; take 2.5 % and 97.5 %.": quantiles(
                means, 0.05, 0.95
            ),
            "These are the smallest and the largest replicate; take quantiles.": [
                float(means.min()),
                float(means.max()),
            ],
            "These are quantiles of the episodes' differences; take a mean for each replicate first.": quantiles(
                differences, 0.025, 0.975
            ),
            "These are quantiles of single draws; take the mean over each replicate (dim=1) first.": quantiles(
                differences[drawn].flatten(), 0.025, 0.975
            ),
            "This is mean ± 2 standard deviations; take quantiles, which need no normal distribution.": [
                float(differences.mean()) - 2 * spread,
                float(differences.mean()) + 2 * spread,
            ],
            "This is mean ± 1.96 standard errors, a formula for normal distributions; take quantiles of the means.": [
                float(differences.mean() - 1.96 * differences.std() / 12**0.5),
                float(differences.mean() + 1.96 * differences.std() / 12**0.5),
            ],
            "The order is (low, high).": quantiles(means, 0.975, 0.025),
            "You take means over the replicates (dim=0); each replicate, a row of drawn, needs its mean (dim=1).": (
                quantiles(differences[drawn].mean(0), 0.025, 0.975)
            ),
            "You subtract quantiles of same and other; take the quantiles of the differences.": [
                float(same[drawn].mean(1).quantile(share) - other[drawn].mean(1).quantile(share))
                for share in (0.025, 0.975)
            ],
        },
    )
    return "Same draws for both: what the episodes have in common drops out."


def _pair(answer: Any) -> tuple[float, float]:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ExerciseError(f"paired_interval must return two numbers, (low, high), but returned {answer!r:.80}.")
    return check_number(answer[0], "low"), check_number(answer[1], "high")


@exercise()
def check_lend_supports(function: Answer) -> str:
    """Exercise 3.4: `lend_supports(class_ids)`. Raises ExerciseError with a diagnosis."""
    for class_ids in (
        [0, 1, 2],
        [3, 1, 1, 3, 3, 2, 2, 3],
        [5, 6] * 6,
        [9, 8, 9, 8, 7, 9],
        [4, 4, 2, 7, 7, 2, 4, 2, 7, 7],
    ):
        lent = _numbers(call(function, list(class_ids)), class_ids)
        for i, j in enumerate(lent):
            if j == i:
                raise ExerciseError(f"For {class_ids} episode {i} is lent its own support.")
            if class_ids[j] == class_ids[i]:
                raise ExerciseError(
                    f"For {class_ids} episode {i} is lent the support of episode {j}, which is of the same class, "
                    f"{class_ids[i]}."
                )
        often = max(lent, key=lent.count)
        if lent.count(often) > 1:
            raise ExerciseError(
                f"For {class_ids} the support of episode {often} is lent {lent.count(often)} times. Lend each once, or "
                "your control measures how good a few supports are."
            )
        if any(function(list(class_ids)) != lent for _ in range(5)):
            raise ExerciseError("The second call gives another answer: leave chance out, so that others can repeat it.")
    return "Every support is lent once, to an episode of another class, and the same way each time."


def _numbers(lent: Any, class_ids: Sequence[int]) -> list[int]:
    count = len(class_ids)
    if not isinstance(lent, list) or len(lent) != count or not all(type(j) is int for j in lent):
        raise ExerciseError(f"For {list(class_ids)} you return {lent!r}; it must be a list of {count} ints.")
    if lent and not all(0 <= j < count for j in lent):
        if set(lent) <= set(class_ids):
            raise ExerciseError(f"For {list(class_ids)} you return classes, {lent}; return the numbers of episodes.")
        raise ExerciseError(f"For {list(class_ids)} you return {lent}; episodes are numbered 0 to {count - 1}.")
    return lent
