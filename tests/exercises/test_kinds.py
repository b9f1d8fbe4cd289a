"""Kinds of mistakes: a right answer of notebooks 04 and 05 with one of its steps done in another way is refused.

Each step, such as stretching a map or taking a prototype, has the same plausible mistakes wherever it is used. So every
mistake is tried in every exercise that has the step. This is a property of the checks' data: were it less generic, with
one support, hard masks or maps that begin at 0, some of these answers would equal the right one.
"""

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex04, ex05
from fss_lab.method.prompts import cosine_map, min_max, prototype, resize

RIGHT = {
    "min_max": min_max,
    "prototype": prototype,
    "cosine_map": cosine_map,
    "shots": lambda maps, masks: maps.mean(1),  # maps (B, K, ...), masks (B, K, H, W)
    "positive": lambda x: x.clamp(min=0),
}


def extent(x, reduce):
    return getattr(x, reduce)((-2, -1), keepdim=True)


def weighted(maps, weights):
    weights = weights.reshape(*weights.shape[:2], *[1] * (maps.ndim - 2))
    return (maps * weights).sum(1) / weights.sum(1)


MISTAKES = {
    "min_max": {
        "divided by the maximum": lambda x: x / (extent(x, "amax") + 1e-7),
        "only shifted": lambda x: x - extent(x, "amin"),
        "all maps together": lambda x: (x - x.min()) / (x.max() - x.min() + 1e-7),
        "cut to 0..1": lambda x: x.clamp(0, 1),
        "minus the mean": lambda x: x - x.mean((-2, -1), keepdim=True),
        "softmax": lambda x: x.flatten(-2).softmax(-1).view_as(x),
        "upside down": lambda x: 1 - min_max(x),
    },
    "prototype": {
        "mask cut at one half": lambda x, m: prototype(x, (m > 0.5).float()),
        "whole map": lambda x, m: x.mean((-2, -1), keepdim=True),
        "background": lambda x, m: prototype(x, 1 - m),
        "maximum": lambda x, m: extent(x * m, "amax"),
        "squared weights": lambda x, m: prototype(x, m**2),
    },
    "cosine_map": {
        "product": lambda x, p: (x * p).sum(-3, keepdim=True),
        "sums of absolute values": lambda x, p: (
            (x * p).sum(-3, keepdim=True) / (x.abs().sum(-3, keepdim=True) * p.abs().sum(-3, keepdim=True) + 1e-7)
        ),
        "absolute": lambda x, p: cosine_map(x, p).abs(),
        "cut at 0": lambda x, p: cosine_map(x, p).clamp(min=0),
        "distance": lambda x, p: -(x - p).norm(dim=-3, keepdim=True),
    },
    "shots": {
        "median": lambda maps, masks: maps.median(1).values,
        "maximum": lambda maps, masks: maps.amax(1),
        "minimum": lambda maps, masks: maps.amin(1),
        "sum": lambda maps, masks: maps.sum(1),
        "first": lambda maps, masks: maps[:, 0],
        "last": lambda maps, masks: maps[:, -1],
        "by area": lambda maps, masks: weighted(maps, masks.mean((-2, -1))),
        "product": lambda maps, masks: maps.prod(1),
        "stretched again": lambda maps, masks: min_max(maps.mean(1)),
    },
    "positive": {
        "absolute": torch.abs,
        "as it is": lambda x: x,
        "a step": lambda x: (x > 0).float(),
        "squared": lambda x: x.clamp(min=0) ** 2,
    },
}


def generate_priors(step):
    def answer(query, support, masks):
        mask, size = resize(masks, support.shape[-2:]).unsqueeze(2), masks.shape[-2:]
        fg, bg = (
            resize(step["min_max"](step["cosine_map"](query[:, None], step["prototype"](support, m))).squeeze(2), size)
            for m in (mask, 1 - mask)
        )
        maps = (fg, step["min_max"](step["positive"](fg - bg)))
        return tuple(step["shots"](x, masks).unsqueeze(1) for x in maps)

    return answer


def support_similarity(step):
    def answer(foreground, support, masks):
        p = step["prototype"](support, masks.unsqueeze(2))
        return step["shots"](step["min_max"](step["cosine_map"](foreground.unsqueeze(1), p)), masks)

    return answer


def agreement(step):
    def answer(a, b, variant="v1"):
        weight = step["positive"](a + b - 1)
        return step["min_max"](weight) if variant == "v2" else weight

    return answer


def refine_once(step):
    def answer(memory, prior, foreground, wide, a, variant="v1"):
        b = step["min_max"](step["cosine_map"](foreground, step["prototype"](memory, prior)))
        weight = agreement({**RIGHT, "positive": step["positive"]})(a, b, variant)
        mixed = step["min_max"](weight * wide + (1 - weight) * prior)
        return weight * foreground + (1 - weight) * memory, mixed, weight

    return answer


def refine(step):
    def answer(memory, prior, foreground, wide, a, rounds=3):
        done = []
        for _ in range(rounds):
            done.append(refine_once(step)(memory, prior, foreground, wide, a))
            memory, prior, _ = done[-1]
        return done

    return answer


ANSWERS = {
    "prototype": (ex04.check_prototype, lambda step: lambda x, m: step["prototype"](x, m), "prototype"),
    "cosine_map": (ex04.check_cosine_map, lambda step: lambda x, p: step["cosine_map"](x, p), "cosine_map"),
    "min_max": (ex04.check_min_max, lambda step: lambda x: step["min_max"](x), "min_max"),
    "discriminative_prior": (
        ex04.check_discriminative_prior,
        lambda step: lambda fg, bg: step["min_max"](step["positive"](fg - bg)),
        "min_max positive",
    ),
    "generate_priors": (
        ex04.check_generate_priors, generate_priors, "min_max prototype cosine_map shots positive",
    ),
    "support_similarity": (
        ex05.check_support_similarity, support_similarity, "min_max prototype cosine_map shots",
    ),
    "agreement": (ex05.check_agreement, agreement, "min_max positive"),
    "refine_once": (ex05.check_refine_once, refine_once, "min_max prototype cosine_map positive"),
    "refine": (ex05.check_refine, refine, "min_max prototype cosine_map positive"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_every_mistake_in_every_step_is_refused(name, capsys):
    check, answer, steps = ANSWERS[name]
    check(answer(RIGHT))
    passed = []
    for step in steps.split():
        for mistake, other in MISTAKES[step].items():
            try:
                check(answer({**RIGHT, step: other}))
                passed.append(f"{step}: {mistake}")
            except ExerciseError:
                pass
    assert passed == []
