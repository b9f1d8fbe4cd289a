"""The training loss of the paper."""

from __future__ import annotations

import torch
from torch import Tensor

from fss_lab.errors import InputError


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss 1 - 2 Σpy / (Σp² + Σy²), p = sigmoid(logits); sums per sample, then the mean over the batch.

    logits: (B, H, W), any float. target: (B, H, W), bool or integer; 1 is foreground, everything else (0 and
    the ignore label 255) counts as background, as in the paper's training. Returns a scalar in 0..1, computed
    in float32 or better. A sample without any foreground costs 1 whatever is predicted, with no gradient.

    Raises:
        InputError: the shapes differ or are not (B, H, W).
        TypeError: the target is floating-point.
    """
    if logits.ndim != 3 or logits.shape != target.shape or logits.numel() == 0:
        raise InputError(
            "dice_loss expects logits and target of one shape (B, H, W), "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    if target.is_floating_point():
        raise TypeError(f"dice_loss expects a bool or integer target of 0, 1 and 255, got {target.dtype}")
    # sums over a whole image overflow half precision
    probability = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    foreground = (target == 1).to(probability.dtype)
    overlap = (probability * foreground).sum(dim=(1, 2))
    total = probability.square().sum(dim=(1, 2)) + foreground.sum(dim=(1, 2))
    # without foreground the total can underflow to 0; with any it is at least 1
    return (1 - 2 * overlap / total.clamp_min(1e-12)).mean()
