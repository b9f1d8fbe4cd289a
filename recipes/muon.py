"""Muon for hidden layers beside AdamW for the rest: half the steps for the toy backbones that are made from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)  # of the quintic iteration, by Muon's authors


def orthogonalised(matrix: Tensor, rounds: int = 5) -> Tensor:
    """A matrix (m, n) with the same singular vectors and all singular values near 1 (about 0.7 to 1.2).

    In the matrix's own precision. `torch.optim.Muon` computes this in bfloat16, which many processors only emulate: it
    then takes longer than all the rest of a step.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024): steps along the orthogonalised momentum of a matrix.

    A convolution counts as the matrix (out, in x k x k). Steps are scaled to be about as long as AdamW's (Liu et al.,
    *Muon is Scalable for LLM Training*, 2025). Its authors advise to leave the first and last layers, embeddings and
    vectors to AdamW.

    Args:
        weights: parameters of two and more dimensions.
        learning_rate, weight_decay: as AdamW's.
        momentum: of the running mean of gradients.
    """

    def __init__(
        self, weights: Iterable[Tensor], learning_rate: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(weights, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; weights without a gradient stay as they are."""
        for group in self.param_groups:
            rate, decay, momentum = group["lr"], group["weight_decay"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                mean = state["momentum"].lerp_(weight.grad, 1 - momentum)
                ahead = weight.grad.lerp(mean, momentum).flatten(1)  # Nesterov's
                length = 0.2 * max(ahead.shape) ** 0.5
                weight.mul_(1 - rate * decay)
                weight.sub_(orthogonalised(ahead).view_as(weight), alpha=rate * length)


class MuonAdamW(torch.optim.Optimizer):
    """`Muon` for some matrices and convolutions, AdamW for all other parameters.

    Args:
        model: whose parameters learn.
        hidden: the weights among them for Muon, at least two-dimensional.
        learning_rate, weight_decay: of AdamW.
        muon_learning_rate, muon_weight_decay: of Muon.
    """

    def __init__(
        self,
        model: nn.Module,
        hidden: Iterable[Tensor],
        *,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 0.02,
        muon_learning_rate: float = 3e-3,
        muon_weight_decay: float = 0.05,
    ) -> None:
        hidden = list(hidden)
        learning = [p for p in model.parameters() if p.requires_grad]
        taken = {id(weight) for weight in hidden}
        rest = [p for p in learning if id(p) not in taken]
        self.adamw = torch.optim.AdamW(rest, learning_rate, weight_decay=weight_decay)
        self.muon = Muon(hidden, muon_learning_rate, muon_weight_decay)
        super().__init__(learning, {})
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        self.adamw.step()
        self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both by name."""
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.adamw.load_state_dict(state_dict["adamw"])
        self.muon.load_state_dict(state_dict["muon"])
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]
