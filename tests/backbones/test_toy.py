"""The toy features: what an object and its mirror image give, and how their weights are kept."""

import pytest
import torch

from fss_lab.backbones.checkpoints import load_state
from fss_lab.backbones.toy import WEIGHTS, FeaturePyramid, ToyFeatures, pack, unpack


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 96, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_mirrored_image_has_mirrored_features(images) -> None:
    features = ToyFeatures().eval()
    with torch.no_grad():
        found, mirrored = features(images), features(images.flip(3))
        alone = features.pyramids[0](images) - features.pyramids[0](images.flip(3)).flip(3)
    torch.testing.assert_close(mirrored.flip(3), found, atol=1e-5, rtol=1e-4)
    assert alone.abs().max() > 1e-3  # one look would not do


def test_each_pyramid_counts_as_much_as_the_other(images) -> None:
    with torch.no_grad():
        halves = ToyFeatures().eval()(images).chunk(2, dim=1)
    for half in halves:
        torch.testing.assert_close(half.norm(dim=1), torch.ones(2, 32, 32))


def test_packed_weights_take_a_byte_each_and_hardly_change() -> None:
    state = FeaturePyramid().state_dict()
    packed = pack(state)
    assert sum(t.numel() * t.element_size() for t in packed.values()) < 1.05 * sum(t.numel() for t in state.values())
    restored = unpack(packed)
    assert restored.keys() == state.keys()
    for name, tensor in state.items():
        step = tensor.abs().amax(dim=(1, 2, 3), keepdim=True) / 127 if tensor.dim() == 4 else 2e-3 * tensor.abs()
        assert ((restored[name] - tensor).abs() <= 0.6 * step).all(), name


def test_a_channel_of_zeros_stays_one() -> None:
    state = {"weight": torch.zeros(2, 1, 3, 3)}
    assert torch.equal(unpack(pack(state))["weight"], state["weight"])


def test_what_was_never_packed_comes_back_as_it_is() -> None:
    state = FeaturePyramid().state_dict()
    assert unpack(state).keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in unpack(state).items())


def test_the_shipped_features_are_packed() -> None:
    packed = load_state(WEIGHTS / "toy_features.safetensors")
    assert unpack(packed).keys() == ToyFeatures().state_dict().keys() < packed.keys()
