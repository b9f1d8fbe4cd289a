"""What networks trained on ImageNet expect of their images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fss_lab.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, red, green and blue in 0..1."""


class Normalised(nn.Module):
    """A network whose images have mean 0 and deviation 1 by channel, over all of ImageNet."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """RGB images (B, 3, H, W), float in 0..1, less the mean, in units of the deviation."""
        return (images - self.mean) / self.std

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What half(), bfloat16(), double() and to() do to every tensor. Raises InputError if it changes the type."""
        kind = fn(torch.zeros(1)).dtype
        if kind != torch.float32:
            raise InputError(
                f"the weights stay in torch.float32, not {kind}, in which SAM 2's position codes and prompts cannot be "
                'computed. For speed give load_model(..., precision="bfloat16"), or segment within '
                "torch.autocast(device, torch.bfloat16)"
            )
        return super()._apply(fn, recurse)
