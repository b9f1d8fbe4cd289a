"""Muon beside AdamW: who steps what, and that a run can be continued."""

import pytest
import torch
from torch import nn

from recipes.muon import Muon, MuonAdamW, orthogonalised


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 8))


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    (model(x) - x.flatten(1)[:, :8]).pow(2).mean().backward()
    optimiser.step()


def test_the_hidden_convolution_steps_along_an_orthogonal_matrix_and_the_rest_by_adamw() -> None:
    model, twin = _model(), _model()
    hidden = model[2].weight
    before = hidden.detach().clone()
    _step(model, MuonAdamW(model, [hidden], learning_rate=1e-2, muon_learning_rate=1e-2, muon_weight_decay=0.0), 0)
    _step(twin, torch.optim.AdamW(twin.parameters(), 1e-2, weight_decay=0.02), 0)
    for (name, parameter), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (name == "2.weight") != torch.equal(parameter, expected), name
    gradient = torch.linalg.svdvals(hidden.grad.flatten(1))
    step = torch.linalg.svdvals((hidden.detach() - before).flatten(1))
    assert gradient[0] / gradient[5] > 3 * step[0] / step[5]


def test_a_continued_run_equals_an_uninterrupted_one() -> None:
    whole = _model()
    optimiser = MuonAdamW(whole, [whole[2].weight])
    for seed in range(4):
        _step(whole, optimiser, seed)
    first = _model()
    optimiser = MuonAdamW(first, [first[2].weight])
    for seed in range(2):
        _step(first, optimiser, seed)
    second = _model()
    continued = MuonAdamW(second, [second[2].weight])
    second.load_state_dict(first.state_dict())
    continued.load_state_dict(optimiser.state_dict())
    for seed in range(2, 4):
        _step(second, continued, seed)
    for expected, actual in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (16, 16)])
def test_orthogonalising_keeps_the_singular_vectors_and_levels_the_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    levelled = left.T @ orthogonalised(matrix) @ right.T
    off_diagonal = levelled - levelled.diagonal().diag()
    assert off_diagonal.abs().max() < 1e-4
    assert values[0] / values[-1] > 1.5
    assert levelled.diagonal().min() > 0.6 and levelled.diagonal().max() < 1.25
    assert orthogonalised(torch.zeros(shape)).abs().max() == 0


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 with torch.optim.Muon to compare with")
def test_muon_steps_as_torchs_own_does_but_for_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(24, 8)) for _ in range(2))
    optimisers = Muon([ours], 1e-2, 0.1), torch.optim.Muon([theirs], 1e-2, 0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(24, 8, generator=generator)
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = (theirs - 1).norm()
    assert moved > 0.05 and (ours - theirs).norm() < 0.02 * moved


def test_muon_leaves_weights_without_a_gradient_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    Muon([weight], 1e-2, 0.1).step()
    assert torch.equal(weight.detach(), torch.ones(4, 4))
