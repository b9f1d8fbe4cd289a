"""Checks of notebook 04: the building blocks of the pseudo prompt generator, and the generator itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.exercises.harness import ExerciseError, call, check_tensor, compare, exercise
from fss_lab.method.prompts import cosine_map, discriminative_prior, generate_priors, min_max, prototype, resize

Function = Callable[..., Tensor]
LIBRARY: dict[str, Function] = {
    "prototype": prototype,
    "cosine_map": cosine_map,
    "min_max": min_max,
    "discriminative_prior": discriminative_prior,
}


@exercise(LIBRARY)
def check_prototype(function: Function) -> str:
    """Exercise 4.1: `prototype(F, M)`: the mean feature under a mask. Raises ExerciseError with a diagnosis."""
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 0.0], [0.0, 30.0]]])  # 2 channels, 2 x 2
    mask = torch.tensor([[[0.0, 1.0], [0.0, 0.5]]])
    total = (features * mask).sum((-2, -1), keepdim=True)  # 4 and 15
    answer = check_tensor(call(function, features, mask), (2, 1, 1), "your prototype")
    compare(
        answer.flatten(),
        [4 / 1.5, 15 / 1.5],
        "your prototype",
        {
            "your prototype divides by H·W; it must divide by the mask's area, the sum of M.": (total / 4).flatten(),
            "your prototype is the mean of the whole map; only what lies under the mask may count: multiply F by M "
            "first.": features.mean((-2, -1)),
            "your prototype is a sum; divide it by the mask's area, the sum of M.": total.flatten(),
            "your prototype divides by the number of patches that the mask touches; a patch that is half object counts "
            "half: divide by the sum of M.": (total / 2).flatten(),
            "your prototype treats a patch that is half object like a full one; M is a weight in 0..1, do not cut "
            "it.": features[:, :, 1].mean(-1),
            "your prototype drops the patch that is half object; M is a weight in 0..1, do not cut it.": features[
                :, 0, 1
            ],
            "your prototype describes the background: it averages with 1 − M instead of M.": (
                (features * (1 - mask)).sum((-2, -1)) / (1 - mask).sum()
            ),
        },
        tolerance=2e-3,
    )
    empty = check_tensor(call(function, features, torch.zeros(1, 2, 2)), (2, 1, 1), "your prototype of an empty mask")
    if not torch.equal(empty, torch.zeros(2, 1, 1)):
        raise ExerciseError(
            f"an empty mask must give the zero vector, yours gives {empty.flatten().tolist()}: 0 / 0 is NaN; add 5e-4 "
            "to the area."
        )
    batch = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))  # B, K, C, h, w
    masks = torch.rand(2, 3, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    many = check_tensor(call(function, batch, masks), (2, 3, 4, 1, 1), "your prototype of (B, K, C, h, w)")
    value = torch.stack([torch.stack([function(batch[b, k], masks[b, k]) for k in range(3)]) for b in range(2)])
    compare(
        many,
        value,
        "your prototype of several maps at once, compared with each map alone (sum over the last two axes)",
        {
            "your prototype of several maps divides by the area of all masks together; each mask has its own: "
            "M.sum((-2, -1), keepdim=True).": (batch * masks).sum((-2, -1), keepdim=True) / masks.sum()
        },
    )
    compare(many, prototype(batch, masks), "your prototype of a random map")
    return "prototype: the mask's area divides, soft patches count in part, an empty mask gives zero"


@exercise(LIBRARY)
def check_cosine_map(function: Function) -> str:
    """Exercise 4.2: `cosine_map(F, p)`: the cosine of every position with a prototype. Raises ExerciseError."""
    features = torch.tensor([[[3.0, 0.0], [-3.0, 6.0]], [[4.0, 5.0], [4.0, 8.0]]])  # vectors (3, 4), (0, 5), ...
    direction = torch.tensor([0.0, 2.0]).view(2, 1, 1)
    product = (features * direction).sum(0, keepdim=True)
    answer = check_tensor(call(function, features, direction), (1, 2, 2), "your map")
    compare(
        answer[0],
        [[0.8, 1.0], [0.8, 0.8]],
        "your cosine",
        {
            "your map is the dot product; divide it by both lengths, ‖F‖ and ‖p‖.": product[0],
            "your map is not divided by the length of p.": (product / features.norm(dim=0))[0],
            "your map is not divided by the lengths ‖F‖ of the features: (6, 8) is twice (3, 4) and must get the same "
            "cosine.": (product / direction.norm())[0],
            "your ‖F‖ is one number for the whole map; every position has a length of its own: take the norm over the "
            "channels, dim=-3.": (product / (features.norm() * direction.norm()))[0],
            "your lengths are not square roots: ‖F‖ is the root of the sum of squares.": (
                product / (features.square().sum(0) * direction.square().sum())
            )[0],
            "your lengths are sums of absolute values; the cosine needs the Euclidean norm.": (
                product / (features.abs().sum(0) * direction.abs().sum())
            )[0],
        },
    )
    opposite = call(function, features, -direction)
    compare(opposite[0], -answer[0], "your cosine with −p (cosines may be negative; nothing is cut off)")
    zero = call(function, features, torch.zeros(2, 1, 1))
    if not torch.equal(zero, torch.zeros(1, 2, 2)):
        raise ExerciseError("a zero prototype (empty mask) must give the map 0, not NaN: add 1e-7 to ‖F‖·‖p‖.")
    generator = torch.Generator().manual_seed(0)
    batch, prototypes = (torch.randn(2, 3, 4, *s, generator=generator) for s in ((5, 5), (1, 1)))
    many = check_tensor(call(function, batch, prototypes), (2, 3, 1, 5, 5), "your map of (B, K, C, h, w)")
    one_length = (batch * prototypes).sum(-3, keepdim=True) / (batch.norm(dim=-3, keepdim=True) * prototypes.norm())
    compare(
        many,
        cosine_map(batch, prototypes),
        "your map of random features",
        {"your ‖p‖ is one number for all prototypes; each has its own: take the norm over dim=-3.": one_length},
    )
    return "cosine_map: length does not matter, direction does, and a zero prototype is like nothing"


@exercise(LIBRARY)
def check_min_max(function: Function) -> str:
    """Exercise 4.3: `min_max(x)`: each map stretched to 0..1. Raises ExerciseError with a diagnosis."""
    x = torch.tensor([[2.0, 4.0], [6.0, 10.0]])
    answer = check_tensor(call(function, x), (2, 2), "your map")
    compare(
        answer,
        [[0, 0.25], [0.5, 1]],
        "your map",
        {
            "your map is only divided by its largest value: subtract the smallest first, so that it starts at 0.": (
                x / 10
            ),
            "your map is only shifted: divide by max − min as well.": x - 2,
            "your map is divided by its maximum; after the minimum is subtracted its extent is max − min.": (x - 2)
            / 10,
            "your map is upside down: it is (x − min), not (max − x).": (10 - x) / 8,
            "your map is a softmax or another squashing; stretch it linearly.": x.flatten().softmax(0).view(2, 2),
        },
    )
    constant = call(function, torch.full((2, 2), 7.0))
    if not torch.equal(constant, torch.zeros(2, 2)):
        raise ExerciseError("a constant map must become 0, not NaN: add 1e-7 to max − min.")
    two = torch.stack([x, 10 * x])[None]  # B = 1, K = 2
    together = (two - two.min()) / (two.max() - two.min())
    compare(
        check_tensor(call(function, two), (1, 2, 2, 2), "your maps"),
        [[[[0, 0.25], [0.5, 1]]] * 2],
        "your maps",
        {
            "your maps share one minimum and one maximum; each map has its own: amin and amax over the last two axes, "
            "keepdim=True.": together
        },
    )
    negative = torch.tensor([[-3.0, -1.0], [0.0, 1.0]])
    compare(call(function, negative), min_max(negative), "your map of negative numbers")
    return "min_max: every map runs from 0 to 1, each for itself"


@exercise(LIBRARY)
def check_discriminative_prior(function: Function) -> str:
    """Exercise 4.4: `discriminative_prior(S_fg, S_bg)`: stretched lead of the object. Raises ExerciseError."""
    fg = torch.tensor([[0.75, 0.5], [0.25, 0.0]])
    bg = torch.tensor([[0.25, 0.25], [0.5, 1.0]])
    lead = fg - bg  # 0.5, 0.25, -0.25, -1
    answer = check_tensor(call(function, fg, bg), (2, 2), "your prior")
    compare(
        answer,
        [[1, 0.5], [0, 0]],
        "your prior",
        {
            "your prior is not stretched: its largest value must be 1, so apply min_max last.": lead.clamp(min=0),
            "your prior stretches before it cuts: places where the background wins come out above 0. Cut with "
            "max(0, ·) first, then stretch.": min_max(lead),
            "your prior is the background's: it must be S_fg − S_bg, not S_bg − S_fg.": min_max((-lead).clamp(min=0)),
            "your prior takes the size of the difference; where the background wins it must be 0, not large: "
            "max(0, ·), not |·|.": min_max(lead.abs()),
            "your prior is S_fg where it exceeds S_bg; it must be by how much it does: S_fg − S_bg.": fg * (lead > 0),
            "your prior is S_fg·(1 − S_bg), which is above 0 where the background wins; it must be "
            "max(0, S_fg − S_bg).": min_max(fg * (1 - bg)),
            "your prior is only 0 or 1; it must be soft: S_fg − S_bg, cut at 0, then stretched.": (lead > 0).float(),
        },
    )
    generator = torch.Generator().manual_seed(0)
    fg, bg = torch.rand(2, 3, 5, 5, generator=generator), torch.rand(2, 3, 5, 5, generator=generator)
    bg[0, 0] = 1  # here the background wins everywhere
    fg[0, 1], bg[0, 1] = 0.6 + 0.4 * fg[0, 1], 0.4 * bg[0, 1]  # and here the object: the smallest lead is above 0
    lead = (fg - bg).clamp(min=0)
    compare(
        call(function, fg, bg),
        discriminative_prior(fg, bg),
        "your prior of several maps (each map for itself)",
        {
            "your maps share one stretch; each map has its own: use your `min_max`.": lead / lead.max(),
            "your prior is only divided by its largest value. Where the object wins everywhere, its smallest lead must "
            "become 0 as well: use your `min_max`.": lead / (lead.amax((-2, -1), keepdim=True) + 1e-7),
        },
    )
    return "discriminative_prior: only where the object wins, and by how much"


@exercise(LIBRARY)
def check_generate_priors(function: Callable[..., tuple[Tensor, Tensor]]) -> str:
    """Exercise 4.5: `generate_priors(F_Q, F_S, masks)`: both priors of any number of shots. Raises ExerciseError."""
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(2, 6, 4, 4, generator=generator)
    support = torch.randn(2, 3, 6, 4, 4, generator=generator)
    levels = torch.tensor([0.3, 0.6, 0.85]).view(3, 1, 1)  # supports of very different areas
    masks = (torch.rand(2, 3, 8, 8, generator=generator) > levels).float()
    stretched = "is stretched again after the mean over the shots; it must stay the mean: 1 where all shots agree."
    one = _priors(function, query, support[:, :1], masks[:, :1])
    wanted = generate_priors(query, support[:, :1], masks[:, :1])
    small = _similarities(query, support[:, :1], masks[:, :1], (4, 4))
    raw = _similarities(query, support[:, :1], masks[:, :1], (8, 8), stretch=False)
    early = resize(discriminative_prior(*small).mean(1, keepdim=True), (8, 8))
    compare(
        one[0],
        wanted.foreground,
        "your P_fg of one shot",
        {
            "you return P_d before P_fg; the order is `return P_fg, P_d`.": wanted.discriminative,
            "your P_fg is the background's: use the prototype under M, not under 1 − M.": wanted.background_similarity,
            "your P_fg is stretched again, or too late: stretch the map of h × w cells once, then resize it and leave "
            "it so.": min_max(wanted.foreground),
            "your P_fg is a raw cosine; stretch each shot's map with min_max.": raw[0],
            "your mask is cut after the resize; a patch that is half object counts half.": _similarities(
                query, support[:, :1], masks[:, :1], (8, 8), cut=True
            )[0],
            **{
                f'your mask is made small by F.interpolate\'s "{mode}"; use `resize`, bilinear with aligned '
                "corners.": _similarities(query, support[:, :1], masks[:, :1], (8, 8), mode)[0]
                for mode in ("nearest", "bilinear")
            },
        },
    )
    compare(
        one[1],
        wanted.discriminative,
        "your P_d of one shot",
        {
            "your P_d is made on the small grid and resized afterwards; resize S_fg and S_bg to H × W first, then take "
            "the discriminative prior.": early,
            "your P_d compares raw cosines; stretch each of the two maps with min_max first.": (
                discriminative_prior(raw[0], raw[1])
            ),
        },
    )
    several = _priors(function, query, support, masks)
    wanted = generate_priors(query, support, masks)
    averaged = _similarities(query, support, masks, (8, 8))
    weights = resize(masks, (4, 4)).unsqueeze(2)
    regions, areas = (weights, 1 - weights), masks.mean((-2, -1), keepdim=True)
    merged, pooled = (
        [resize(min_max(cosine_map(query, one(region))), (8, 8)) for region in regions]
        for one in (lambda region: prototype(support, region).mean(1), lambda region: _pooled(support, region))
    )
    first = "uses only one of the shots; take the mean over all of them."
    mean = (
        "comes from the mean of the prototypes; make the priors of every shot first and take the mean of the priors, "
        "as the paper does."
    )
    pool = (
        "comes from one prototype of all supports' patches together, the formula of notebook 01. Here every support "
        "makes its own prototype and its own priors; only these are averaged."
    )
    large = "counts a support by the area of its mask; every support has one vote: take the plain mean."
    compare(
        several[0],
        wanted.foreground,
        "your P_fg of three shots",
        {
            f"your P_fg {stretched}": min_max(wanted.foreground),
            f"your P_fg {first}": wanted.foreground_similarity[:, :1],
            f"your P_fg {mean}": merged[0],
            f"your P_fg {pool}": pooled[0],
            f"your P_fg {large}": (wanted.foreground_similarity * areas / areas.sum(1, keepdim=True)).sum(
                1, keepdim=True
            ),
            "your P_fg is the median over the shots; take the mean.": wanted.foreground_similarity.median(
                1, keepdim=True
            ).values,
            "your P_fg is the sum over the shots; take the mean.": wanted.foreground_similarity.sum(1, keepdim=True),
        },
    )
    compare(
        several[1],
        wanted.discriminative,
        "your P_d of three shots",
        {
            f"your P_d {stretched}": min_max(wanted.discriminative),
            f"your P_d {first}": wanted.discriminative_per_shot[:, :1],
            f"your P_d {mean}": discriminative_prior(*merged),
            f"your P_d {pool}": discriminative_prior(*pooled),
            "your P_d comes from the mean similarities; make P_d for each shot and take the mean of those.": (
                discriminative_prior(*(value.mean(1, keepdim=True) for value in averaged))
            ),
        },
    )
    return "generate_priors: both priors, one shot or many"


def _priors(
    function: Callable[..., tuple[Tensor, Tensor]], query: Tensor, support: Tensor, masks: Tensor
) -> list[Tensor]:
    answer = call(function, query, support, masks)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ExerciseError("generate_priors must return two tensors: `return P_fg, P_d`.")
    shape = (len(masks), 1, *masks.shape[-2:])
    return [check_tensor(value, shape, f"your {name}") for value, name in zip(answer, ("P_fg", "P_d"), strict=True)]


def _pooled(support: Tensor, region: Tensor) -> Tensor:
    """One prototype of the patches of all shots, (B, C, 1, 1)."""
    return (support * region).sum((1, -2, -1))[..., None, None] / region.sum((1, -2, -1))[..., None, None]


def _similarities(
    query: Tensor, support: Tensor, masks: Tensor, size: tuple[int, int], shrink: str = "", stretch: bool = True,
    cut: bool = False,
) -> list[Tensor]:  # fmt: skip
    """S_fg and S_bg of each shot, (B, K, *size). shrink: F.interpolate's mode for the masks; stretch: by min_max; cut:
    the masks at one half, after they were made small."""
    grid = support.shape[-2:]
    mask = (F.interpolate(masks, grid, mode=shrink) if shrink else resize(masks, grid)).unsqueeze(2)
    mask = (mask > 0.5).float() if cut else mask
    maps = (cosine_map(query.unsqueeze(1), prototype(support, region)).squeeze(2) for region in (mask, 1 - mask))
    return [resize(min_max(value) if stretch else value, size) for value in maps]
