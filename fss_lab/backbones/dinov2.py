"""DINOv2 (Oquab et al., 2024) as dense features, as published and with register tokens (Darcet et al., 2024)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss_lab.backbones.checkpoints import load_state
from fss_lab.backbones.patch_tokens import GRID, PatchTokens, import_transformers
from fss_lab.errors import CheckpointError

SIZES: dict[str, dict[str, Any]] = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
    "giant": {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True},
}
_INPUT = {"image_size": 518, "patch_size": 14}  # of pre-training, which the position grid fits

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


class Dinov2Features(PatchTokens):
    """DINOv2 without register tokens, the paper's features: 560 x 560 pixels, 40 x 40 patches of 14."""

    title = "DINOv2"
    prefix = "Dinov2"
    sizes = SIZES
    settings = _INPUT
    sources = (
        f"{PatchTokens.sources}, or a weight file with DINOv2's own parameter names such as dinov2_vitb14_pretrain.pth"
    )

    def __init__(self, model: Any) -> None:
        """model: a transformers `Dinov2Model`; it is frozen and its position grid resized in place."""
        # once, here: transformers leaves a grid of the right size alone, and its own resizing differs
        positions = model.embeddings.position_embeddings.detach()
        model.embeddings.position_embeddings = nn.Parameter(resize_positions(positions, GRID))
        super().__init__(model)

    @classmethod
    def load(cls, source: str | os.PathLike[str], num_heads: int | None = None) -> PatchTokens:
        """As `PatchTokens.load`, or from a file with DINOv2's own parameter names such as dinov2_vitb14_pretrain.pth
        (.pth, .pt or .safetensors); the model's size follows from the weights.

        num_heads: attention heads of a weight file, which does not tell them; one per 64 channels by default,
            as in all published sizes.
        Raises MissingPackageError without transformers, CheckpointError for weights that are missing, damaged, or do
        not fit.
        """
        if Path(source).is_dir():
            return super().load(source)
        return cls.from_state(load_state(source), source, num_heads)

    @classmethod
    def from_state(
        cls, state: Mapping[str, Tensor], source: str | os.PathLike[str], num_heads: int | None = None
    ) -> PatchTokens:
        """As `load`, from a state dict with DINOv2's own parameter names; source: where it came from, for messages."""
        config = _config_of(state, source, num_heads)
        return cls(cls.pretrained(source, None, config=config, state_dict=_published_names(state)))


class Dinov2WithRegisters(PatchTokens):
    """DINOv2 with four register tokens, which are dropped: 560 x 560 pixels, 40 x 40 patches of 14.

    Its position grid is resized by transformers, as its own code does too (to a size, antialiased).
    """

    title = "DINOv2 with registers"
    prefix = "Dinov2WithRegisters"
    sizes = SIZES
    settings = {**_INPUT, "num_register_tokens": 4}


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
    return import_transformers().Dinov2Config(
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
