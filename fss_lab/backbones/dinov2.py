"""DINOv2 as the feature extractor of the Pseudo Prompt Generator (Sec. PPG of the paper).

Needs the optional dependency transformers: pip install "fss-lab[real]".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss_lab.backbones.checkpoints import load_state
from fss_lab.errors import CheckpointError, InputError, MissingPackageError

IMAGE_SIZE = 560
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "giant": {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
}

# parameter names of DINOv2's own code -> names of the published transformers weights
_RENAMED = (
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
    (r"\.mlp\.w3\.", ".mlp.weights_out."),
)


class Dinov2Features(nn.Module):
    """Frozen DINOv2: the patch tokens of the last block after the final norm, without the class token.

    Images are resized to 560x560 (bilinear, align_corners=True) and normalised with the ImageNet mean and
    deviation. With patches of 14 pixels that gives a grid of 40x40.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any) -> None:
        """model: a transformers `Dinov2Model`; it is frozen and its position grid resized in place."""
        super().__init__()
        self.model = model
        self.channels: int = model.config.hidden_size
        patch = model.config.patch_size
        self.grid: int = IMAGE_SIZE // (patch if isinstance(patch, int) else patch[0])
        # once, here: transformers leaves a grid of the right size alone, and its own resizing differs
        positions = model.embeddings.position_embeddings.detach()
        model.embeddings.position_embeddings = nn.Parameter(resize_positions(positions, self.grid))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def build(cls, size: str = "base", weights: str | os.PathLike[str] | None = None) -> Dinov2Features:
        """DINOv2 "small", "base", "large" or "giant", random or with `weights` as in `load`.

        Raises InputError for another size, CheckpointError as `load` and for weights of another size.
        """
        if size not in SIZES:
            raise InputError(f"unknown DINOv2 size {size!r}; expected one of {', '.join(SIZES)}")
        if weights is None:
            transformers = _transformers()
            config = transformers.Dinov2Config(image_size=518, patch_size=14, **SIZES[size])
            return cls(transformers.Dinov2Model(config))
        features = cls.load(weights)
        channels = SIZES[size]["hidden_size"]
        if features.channels != channels:
            raise CheckpointError(
                f"{weights} has {features.channels} channels, DINOv2 {size} has {channels}; "
                "give the size of the weights or call Dinov2Features.load"
            )
        return features

    @classmethod
    def load(cls, source: str | os.PathLike[str], num_heads: int | None = None) -> Dinov2Features:
        """Load DINOv2 weights (without register tokens); the model's size follows from them.

        source: a directory with config.json and weights as transformers saves them; a file with DINOv2's own
        parameter names such as dinov2_vitb14_pretrain.pth (.pth, .pt or .safetensors). `hub.fetch` gets either.
        The layers are as many as the weights have, 40 for the giant.
        num_heads: attention heads of a weight file, which does not tell them; one per 64 channels by default,
        as in all published sizes.
        Raises CheckpointError for weights that are missing, damaged, or do not fit.
        """
        path = Path(source)
        if path.is_dir():
            return cls(_pretrained(source, str(path), local_files_only=True))
        return cls.from_state(load_state(path), source, num_heads)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], source: str | os.PathLike[str], num_heads: int | None = None
    ) -> Dinov2Features:
        """As `load`, from a state dict with DINOv2's own parameter names; source: where it came from, for messages."""
        config = _config_of(state, source, num_heads)
        return cls(_pretrained(source, None, config=config, state_dict=_published_names(state)))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), uint8 or float in 0..255, to features (B, c, 40, 40).

        Raises InputError for another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"expected RGB images (B, 3, H, W), got {tuple(images.shape)}")
        resized = F.interpolate(
            images.to(self.mean.dtype), size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=True
        )
        tokens = self.model((resized / 255 - self.mean) / self.deviation).last_hidden_state
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def train(self, mode: bool = True) -> Dinov2Features:
        """Stay in evaluation mode: a frozen extractor has no dropout to switch on."""
        return super().train(False)


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize position embeddings (1, 1 + n·n, c), class position first, to (1, 1 + grid·grid, c).

    Bicubic with the scale (grid + 0.1) / n, as DINOv2's own code does. Resizing to the size grid x grid, as
    transformers does, samples other places: on 37 -> 40 it moves the features by several per cent.
    """
    patches = positions[:, 1:]
    n = round(patches.shape[1] ** 0.5)
    if n == grid:
        return positions
    scale = (grid + 0.1) / n
    square = patches.transpose(1, 2).unflatten(2, (n, n))  # 1, c, n, n
    resized = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingPackageError('DINOv2 needs the package transformers: pip install "fss-lab[real]"') from error
    return transformers


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws one for a second's work, also into files."""
    switches = _transformers().utils.logging
    drawn = switches.is_progress_bar_enabled()
    switches.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            switches.enable_progress_bar()


def _pretrained(source: str | os.PathLike[str], name: str | None, **options: Any) -> Any:
    """A float32 Dinov2Model in which every parameter comes from the source."""
    model_class = _transformers().Dinov2Model
    try:
        # transformers would only warn about weights that do not fit
        with _no_progress_bar():
            model, info = model_class.from_pretrained(
                name, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"DINOv2 could not be loaded from {source}: {' '.join(str(error).split())} "
            "Expected a directory with config.json and model.safetensors as transformers saves them, or a weight file "
            "with DINOv2's own parameter names such as dinov2_vitb14_pretrain.pth"
        ) from error
    problems = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    found = [f"{len(names)} {kind}: {', '.join(names[:50])}" for kind, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"{source} does not fit DINOv2 (names as in transformers). {'; '.join(found)}. "
            "Use the weights of a published DINOv2 without register tokens"
        )
    return model.float()


def _config_of(state: Mapping[str, Tensor], path: str | os.PathLike[str], num_heads: int | None) -> Any:
    """The transformers configuration of a state dict with DINOv2's own names."""
    needed = ("pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight")
    if not all(name in state for name in needed):
        raise CheckpointError(
            f"{path} lacks one of {', '.join(needed)}, the names of DINOv2's own code; its first entries are "
            f"{', '.join(list(state)[:3])}. For weights saved by transformers give their directory"
        )
    hidden, _, patch, _ = state["patch_embed.proj.weight"].shape
    if num_heads is None and hidden % 64:
        raise CheckpointError(f"{path} has {hidden} channels, no published size; give num_heads=…")
    first_layer = state.get("blocks.0.mlp.fc1.weight")
    return _transformers().Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        num_attention_heads=num_heads or hidden // 64,
        mlp_ratio=4 if first_layer is None else len(first_layer) // hidden,
        use_swiglu_ffn="blocks.0.mlp.w12.weight" in state,
        image_size=round((state["pos_embed"].shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
    )


def _published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with DINOv2's own names, under the names of the published transformers weights."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
        else:
            renamed[name] = tensor
    return renamed
