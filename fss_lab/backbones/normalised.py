"""What networks trained on ImageNet expect of their images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
