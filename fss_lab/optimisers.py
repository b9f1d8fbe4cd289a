"""Muon for hidden layers beside AdamW for the rest: half the steps for the toy backbones that are made from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fss_lab.runs import RunError


def require_muon() -> None:
    """Raise RunError with a torch older than 2.9, which has no Muon."""
    if not hasattr(torch.optim, "Muon"):
        raise RunError(f"torch {torch.__version__} has no Muon; install torch 2.9 or later")


class MuonAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` (Jordan et al., 2024) for some matrices and convolutions, AdamW for all other parameters.

    Muon steps along the orthogonalised momentum of a matrix; a convolution counts as the matrix (out, in x k x k).
    Its authors advise to leave the first and last layers, embeddings and vectors to AdamW.

    Args:
        model: whose parameters learn.
        hidden: the weights among them for Muon, at least two-dimensional.
        learning_rate, weight_decay: of AdamW.
        muon_learning_rate, muon_weight_decay: of Muon, scaled so that its steps are about as long as AdamW's.

    Raises RunError as `require_muon`.
    """

    def __init__(
        self,
        model: nn.Module,
        hidden: Iterable[torch.Tensor],
        *,
        learning_rate: float = 1.5e-3,
        weight_decay: float = 0.02,
        muon_learning_rate: float = 3e-3,
        muon_weight_decay: float = 0.05,
    ) -> None:
        require_muon()
        # Muon takes matrices only: views that share the weights' memory.
        self.views = [(weight, nn.Parameter(weight.data.view(len(weight), -1))) for weight in hidden]
        taken = {id(weight) for weight, _ in self.views}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
        self.adamw = torch.optim.AdamW(rest, learning_rate, weight_decay=weight_decay)
        self.muon = torch.optim.Muon(
            [view for _, view in self.views], muon_learning_rate, muon_weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        super().__init__([p for p in model.parameters() if p.requires_grad], {})
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        for weight, view in self.views:
            view.grad = None if weight.grad is None else weight.grad.reshape(view.shape)
        self.adamw.step()
        self.muon.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for weight, view in self.views:
            weight.grad = view.grad = None
        self.adamw.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The states of both by name."""
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.adamw.load_state_dict(state_dict["adamw"])
        self.muon.load_state_dict(state_dict["muon"])
        self.param_groups = [*self.adamw.param_groups, *self.muon.param_groups]
