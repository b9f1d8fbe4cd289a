"""Checks of notebook 05: iterative memory refinement, from the weight of one position to all rounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    # soft, as masks are on the grid of the memories, and of very different areas
    masks = torch.rand(2, 3, 3, 3, generator=generator) ** torch.tensor([0.5, 1.0, 4.0]).view(3, 1, 1)
    prototypes = prototype(support, masks.unsqueeze(2))  # B, K, D, 1, 1
    raw = cosine_map(foreground.unsqueeze(1), prototypes)  # B, K, 1, h, w
    value, area = min_max(raw), masks.sum((-2, -1))[..., None, None, None]
    pooled = (support * masks.unsqueeze(2)).sum((1, -2, -1))[..., None, None]  # only its direction matters
    halves = prototype(support, (masks > 0.5).float().unsqueeze(2))
    tip = "make a map for every shot and take the mean of the maps."
    mistakes = {
        f"your A compares with the mean of the prototypes; {tip}": min_max(cosine_map(foreground, prototypes.mean(1))),
        f"your A compares with one prototype of all supports' cells together, the formula of notebook 01; {tip}": (
            min_max(cosine_map(foreground, pooled))
        ),
        "your A cuts M_S at ½; on this grid it is soft, and a cell that is half object counts half: do not cut it.": (
            min_max(cosine_map(foreground.unsqueeze(1), halves)).mean(1)
        ),
        "your A counts a support by the area of its mask; every support has one vote: take the plain mean.": (
            (value * area).sum(1) / area.sum(1)
        ),
        "your A is stretched after the mean; stretch each shot's map with min_max, then take the mean.": (
            min_max(raw.mean(1))
        ),
        "your A is stretched again after the mean over the shots; it must stay the mean.": min_max(value.mean(1)),
        "your A is not stretched: apply min_max to each shot's map.": raw.mean(1),
        "your A is the sum over the shots; take the mean.": value.sum(1),
        "your A uses only the first shot; take the mean over all maps.": value[:, 0],
        "your A is the largest over the shots; take the mean.": value.amax(1),
        "your A is the median over the shots; take the mean.": value.median(1).values,
    }
    answer = check_tensor(call(function, foreground, support, masks), (2, 1, 3, 3), "your A of three shots")
    compare(answer, value.mean(1), "your A of three shots", mistakes)
    inputs, names = (foreground, support, masks), {0: "Mem_fg", 1: "Mem_S"}
    _gradients("A", function, refinement.support_similarity, inputs, names)
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
            "your W is the mean of the two; one of them alone must not be enough: max(0, A + B − 1).": (a + b) / 2,
            "your W is the sum cut at 1; subtract 1, so that both are needed: max(0, A + B − 1).": (a + b).clamp(max=1),
            "your W is 0 or 1; it must be soft: max(0, A + B − 1).": (a + b > 1).float(),
            'your W is stretched although variant is "v1"; only "v2" stretches.': min_max((a + b - 1).clamp(min=0)),
        },
    )
    # the third map is above 0 everywhere, so that stretching it does more than dividing by its largest value
    pair = torch.cat([a, a / 2 + 0.25, a / 2 + 0.5]), torch.cat([b, b, b / 2 + 0.5])
    plain = (pair[0] + pair[1] - 1).clamp(min=0)
    compare(
        check_tensor(call(function, *pair, variant="v2"), (3, 1, 2, 2), 'your W of variant "v2"'),
        min_max(plain),
        'your W of variant "v2"',
        {
            'your W is the same for both variants; "v2" applies min_max.': plain,
            'your "v2" stretches A + B − 1 before it cuts at 0; cut first.': min_max(pair[0] + pair[1] - 1),
            'your "v2" stretches all maps of the batch together; each map for itself.': plain / plain.max(),
            'your "v2" only divides by the largest weight; its smallest must become 0 as well: use `min_max`.': (
                plain / (plain.amax((-2, -1), keepdim=True) + 1e-7)
            ),
        },
    )
    return "agreement: the weight is above 0 only where A and B agree"


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
        "your B describes the guess by Mem_fg under P_fg; the guess so far is Mem_d under P_d.": _like(
            foreground, foreground, wide
        ),
        "your B takes its prototype over the whole of Mem_d; only under P_d.": _like(
            foreground, memory, torch.ones_like(prior)
        ),
    }
    w = torch.tensor([[[[0, 0.5], [1, 0]]]])
    mistakes = {hint: (a + b - 1).clamp(min=0) for hint, b in weights.items()}
    mistakes["you return W before P_d; the order is `return Mem_d, P_d, W`."] = w * wide + (1 - w) * prior
    first = refinement.refine_once(memory, prior, foreground, wide, a)
    second = refinement.refine_once(first.memory, first.prior, foreground, wide, a)
    mistakes["your W is that of the next round; return the one that you mixed with."] = second.weight
    mistakes["your W is not max(0, A + B − 1): use your `agreement`."] = a * _like(foreground, memory, prior)
    compare(answer[2], w, "your W", mistakes, tolerance=2e-3)
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
    kinds = ((torch.randn, 4), (torch.rand, 1), (torch.randn, 4), (torch.rand, 1), (torch.rand, 1))
    random: Any = [draw(2, channels, 3, 3, generator=generator) for draw, channels in kinds]
    for variant in CHOICES["refinement"]:
        library, mine = call(refinement.refine_once, *random, variant=variant), call(function, *random, variant=variant)
        raw = cosine_map(random[2], prototype(random[0], random[1]))
        unstretched = {
            "your B is not stretched: apply min_max to the cosines.": (random[4] + raw - 1).clamp(min=0),
            "your round ignores `variant`; hand it on to `agreement`.": refinement.refine_once(*random).weight,
            "your B cuts P_d at ½ before it takes the prototype; P_d is a weight in 0..1: use it as it is.": (
                refinement.agreement(random[4], _like(random[2], random[0], (random[1] > 0.5).float()), variant)
            ),
        }
        compare(mine[2], library.weight, f'your W of random memories, variant "{variant}"', unstretched)
        compare(mine[0], library.memory, f'your refined Mem_d of random memories, variant "{variant}"')
        compare(mine[1], library.prior, f'your refined P_d of random memories, variant "{variant}"')
    names = {0: "Mem_d", 2: "Mem_fg"}
    _gradients("W", lambda *x: function(*x)[2], lambda *x: _refine_once(*x)[2], random, names)
    return "refine_once: Mem_d and P_d give way where A and B agree"


@exercise(LIBRARY)
def check_refine(function: Function) -> str:
    """Exercise 5.4: `refine(Mem_d, P_d, Mem_fg, P_fg, A, rounds)`: all rounds. Raises ExerciseError."""
    generator = torch.Generator().manual_seed(4)
    memory, foreground = (torch.randn(2, 4, 3, 3, generator=generator) for _ in range(2))
    prior, wide = (torch.rand(2, 1, 3, 3, generator=generator) for _ in range(2))
    a = 0.4 + 0.6 * torch.rand(2, 1, 3, 3, generator=generator)
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
        compare(refined[2], right.weight, f"your W of round {i}")
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
    generator = torch.Generator().manual_seed(5)
    rounds = [torch.rand(2, 1, 3, 3, generator=generator) ** 2 for _ in range(4)]
    compare(call(function, rounds), 1 - (1 - torch.stack(rounds)).prod(0), "your share after four rounds")
    return "share: what each round leaves multiplies"


@exercise(LIBRARY)
def check_rounds_needed(function: Function) -> str:
    """Exercise 5.6: `rounds_needed(W)`: rounds until Mem_fg holds at least half of a cell. Raises ExerciseError."""
    weight, name = torch.tensor([[[[0.5, 0.3], [0.2, 0.75]]]]), "your number of rounds"
    real = math.log(0.5) / (1 - weight).log()  # 1, 1.94, 3.11, 0.5
    mistakes = {
        f"{name} adds the weights up; a round takes W of what is left, so what is left multiplies: (1 − W)^T.": (
            (0.5 / weight).ceil()
        ),
        f"{name} is not whole; return the first whole number that is enough.": real,
        f"{name} is rounded down: after it Mem_fg still has less than half.": real.floor(),
        f"{name} is rounded to the nearest; it must be enough: round up.": real.round(),
        f"{name} asks for more than half; at least half is enough, so W = ½ needs one round.": real.floor() + 1,
        f"{name} is one too large; count the rounds that are needed.": real.ceil() + 1,
        f"{name} takes W for what is left of the old memory; that is 1 − W.": (math.log(0.5) / weight.log()).ceil(),
        f"{name} is 1 where a single round is enough, else 0; follow what is left round by round.": (weight >= 0.5) * 1,
    }
    compare(check_tensor(call(function, weight), (1, 1, 2, 2), name), [[[[1, 2], [4, 1]]]], name, mistakes)
    extreme = torch.tensor([[[[1.0, 0.0], [0.01, 0.49]]], [[[0.9, 0.001], [0.0, 0.6]]]])
    answer = check_tensor(call(function, extreme), (2, 1, 2, 2), name)
    first, never = answer[0, 0, 0].tolist()
    if first == 0:
        raise ExerciseError(f"{name} where W is 1 is 0; before the first round Mem_fg has nothing, so it is 1.")
    if never != math.inf:
        raise ExerciseError(f"{name} where W is 0 is {never:g}; such a cell never gets there: torch.inf.")
    for small in (0.01, 0.001):
        if answer[extreme == small].isinf():
            raise ExerciseError(f"{name} where W is {small} is inf: your loop stops too early. Only W = 0 gives inf.")
    expected = [[[[1, -1], [69, 2]]], [[[1, 693], [-1, 1]]]]
    compare(answer.nan_to_num(posinf=-1), expected, f"{name} where W is close to 0 or 1")
    return "rounds_needed: small weights need many rounds, and 0 never gets there"


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


def _gradients(
    what: str, function: Function, right: Function, inputs: Sequence[Tensor], names: dict[int, str]
) -> None:  # fmt: skip
    """The memory encoder learns through A and W, and needs their gradients. names: of inputs, by place."""
    given = [x.clone().requires_grad_() for x in inputs]
    result, expected, wanted = function(*given), right(*given), [given[place] for place in names]
    if not result.requires_grad:
        raise ExerciseError(f"no gradient flows through your {what}; leave out detach() and no_grad().")
    mine, library = (torch.autograd.grad(x.square().sum(), wanted, allow_unused=True) for x in (result, expected))
    for name, one, other in zip(names.values(), mine, library, strict=True):
        if one is None:
            raise ExerciseError(f"no gradient reaches {name} through your {what}; leave out detach() and no_grad().")
        compare(one, other, f"the gradient of your {what} with respect to {name}")
