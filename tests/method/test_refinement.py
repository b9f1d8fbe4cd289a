from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.method.refinement import refine, refine_once, support_similarity

seeds = st.integers(0, 10_000)


def case(seed: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "memory": torch.randn(2, 5, 4, 4, generator=g),
        "prior": torch.rand(2, 1, 4, 4, generator=g),
        "foreground_memory": torch.randn(2, 5, 4, 4, generator=g),
        "foreground_prior": torch.rand(2, 1, 4, 4, generator=g),
        "support_similarity": torch.rand(2, 1, 4, 4, generator=g),
    }


@given(seeds, st.sampled_from(["v1", "v2"]), st.integers(0, 5))
def test_rounds_stay_in_range(seed: int, variant: str, rounds: int) -> None:
    done = refine(**case(seed), rounds=rounds, variant=variant)
    assert len(done) == rounds
    for step in done:
        for x in (step.similarity, step.weight, step.prior):
            assert x.isfinite().all() and x.min() >= 0 and x.max() <= 1
        # the memory is a mixture of two, so it lies between them position by position
    if done:
        start, foreground = case(seed)["memory"], case(seed)["foreground_memory"]
        low, high = torch.minimum(start, foreground), torch.maximum(start, foreground)
        assert (done[-1].memory >= low - 1e-5).all() and (done[-1].memory <= high + 1e-5).all()


def test_weight_decides_who_speaks() -> None:
    tensors = case(0)
    tensors["support_similarity"] = torch.zeros(2, 1, 4, 4)
    unchanged = refine_once(**tensors)  # A + B - 1 <= 0 everywhere
    torch.testing.assert_close(unchanged.memory, tensors["memory"])
    tensors["support_similarity"] = torch.full((2, 1, 4, 4), 2.0)
    replaced = refine_once(**tensors | {"prior": torch.ones(2, 1, 4, 4)})
    assert replaced.weight.min() >= 1


def test_v2_stretches_the_weight() -> None:
    v1, v2 = (refine_once(**case(3), variant=variant) for variant in ("v1", "v2"))
    assert v1.weight.amax((1, 2, 3)).max() < 1
    torch.testing.assert_close(v2.weight.amax((1, 2, 3)), torch.ones(2), atol=1e-5, rtol=0)


def test_support_similarity_is_the_mean_over_shots() -> None:
    g = torch.Generator().manual_seed(0)
    foreground, support = torch.randn(2, 5, 4, 4, generator=g), torch.randn(2, 3, 5, 4, 4, generator=g)
    masks = (torch.rand(2, 3, 4, 4, generator=g) > 0.5).float()
    each = [support_similarity(foreground, support[:, i : i + 1], masks[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(support_similarity(foreground, support, masks), torch.stack(each).mean(0))


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_gradients_reach_all_memories(variant: str) -> None:
    tensors = case(1)
    for name in ("memory", "foreground_memory"):
        tensors[name].requires_grad_(True)
    refine(**tensors, rounds=2, variant=variant)[-1].memory.sum().backward()
    for name in ("memory", "foreground_memory"):
        assert tensors[name].grad is not None and tensors[name].grad.isfinite().all()
        assert tensors[name].grad.abs().sum() > 0


def test_empty_support_mask_refines_nothing() -> None:
    tensors = case(2)
    similarity = support_similarity(tensors["foreground_memory"], torch.randn(2, 1, 5, 4, 4), torch.zeros(2, 1, 4, 4))
    step = refine_once(**tensors | {"support_similarity": similarity})
    torch.testing.assert_close(step.memory, tensors["memory"])
