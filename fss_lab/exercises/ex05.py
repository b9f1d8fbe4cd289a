"""Checks of notebook 05: iterative memory refinement, from the weight of one position to all rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise
from fss_lab.method import refinement
from fss_lab.method.options import CHOICES
from fss_lab.method.prompts import cosine_map, min_max, prototype

Function = Callable[..., Any]


def _refine_once(*arguments: Any, **keywords: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The library's round as the notebook returns it: Mem_d, P_d, W."""
    after = refinement.refine_once(*arguments, **keywords)
    return after.memory, after.prior, after.weight


LIBRARY: dict[str, Function] = {
    "support_similarity": refinement.support_similarity,
    "agreement": refinement.agreement,
    "refine_once": _refine_once,
}


@exercise(LIBRARY)
def check_support_similarity(function: Function) -> str:
    """Exercise 5.1: `support_similarity(Mem_fg, Mem_S, M_S)`: A of the paper. Raises ExerciseError with a diagnosis."""
    # D = 2, 2 x 2; cosines with the support's object (2, 0): 1, 0.6, 0, 0.8
    foreground = torch.tensor([[[[5.0, 3.0], [0.0, 4.0]], [[0.0, 4.0], [5.0, 3.0]]]])
    support = torch.tensor([[[[[0.0, 0.0], [1.0, 2.0]], [[3.0, 3.0], [1.0, 0.0]]]]])  # object lower right
    mask = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    answer = check_tensor(call(function, foreground, support, mask), (1, 1, 2, 2), "your A")
    compare(
        answer,
        [[[[1, 0.6], [0, 0.8]]]],
        "your A",
        {
            "your A resembles the support's background: take the prototype under M_S, not under 1 − M_S.": _like(
                foreground, support[:, 0], 1 - mask
            ),
            "your A resembles the whole support: the prototype must be the mean under M_S only.": _like(
                foreground, support[:, 0], torch.ones_like(mask)
            ),
            "your A compares the support with itself: the map is over Mem_fg, only the prototype comes from "
            "Mem_S.": _like(support[:, 0], support[:, 0], mask),
            "your A cuts its prototype out of Mem_fg; M_S says where the object is in the support, so the prototype "
            "comes from Mem_S.": _like(foreground, foreground, mask),
        },
        tolerance=2e-3,
    )
    generator = torch.Generator().manual_seed(1)
    foreground = torch.randn(2, 4, 3, 3, generator=generator)
    support = torch.randn(2, 3, 4, 3, 3, generator=generator)
    masks = (torch.rand(2, 3, 3, 3, generator=generator) > 0.5).float()
    value = torch.stack([min_max(cosine_map(foreground, _prototype(support, masks, k))) for k in range(3)])
    raw = torch.stack([cosine_map(foreground, _prototype(support, masks, k)) for k in range(3)])
    merged = torch.stack([_prototype(support, masks, k) for k in range(3)]).mean(0)
    compare(
        check_tensor(call(function, foreground, support, masks), (2, 1, 3, 3), "your A of three shots"),
        value.mean(0),
        "your A of three shots",
        {
            "your A compares with the mean of the prototypes; make a map for every shot and take the mean of the "
            "maps.": min_max(cosine_map(foreground, merged)),
            "your A is stretched after the mean; stretch each shot's map with min_max, then take the mean.": min_max(
                raw.mean(0)
            ),
            "your A is stretched again after the mean over the shots; it must stay the mean.": min_max(value.mean(0)),
            "your A is not stretched: apply min_max to each shot's map.": raw.mean(0),
            "your A is the sum over the shots; take the mean.": value.sum(0),
            "your A uses only the first shot; take the mean over all maps.": value[0],
            "your A is the largest over the shots; take the mean.": value.amax(0),
        },
    )
    _needs_gradient(function, (foreground, support, masks), ("Mem_fg", "Mem_S"))
    return "support_similarity: a map for every shot, stretched, and their mean"


@exercise(LIBRARY)
def check_agreement(function: Function) -> str:
    """Exercise 5.2: `agreement(A, B, variant)`: the weight W. Raises ExerciseError with a diagnosis."""
    a = torch.tensor([[1.0, 0.75], [0.5, 0.25]]).view(1, 1, 2, 2)
    b = torch.tensor([[0.75, 0.5], [0.5, 0.5]]).view(1, 1, 2, 2)
    compare(
        check_tensor(call(function, a, b), (1, 1, 2, 2), "your W"),
        [[[[0.75, 0.25], [0, 0]]]],
        "your W",
        {
            "your W is negative where A and B are small: cut it at 0.": a + b - 1,
            "your W is the product: that is above 0 wherever both are. It must be max(0, A + B − 1).": a * b,
            "your W is the smaller of the two; it must be max(0, A + B − 1).": torch.minimum(a, b),
            "your W is the mean of the two; one of them alone may not open the gate: max(0, A + B − 1).": (a + b) / 2,
            "your W is the sum cut at 1; subtract 1, so that both are needed: max(0, A + B − 1).": (a + b).clamp(max=1),
            "your W is 0 or 1; it must be soft: max(0, A + B − 1).": (a + b > 1).float(),
            'your W is stretched although variant is "v1"; only "v2" stretches.': min_max((a + b - 1).clamp(min=0)),
        },
    )
    pair = torch.cat([a, a / 2 + 0.25]), torch.cat([b, b])
    plain = (pair[0] + pair[1] - 1).clamp(min=0)
    compare(
        check_tensor(call(function, *pair, variant="v2"), (2, 1, 2, 2), 'your W of variant "v2"'),
        min_max(plain),
        'your W of variant "v2"',
        {
            'your W is the same for both variants; "v2" applies min_max.': plain,
            'your "v2" stretches A + B − 1 before it cuts at 0; cut first.': min_max(pair[0] + pair[1] - 1),
            'your "v2" stretches all maps of the batch together; each map for itself.': plain / plain.max(),
        },
    )
    return "agreement: the weight opens only where A and B agree"


@exercise(LIBRARY)
def check_refine_once(function: Function) -> str:
    """Exercise 5.3: `refine_once(Mem_d, P_d, Mem_fg, P_fg, A)`: one round. Raises ExerciseError with a diagnosis."""
    # The guess is the upper left position, (0, 2) in Mem_d; Mem_fg resembles it by 0, 0.8, 1, 0.6, so this is B.
    foreground = torch.tensor([[[[5.0, 3.0], [0.0, 4.0]], [[0.0, 4.0], [5.0, 3.0]]]])
    memory = torch.tensor([[[[0.0, 8.0], [6.0, 0.0]], [[2.0, 4.0], [1.0, 5.0]]]])
    prior, wide = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0], [1.0, 0.5]]]])
    a = torch.tensor([[[[1.0, 0.7], [1.0, 0.2]]]])
    answer = _triple(call(function, memory, prior, foreground, wide, a), memory, prior)
    weights = {
        "your B compares Mem_d with the guess; compare Mem_fg with it: cosine_map(Mem_fg, ·).": _like(
            memory, memory, prior
        ),
        "your B cuts its prototype out of Mem_fg; what has been guessed so far is in Mem_d.": _like(
            foreground, foreground, prior
        ),
        "your B takes its prototype under P_fg; the guess so far is P_d.": _like(foreground, memory, wide),
        "your B takes its prototype over the whole of Mem_d; only under P_d.": _like(
            foreground, memory, torch.ones_like(prior)
        ),
    }
    weight = [[[[0, 0.5], [1, 0]]]]
    mistakes = {hint: (a + b - 1).clamp(min=0) for hint, b in weights.items()}
    mistakes["you return W before P_d; the order is `return Mem_d, P_d, W`."] = (
        torch.tensor(weight).mul(wide - prior) + prior
    )
    first = refinement.refine_once(memory, prior, foreground, wide, a)
    second = refinement.refine_once(first.memory, first.prior, foreground, wide, a)
    mistakes["your W is that of the next round; return the one that you mixed with."] = second.weight
    mistakes["your W is not max(0, A + B − 1): use your `agreement`."] = a * _like(foreground, memory, prior)
    compare(answer[2], weight, "your W", mistakes, tolerance=2e-3)
    w = torch.tensor(weight)
    compare(
        answer[0],
        [[[[0, 5.5], [0, 0]], [[2, 4], [5, 5]]]],
        "your refined Mem_d",
        {
            "your Mem_d is mixed the wrong way round: W belongs to Mem_fg, 1 − W to Mem_d.": (
                w * memory + (1 - w) * foreground
            ),
            "your Mem_d is not refined: return W·Mem_fg + (1 − W)·Mem_d.": memory,
            "your Mem_d adds W·Mem_fg on top; the old memory must give way: (1 − W)·Mem_d.": memory + w * foreground,
            "your Mem_d is only W·Mem_fg; where W is 0 the old memory stays: + (1 − W)·Mem_d.": w * foreground,
        },
        tolerance=5e-3,
    )
    mixed = w * wide + (1 - w) * prior  # 1, 0.5, 1, 0
    _check_prior(function, mixed, answer[1])
    generator = torch.Generator().manual_seed(2)
    random = (
        torch.randn(2, 4, 3, 3, generator=generator),
        torch.rand(2, 1, 3, 3, generator=generator),
        torch.randn(2, 4, 3, 3, generator=generator),
        torch.rand(2, 1, 3, 3, generator=generator),
        torch.rand(2, 1, 3, 3, generator=generator),
    )
    for variant in CHOICES["refinement"]:
        library, mine = refinement.refine_once(*random, variant), call(function, *random, variant=variant)
        raw = cosine_map(random[2], prototype(random[0], random[1]))
        unstretched = {
            "your B is not stretched: apply min_max to the cosines.": (random[4] + raw - 1).clamp(min=0),
            "your round ignores `variant`; hand it on to `agreement`.": refinement.refine_once(*random).weight,
        }
        compare(mine[2], library.weight, f'your W of random memories, variant "{variant}"', unstretched)
        compare(mine[0], library.memory, f'your refined Mem_d of random memories, variant "{variant}"')
        compare(mine[1], library.prior, f'your refined P_d of random memories, variant "{variant}"')
    _gradient_of_weight(function, random)
    return "refine_once: Mem_d and P_d give way where A and B agree"


@exercise(LIBRARY)
def check_refine(function: Function) -> str:
    """Exercise 5.4: `refine(Mem_d, P_d, Mem_fg, P_fg, A, rounds)`: all rounds. Raises ExerciseError."""
    generator = torch.Generator().manual_seed(4)
    memory, foreground = (torch.randn(1, 4, 3, 3, generator=generator) for _ in range(2))
    prior, wide = (torch.rand(1, 1, 3, 3, generator=generator) for _ in range(2))
    a = 0.4 + 0.6 * torch.rand(1, 1, 3, 3, generator=generator)
    wanted = refinement.refine(memory, prior, foreground, wide, a, rounds=3)
    answer = call(function, memory, prior, foreground, wide, a, rounds=3)
    if not isinstance(answer, list):
        raise ExerciseError(f"refine must return a list with one entry for each round, not a {type(answer).__name__}.")
    if len(answer) != 3:
        raise ExerciseError(f"3 rounds must give a list of 3 entries, yours has {len(answer)}.")
    again = wanted[0].memory
    stale = refinement.refine_once(again, prior, foreground, wide, a).memory
    fixed = refinement.refine_once(memory, wanted[0].prior, foreground, wide, a).memory
    lost = refinement.refine_once(again, wanted[0].prior, foreground, wide, wanted[0].weight).memory
    for i, (mine, right) in enumerate(zip(answer, wanted, strict=True), start=1):
        refined = _triple(mine, memory, prior)
        mistakes = {
            "your Mem_d does not change after round 1: every round starts from the Mem_d and P_d of the round before, "
            "and Mem_fg stays what it was.": again,
            "your second round still uses the first P_d; hand on the refined prior too.": stale,
            "your second round still uses the first Mem_d; hand on the refined memory too.": fixed,
            "your A is overwritten, by W perhaps; A stays the same in every round.": lost,
        }
        compare(refined[0], right.memory, f"your Mem_d after round {i}", mistakes if i == 2 else None)
        compare(refined[1], right.prior, f"your P_d after round {i}")
    if call(function, memory, prior, foreground, wide, a, rounds=0) != []:
        raise ExerciseError("0 rounds must give an empty list.")
    return "refine: each round starts where the last one ended"


@exercise(LIBRARY)
def check_share(function: Function) -> str:
    """Exercise 5.5: `share(weights)`: what part of the final memory is Mem_fg. Raises ExerciseError."""
    weights = [torch.tensor([[[[0.5, 1.0], [0.0, 0.5]]]]), torch.tensor([[[[0.5, 0.25], [0.0, 0.0]]]])]
    both = torch.stack(weights)
    compare(
        check_tensor(call(function, weights), (1, 1, 2, 2), "your share"),
        [[[[0.75, 1], [0, 0.5]]]],
        "your share",
        {
            "your share is the sum of the weights: it can exceed 1. The second round mixes what the first one has "
            "mixed already.": both.sum(0),
            "your share is the sum cut at 1: ½ and then ½ leave a quarter of the old memory, so the share is ¾.": (
                both.sum(0).clamp(max=1)
            ),
            "your share is the mean weight; follow what is left of the old memory, round by round.": both.mean(0),
            "your share is the product of the weights; multiply what each round *leaves*, 1 − W.": both.prod(0),
            "your share is what is left of the old Mem_d; what came from Mem_fg is 1 minus that.": (1 - both).prod(0),
            "your share is the last weight alone; the rounds before it count too.": both[-1],
            "your share is the largest weight; the other rounds add to it.": both.amax(0),
        },
    )
    three = [torch.full((1, 1, 2, 2), 0.5)] * 3
    compare(call(function, three), torch.full((1, 1, 2, 2), 0.875), "your share after three rounds with W = ½")
    return "share: what each round leaves multiplies"


def _prototype(support: Tensor, masks: Tensor, shot: int) -> Tensor:
    return prototype(support[:, shot], masks[:, shot : shot + 1])


def _like(memory: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """min_max(cos(memory, mean of source under mask)), (B, 1, h, w)."""
    return min_max(cosine_map(memory, prototype(source, mask)))


def _triple(answer: Any, memory: Tensor, prior: Tensor) -> list[Tensor]:
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise ExerciseError("a round must return three tensors: `return Mem_d, P_d, W`.")
    shapes = (memory.shape, prior.shape, prior.shape)
    names = ("your refined Mem_d", "your refined P_d", "your W")
    return [check_tensor(value, shape, name) for value, shape, name in zip(answer, shapes, names, strict=True)]


def _check_prior(function: Function, mixed: Tensor, answer: Tensor) -> None:
    """answer is the prior of a round whose mixture runs from 0 to 1 anyway; a second one must be stretched."""
    compare(
        answer,
        mixed,
        "your refined P_d",
        {"your P_d is not refined: return min_max(W·P_fg + (1 − W)·P_d).": torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])},
        tolerance=2e-3,
    )
    memory = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]]])
    prior = torch.tensor([[[[0.75, 0.5], [0.25, 0.5]]]])
    nothing = torch.zeros(1, 1, 2, 2)  # A = 0, so W = 0 and only min_max changes the prior
    compare(
        call(function, memory, prior, memory, prior, nothing)[1],
        [[[[1, 0.5], [0, 0.5]]]],
        "your refined P_d where W is 0",
        {"your P_d is not stretched: it must be min_max(W·P_fg + (1 − W)·P_d).": prior},
    )


def _needs_gradient(function: Function, inputs: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """The memory encoder learns through the memories: the result must pass a gradient to the first of `inputs`."""
    given = [x.clone().requires_grad_(i < len(names)) for i, x in enumerate(inputs)]
    result = function(*given)
    if not result.requires_grad:
        raise ExerciseError("no gradient flows through your result; leave out detach() and no_grad().")
    for name, gradient in zip(
        names, torch.autograd.grad(result.square().sum(), given[: len(names)], allow_unused=True), strict=True
    ):
        if gradient is None or not gradient.any():
            raise ExerciseError(f"no gradient reaches {name}; leave out detach() and no_grad().")


def _gradient_of_weight(function: Function, inputs: tuple[Tensor, ...]) -> None:
    """W depends on Mem_d and Mem_fg, and the gradient must know it."""
    given = [x.clone().requires_grad_(True) for x in inputs]
    weight = function(*given)[2]
    if not weight.requires_grad:
        raise ExerciseError("no gradient flows through your W; the refinement is trained through: leave out detach().")
    library = refinement.refine_once(given[0], given[1], given[2], given[3], given[4]).weight
    mine, right = (torch.autograd.grad(w.square().sum(), (given[0], given[2])) for w in (weight, library))
    for name, one, other in zip(("Mem_d", "Mem_fg"), mine, right, strict=True):
        compare(one, other, f"the gradient of your W with respect to {name}")
