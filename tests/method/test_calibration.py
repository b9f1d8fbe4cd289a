from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.method.calibration import (
    CalibratedCrossAttention,
    average_shots,
    calibration_bias,
    calibration_term,
    shot_similarity,
)
from fss_lab.method.options import CALIBRATIONS

seeds = st.integers(0, 10_000)
N, GRID, D = 16, (4, 4), 6


def keys(seed: int, shots: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    query, support = torch.randn(2, 1, N, D, generator=g), torch.randn(2, 1, shots, N, D, generator=g)
    return query, support, (torch.rand(2, shots, *GRID, generator=g) > 0.5).float()


@given(seeds, st.permutations(range(3)))
def test_term_is_in_range_and_ignores_the_order_of_shots(seed: int, order: list[int]) -> None:
    query, support, masks = keys(seed)
    term = calibration_term(shot_similarity(query, support, masks), masks)
    assert term.shape == (2, 1, *GRID) and term.min() >= 0 and term.max() <= 1
    other = calibration_term(shot_similarity(query, support[:, :, order], masks[:, order]), masks[:, order])
    torch.testing.assert_close(term, other)


@given(seeds, st.floats(0.01, 100))
def test_bias_takes_up_to_ten_nats(seed: int, scale: float) -> None:
    g = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(2, 1, N, N, generator=g)).requires_grad_(True)
    bias = calibration_bias(logits, torch.rand(2, 1, *GRID, generator=g))
    assert bias.min() >= -10 and bias.max() <= 0 and bias.isfinite().all()
    assert not bias.requires_grad


def test_bias_by_hand() -> None:
    logits = torch.tensor([[[[0.0, 1.0, 2.0, 4.0]]]])
    term = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]])
    expected = torch.tensor([[[[-10.0, -2.5, 0.0, 0.0]]]])  # 10 min(0, (0, .25, .5, 1) + (0, .5, 1, .25) - 1)
    torch.testing.assert_close(calibration_bias(logits, term), expected, atol=1e-4, rtol=0)


def test_a_shot_that_vanishes_on_the_grid_has_no_say() -> None:
    query, support, masks = keys(0)
    masks[:, 1] = 0
    two = [0, 2]
    without = calibration_term(shot_similarity(query, support[:, :, two], masks[:, two]), masks[:, two])
    found = calibration_term(shot_similarity(query, support, masks), masks)
    torch.testing.assert_close(found, without)


@given(seeds)
def test_no_visible_shot_means_no_bias(seed: int) -> None:
    query, support, masks = keys(seed)
    masks[0] = 0  # the first episode sees nothing, the second does
    term = calibration_term(shot_similarity(query, support, masks), masks)
    bias = calibration_bias(query @ query.mT, term)
    assert term[0].eq(1).all() and bias[0].eq(0).all()
    assert bias[1].min() < 0


def test_average_shots() -> None:
    x = torch.randn(2, 1, 3 * N + N + 2, D)
    averaged = average_shots(x, 3, N)
    torch.testing.assert_close(averaged[:, :, 5], (x[:, :, 5] + x[:, :, N + 5] + x[:, :, 2 * N + 5]) / 3)
    assert averaged[:, :, N:].equal(x[:, :, 3 * N :])


def attention_inputs(backbone: Sam2Backbone, shots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    n, c, d = backbone.grid_size**2, backbone.channels, backbone.memory_channels
    q = torch.randn(2, n, c, generator=g, requires_grad=True)
    k = torch.randn(2, (shots + 1) * (n + c // d), d, generator=g, requires_grad=True)
    v = torch.randn(k.shape, generator=g, requires_grad=True)
    return q, k, v, (torch.rand(2, shots, 8, 8, generator=g) > 0.6).float()


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("mode", CALIBRATIONS)
def test_fast_and_explicit_path_agree(backbone: Sam2Backbone, mode: str, shots: int) -> None:
    attention = backbone.model.memory_attention.layers[0].cross_attn_image
    q, k, v, masks = attention_inputs(backbone, shots)
    pointers = (shots + 1) * 4
    results = []
    for explicit in (False, True):
        output = CalibratedCrossAttention(masks, mode, explicit)(0, attention, q, k, v, pointers)
        inputs = (q, k, v, attention.q_proj.weight, attention.k_proj.weight)
        results.append((output, *torch.autograd.grad(output.square().mean(), inputs)))
    for fast, explicit_one in zip(*results, strict=True):
        torch.testing.assert_close(fast, explicit_one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("explicit", [False, True])
def test_off_is_the_stock_attention(backbone: Sam2Backbone, explicit: bool) -> None:
    attention = backbone.model.memory_attention.layers[1].cross_attn_image
    q, k, v, masks = attention_inputs(backbone, 2)
    stock = attention(q, k, v, num_k_exclude_rope=12)
    found = CalibratedCrossAttention(masks, "off", explicit)(1, attention, q, k, v, 12)
    torch.testing.assert_close(found, stock, atol=1e-6, rtol=0)


@pytest.mark.parametrize("explicit", [False, True])
def test_averaged_is_corrected_without_its_bias(backbone: Sam2Backbone, explicit: bool) -> None:
    attention = backbone.model.memory_attention.layers[0].cross_attn_image
    for shots, unlike in ((1, "corrected"), (3, "off")):
        q, k, v, masks = attention_inputs(backbone, shots)
        averaged, unbiased, other = (
            CalibratedCrossAttention(shown, mode, explicit)(0, attention, q, k, v, (shots + 1) * 4)
            for shown, mode in ((masks, "averaged"), (torch.zeros_like(masks), "corrected"), (masks, unlike))
        )
        torch.testing.assert_close(averaged, unbiased, atol=1e-6, rtol=0)
        assert (averaged - other).abs().max() > 1e-5


def test_published_and_corrected_agree_for_one_shot_only(backbone: Sam2Backbone) -> None:
    attention = backbone.model.memory_attention.layers[0].cross_attn_image
    for shots, same in ((1, True), (2, False)):
        q, k, v, masks = attention_inputs(backbone, shots)
        one, other = (
            CalibratedCrossAttention(masks, mode)(0, attention, q, k, v, (shots + 1) * 4)
            for mode in ("corrected", "as_published")
        )
        assert torch.allclose(one, other, atol=1e-6) == same


def test_vanished_mask_gives_uncalibrated_attention_unless_as_published(backbone: Sam2Backbone) -> None:
    attention = backbone.model.memory_attention.layers[0].cross_attn_image
    q, k, v, masks = attention_inputs(backbone, 1)
    off, corrected, published = (
        CalibratedCrossAttention(torch.zeros_like(masks), mode)(0, attention, q, k, v, 8)
        for mode in ("off", "corrected", "as_published")
    )
    torch.testing.assert_close(corrected, off, atol=1e-6, rtol=0)
    assert (published - off).abs().max() > 1e-3
