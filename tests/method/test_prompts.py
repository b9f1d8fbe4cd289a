from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.method.prompts import cosine_map, discriminative_prior, generate_priors, min_max, prototype, resize

seeds = st.integers(0, 10_000)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_min_max_is_in_the_unit_interval_and_ignores_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    x = random(seed, 2, 3, 5, 4).double()
    stretched = min_max(x)
    assert stretched.amin((-2, -1)).eq(0).all()
    assert (stretched.amax((-2, -1)) <= 1).all() and (stretched.amax((-2, -1)) > 0.999).all()
    torch.testing.assert_close(min_max(scale * x + shift), stretched, atol=1e-3, rtol=0)


def test_min_max_of_a_constant_map_is_zero() -> None:
    assert min_max(torch.full((1, 1, 3, 3), 7.0)).eq(0).all()


@given(seeds, st.integers(1, 35))
def test_prototype_of_a_constant_map_is_the_constant(seed: int, pixels: int) -> None:
    value = random(seed, 1, 4, 1, 1)
    mask = torch.zeros(36).index_fill(0, torch.arange(pixels), 1).view(1, 1, 6, 6)
    expected = value * pixels / (pixels + 5e-4)
    torch.testing.assert_close(prototype(value.expand(1, 4, 6, 6), mask), expected)


def test_prototype_of_an_empty_mask_is_zero_and_so_is_its_cosine() -> None:
    features = random(0, 1, 4, 6, 6)
    empty = prototype(features, torch.zeros(1, 1, 6, 6))
    assert empty.eq(0).all() and cosine_map(features, empty).eq(0).all()


@given(seeds)
def test_cosine_is_one_at_the_prototype_itself(seed: int) -> None:
    features = random(seed, 1, 8, 3, 3)
    found = cosine_map(features, features[..., 1:2, 1:2])
    assert found.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(found[0, 0, 1, 1], torch.tensor(1.0))


def test_resize_aligns_corners() -> None:
    ramp = torch.linspace(0, 1, 5).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    torch.testing.assert_close(resize(ramp, (9, 9))[0, 0, 0], torch.linspace(0, 1, 9))
    assert resize(ramp, (5, 5)) is ramp


def test_discriminative_prior_keeps_only_what_is_more_foreground() -> None:
    foreground = torch.tensor([[[[0.2, 0.9], [0.6, 0.5]]]])
    background = torch.tensor([[[[0.8, 0.1], [0.2, 0.5]]]])
    expected = torch.tensor([[[[0.0, 1.0], [0.5, 0.0]]]])
    torch.testing.assert_close(discriminative_prior(foreground, background), expected, atol=1e-6, rtol=0)


@given(seeds, st.permutations(range(4)))
def test_priors_do_not_depend_on_the_order_of_shots(seed: int, order: list[int]) -> None:
    query, support = random(seed, 2, 6, 5, 5), random(seed + 1, 2, 4, 6, 5, 5)
    masks = (random(seed + 2, 2, 4, 20, 20) > 0).float()
    one, other = (generate_priors(query, support, masks), generate_priors(query, support[:, order], masks[:, order]))
    torch.testing.assert_close(one.foreground, other.foreground)
    torch.testing.assert_close(one.discriminative, other.discriminative)
    torch.testing.assert_close(one.discriminative_per_shot[:, order], other.discriminative_per_shot)


@given(seeds, st.sampled_from(["empty", "full", "pixel"]))
def test_priors_are_finite_for_any_mask(seed: int, kind: str) -> None:
    masks = torch.full((1, 1, 20, 20), 1.0 if kind == "full" else 0.0)
    if kind == "pixel":
        masks[..., 7, 7] = 1
    priors = generate_priors(random(seed, 1, 6, 5, 5), random(seed + 1, 1, 1, 6, 5, 5), masks)
    for prior in (priors.foreground, priors.discriminative):
        assert prior.isfinite().all() and prior.min() >= 0 and prior.max() <= 1


def test_priors_find_the_object() -> None:
    query, support = torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 2, 8, 8)
    query[:, 0], support[:, :, 0] = 1, 1  # background looks like (1, 0), the object like (0, 1)
    query[:, :, 5:, 5:] = support[:, :, :, :3, :3] = torch.tensor([0.0, 1.0])[:, None, None]
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., :3, :3] = 1
    prior = generate_priors(query, support, masks).discriminative[0, 0]
    assert prior[5:, 5:].min() > 0.99 and prior[:5].max() < 0.01
