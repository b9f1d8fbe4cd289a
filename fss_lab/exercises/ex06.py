"""Checks of notebook 06: support-calibrated memory attention, from plain attention to a better c."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.exercises.ex06_attention import ATTENTION_MISTAKES, attend
from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise
from fss_lab.exercises.planted import verdict
from fss_lab.method import calibration
from fss_lab.method.prompts import cosine_map, min_max, prototype
from fss_lab.method.rereading import Case

Function = Callable[..., Tensor]
LIBRARY: dict[str, Function] = {
    "attention_weights": lambda q, k: (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1),
    "shot_similarity": calibration.shot_similarity,
    "calibration_term": calibration.calibration_term,
    "calibration_bias": calibration.calibration_bias,
}


@exercise(LIBRARY)
def check_attention_weights(function: Function) -> str:
    """Exercise 6.1: `attention_weights(q, k)`: softmax(q k / sqrt(d)). Raises ExerciseError with a diagnosis."""
    # d = 4, so sqrt(d) = 2; the products are 0, 0, 2 ln 2 and 2 ln 2, 0, 0, the weights 1/4, 1/4, 1/2 and so on
    q = torch.tensor([[[[2.0, 0, 0, 0], [0, 2.0, 0, 0]]]])
    k = math.log(2) * torch.tensor([[[[0, 1.0, 0, 0], [0, 0, 1.0, 0], [1.0, 0, 0, 0]]]])
    answer = call(function, q, k)
    if isinstance(answer, Tensor) and answer.ndim == 3:
        raise ExerciseError(AVERAGED)
    check_tensor(answer, (1, 1, 2, 3), "your tensor of weights")
    compare(answer, [[[[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]]], "the weight", _weight_mistakes(q, k))
    generator = torch.Generator().manual_seed(4)
    q, k = torch.randn(2, 3, 4, 6, generator=generator), torch.randn(2, 3, 5, 6, generator=generator)
    answer = call(function, q, k)
    if isinstance(answer, Tensor) and answer.numel() == 2 * 4 * 5:
        raise ExerciseError(AVERAGED)
    check_tensor(answer, (2, 3, 4, 5), "your tensor of weights of three heads")
    compare(answer, LIBRARY["attention_weights"](q, k), "with three heads, the weight", _weight_mistakes(q, k))
    return "attention_weights: every cell shares out 1 among the keys"


def _weight_mistakes(q: Tensor, k: Tensor) -> dict[str, Tensor]:
    product, d = q @ k.mT, q.shape[-1]
    logits = product / math.sqrt(d)
    mistakes = {
        "your logits are not divided by √d; without it large d makes the softmax hard.": product.softmax(-1),
        "your logits are divided by d; it must be its square root.": (product / d).softmax(-1),
        "your logits are divided by the root of the number of keys; d is the number of channels, q.shape[-1].": (
            product / math.sqrt(k.shape[2])
        ).softmax(-1),
        "your softmax runs over the cells that look; every cell (row) must share out 1 among the keys, dim=-1.": (
            logits.softmax(-2)
        ),
        "your softmax runs over the keys and the cells together; each row must add up to 1.": (
            logits.flatten(2).softmax(-1).view(logits.shape)
        ),
        "these are the logits; apply the softmax to each row.": logits,
        "your logits are cosines; attention takes products, so do not normalise q and k.": (
            (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
        ),
    }
    if q.shape[1] > 1:
        mistakes |= {
            "your logits are divided by √(heads · d); d is the number of channels of one head, q.shape[-1].": (
                product / math.sqrt(q.shape[1] * d)
            ).softmax(-1),
            "your softmax runs over the heads; every cell (row) must share out 1 among the keys, dim=-1.": (
                logits.softmax(1)
            ),
            AVERAGED: logits.softmax(-1).mean(1, keepdim=True).expand(logits.shape),
        }
    return mistakes


AVERAGED = "your weights are averaged over the heads; every head has weights of its own, (B, heads, N, L)."


@exercise(LIBRARY)
def check_shot_similarity(function: Function) -> str:
    """Exercise 6.2: `shot_similarity(k_Q, k_S, M_S)`: c of every shot. Raises ExerciseError with a diagnosis."""
    # d = 2, 2 x 2: cosines with the support object's key (2, 0) are 1, 0.6, 0, 0.8
    query = torch.tensor([[5.0, 0.0], [3.0, 4.0], [0.0, 5.0], [4.0, 3.0]]).view(1, 1, 4, 2)
    support = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 3.0], [1.0, 1.0]]).view(1, 1, 1, 4, 2)
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    mistakes = _similarity_mistakes(query, support, mask)
    answer = check_tensor(call(function, query, support, mask), (1, 1, 1, 2, 2), "your c of one shot")
    compare(answer[0, 0, 0], [[1, 0.6], [0, 0.8]], "your c", {h: x[0, 0, 0] for h, x in mistakes.items()}, 2e-3)

    generator = torch.Generator().manual_seed(5)
    query = torch.randn(2, 2, 6, 4, generator=generator)  # heads = 2, h x w = 2 x 3: not square
    support = torch.randn(2, 2, 3, 6, 4, generator=generator)
    masks = (torch.rand(2, 3, 2, 3, generator=generator) > 0.4).float()
    wanted = calibration.shot_similarity(query, support, masks)
    objects = _maps(support, (2, 3)) * masks[:, None, :, None]  # B, heads, K, d, h, w
    pooled = objects.sum((2, -2, -1))[..., None, None]  # of all shots; its length does not matter
    together = _raw_similarity(query, support, masks)
    low, high = together.amin((2, 3, 4), keepdim=True), together.amax((2, 3, 4), keepdim=True)
    answer = call(function, query, support, masks)
    if isinstance(answer, Tensor) and answer.numel() == wanted[:, :, 0].numel():
        raise ExerciseError(
            "your c has one map for all shots; every shot judges by its own prototype, so return K maps. Do not pool "
            "the shots' cells into one prototype as in notebook 01, and take no mean: that is exercise 6.3."
        )
    compare(
        check_tensor(answer, (2, 2, 3, 2, 3), "your c of three shots"),
        wanted,
        "your c of three shots",
        {
            **_similarity_mistakes(query, support, masks),
            "your prototype pools the cells of all shots, as in notebook 01; here every shot has its own prototype.": (
                min_max(cosine_map(_maps(query, (2, 3)), pooled)).expand(wanted.shape)
            ),
            "your c uses the first shot only; every shot has its own map.": wanted[:, :, :1].expand(wanted.shape),
            "your prototype is averaged over the heads; every head has its own keys.": min_max(
                cosine_map(_maps(query, (2, 3)).unsqueeze(2), _prototypes(support, masks).mean(1, keepdim=True))
            ).squeeze(3),
            "your maps share one stretch; every shot's map is stretched on its own.": (together - low) / (high - low),
        },
    )
    return "shot_similarity: each key of the query memory against the mean key of the support's object"


@exercise(LIBRARY)
def check_calibration_term(function: Function) -> str:
    """Exercise 6.3: `calibration_term(c_i, M_S)`: mean over the shots that are visible. Raises ExerciseError."""
    first, second = [[1.0, 0.5], [0.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]
    similarity = torch.tensor([first, second, [[0.0, 0.0], [0.0, 0.0]]]).view(1, 1, 3, 2, 2)
    masks = torch.zeros(1, 3, 2, 2)
    masks[0, 0, 0, 0] = masks[0, 1, 0] = 1  # objects of one cell and of two; the third has vanished
    area = masks.sum((-2, -1))[:, None, :, None, None]
    by_area = "your c weights the shots by the size of their object; every visible shot has one vote."
    compare(
        check_tensor(call(function, similarity, masks), (1, 1, 2, 2), "your c"),
        [[[[0.75, 0.5], [0, 0.5]]]],
        "your c",
        {
            "your c counts the shot whose mask is empty on the grid; it knows nothing, so leave it out of the "
            "mean.": similarity.mean(2),
            by_area: (similarity * area).sum(2) / area.sum(2),
            "your c is the sum over the shots; divide by the number of visible ones.": similarity.sum(2),
            "your c is the largest over the shots; take the mean of the visible ones.": similarity.amax(2),
            "your c uses the first shot only; take the mean of the visible ones.": similarity[:, :, 0],
            "your c is cut out by the masks; they only say which shots are visible; such a shot votes with its whole "
            "map.": (similarity * masks[:, None]).sum(2) / masks[:, None].sum(2).clamp(min=1),
        },
    )
    batch = torch.rand(2, 2, 2, 3, 3, generator=torch.Generator().manual_seed(6))
    masks = torch.zeros(2, 2, 3, 3)
    masks[1, 0, 1, 1] = 1  # the first episode sees no shot, the second sees its first
    answer = check_tensor(call(function, batch, masks), (2, 2, 3, 3), "your c of two episodes")
    if not torch.isfinite(answer).all():
        raise ExerciseError("where no shot is visible your c is NaN or infinite (0 / 0); it must be 1 there.")
    if answer[0].eq(0).all():
        raise ExerciseError(
            "where no shot is visible your c is 0: that would turn down the query memory everywhere. Return 1, which "
            "means no bias."
        )
    compare(answer[0], torch.ones(2, 3, 3), "your c where no shot is visible")
    everywhere = "your c is 1 in the whole batch because one episode sees no shot; every episode decides for itself."
    seen = "your c of an episode with one visible shot of two (each episode for itself)"
    compare(answer[1], batch[1, :, 0], seen, {everywhere: torch.ones(2, 3, 3)})
    batch = torch.rand(1, 2, 4, 2, 3, generator=torch.Generator().manual_seed(7))
    masks = torch.zeros(1, 4, 2, 3)
    masks[0, 0], masks[0, 1, 0], masks[0, 3, 1, 2] = 1, 1, 1  # 6 cells, 3, none, 1
    area = masks.sum((-2, -1))[:, None, :, None, None]
    weighted = (batch * area).sum(2) / area.sum(2)
    compare(
        check_tensor(call(function, batch, masks), (1, 2, 2, 3), "your c of four shots"),
        batch[:, :, [0, 1, 3]].mean(2),
        "your c of four shots, of which the third has vanished",
        {by_area: weighted},
    )
    return "calibration_term: the shots that see their object vote; without any, c is 1"


@exercise(LIBRARY)
def check_calibration_bias(function: Function) -> str:
    """Exercise 6.4: `calibration_bias(logits, c)`: 10 min(0, a + c - 1), detached. Raises ExerciseError."""
    logits = torch.tensor([[0.0, 1, 2, 4], [8, 8, 0, 4], [-1, 1, 3, 3], [5, 0, 0, 0]]).view(1, 1, 4, 4)
    term = torch.tensor([[0.0, 0.5], [1.0, 0.25]]).view(1, 1, 2, 2)
    stretched = min_max(logits, dim=(-1,))
    columns = term.flatten(-2).unsqueeze(-2)
    right = [[-10, -2.5, 0, 0], [0, 0, 0, -2.5], [-10, 0, 0, 0], [0, -5, 0, -7.5]]
    sums = stretched + columns - 1
    compare(
        check_tensor(call(function, logits, term), (1, 1, 4, 4), "your bias"),
        [[right]],
        "your bias",
        {
            "your bias is not cut at 0: where ā + c is above 1 it would push attention up. Use min(0, ·).": 10 * sums,
            "your bias lacks the factor 10.": sums.clamp(max=0),
            "your bias is positive; it must lower the logits.": -10 * sums.clamp(max=0),
            "your bias keeps the positive part; it must be min(0, ·), not max(0, ·).": 10 * sums.clamp(min=0),
            "your bias lacks the −1 and so is never below 0.": 10 * (stretched + columns).clamp(max=0),
            "your ā is stretched over the whole matrix; every row (cell that looks) has its own minimum and "
            "maximum.": 10 * (min_max(logits) + columns - 1).clamp(max=0),
            "your ā is stretched column by column; a row is one cell that looks, so stretch over dim=-1.": (
                10 * (min_max(logits, dim=(-2,)) + columns - 1).clamp(max=0)
            ),
            "your ā is divided by the row's maximum; stretch it: subtract the minimum, then divide by the range.": (
                10 * (logits / logits.amax(-1, keepdim=True) + columns - 1).clamp(max=0)
            ),
            "your ā is not stretched; apply min_max to every row first.": 10 * (logits + columns - 1).clamp(max=0),
            "your ā is a softmax; stretch each row of logits with min_max.": (
                10 * (logits.softmax(-1) + columns - 1).clamp(max=0)
            ),
            "your c is added along the rows; it belongs to the keys, the columns: flatten it and add an axis before "
            "the last one.": 10 * (stretched + columns.mT - 1).clamp(max=0),
            "your bias multiplies ā and c; it must be their sum minus 1.": 10 * (stretched * columns - 1).clamp(max=0),
        },
        tolerance=1e-3,
    )
    many = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(7), requires_grad=True)
    terms = torch.rand(2, 2, 2, 3, generator=torch.Generator().manual_seed(8), requires_grad=True)
    answer = check_tensor(call(function, many, terms), (2, 2, 6, 6), "your bias")
    compare(answer, calibration.calibration_bias(many, terms), "your bias of random logits")
    if answer.requires_grad:
        raise ExerciseError("your bias passes on a gradient; it is a constant correction: detach it.")
    return "calibration_bias: between −10 and 0, every row for itself, without gradient"


@exercise(LIBRARY, ["__call__"])
def check_calibrated_attention(function: Function) -> str:
    """Exercise 6.5: `calibrated_attention(q, k, v, M_S)`: the whole of it. Raises ExerciseError with a diagnosis."""
    generator, failure = torch.Generator().manual_seed(9), None
    for shots in (3, 1):
        q = 2 * torch.randn(2, 2, 6, 4, generator=generator)
        k, v = (torch.randn(2, 2, (shots + 1) * 6 + 5, 4, generator=generator) for _ in range(2))
        masks = (torch.rand(2, shots, 2, 3, generator=generator) > 0.4).float()
        masks[1] = 0  # nothing visible in the second episode
        answer = check_tensor(call(function, q, k, v, masks), (2, 2, 6, 4), f"your result of {shots} shots")
        wrong = {message: attend(q, k, v, masks, mistake) for mistake, message in ATTENTION_MISTAKES.items()}
        try:
            compare(answer, attend(q, k, v, masks), f"your result of {shots} shots", wrong)
        except ExerciseError as error:
            if str(error) in wrong:
                raise
            failure = failure or error  # numbers worked by hand are easier to follow
    # One cell, two shots, one pointer. All logits are 0. A map of one cell is constant, so a = 0 and c = 0: the query
    # memory loses 10 nats. Left are the mean of the shots, 3, and the pointer, 5: 4.
    values, tiny = torch.tensor([2.0, 4.0, 7.0, 5.0]).view(1, 1, 4, 1), math.exp(-10)
    answer = call(function, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 4, 1), values, torch.ones(1, 2, 1, 1))
    right = (3 + 7 * tiny + 5) / (2 + tiny)
    compare(check_tensor(answer, (1, 1, 1, 1), "your result").flatten(), [right], "your result of one cell")
    if failure:
        raise failure
    _gradients(function, q, k, v, masks)
    return "calibrated_attention: one softmax over the mean support, the calibrated query memory and the pointers"


MARGIN = 0.02  # of IoU, above the memory read without a bias


@exercise()
def check_better_c(function: Function) -> str:
    """Exercise 6.6: `better_c(F_Q, F_S, Mem_Q, Mem_S, M_S)`: scored on planted episodes. Raises ExerciseError."""
    generator = torch.Generator().manual_seed(11)
    F_Q, F_S, Mem_Q, Mem_S = (
        torch.randn(2, *shots, channels, 4, 5, generator=generator) for channels in (6, 3) for shots in ([], [3])
    )
    M_S = (torch.rand(2, 3, 4, 5, generator=generator) > 0.5).float()
    given = [F_Q, F_S, Mem_Q, Mem_S, M_S]
    together = check_tensor(call(function, *given), (2, 4, 5), "your c of two episodes")
    for index in range(2):
        alone = call(function, *(x[index : index + 1] for x in given))
        compare(alone, together[index : index + 1], "alone, an episode's c (each episode judges for itself)")

    def judge(case: Case) -> Tensor:
        inputs = (case.F_Q, case.F_S, case.Mem_Q, case.Mem_S, case.M_S)
        c = check_tensor(call(function, *inputs), (1, *case.M_S.shape[-2:]), "your c of a planted episode")
        if not (c.min() >= -1e-4 and c.max() <= 1 + 1e-4):  # so that NaN fails too
            raise ExerciseError(f"your c goes from {c.min():.2f} to {c.max():.2f}; it must lie in 0..1: use min_max.")
        if c.max() - c.min() < 1e-3:
            raise ExerciseError("your c is the same in every cell, so it cannot single out the planted object.")
        return c

    (score, left), (least, most) = verdict(judge), verdict(lambda case: torch.ones_like(case.M_S[:, 0]))
    if score > least + MARGIN:
        return (
            f"better_c: IoU on planted episodes {least:.0%} without a bias, {score:.0%} with your c; of the planted "
            f"object {most:.0%} and {left:.0%} are in the mask"
        )
    result = f"with it the IoU on planted episodes is {score:.0%}; it must be above {least + MARGIN:.0%}"
    if verdict(lambda case: 1 - judge(case))[0] > least + MARGIN:
        raise ExerciseError(f"your c is turned round, high outside the object ({result}); 1 − c would pass.")
    blind = function(0 * F_Q, 0 * F_S, Mem_Q, Mem_S, M_S)
    if torch.allclose(blind, together, atol=1e-4):
        raise ExerciseError(f"your c looks at memories alone, which know individuals, not classes: {result}.")
    raise ExerciseError(f"your c does not single out the object well enough: {result}.")


def _gradients(function: Function, q: Tensor, k: Tensor, v: Tensor, masks: Tensor) -> None:
    given = [x.clone().requires_grad_() for x in (q, k, v)]
    results = [function(*given, masks), attend(given[0], given[1], given[2], masks)]
    if not results[0].requires_grad:
        raise ExerciseError("no gradient flows through your attention; only the bias is detached.")
    mine, right = (torch.autograd.grad(x.square().sum(), given, allow_unused=True) for x in results)
    for name, one, other in zip("qkv", mine, right, strict=True):
        if one is None:
            raise ExerciseError(f"no gradient reaches {name}; only the bias is detached.")
        compare(one, other, f"the gradient of your result with respect to {name}", tolerance=1e-3)


def _maps(keys: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., N, d) -> (..., d, h, w)."""
    return keys.mT.unflatten(-1, grid)


def _prototypes(support: Tensor, masks: Tensor) -> Tensor:
    """The mean key of every shot's object, (B, heads, K, d, 1, 1)."""
    return prototype(_maps(support, (masks.shape[-2], masks.shape[-1])), masks[:, None, :, None])


def _raw_similarity(query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
    """c_i before it is stretched, (B, heads, K, h, w)."""
    grid = (masks.shape[-2], masks.shape[-1])
    return cosine_map(_maps(query, grid).unsqueeze(2), _prototypes(support, masks)).squeeze(3)


def _similarity_mistakes(query: Tensor, support: Tensor, masks: Tensor) -> dict[str, Tensor]:
    grid = (masks.shape[-2], masks.shape[-1])
    torn = cosine_map(
        query.reshape(*query.shape[:2], 1, query.shape[-1], *grid),
        prototype(support.reshape(*support.shape[:3], query.shape[-1], *grid), masks[:, None, :, None]),
    )
    one = query.unsqueeze(2).expand(support.shape)
    return {
        "your tokens are torn apart: (N, d) becomes (d, h, w) by a transpose, then unflatten; a view or reshape mixes "
        "channels and places.": min_max(torn).squeeze(3),
        "your c compares with the mean of all support keys; only those under M_S.": min_max(
            _raw_similarity(query, support, torch.ones_like(masks))
        ),
        "your c compares with the support's background: M_S, not 1 − M_S.": min_max(
            _raw_similarity(query, support, 1 - masks)
        ),
        "your c cuts its prototype out of the query memory; M_S belongs to the support's keys.": min_max(
            _raw_similarity(query, one, masks)
        ),
        "your c is a map over the support; it must be over the keys of the query memory.": min_max(
            cosine_map(_maps(support, grid), prototype(_maps(support, grid), masks[:, None, :, None])).squeeze(3)
        ),
        "your c is not stretched: apply min_max to every map.": _raw_similarity(query, support, masks),
    }
