"""Muon beside AdamW: who steps what, and that a run can be continued."""

import pytest
import torch
from torch import nn

from fss_lab.optimisers import MuonAdamW
from fss_lab.runs import RunError

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 with torch.optim.Muon")


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 8))


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    (model(x) - x.flatten(1)[:, :8]).pow(2).mean().backward()
    optimiser.step()


@needs_muon
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


@needs_muon
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


def test_a_torch_without_muon_is_an_error_that_says_what_to_install(monkeypatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(RunError, match=r"install torch 2\.9"):
        MuonAdamW(_model(), [])
