"""Weights of SAM 2 as the transformers library saves them (`Sam2VideoModel`), under the names of Meta's own code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fss_lab.backbones.checkpoints import load_state
from fss_lab.errors import CheckpointError

_POSITIONS = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
# names of transformers -> names of Meta's code, one after the other
_RENAMED = (
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^memory_encoder\.mask_downsampler\.final_conv\.", "memory_encoder.mask_downsampler.encoder.12."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"^(memory_encoder\.fuser\.layers\.\d+)\.scale$", r"\1.gamma"),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "sam_prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "sam_prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "sam_prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "sam_prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "sam_prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    # the heads have three layers, of which transformers calls the middle one layers.0
    (r"^(obj_ptr_proj|sam_mask_decoder\.\w+(?:head|mlps\.\d))\.layers\.0\.", r"\1.layers.1."),
    (r"\.proj_in\.", ".layers.0."),
    (r"\.proj_out\.", ".layers.2."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\blayer_norm", "norm"),
)


def load_sam2_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict with the names of Meta's code, from a file in either format or a directory as transformers saves it.

    Raises CheckpointError as `load_state`, and for transformers' `Sam2Model`, which has no memory.
    """
    path = Path(path)
    path = path / "model.safetensors" if (path / "config.json").is_file() else path
    state = load_state(path)
    if not any(name.startswith("vision_encoder.backbone.") for name in state):
        return state
    if not any(name.startswith("memory_attention.") for name in state):
        raise CheckpointError(
            f"{path} holds SAM 2 for single images, transformers' Sam2Model, without the memory that the method needs; "
            "save it as Sam2VideoModel: Sam2VideoModel.from_pretrained(...).save_pretrained(...)"
        )
    return meta_names(state)


def meta_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of `Sam2VideoModel` under the names of Meta's code; the tensors are the same ones."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in _POSITIONS:  # the same numbers twice
            renamed["sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = tensor
        elif name == "prompt_encoder.point_embed.weight":
            renamed |= {f"sam_prompt_encoder.point_embeddings.{n}.weight": row[None] for n, row in enumerate(tensor)}
        elif part := re.match(r"memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)(\..*)", name):
            place = 3 * int(part[1]) + (part[2] == "layer_norm")
            renamed[f"memory_encoder.mask_downsampler.encoder.{place}{part[3]}"] = tensor
        else:
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            renamed[name] = tensor
    return renamed
