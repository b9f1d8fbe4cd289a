"""Pseudo Prompt Generator (Sec. PPG of the paper): guess the query's mask from dense features. No parameters.

The four small functions at the top are the whole mathematics of the method; refinement and calibration use
them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-7
MASK_EPSILON = 5e-4  # in the prototype: an empty mask gives the zero prototype instead of NaN


def min_max(x: Tensor, dim: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Stretch each map of x (any shape) to 0..1: (x - min) / (max - min + 1e-7) over `dim`.

    A constant map becomes 0.
    """
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    return (x - low) / (high - low + EPSILON)


def prototype(features: Tensor, mask: Tensor) -> Tensor:
    """Mean feature under a mask ("global average pooling"): sum(F * M) / (sum(M) + 5e-4) over positions.

    features: (..., C, h, w); mask: (..., 1, h, w) in 0..1.
    Returns (..., C, 1, 1); zero where the mask is empty.
    """
    return (features * mask).sum((-2, -1), keepdim=True) / (mask.sum((-2, -1), keepdim=True) + MASK_EPSILON)


def cosine_map(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every position's feature with a prototype, F p / (|F| |p| + 1e-7).

    features: (..., C, h, w); prototypes: (..., C, 1, 1).
    Returns (..., 1, h, w) in -1..1; 0 for a zero prototype.
    """
    product = (features * prototypes).sum(-3, keepdim=True)
    norms = features.norm(dim=-3, keepdim=True) * prototypes.norm(dim=-3, keepdim=True)
    return product / (norms + EPSILON)


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize with aligned corners. x: (B, C, H, W) -> (B, C, *size)."""
    height, width = size
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


def discriminative_prior(foreground: Tensor, background: Tensor) -> Tensor:
    """P_d: what is more like the support's object than like its background, min_max(max(0, S_fg - S_bg)).

    foreground, background: stretched similarities (..., H, W) in 0..1. Returns the same shape, 0..1.
    """
    return min_max((foreground - background).clamp(min=0))


@dataclass(frozen=True)
class Priors:
    """Guesses at the query mask, all in 0..1 at image size.

    foreground_similarity, background_similarity: S_fg and S_bg per shot, (B, K, H, W). S_fg is also the
        foreground prior of its shot.
    discriminative_per_shot: (B, K, H, W).
    foreground, discriminative: P_fg and P_d, the means over the shots, (B, 1, H, W).
    """

    foreground_similarity: Tensor
    background_similarity: Tensor
    discriminative_per_shot: Tensor
    foreground: Tensor
    discriminative: Tensor


@torch.no_grad()
def generate_priors(query: Tensor, support: Tensor, support_masks: Tensor) -> Priors:
    """The foreground and the discriminative prior of each query (Sec. PPG of the paper).

    query: dense features (B, c, hf, wf); support: (B, K, c, hf, wf); support_masks: (B, K, H, W) in 0..1.
    K > 1: each shot gives its own priors; their mean is not stretched again.
    """
    size = support_masks.shape[-2:]
    mask = resize(support_masks, support.shape[-2:]).unsqueeze(2)  # B, K, 1, hf, wf
    query = query.unsqueeze(1)  # B, 1, c, hf, wf
    foreground, background = (
        resize(min_max(cosine_map(query, prototype(support, region))).squeeze(2), size)  # B, K, H, W
        for region in (mask, 1 - mask)
    )
    discriminative = discriminative_prior(foreground, background)
    return Priors(
        foreground_similarity=foreground,
        background_similarity=background,
        discriminative_per_shot=discriminative,
        foreground=foreground.mean(1, keepdim=True),
        discriminative=discriminative.mean(1, keepdim=True),
    )
