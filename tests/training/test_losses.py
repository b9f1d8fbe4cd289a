from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fss_lab.training.losses import dice_loss

REFERENCE = Path(os.environ.get("FSS_LAB_REFERENCE", Path(__file__).parents[1] / "reference"))
deterministic = settings(max_examples=50)


def draw(seed: int, batch: int, spread: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 7, 5, generator=generator) * spread
    target = torch.tensor([0, 1, 255])[torch.randint(3, (batch, 7, 5), generator=generator)]
    return logits, target


def test_reference() -> None:
    stored = load_file(REFERENCE / "one_shot.safetensors")
    logits, target = stored["output.logits"], stored["in.query_mask"].clone()
    assert dice_loss(logits, target).item() == pytest.approx(stored["loss.dice"].item(), abs=1e-6)
    target[:, -6:] = 255
    expected = stored["loss.dice_with_ignored"].item()
    assert dice_loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


def test_by_hand() -> None:
    logits = torch.tensor([0.8, 0.2, 0.5, 0.4]).logit().view(1, 2, 2)
    target = torch.tensor([1, 0, 255, 1]).view(1, 2, 2)
    expected = 1 - 2 * (0.8 + 0.4) / (0.64 + 0.04 + 0.25 + 0.16 + 2)
    assert dice_loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


@deterministic
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), spread=st.sampled_from([0.1, 5.0, 1e3]))
def test_lies_in_0_to_1_and_is_the_mean_over_the_batch(seed: int, batch: int, spread: float) -> None:
    logits, target = draw(seed, batch, spread)
    loss = dice_loss(logits, target).item()
    assert -1e-6 <= loss <= 1 + 1e-6
    single = [dice_loss(logits[i : i + 1], target[i : i + 1]).item() for i in range(batch)]
    assert loss == pytest.approx(sum(single) / batch, abs=1e-6)


@deterministic
@given(seed=st.integers(0, 10**6))
def test_ignored_pixels_count_as_background(seed: int) -> None:
    logits, target = draw(seed, 2)
    assert dice_loss(logits, target) == dice_loss(logits, target == 1)


@deterministic
@given(seed=st.integers(0, 10**6))
def test_raising_a_foreground_logit_lowers_the_loss(seed: int) -> None:
    logits, target = draw(seed, 1, spread=1.0)
    target[0, 0, 0] = 1
    better = logits.clone()
    better[0, 0, 0] += 1
    assert dice_loss(better, target) < dice_loss(logits, target)


def test_perfect_and_opposite_predictions() -> None:
    target = torch.tensor([0, 1, 1, 0]).view(1, 2, 2)
    certain = (target.float() * 2 - 1) * 1e4
    assert dice_loss(certain, target).item() == 0
    assert dice_loss(-certain, target).item() == 1


@pytest.mark.parametrize("level", [-1e4, -40.0, 0.0, 1e4])
@pytest.mark.parametrize("label", [0, 255])
def test_no_foreground_costs_one_without_gradient(level: float, label: int) -> None:
    logits = torch.full((2, 4, 4), level, requires_grad=True)
    loss = dice_loss(logits, torch.full((2, 4, 4), label))
    loss.backward()
    assert loss.item() == 1
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradient_is_right() -> None:
    logits, target = draw(0, 2)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, target), logits)


def test_half_precision_does_not_overflow() -> None:
    target = torch.ones(1, 512, 512, dtype=torch.uint8)  # 262,144 pixels; float16 ends at 65,504
    loss = dice_loss(torch.zeros(1, 512, 512, dtype=torch.float16), target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1 - 2 * 0.5 / 1.25, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "target"), [((2, 4, 4), (2, 4, 5)), ((4, 4), (4, 4)), ((2, 1, 4, 4), (2, 4, 4)), ((0, 4, 4),) * 2]
)
def test_wrong_shapes_are_refused(logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        dice_loss(torch.zeros(logits), torch.zeros(target, dtype=torch.uint8))


def test_a_soft_target_is_refused() -> None:
    with pytest.raises(TypeError, match="float32"):
        dice_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
