"""The toy models: SAM 2's own classes in miniature, and a small dense feature extractor in DINOv2's role."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.normalised import Normalised
from fss_lab.backbones.sam2 import Sam2Backbone

WEIGHTS = Path(str(files("fss_lab"))) / "weights"
IMAGE_SIZE = 256  # pixels; the memory grid is 16 x 16
FEATURE_INPUT = 128  # pixels; the features' grid is 32 x 32


def build_toy_sam2() -> Sam2Backbone:
    """SAM 2 in miniature (3.3 M parameters, 256 x 256 images) with random weights."""
    return Sam2Backbone.build(WEIGHTS / "toy_sam2.yaml")


class ToyFeatures(nn.Module):
    """Two small feature pyramids side by side: images of any size -> one feature vector for each of 32 x 32 patches.

    Each looks at the image and at its mirror image, since nothing tells whether an object is mirrored, and takes the
    mean direction of what it finds. The two were trained apart and err in different places.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pyramids = nn.ModuleList([FeaturePyramid(), FeaturePyramid()])

    def forward(self, images: Tensor) -> Tensor:
        """RGB images (B, 3, H, W), values 0..255, any dtype -> features (B, 192, 32, 32), 96 of each pyramid."""
        return torch.cat([self._look_twice(pyramid, images) for pyramid in self.pyramids], dim=1)

    @staticmethod
    def _look_twice(pyramid: nn.Module, images: Tensor) -> Tensor:
        plain, mirrored = pyramid(torch.cat([images, images.flip(3)])).chunk(2)
        return F.normalize(F.normalize(plain, dim=1) + F.normalize(mirrored.flip(3), dim=1), dim=1)


class FeaturePyramid(Normalised):
    """A small convolutional feature pyramid: images of any size -> one feature vector for each of 32 x 32 patches.

    It looks at the image at 128 x 128, halves it down to 8 x 8 to see whole objects, and carries that back up to
    32 x 32. Trained so that patches of one class agree across identities (see `recipes.pretrain`).
    """

    def __init__(self, channels: int = 96) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, 32, stride=2), _convolution(32, 32))
        self.quarter = nn.Sequential(_convolution(32, 64, stride=2), _Residual(64))
        self.eighth = nn.Sequential(_convolution(64, 128, stride=2), _Residual(128), _Residual(128))
        self.sixteenth = nn.Sequential(_convolution(128, 160, stride=2), _Residual(160), _Residual(160))
        self.lateral = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in (64, 128, 160)])
        self.merge = nn.ModuleList([_convolution(channels, channels) for _ in range(2)])
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """RGB images (B, 3, H, W), values 0..255, any dtype -> features (B, 96, 32, 32)."""
        images = images.to(self.mean.dtype) / 255
        if images.shape[-2:] != (FEATURE_INPUT, FEATURE_INPUT):
            size = (FEATURE_INPUT, FEATURE_INPUT)
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        quarter = self.quarter(self.stem(self.normalise(images)))  # B, 64, 32, 32
        eighth = self.eighth(quarter)  # B, 128, 16, 16
        x = self.lateral[2](self.sixteenth(eighth))  # B, 96, 8, 8
        for lateral, merge, finer in zip(self.lateral[1::-1], self.merge, (eighth, quarter), strict=True):
            x = merge(lateral(finer) + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.project(x)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in little room: convolutions as whole numbers of 8 bits and, under `NAME.scale`, the step from one
    number to the next in each output channel; everything else as it is."""
    packed = dict(state)
    for name, tensor in state.items():
        if tensor.dim() == 4:
            step = (tensor.abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-7).half()  # the scale as it is kept
            packed[name] = (tensor / step.float().view(-1, 1, 1, 1)).round().clamp(-127, 127).to(torch.int8)
            packed[f"{name}.scale"] = step
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` made, as a state dict in float32 again; any other state dict comes back as it is."""
    state = {}
    for name, tensor in packed.items():
        if f"{name}.scale" in packed:
            state[name] = tensor.float() * packed[f"{name}.scale"].float().view(-1, 1, 1, 1)
        elif not (name.endswith(".scale") and name.removesuffix(".scale") in packed):
            state[name] = tensor
    return state
