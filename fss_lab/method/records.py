"""What goes into FSSAM and what comes out: encoded episodes, outputs, remembered supports, predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fss_lab.backbones.checkpoints import save_safetensors
from fss_lab.backbones.origin import networks_of
from fss_lab.backbones.sam2 import ImageFeatures, Memory, Sam2Backbone
from fss_lab.errors import InputError
from fss_lab.method.pictures import save_png, side_by_side, tinted
from fss_lab.method.prompts import Priors
from fss_lab.method.trace import Trace, map_tensors

if TYPE_CHECKING:
    from typing_extensions import Self

    from fss_lab.figures.style import Picture

SUPPORT_FORMAT = "fss_lab support 1"
MEMORY = tuple(field.name for field in fields(Memory))


@dataclass(frozen=True)
class _Episodes:
    """B episodes at the model's image size S."""

    query: ImageFeatures  # batch B
    support_masks: Tensor  # B, K, S, S in {0, 1}
    priors: Priors | None  # None without a feature extractor
    query_masks: Tensor | None  # B, 1, S, S in {0, 1}; None where nobody knows them

    def __len__(self) -> int:
        return len(self.support_masks)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Self:
        """Select episodes by a slice, a list or an index tensor."""
        return map_tensors(lambda x: x[index], self)


@dataclass(frozen=True)
class EpisodeFeatures(_Episodes):
    """All that the frozen networks say of B episodes; the same for all models that share these."""

    support: ImageFeatures  # B, K, ...


@dataclass(frozen=True)
class Encoded(_Episodes):
    """B episodes whose supports a model has remembered: what it predicts from."""

    support_memory: Memory  # B, K, ...


@dataclass(frozen=True)
class Output:
    """What a forward pass gives."""

    logits: Tensor  # B, S, S at the model's image size; threshold 0
    low_res_logits: Tensor  # B, 1, S/4, S/4: the same mask before upsampling
    ious: Tensor  # B, 3: predicted IoU of the three candidates
    object_score: Tensor | None = None  # B, 1: SAM 2's logit of "the object is visible"; None without SAM 2
    trace: Trace | None = None


@dataclass(frozen=True)
class Support:
    """K remembered supports, ready for any number of queries. Made by `FSSAM.remember`.

    Only models that share its SAM 2 can use it. It belongs to the weights that made it: remember again after training
    or loading others.
    """

    memory: Memory  # batch K
    masks: Tensor  # K, S, S in {0, 1}
    features: Tensor | None  # K, c, hf, wf: dense features
    images: list[Tensor]  # as they were given, K of 3, H, W in 0..255
    sam2: Sam2Backbone  # that remembered
    extractor: nn.Module | None = None  # that made the dense features

    def __repr__(self) -> str:
        return f"Support({len(self)} remembered, {self.masks.shape[-2]} x {self.masks.shape[-1]})"

    def __len__(self) -> int:
        return len(self.masks)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as .safetensors, for `fss_lab.load_support`: some MB, tensors only.

        The file names the networks that made it by a SHA-256 of their present weights, so save a support before these
        are trained on. Its images are kept at most as large as the model's, for `explore` to draw; nothing is computed
        from them. Raises InputError for another suffix, FileError where the file cannot be written.
        """
        if Path(path).suffix != ".safetensors":
            raise InputError(f"{path}: a support is saved as .safetensors; give the file this suffix")
        tensors = {name: getattr(self.memory, name) for name in MEMORY} | {"masks": self.masks.to(torch.uint8)}
        if self.features is not None:
            tensors["features"] = self.features
        for shot, image in enumerate(self.images):
            share = min(1.0, self.sam2.image_size / max(image.shape[1:]))
            size = [max(1, round(side * share)) for side in image.shape[1:]]
            small = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
            tensors[f"image.{shot}"] = small.round().to(torch.uint8)
        networks = networks_of(self.sam2, self.extractor)
        save_safetensors(path, tensors, {"format": SUPPORT_FORMAT, "networks": json.dumps(networks)})


@dataclass(frozen=True)
class Prediction:
    """A segmentation at the query's original size, on the CPU.

    It takes 5 bytes a pixel, and keeps the query, which takes 3 as uint8: 96 MB for a photo of 12 megapixels.
    """

    mask: Tensor  # bool, H, W: probability > 0.5
    logits: Tensor  # H, W
    image: Tensor  # 3, H, W in 0..255: the query, upright, by reference
    score: float  # 0..1: how sure that the class is shown at all; see `fss_lab.method.presence`
    evidence: dict[str, float]  # what the score is computed from, by the names of `presence.EVIDENCE`
    trace: Trace | None = None  # of the forward pass (batch 1, on the model's device), if asked for
    support: Support | None = None  # with a trace: what was remembered
    dense: Tensor | None = None  # with a trace: the query's dense features, 1, c, hf, wf

    def __repr__(self) -> str:
        height, width = self.mask.shape
        traced = ", traced" if self.trace else ""
        return f"Prediction({height} x {width}, score {self.score:.2f}, {self._covered}{traced})"

    @property
    def _covered(self) -> str:
        return f"{self.mask.float().mean():.0%} foreground"

    @property
    def probability(self) -> Tensor:
        """(H, W) in 0..1, that a pixel shows the class, computed from the logits."""
        return self.logits.sigmoid()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a PNG of the query's size, 0 and 255, in one step: the file is whole or not there.

        A PNG holds no map coordinates. For a mask of a georeferenced picture open that with rasterio, and write
        `prediction.mask` with its `profile`.
        Raises InputError for another suffix than .png, FileError where the file cannot be written.
        """
        save_png(path, self.mask.numpy() * np.uint8(255))

    def overlay(self) -> Image.Image:
        """The query with the mask as a tint and an outline: RGB, of the query's size."""
        return tinted(self.image, self.mask.numpy().astype(np.uint8))

    def figure(self) -> Picture:
        """The query beside its overlay, as a matplotlib figure that a notebook shows."""
        title = f"{self._covered}, score {self.score:.2f}"
        return side_by_side(self.image, self.overlay(), title, f"A photo, and beside it its predicted mask: {title}.")


@dataclass(frozen=True)
class LabelMap:
    """A query in which every pixel is of one of several classes or background. Made by `FSSAM.segment_classes`.

    It takes a byte a pixel, and keeps one `Prediction` for each class, which share the query.
    """

    labels: Tensor  # uint8, H, W: 0 is background, 1, 2, ... the classes in the order of `names`
    predictions: dict[str, Prediction]  # each class by itself

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self._shares().items())
        return f"LabelMap({self.labels.shape[0]} x {self.labels.shape[1]}, {shares})"

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in the order of their numbers, from 1 on."""
        return tuple(self.predictions)

    @property
    def scores(self) -> dict[str, float]:
        """By class, 0..1: how sure that it is shown at all, as `Prediction.score`."""
        return {name: prediction.score for name, prediction in self.predictions.items()}

    def _shares(self) -> dict[str, float]:
        counts = self.labels.flatten().bincount(minlength=len(self.names) + 1) / self.labels.numel()
        return dict(zip(self.names, counts[1:].tolist(), strict=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as a PNG with VOC's palette, whose indices they are, in one step.

        Raises InputError for another suffix than .png, FileError where the file cannot be written.
        """
        save_png(path, self.labels.numpy(), palette=True)

    def overlay(self) -> Image.Image:
        """The query with every class as a tint and an outline of its own colour: RGB, of the query's size."""
        return tinted(next(iter(self.predictions.values())).image, self.labels.numpy())

    def figure(self) -> Picture:
        """The query beside its overlay, with a legend of the classes, as a matplotlib figure."""
        parts = ", ".join(
            f"{name} {share:.0%} (score {self.scores[name]:.2f})" for name, share in self._shares().items()
        )
        query = next(iter(self.predictions.values())).image
        alt = f"A photo, and beside it its predicted classes: {parts}."
        return side_by_side(query, self.overlay(), "Predicted classes", alt, self.names)
