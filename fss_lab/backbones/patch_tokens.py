"""Frozen vision transformers as feature extractors of the Pseudo Prompt Generator (Sec. PPG of the paper).

Needs the optional dependency transformers: pip install "fss-lab[real]".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import safetensors
import torch
from torch import Tensor
from torch.nn import functional as F

from fss_lab.backbones.normalised import Normalised
from fss_lab.errors import CheckpointError, InputError, needs

GRID = 40  # patches a side, as in the paper: 560 pixels with patches of 14, 640 with patches of 16


class PatchTokens(Normalised):
    """A frozen vision transformer: the patch tokens of its last block, after the final norm.

    The class token and register tokens are left out. Images are resized to `GRID` patches a side (bilinear,
    align_corners=True). A family of networks is a subclass that describes itself:

    title: its name in messages. prefix: of its classes in transformers, such as "Dinov2" of `Dinov2Model` and
    `Dinov2Config`. sizes: what the configuration of each published size sets; settings: what all of them set.
    sources: what `load` takes, in words.
    """

    title: ClassVar[str]
    prefix: ClassVar[str]
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]
    settings: ClassVar[Mapping[str, Any]]
    sources: ClassVar[str] = "a directory with config.json and model.safetensors as transformers saves them"

    def __init__(self, model: Any) -> None:
        """model: the network of transformers, which is frozen in place."""
        super().__init__()
        self.model = model
        self.channels: int = model.config.hidden_size
        patch = model.config.patch_size
        self.image_size: int = GRID * (patch if isinstance(patch, int) else patch[0])
        self.other_tokens: int = 1 + getattr(model.config, "num_register_tokens", 0)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def build(cls, size: str = "base", weights: str | os.PathLike[str] | None = None) -> PatchTokens:
        """One of the published `sizes`, random or with `weights` as in `load`.

        Raises InputError for another size, MissingPackageError without transformers, CheckpointError for weights that
        are missing, damaged, of another size, or do not fit.
        """
        if size not in cls.sizes:
            raise InputError(f"unknown {cls.title} size {size!r}; expected one of {', '.join(cls.sizes)}")
        if weights is None:
            transformers = import_transformers()
            config = getattr(transformers, f"{cls.prefix}Config")(**cls.settings, **cls.sizes[size])
            return cls(getattr(transformers, f"{cls.prefix}Model")(config))
        features = cls.load(weights)
        channels = cls.sizes[size]["hidden_size"]
        if features.channels != channels:
            raise CheckpointError(
                f"{weights} has {features.channels} channels, {cls.title} {size} has {channels}; "
                f"give the size of the weights or call {cls.__name__}.load"
            )
        return features

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> PatchTokens:
        """The network in a directory with config.json and weights as transformers saves them; `hub.fetch` gets one.

        Raises MissingPackageError without transformers, CheckpointError for weights that are missing, damaged, or do
        not fit.
        """
        return cls(cls.pretrained(source, str(source), local_files_only=True))

    @classmethod
    def pretrained(cls, source: str | os.PathLike[str], name: str | None, **options: Any) -> Any:
        """The network of transformers in float32, in which every parameter comes from the source.

        source: for messages. name, options: as `from_pretrained` takes them.
        Raises MissingPackageError without transformers, CheckpointError for weights that do not fit.
        """
        model_class = getattr(import_transformers(), f"{cls.prefix}Model")
        try:
            # transformers would only warn about weights that do not fit
            with _no_progress_bar():
                model, info = model_class.from_pretrained(
                    name, output_loading_info=True, ignore_mismatched_sizes=True, **options
                )
        except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{cls.title} could not be loaded from {source}: {' '.join(str(error).split())} Expected {cls.sources}"
            ) from error
        problems = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
        listed = [f"{len(names)} {kind}: {', '.join(names[:50])}" for kind, names in problems.items() if names]
        if listed:
            raise CheckpointError(
                f"{source} does not fit {cls.title} (names as in transformers). {'; '.join(listed)}. "
                f"Use the weights of a published {cls.title}"
            )
        return model.float()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), uint8 or float in 0..255, to features (B, c, 40, 40).

        Raises InputError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"expected RGB images (B, 3, H, W), got {tuple(images.shape)}")
        size = (self.image_size, self.image_size)
        resized = F.interpolate(images.to(self.mean.dtype), size=size, mode="bilinear", align_corners=True)
        tokens = self.model(self.normalise(resized / 255)).last_hidden_state  # B, others + 1600, c
        return tokens[:, self.other_tokens :].transpose(1, 2).unflatten(2, (GRID, GRID))

    def train(self, mode: bool = True) -> PatchTokens:
        """Stay in evaluation mode: a frozen extractor has no dropout to switch on."""
        return super().train(False)


def import_transformers() -> Any:
    """The package transformers. Raises MissingPackageError where it is not installed."""
    with needs("a network for dense features", "real"):
        import transformers
    return transformers


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws one for a second's work, also into files."""
    switches = import_transformers().utils.logging
    drawn = switches.is_progress_bar_enabled()
    switches.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            switches.enable_progress_bar()
