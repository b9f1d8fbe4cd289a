"""Exercises of notebook 04: right answers pass, plausible wrong ones get the hint that helps."""

import pytest
import torch
import torch.nn.functional as F

from fss_lab.exercises import ExerciseError, ex04
from fss_lab.method import prompts
from fss_lab.method.prompts import cosine_map, min_max, prototype, resize

CHECKS = {
    "ex04-prototype": ex04.check_prototype,
    "ex04-cosine-map": ex04.check_cosine_map,
    "ex04-min-max": ex04.check_min_max,
    "ex04-discriminative-prior": ex04.check_discriminative_prior,
    "ex04-generate-priors": ex04.check_generate_priors,
}


def other_prototype(features, mask):
    """By a matrix product."""
    area = mask.flatten(-2).sum(-1, keepdim=True) + 5e-4
    return (features.flatten(-2) @ mask.flatten(-2).transpose(-1, -2) / area).unsqueeze(-1)


def other_cosine_map(features, vector):
    """By unit vectors."""
    return (F.normalize(features, dim=-3, eps=1e-7) * F.normalize(vector, dim=-3, eps=1e-7)).sum(-3, keepdim=True)


def other_min_max(x):
    """By flat rows."""
    flat = x.flatten(-2)
    low = flat.min(-1, keepdim=True).values
    return ((flat - low) / (flat.max(-1, keepdim=True).values - low + 1e-7)).view_as(x)


def other_discriminative_prior(fg, bg):
    return min_max(torch.where(fg > bg, fg - bg, torch.zeros_like(fg)))


def other_generate_priors(query, support, masks):
    """Shot by shot."""
    fg, d = [], []
    for k in range(support.shape[1]):
        mask = resize(masks[:, k : k + 1], support.shape[-2:])
        similar = [
            resize(min_max(cosine_map(query, prototype(support[:, k], m))), masks.shape[-2:]) for m in (mask, 1 - mask)
        ]
        fg.append(similar[0])
        d.append(prompts.discriminative_prior(*similar))
    return sum(fg) / len(fg), sum(d) / len(d)


OTHERS = {
    "ex04-prototype": other_prototype,
    "ex04-cosine-map": other_cosine_map,
    "ex04-min-max": other_min_max,
    "ex04-discriminative-prior": other_discriminative_prior,
    "ex04-generate-priors": other_generate_priors,
}


@pytest.mark.parametrize("name", CHECKS)
def test_another_right_answer_passes(name, capsys):
    CHECKS[name](OTHERS[name])
    assert capsys.readouterr().out.startswith("✓")


def pooled(query, support, masks):
    """One prototype of all supports' patches, as in notebook 01."""
    mask = resize(masks, support.shape[-2:]).unsqueeze(2)
    maps = []
    for region in (mask, 1 - mask):
        p = (support * region).sum((1, -2, -1)) / (region.sum((1, -2, -1)) + 5e-4)
        maps.append(resize(min_max(cosine_map(query, p[..., None, None])), masks.shape[-2:]))
    return maps[0], prompts.discriminative_prior(*maps)


def voting(combine):
    """Priors shot by shot, combined in another way than by their mean. combine: (B, K, H, W), masks -> (B, 1, H, W)."""

    def generate_priors(query, support, masks):
        every = prompts.generate_priors(query, support, masks)
        return combine(every.foreground_similarity, masks), combine(every.discriminative_per_shot, masks)

    return generate_priors


def by_area(maps, masks):
    weights = masks.mean((-2, -1), keepdim=True)
    return (maps * weights / weights.sum(1, keepdim=True)).sum(1, keepdim=True)


def in_place(features, mask):
    features *= mask
    return features.sum((-2, -1), keepdim=True) / (mask.sum((-2, -1), keepdim=True) + 5e-4)


def area(mask):
    return mask.sum((-2, -1), keepdim=True) + 5e-4


def priors(query, support, masks, mode="", **mistake):
    """The generator with one mistake in it."""
    early, stretch, merge, similar, raw, cut = map(mistake.get, ("early", "stretch", "merge", "similar", "raw", "cut"))
    size = masks.shape[-2:]
    grid = support.shape[-2:]
    mask = (F.interpolate(masks, grid, mode=mode) if mode else resize(masks, grid)).unsqueeze(2)
    mask = (mask > 0.5).float() if cut else mask
    found = [prototype(support, region) for region in (mask, 1 - mask)]
    if merge:
        found = [p.mean(1, keepdim=True) for p in found]
    maps = [min_max(cosine_map(query.unsqueeze(1), p)).squeeze(2) for p in found]
    maps = maps if early else [resize(x, size) for x in maps]
    if similar:
        maps = [x.mean(1, keepdim=True) for x in maps]
    d = prompts.discriminative_prior(*maps)
    if raw:
        d = prompts.discriminative_prior(*(resize(cosine_map(query.unsqueeze(1), p).squeeze(2), size) for p in found))
    fg, d = (resize(x, size).mean(1, keepdim=True) for x in (maps[0], d))
    return (min_max(fg), min_max(d)) if stretch else (fg, d)


WRONG = [
    ("ex04-prototype", lambda x, m: (x * m).mean((-2, -1), keepdim=True), r"divides by H·W; .* the mask's area"),
    ("ex04-prototype", lambda x, m: x.mean((-2, -1), keepdim=True), "mean of the whole map"),
    ("ex04-prototype", lambda x, m: (x * m).sum((-2, -1), keepdim=True), "is a sum"),
    ("ex04-prototype", lambda x, m: (x * (m > 0)).sum((-2, -1), keepdim=True) / area((m > 0).float()), "like a full"),
    ("ex04-prototype", lambda x, m: (x * (m > 0.5)).sum((-2, -1), keepdim=True) / area((m > 0.5).float()), "drops"),
    ("ex04-prototype", lambda x, m: prototype(x, 1 - m), "describes the background"),
    (
        "ex04-prototype",
        lambda x, m: (x * m).sum((-2, -1), keepdim=True) / (m > 0).float().sum((-2, -1), keepdim=True),
        "the mask touches",
    ),
    (
        "ex04-prototype",
        lambda x, m: (x * m).sum((-2, -1), keepdim=True) / m.sum((-2, -1), keepdim=True),
        "empty mask must give the zero vector",
    ),
    (
        "ex04-prototype",
        lambda x, m: (x * m).sum((-2, -1), keepdim=True) / (m.sum() + 5e-4),
        "area of all masks together",
    ),
    ("ex04-prototype", in_place, "changes its argument features in place"),
    ("ex04-cosine-map", lambda x, p: (x * p).sum(-3, keepdim=True), "dot product"),
    ("ex04-cosine-map", lambda x, p: (x * p).sum(-3, keepdim=True) / x.norm(dim=-3, keepdim=True), "length of p"),
    ("ex04-cosine-map", lambda x, p: (x * p).sum(-3, keepdim=True) / p.norm(), "lengths ‖F‖ of the features"),
    ("ex04-cosine-map", lambda x, p: (x * p).sum(-3, keepdim=True) / (x.norm() * p.norm()), "one number for the whole"),
    (
        "ex04-cosine-map",
        lambda x, p: (x * p).sum(-3, keepdim=True) / (x.norm(dim=-3, keepdim=True) * p.norm(dim=-3, keepdim=True)),
        "not NaN: add 1e-7",
    ),
    (
        "ex04-cosine-map",
        lambda x, p: (x * p).sum(-3, keepdim=True) / (x.norm(dim=-3, keepdim=True) * p.norm() + 1e-7),
        "one number for all prototypes",
    ),
    ("ex04-cosine-map", lambda x, p: cosine_map(x, p).clamp(min=0), "may be negative"),
    ("ex04-cosine-map", lambda x, p: cosine_map(x, p).squeeze(-3), r"but \(1, 2, 2\) is right"),
    ("ex04-min-max", lambda x: x / x.amax((-2, -1), keepdim=True), "subtract the smallest first"),
    ("ex04-min-max", lambda x: x - x.amin((-2, -1), keepdim=True), "only shifted"),
    ("ex04-min-max", lambda x: (x - x.min()) / (x.max() - x.min() + 1e-7), "each map has its own"),
    ("ex04-min-max", lambda x: (x - x.amin()) / x.amax(), "its extent is max − min"),
    ("ex04-min-max", lambda x: (x - x.amin()) / (x.amax() - x.amin()), "constant map"),
    ("ex04-min-max", lambda x: x.flatten(-2).softmax(-1).view_as(x), "softmax"),
    ("ex04-discriminative-prior", lambda a, b: (a - b).clamp(min=0), "not stretched"),
    ("ex04-discriminative-prior", lambda a, b: min_max(a - b), "stretches before it cuts"),
    ("ex04-discriminative-prior", lambda a, b: min_max(a - b).clamp(min=0), "stretches before it cuts"),
    ("ex04-discriminative-prior", lambda a, b: min_max((b - a).clamp(min=0)), "is the background's"),
    ("ex04-discriminative-prior", lambda a, b: min_max((a - b).abs()), "size of the difference"),
    ("ex04-discriminative-prior", lambda a, b: min_max(a * (1 - b)), "above 0 where the background wins"),
    ("ex04-discriminative-prior", lambda a, b: (a > b).float(), "must be soft"),
    ("ex04-discriminative-prior", lambda a, b: (a - b).clamp(min=0) / (a - b).max(), "share one stretch"),
    (
        "ex04-discriminative-prior",
        lambda a, b: (a - b).clamp(min=0) / ((a - b).clamp(min=0).amax((-2, -1), keepdim=True) + 1e-7),
        "divided by its largest value. Where the object wins everywhere",
    ),
    ("ex04-generate-priors", lambda *x: priors(*x)[::-1], "you return P_d before P_fg"),
    ("ex04-generate-priors", pooled, "P_fg comes from one prototype of all supports' patches .* notebook 01"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, cut=True), "cut after the resize"),
    ("ex04-generate-priors", voting(lambda x, m: x.median(1, keepdim=True).values), "median over the shots"),
    ("ex04-generate-priors", voting(by_area), "by the area of its mask"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, mode="nearest"), 'F.interpolate\'s "nearest"'),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, mode="area"), "use `resize`"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, raw=True), "compares raw cosines"),
    ("ex04-generate-priors", lambda q, s, m: prompts.generate_priors(q, s, m).foreground, "must return two tensors"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, early=True), "made on the small grid"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, stretch=True), "P_fg is stretched again"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, merge=True), "mean of the prototypes"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s[:, :1], m[:, :1]), "only one of the shots"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, m, similar=True), "comes from the mean similarities"),
    ("ex04-generate-priors", lambda q, s, m: priors(q, s, 1 - m), "background's"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_wrong_answers_get_the_right_hint(name, answer, hint):
    with pytest.raises(ExerciseError, match=hint):
        CHECKS[name](answer)
