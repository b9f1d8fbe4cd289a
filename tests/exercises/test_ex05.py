"""Exercises of notebook 05: right answers pass, plausible wrong ones get the hint that helps."""

import math

import pytest
import torch

from fss_lab.exercises import ExerciseError, ex05
from fss_lab.method import refinement
from fss_lab.method.prompts import cosine_map, min_max, prototype

CHECKS = {
    "ex05-support-similarity": ex05.check_support_similarity,
    "ex05-agreement": ex05.check_agreement,
    "ex05-refine-once": ex05.check_refine_once,
    "ex05-refine": ex05.check_refine,
    "ex05-share": ex05.check_share,
    "ex05-rounds-needed": ex05.check_rounds_needed,
}


def other_support_similarity(fg, support, masks):
    """Shot by shot."""
    maps = [min_max(cosine_map(fg, prototype(support[:, k], masks[:, k : k + 1]))) for k in range(support.shape[1])]
    return torch.stack(maps).mean(0)


def other_agreement(a, b, variant="v1"):
    weight = torch.where(a + b > 1, a + b - 1, torch.zeros_like(a))
    return weight if variant == "v1" else min_max(weight)


def other_refine_once(memory, prior, fg, fg_prior, a, variant="v1"):
    """By linear interpolation."""
    weight = other_agreement(a, min_max(cosine_map(fg, prototype(memory, prior))), variant)
    return [torch.lerp(memory, fg, weight.expand_as(memory)), min_max(torch.lerp(prior, fg_prior, weight)), weight]


def other_refine(memory, prior, fg, fg_prior, a, rounds=3):
    """By recursion."""
    if rounds == 0:
        return []
    first = other_refine_once(memory, prior, fg, fg_prior, a)
    return [first, *other_refine(first[0], first[1], fg, fg_prior, a, rounds - 1)]


def other_share(weights):
    return 1 - torch.stack([1 - w for w in weights]).prod(0)


def other_rounds_needed(weight):
    """Round by round."""
    rounds, left = torch.where(weight > 0, 0, torch.inf), torch.ones_like(weight)
    while (open_ := (left > 0.5) & (weight > 0)).any():
        rounds, left = rounds + open_, left * (1 - weight)
    return rounds


def by_logarithm(weight, whole=torch.ceil, first=1):
    """The formula, with a mistake."""
    rounds = whole(math.log(0.5) / (1 - weight).log()).clamp(min=first)
    return rounds.where(weight > 0, torch.inf)


def looping(weight, most):
    """Round by round, up to `most`."""
    rounds = torch.full_like(weight, torch.inf)
    for number in range(most, 0, -1):
        rounds[(1 - weight) ** number <= 0.5] = number
    return rounds


OTHERS = {
    "ex05-support-similarity": other_support_similarity,
    "ex05-agreement": other_agreement,
    "ex05-refine-once": other_refine_once,
    "ex05-refine": other_refine,
    "ex05-share": other_share,
    "ex05-rounds-needed": other_rounds_needed,
}


@pytest.mark.parametrize("name", CHECKS)
def test_another_right_answer_passes(name, capsys):
    CHECKS[name](OTHERS[name])
    assert capsys.readouterr().out.startswith("✓")


def merged(fg, support, masks):
    return min_max(cosine_map(fg, prototype(support, masks.unsqueeze(2)).mean(1)))


def pooled(fg, support, masks):
    return min_max(cosine_map(fg, (support * masks.unsqueeze(2)).sum((1, -2, -1))[..., None, None]))


def by_area(fg, support, masks):
    maps = min_max(cosine_map(fg.unsqueeze(1), prototype(support, masks.unsqueeze(2))))
    area = masks.sum((-2, -1))[..., None, None, None]
    return (maps * area).sum(1) / area.sum(1)


def share_in_place(weights):
    left = 1
    for weight in weights:
        left = left * weight.neg_().add_(1)
    return 1 - left


def late(fg, support, masks):
    return min_max(cosine_map(fg.unsqueeze(1), prototype(support, masks.unsqueeze(2))).mean(1))


def round_with(similar=None, weigh=None, mix=None, stretch=min_max, detach=False):
    """A round with one mistake in it."""

    def refine_once(memory, prior, fg, fg_prior, a, variant="v1"):
        b = (similar or like_the_guess)(memory, prior, fg, fg_prior)
        weight = weigh(a, b) if weigh else other_agreement(a, b, variant)
        weight = weight.detach() if detach else weight
        mixed = (mix or (lambda w, new, old: w * new + (1 - w) * old))(weight, fg, memory)
        return mixed, stretch(weight * fg_prior + (1 - weight) * prior), weight

    return refine_once


def like_the_guess(memory, prior, fg, _):
    return min_max(cosine_map(fg, prototype(memory, prior)))


def largest(fg, support, masks):
    shots = range(support.shape[1])
    each = [refinement.support_similarity(fg, support[:, [i]], masks[:, [i]]) for i in shots]
    return torch.stack(each).amax(0)


def next_weight(memory, prior, *rest, variant="v1"):
    memory, prior, _ = other_refine_once(memory, prior, *rest, variant=variant)
    return memory, prior, other_refine_once(memory, prior, *rest, variant=variant)[2]


def rounds_with(hand_on):
    """All rounds with a mistake in what each hands on."""

    def refine(memory, prior, fg, fg_prior, a, rounds=3):
        done, state = [], {"memory": memory, "prior": prior, "fg": fg, "a": a}
        for _ in range(rounds):
            done.append(other_refine_once(state["memory"], state["prior"], state["fg"], fg_prior, state["a"]))
            state |= {name: done[-1][i] for name, i in hand_on.items()}
        return done

    return refine


def by_the_maximum(maps, variant):
    return maps if variant == "v1" else maps / (maps.amax((-2, -1), keepdim=True) + 1e-7)


WRONG = [
    ("ex05-support-similarity", merged, "mean of the prototypes"),
    ("ex05-support-similarity", pooled, "one prototype of all supports' cells together, the formula of notebook 01"),
    ("ex05-support-similarity", by_area, "by the area of its mask"),
    (
        "ex05-support-similarity",
        lambda f, s, m: refinement.support_similarity(f, s, (m > 0.5).float()),
        "cuts M_S at ½",
    ),
    ("ex05-support-similarity", late, "stretched after the mean"),
    ("ex05-support-similarity", lambda *x: min_max(refinement.support_similarity(*x)), "stretched again"),
    ("ex05-support-similarity", lambda f, s, m: refinement.support_similarity(f, s, 1 - m), "support's background"),
    (
        "ex05-support-similarity",
        lambda f, s, m: refinement.support_similarity(f, s, torch.ones_like(m)),
        "the whole support",
    ),
    (
        "ex05-support-similarity",
        lambda f, s, m: refinement.support_similarity(f, f.unsqueeze(1).expand(s.shape), m),
        "out of Mem_fg",
    ),
    ("ex05-support-similarity", lambda f, s, m: refinement.support_similarity(f, s[:, :1], m[:, :1]), "first shot"),
    ("ex05-support-similarity", lambda *x: refinement.support_similarity(*x).detach(), "no gradient flows"),
    ("ex05-support-similarity", largest, "largest over the shots"),
    ("ex05-agreement", lambda a, b, variant="v1": a * b, "is the product"),
    ("ex05-agreement", lambda a, b, variant="v1": torch.minimum(a, b), "smaller of the two"),
    ("ex05-agreement", lambda a, b, variant="v1": a + b - 1, "cut it at 0"),
    ("ex05-agreement", lambda a, b, variant="v1": (a + b) / 2, "mean of the two"),
    ("ex05-agreement", lambda a, b, variant="v1": (a + b).clamp(max=1), "subtract 1"),
    ("ex05-agreement", lambda a, b, variant="v1": other_agreement(a, b), "same for both variants"),
    ("ex05-agreement", lambda a, b, variant="v1": other_agreement(a, b, "v2"), 'only "v2" stretches'),
    (
        "ex05-agreement",
        lambda a, b, variant="v1": by_the_maximum(other_agreement(a, b), variant),
        "only divides by the largest weight",
    ),
    ("ex05-refine-once", round_with(mix=lambda w, new, old: w * old + (1 - w) * new), "wrong way round"),
    ("ex05-refine-once", round_with(mix=lambda w, new, old: old + w * new), "on top"),
    ("ex05-refine-once", round_with(mix=lambda w, new, old: w * new), "is only W·Mem_fg"),
    ("ex05-refine-once", round_with(mix=lambda w, new, old: old), "Mem_d is not refined"),
    ("ex05-refine-once", round_with(stretch=lambda x: x), "P_d is not stretched"),
    ("ex05-refine-once", round_with(weigh=lambda a, b: a * b), "use your `agreement`"),
    ("ex05-refine-once", round_with(lambda m, p, f, g: min_max(cosine_map(f, prototype(f, p)))), "out of Mem_fg"),
    ("ex05-refine-once", round_with(lambda m, p, f, g: min_max(cosine_map(m, prototype(m, p)))), "compares Mem_d"),
    ("ex05-refine-once", round_with(lambda m, p, f, g: min_max(cosine_map(f, prototype(m, g)))), "under P_fg"),
    ("ex05-refine-once", round_with(lambda m, p, f, g: min_max(cosine_map(f, prototype(f, g)))), "Mem_fg under P_fg"),
    ("ex05-refine-once", round_with(lambda m, p, f, g: cosine_map(f, prototype(m, p))), "B is not stretched"),
    (
        "ex05-refine-once",
        round_with(lambda m, p, f, g: min_max(cosine_map(f, prototype(m, (p > 0.5).float())))),
        "cuts P_d at ½",
    ),
    ("ex05-refine-once", round_with(detach=True), "flows through your W"),
    ("ex05-refine-once", lambda *x, variant="v1": other_refine_once(*x), "ignores `variant`"),
    ("ex05-refine-once", lambda *x, **o: [other_refine_once(*x, **o)[i] for i in (0, 2, 1)], "the order is"),
    ("ex05-refine-once", next_weight, "that of the next round"),
    ("ex05-refine-once", lambda *x, **o: other_refine_once(*x, **o)[:2], "three tensors"),
    ("ex05-refine", rounds_with({}), "starts from the Mem_d and P_d of the round before"),
    ("ex05-refine", rounds_with({"memory": 0}), "still uses the first P_d"),
    ("ex05-refine", rounds_with({"prior": 1}), "still uses the first Mem_d"),
    ("ex05-refine", rounds_with({"memory": 0, "prior": 1, "fg": 0}), "Mem_fg stays what it was"),
    ("ex05-refine", rounds_with({"memory": 0, "prior": 1, "a": 2}), "A is overwritten"),
    ("ex05-refine", lambda *x, rounds=3: tuple(other_refine(*x, rounds=rounds)), "must return a list"),
    ("ex05-refine", lambda *x, rounds=3: other_refine(*x, rounds=rounds + 1), "yours has 4"),
    ("ex05-share", lambda w: torch.stack(w).sum(0), "can exceed 1"),
    ("ex05-share", lambda w: torch.stack(w).sum(0).clamp(max=1), "leave a quarter"),
    ("ex05-share", lambda w: torch.stack(w).mean(0), "mean weight"),
    ("ex05-share", lambda w: torch.stack(w).prod(0), "each round \\*leaves\\*"),
    ("ex05-share", lambda w: 1 - other_share(w), "what is left of the old"),
    ("ex05-share", lambda w: w[-1], "last weight alone"),
    ("ex05-share", lambda w: torch.stack(w).amax(0), "largest weight"),
    ("ex05-share", lambda w: 1 - (1 - w[0]) * (1 - w[1]), "after three rounds"),
    ("ex05-share", share_in_place, "changes its argument weights in place"),
    ("ex05-rounds-needed", lambda w: (0.5 / w).ceil(), "adds the weights up"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w, lambda x: x, 0), "is not whole"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w, torch.floor, 0), "rounded down"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w, torch.round, 0), "to the nearest"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w) + 1, "one too large"),
    ("ex05-rounds-needed", lambda w: by_logarithm(1 - w), "what is left of the old memory"),
    ("ex05-rounds-needed", lambda w: (w >= 0.5).float(), "where a single round is enough"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w, first=0), "before the first round Mem_fg has nothing"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w, lambda x: x.floor() + 1), "asks for more than half"),
    ("ex05-rounds-needed", lambda w: looping(w, 20), "where W is 0.01 is inf: your loop stops too early"),
    ("ex05-rounds-needed", lambda w: looping(w, 200), "where W is 0.001 is inf: your loop stops too early"),
    ("ex05-rounds-needed", lambda w: by_logarithm(w).nan_to_num(posinf=0), "never gets there"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_the_right_hint(name, answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        CHECKS[name](answer)
