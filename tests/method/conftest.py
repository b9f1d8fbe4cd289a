"""A small SAM 2 (128 x 128 pixels, 8 x 8 memory grid), reference weights, and features from colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.episode import EpisodeBatch
from fss_lab.method import FSSAM

REFERENCE = Path(__file__).parents[1] / "reference"


class ColourFeatures(nn.Module):
    """Dense features (B, 6, 10, 10): mean colour and its square of each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1 / 255))

    def forward(self, images: Tensor) -> Tensor:
        colours = F.adaptive_avg_pool2d(images * self.scale, 10) - 0.5
        return torch.cat([colours, colours.square()], dim=1)


@pytest.fixture(scope="session")
def backbone() -> Sam2Backbone:
    return Sam2Backbone.build(REFERENCE / "sam2_reference.yaml", checkpoint=REFERENCE / "one_shot_weights.safetensors")


@pytest.fixture
def model(backbone: Sam2Backbone) -> FSSAM:
    backbone.requires_grad_(True).zero_grad()
    return FSSAM(backbone, ColourFeatures())


def build_batch(batch: int = 2, shots: int = 2, size: int = 128, seed: int = 0) -> EpisodeBatch:
    """Bright squares on noise; every mask shows its square."""
    generator = torch.Generator().manual_seed(seed)
    count = batch * (1 + shots)
    images = torch.randint(0, 120, (count, 3, size, size), generator=generator)
    masks = torch.zeros(count, size, size, dtype=torch.uint8)
    for image, mask in zip(images, masks, strict=True):
        y, x = torch.randint(0, size // 2, (2,), generator=generator).tolist()
        image[:, y : y + size // 2, x : x + size // 2] += 120
        mask[y : y + size // 2, x : x + size // 2] = 1
    images = images.to(torch.uint8)
    return EpisodeBatch(
        query_images=images[:batch],
        query_masks=masks[:batch],
        support_images=images[batch:].unflatten(0, (batch, shots)),
        support_masks=masks[batch:].unflatten(0, (batch, shots)),
        class_ids=torch.zeros(batch, dtype=torch.long),
        class_names=["square"] * batch,
    )


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., EpisodeBatch]:
    """make_batch(batch, shots, size, seed)"""
    return build_batch


@pytest.fixture
def batch() -> EpisodeBatch:
    return build_batch()
