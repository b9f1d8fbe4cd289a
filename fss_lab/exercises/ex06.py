"""Checks of notebook 06: support-calibrated memory attention, from plain attention to all of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise
from fss_lab.method import calibration
from fss_lab.method.prompts import cosine_map, min_max, prototype

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
    product = q @ k.mT
    compare(
        check_tensor(call(function, q, k), (1, 1, 2, 3), "your weights"),
        [[[[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]]],
        "your weights",
        {
            "your logits are not divided by √d; without it large d makes the softmax hard.": product.softmax(-1),
            "your logits are divided by d; it must be its square root.": (product / 4).softmax(-1),
            "your logits are divided by the root of the number of keys; d is the number of channels, q.shape[-1].": (
                product / math.sqrt(3)
            ).softmax(-1),
            "your softmax runs over the cells that look; every cell (row) must share out 1 among the keys, dim=-1.": (
                product / 2
            ).softmax(-2),
            "your softmax runs over the keys and the cells together; each row must add up to 1.": (
                (product / 2).flatten().softmax(0).view(1, 1, 2, 3)
            ),
            "these are the logits; apply the softmax to each row.": product / 2,
        },
    )
    return "attention_weights: every cell shares out 1 among the keys"


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
    together = _raw_similarity(query, support, masks)
    low, high = together.amin((2, 3, 4), keepdim=True), together.amax((2, 3, 4), keepdim=True)
    compare(
        check_tensor(call(function, query, support, masks), (2, 2, 3, 2, 3), "your c of three shots"),
        wanted,
        "your c of three shots",
        {
            **_similarity_mistakes(query, support, masks),
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
    masks[0, :2, 0, 0] = 1  # the third object vanished
    compare(
        check_tensor(call(function, similarity, masks), (1, 1, 2, 2), "your c"),
        [[[[0.75, 0.5], [0, 0.5]]]],
        "your c",
        {
            "your c counts the shot whose mask is empty on the grid; it knows nothing, so leave it out of the "
            "mean.": similarity.mean(2),
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
    compare(answer[1], batch[1, :, 0], "your c of an episode with one visible shot of two (each episode for itself)")
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
    # One cell, two shots, one pointer. All logits are 0. A map of one cell is constant, so a = 0 and c = 0: the query
    # memory loses 10 nats. Left are the mean of the shots, 3, and the pointer, 5: 4.
    q, k = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 4, 1)
    v = torch.tensor([2.0, 4.0, 7.0, 5.0]).view(1, 1, 4, 1)  # two supports, query memory, pointer
    tiny = math.exp(-10)
    answer = check_tensor(call(function, q, k, v, torch.ones(1, 2, 1, 1)), (1, 1, 1, 1), "your result")
    compare(
        answer.flatten(),
        [(3 + 7 * tiny + 5) / (2 + tiny)],
        "your result of one cell",
        {
            "you do not calibrate: the query memory keeps its full weight.": [(3 + 7 + 5) / 3],
            "your supports stand side by side; average their keys and values to one block before the softmax.": [
                (2 + 4 + 7 * tiny + 5) / (3 + tiny)
            ],
            "your supports stand side by side and nothing is calibrated.": [(2 + 4 + 7 + 5) / 4],
            "your bias falls on the supports; only the columns of the query memory get it.": [
                (3 * tiny + 7 + 5) / (2 + tiny)
            ],
            "your bias falls on the pointers too; only the columns of the query memory get it.": [
                (3 + (7 + 5) * tiny) / (1 + 2 * tiny)
            ],
            "your bias is added after the softmax; add it to the logits.": [(3 + 7 + 5) / 3 - 10 * 7],
            "your pointers are lost; they are the last columns and take part in the softmax.": [
                (3 + 7 * tiny) / (1 + tiny)
            ],
            "your support block is the sum of the shots' values; take the mean.": [(6 + 7 * tiny + 5) / (2 + tiny)],
            "you take a softmax of each part; join the three parts of the logits, then take one.": [3.0 + 7 + 5],
        },
        tolerance=1e-3,
    )
    generator = torch.Generator().manual_seed(9)
    for shots in (1, 3):
        q = 2 * torch.randn(2, 2, 6, 4, generator=generator)
        k, v = (torch.randn(2, 2, (shots + 1) * 6 + 5, 4, generator=generator) for _ in range(2))
        masks = (torch.rand(2, shots, 2, 3, generator=generator) > 0.4).float()
        masks[1] = 0  # nothing visible in the second episode
        answer = check_tensor(call(function, q, k, v, masks), (2, 2, 6, 4), f"your result of {shots} shots")
        compare(
            answer[1],
            _reference(q, k, v, None)[1],
            "your result where no shot is visible (it must be attention without a bias)",
            {"your logits are not divided by √d.": _reference(2 * q, k, v, None)[1]},
        )
        compare(
            answer,
            _reference(q, k, v, masks),
            f"your result of {shots} shots",
            {
                "your logits are not divided by √d.": _reference(2 * q, k, v, masks),
                "your ā is stretched over the columns of supports and pointers too; only over those of the query "
                "memory.": _reference(q, k, v, masks, whole_rows=True),
            },
        )
    _gradients(function, q, k, v, masks)
    return "calibrated_attention: one softmax over the mean support, the calibrated query memory and the pointers"


def _reference(q: Tensor, k: Tensor, v: Tensor, masks: Tensor | None, whole_rows: bool = False) -> Tensor:
    """Step by step; masks None: no bias; whole_rows: the mistake of stretching logits over all columns."""
    n, shots = q.shape[2], k.shape[2] // q.shape[2] - 1
    memory, k_fixed = slice(n, 2 * n), k.detach()
    k, v = (calibration.average_shots(x, shots, n) for x in (k, v))
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    bias = torch.zeros_like(logits[..., memory])
    if masks is not None:
        blocks = k_fixed[:, :, : shots * n].unflatten(2, (shots, n))
        value = calibration.shot_similarity(k_fixed[:, :, shots * n : (shots + 1) * n], blocks, masks)
        term = calibration.calibration_term(value, masks)
        bias = calibration.calibration_bias(logits[..., memory], term)
        if whole_rows:
            stretched = min_max(logits.detach(), dim=(-1,))[..., memory]
            bias = 10 * (stretched + term.flatten(-2).unsqueeze(-2) - 1).clamp(max=0)
    logits = torch.cat([logits[..., :n], logits[..., memory] + bias, logits[..., 2 * n :]], -1)
    return logits.softmax(-1) @ v


def _gradients(function: Function, q: Tensor, k: Tensor, v: Tensor, masks: Tensor) -> None:
    given = [x.clone().requires_grad_() for x in (q, k, v)]
    results = [function(*given, masks), _reference(given[0], given[1], given[2], masks)]
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


def _raw_similarity(query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
    """c_i before it is stretched, (B, heads, K, h, w)."""
    grid = (masks.shape[-2], masks.shape[-1])
    prototypes = prototype(_maps(support, grid), masks[:, None, :, None])
    return cosine_map(_maps(query, grid).unsqueeze(2), prototypes).squeeze(3)


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
