"""The frozen half of FSSAM: images and masks brought to the model's size, and what the encoders say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.cache import FeatureCache, Features
from fss_lab.backbones.sam2 import ImageFeatures, Sam2Backbone
from fss_lab.episode import EpisodeBatch
from fss_lab.errors import InputError
from fss_lab.method.options import PRECISIONS
from fss_lab.method.prompts import generate_priors, resize
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import map_tensors


class FrozenEncoders(nn.Module):
    """SAM 2's image encoder and the dense features of PPG; neither is trained.

    chunk: images that an encoder sees at once; None: 1 on a CPU or with a cache, else all.
    """

    def __init__(self, sam2: Sam2Backbone, features: nn.Module | None, precision: str) -> None:
        """features: images (B, 3, H, W) in 0..255 to (B, c, hf, wf). Raises InputError for another precision."""
        super().__init__()
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {PRECISIONS}, got {precision!r}")
        self.sam2 = sam2
        self.features = features
        self.precision = precision
        self.chunk: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie; images are moved there."""
        return self.sam2.mean.device

    @torch.no_grad()
    def extract(
        self, batch: EpisodeBatch, cache: FeatureCache | None = None, *, priors: bool = True
    ) -> EpisodeFeatures:
        """Run the frozen networks on queries and supports, without gradient.

        priors: False saves the dense features where nothing needs a prior (memory="support"). cache: where features of
        images seen before are looked up; on a CPU the result is the same to the last bit with and without one
        (`fss_lab.backbones.cache` says more).
        Images and masks of another size are stretched to the model's. An empty support mask is no error here
        (it gives an empty prior); `segment` and `remember` refuse it.
        Raises InputError with a cache if an encoder is in training mode.
        """
        b, k = batch.support_images.shape[:2]
        images = [*batch.query_images, *batch.support_images.flatten(0, 1)]
        encoded, dense = self.encode_images(images, cache, dense=priors)
        support_masks = self.fit_masks(batch.support_masks)
        guess = None
        if dense is not None:
            guess = generate_priors(dense[:b], dense[b:].unflatten(0, (b, k)), support_masks)
        return EpisodeFeatures(
            query=encoded[:b], support=map_tensors(lambda x: x.unflatten(0, (b, k)), encoded[b:]),
            support_masks=support_masks, priors=guess, query_masks=self.fit_masks(batch.query_masks.unsqueeze(1)),
        )  # fmt: skip

    @torch.no_grad()
    def encode_images(
        self, images: Sequence[Tensor], cache: FeatureCache | None = None, dense: bool = True
    ) -> tuple[ImageFeatures, Tensor | None]:
        """images: N of (3, H, W) in 0..255. Returns SAM 2's features and, if wanted, PPG's dense ones, batch N."""
        # One by one for a cache: else the features would depend on how many others it lacks.
        chunk = self.chunk or (len(images) if cache is None and self.device.type != "cpu" else 1)
        run = partial(self._run_encoders, chunk=chunk, dense=dense)
        if cache is None:
            features = run(images)
        else:
            networks = [*self.sam2.encoder_modules(), *([self.features] if dense and self.features is not None else [])]
            settings = {"image size": self.sam2.image_size, "precision": self.precision, "chunk": chunk}
            features = cache.fetch(images, networks, settings, self.device, run)
        top, finer, fine = (features[name] for name in ("top", "finer", "fine"))
        return ImageFeatures(top, self.sam2.position_code(top), (finer, fine)), features.get("dense")

    def _run_encoders(self, images: Sequence[Tensor], chunk: int, dense: bool) -> Features:
        """What a `FeatureCache` keeps of N images: "top", "finer", "fine" and, with a feature extractor and if it is
        wanted, "dense". chunk: images that an encoder sees at once."""
        extractor = self.features if dense else None
        fitted = [self._fit_image(image) for image in images]
        described: list[Tensor] = []
        with torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext():
            encoded = [self.sam2.encode(part) for part in _in_chunks(fitted, chunk)]
            if extractor is not None:
                # without weights it is no network but, say, a table of stored features that wants all images
                learned = any(True for _ in extractor.parameters())
                described = [extractor(part) for part in _in_chunks(fitted, chunk if learned else len(fitted))]
        parts = {"top": [part.top for part in encoded]}
        parts |= {name: [part.high_res[level] for part in encoded] for level, name in enumerate(("finer", "fine"))}
        if described:
            parts["dense"] = described
        # of one layout, for a sum in another order would round differently
        return {name: torch.cat(tensors).contiguous().to(self.sam2.mean.dtype) for name, tensors in parts.items()}

    def _fit_image(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (1, 3, S, S)"""
        size = self.sam2.image_size
        # moved first: bytes travel to a card in a quarter of the time of floats
        return resize(image.unsqueeze(0).to(self.device).to(self.sam2.mean.dtype), (size, size))

    def fit_masks(self, masks: Tensor) -> Tensor:
        """masks: (B, K, H, W) with 0, 1, 255 -> (B, K, S, S) in {0, 1}; ignored pixels count as background."""
        binary = (masks == 1).to(self.device).to(self.sam2.mean.dtype)
        return F.interpolate(binary, (self.sam2.image_size, self.sam2.image_size), mode="nearest")


def _in_chunks(images: list[Tensor], size: int) -> Iterator[Tensor]:
    """images: N of (1, 3, S, S) -> batches of at most `size`."""
    for start in range(0, len(images), size):
        yield torch.cat(images[start : start + size])
