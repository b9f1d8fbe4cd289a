"""SAM 2 (Ravi et al., 2024) as few-shot segmentation needs it: encode, remember, attend, decode.

This and `sam2_config` are the places that touch the `sam2` package. Nothing in that package is changed; every network
below is one of its stock classes, so Meta's checkpoints load key by key.

Shapes: B images of H x W pixels, memory grid h x w = H/16 x W/16, C feature channels, D memory channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttentionLayer
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from fss_lab.backbones.checkpoints import load_into
from fss_lab.backbones.normalised import Normalised
from fss_lab.backbones.sam2_config import STRIDE, stock_model
from fss_lab.backbones.sam2_transformers import load_sam2_state
from fss_lab.errors import InputError

ENCODER_STRIDE = 32  # the image encoder's coarsest level and its window embedding need multiples of this

CrossAttention = Callable[[int, RoPEAttention, Tensor, Tensor, Tensor, int], Tensor]
"""(layer number, the layer's stock attention module, q (B,N,C), k (B,L,D), v (B,L,D), pointer tokens) ->
(B,N,C)"""


@dataclass(frozen=True)
class ImageFeatures:
    """What the image encoder knows of a batch of images.

    top: (B, C, h, w); position: its sine position code, (B, C, h, w);
    high_res: the two finer maps the mask decoder reads, (B, C/8, 4h, 4w) and (B, C/4, 2h, 2w).
    """

    top: Tensor
    position: Tensor
    high_res: tuple[Tensor, Tensor]

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> ImageFeatures:
        """Select images by a slice, a list or an index tensor (never by a single int: the batch axis stays)."""
        finer, fine = self.high_res
        return ImageFeatures(self.top[index], self.position[index], (finer[index], fine[index]))


@dataclass(frozen=True)
class Memory:
    """An image remembered together with a mask.

    memory: (B, D, h, w); position: its sine position code, (B, D, h, w); pointer: the object pointer, (B, C);
    low_res_logits: the mask as SAM 2 stores it, logits in [-10, 10], (B, 1, H/4, W/4).
    """

    memory: Tensor
    position: Tensor
    pointer: Tensor
    low_res_logits: Tensor


@dataclass(frozen=True)
class MemoryTokens:
    """The sequence that memory attention reads: spatial memories one after the other, then the object pointers.

    tokens, position: (L, B, D); pointer_tokens: how many of the L tokens, at the end, come from pointers.
    """

    tokens: Tensor
    position: Tensor
    pointer_tokens: int


@dataclass(frozen=True)
class Decoded:
    """The mask decoder's answer.

    low_res_logits: the mask with the highest predicted IoU, (B, 1, H/4, W/4); masks: all M candidates,
    (B, M, H/4, W/4); ious: their predicted IoUs, (B, M); object_score: logit of "the object is visible", (B,
    1). M is 3 with multimask output, else 1.
    """

    low_res_logits: Tensor
    masks: Tensor
    ious: Tensor
    object_score: Tensor


class Sam2Backbone(Normalised):
    """The stock SAM 2 model behind its verbs: `encode`, `remember`, `attend`, `decode`, and `click`."""

    def __init__(self, model: SAM2Base) -> None:
        """Wrap a stock model; `build` makes one from a configuration.

        Raises InputError where the model lacks a part that the verbs need.
        """
        super().__init__()
        needed = ("use_high_res_features_in_sam", "use_obj_ptrs_in_encoder", "pred_obj_scores")
        lacking = [flag for flag in needed if not getattr(model, flag)]
        if model.num_maskmem < 1:
            lacking.append("num_maskmem (at least 1)")
        if lacking:
            raise InputError(f"this SAM 2 configuration lacks {', '.join(lacking)}; set them in its `model` section")
        self.model = model

    @classmethod
    def build(
        cls, config: str | Path, image_size: int | None = None, checkpoint: str | Path | None = None
    ) -> Sam2Backbone:
        """Build SAM 2 of any size, in evaluation mode on the CPU.

        config: a key of `sam2_config.CONFIGS` ("sam2-tiny" ... "sam2.1-large") or the path of a YAML file with a
            `model` section.
        image_size: side of the square input, a multiple of 16 pixels; default: as the configuration says.
        checkpoint: weights to load (see `load_checkpoint`); default: random ones.

        Raises FileNotFoundError, InputError (configuration, size) or CheckpointError; they name the file and
        what is wrong.
        """
        backbone = cls(stock_model(config, image_size))
        if checkpoint is not None:
            backbone.load_checkpoint(checkpoint)
        return backbone.eval()

    def load_checkpoint(self, path: str | Path) -> None:
        """Load Meta's format (.pt, .pth: {"model": state dict}, read without executing code; .safetensors), or that of
        transformers (.safetensors, or the directory that it saves).

        Raises CheckpointError if the file is missing or damaged, or if its keys or shapes are not this
        model's; the model is then unchanged.
        """
        load_into(self.model, load_sam2_state(path), source=path)

    @property
    def image_size(self) -> int:
        """Side of the square input image, in pixels."""
        return self.model.image_size

    @property
    def grid_size(self) -> int:
        """Side of the memory grid, h = w = image_size / 16."""
        return self.image_size // STRIDE

    @property
    def channels(self) -> int:
        """C, the channels of image features and object pointers."""
        return self.model.hidden_dim

    @property
    def memory_channels(self) -> int:
        """D, the channels of a memory."""
        return self.model.mem_dim

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode RGB images (B, 3, image_size, image_size), values 0..255, any dtype.

        Raises InputError on another shape.
        """
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise InputError(f"expected images of shape (B, 3, {size}, {size}), got {tuple(images.shape)}")
        normalised = self.normalise(images.to(self.mean.dtype) / 255)
        # Multiples of 16 that are not multiples of 32: pad with the mean colour, then cut the features back.
        padding = -size % ENCODER_STRIDE
        encoded = self.model.forward_image(F.pad(normalised, (0, padding, 0, padding)))
        finer, fine, top = encoded["backbone_fpn"]
        position = encoded["vision_pos_enc"][-1]
        if padding:
            grid = self.grid_size
            top, fine, finer = (
                feature[..., : scale * grid, : scale * grid].contiguous()
                for feature, scale in ((top, 1), (fine, 2), (finer, 4))
            )
            position = self.position_code(top)
        return ImageFeatures(top, position, (finer, fine))

    def position_code(self, top: Tensor) -> Tensor:
        """The sine position code of features (B, C, h, w), of the same shape; the same for every image."""
        return self.model.image_encoder.neck.position_encoding(top).to(top.dtype)

    def encoder_modules(self) -> tuple[nn.Module, ...]:
        """The networks that `encode` runs; their weights decide the features of an image."""
        decoder = self.model.sam_mask_decoder
        return self.model.image_encoder, decoder.conv_s0, decoder.conv_s1

    def remember(self, features: ImageFeatures, mask: Tensor) -> Memory:
        """Remember each image with its mask, as SAM 2 remembers a mask prompt (Sec. 3.1 of the SAM 2 paper).

        mask: (B, 1, H, W) in 0..1, soft masks allowed; the memory encoder sees 20 * sigmoid(20 * mask - 10) - 10, so a
        soft mask is nearly binarised at 0.5. The object pointer comes from the mask decoder, prompted with the mask; it
        is `no_obj_ptr` where the decoder sees no object or the mask has no pixel above 0.
        Raises InputError on another shape.
        """
        self._check_mask(features, mask)
        _, _, _, low_res_logits, mask_logits, pointer, object_score = self.model._use_mask_as_output(
            features.top, list(features.high_res), mask
        )
        memory, position = self._encode_memory(features, mask_logits, object_score)
        return Memory(memory, position, pointer, low_res_logits)

    def remember_without_pointer(self, features: ImageFeatures, mask: Tensor) -> Tensor:
        """The memory of `remember`, (B, D, h, w), where nobody needs its pointer: spares a pass of the mask decoder.

        Raises InputError on another shape.
        """
        self._check_mask(features, mask)
        mask = mask.float()
        visible = mask.flatten(1).gt(0).any(1, keepdim=True).float()
        return self._encode_memory(features, 20 * mask - 10, 20 * visible - 10)[0]

    def _encode_memory(self, features: ImageFeatures, mask_logits: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        memory, position = self.model._encode_new_memory(
            current_vision_feats=[_to_sequence(features.top)],
            feat_sizes=[features.top.shape[-2:]],
            pred_masks_high_res=mask_logits,
            object_score_logits=score,
            is_mask_from_pts=False,
        )
        return memory, position[-1]

    def _check_mask(self, features: ImageFeatures, mask: Tensor) -> None:
        expected = (len(features), 1, self.image_size, self.image_size)
        if mask.shape != expected:
            raise InputError(f"expected masks of shape {expected}, got {tuple(mask.shape)}")

    def memory_tokens(self, memories: Sequence[tuple[Tensor, Tensor]], pointers: Sequence[Tensor] = ()) -> MemoryTokens:
        """Lay memories and pointers out as memory attention reads them.

        memories: (memory, position) pairs, each (B, D, h, w); all get the temporal code of the current frame
        (t = 0). pointers: (B, C) each, cut into C/D tokens without position code.
        """
        now = self.model.maskmem_tpos_enc[self.model.num_maskmem - 1]  # 1, 1, D
        tokens = [_to_sequence(memory) for memory, _ in memories]
        position = [_to_sequence(position) + now for _, position in memories]
        parts = self.channels // self.memory_channels
        for pointer in pointers:
            split = pointer.reshape(len(pointer), parts, self.memory_channels).transpose(0, 1)  # C/D, B, D
            tokens.append(split)
            position.append(torch.zeros_like(split))
        return MemoryTokens(torch.cat(tokens), torch.cat(position), parts * len(pointers))

    def attend(
        self, features: ImageFeatures, memory: MemoryTokens, cross_attention: CrossAttention | None = None
    ) -> Tensor:
        """Let the image features read the memory: SAM 2's memory attention. Returns (B, C, h, w).

        cross_attention: computes every layer's cross-attention in place of the layer's own module, with that module's
        weights (it is given the module). Everything else in the layer stays stock. None: the stock attention.
        """
        stock = self.model.memory_attention
        current, position = _to_sequence(features.top), _to_sequence(features.position)
        if cross_attention is None:
            attended = stock(
                curr=current,
                curr_pos=position,
                memory=memory.tokens,
                memory_pos=memory.position,
                num_obj_ptr_tokens=memory.pointer_tokens,
            )
            return attended.permute(1, 2, 0).reshape(features.top.shape)
        x = current + 0.1 * position if stock.pos_enc_at_input else current
        x, position, tokens, token_position = (
            sequence.transpose(0, 1) for sequence in (x, position, memory.tokens, memory.position)
        )
        for number, layer in enumerate(stock.layers):
            x = layer._forward_sa(x, position)
            q = layer.norm2(x)
            q = q + position if layer.pos_enc_at_cross_attn_queries else q
            k = tokens + token_position if layer.pos_enc_at_cross_attn_keys else tokens
            read = cross_attention(number, layer.cross_attn_image, q, k, tokens, memory.pointer_tokens)
            x = _mlp(layer, x + layer.dropout2(read))
        return stock.norm(x).transpose(1, 2).reshape(features.top.shape)

    def decode(self, attended: Tensor, features: ImageFeatures, multimask: bool = True) -> Decoded:
        """Predict masks from attended features (B, C, h, w) without any prompt.

        multimask: three candidates, the one with the highest predicted IoU wins; else the single-mask output.
        The object score is returned, not applied: a mask is never suppressed.
        """
        batch = len(attended)
        no_point = attended.new_zeros(batch, 1, 2, dtype=torch.float32)
        no_label = -torch.ones(batch, 1, dtype=torch.int32, device=attended.device)
        return self._decode(attended, features, (no_point, no_label), multimask)

    def click(self, features: ImageFeatures, points: Tensor, labels: Tensor, multimask: bool) -> Decoded:
        """Predict masks of what points and boxes mark, without any memory, as SAM 2's image predictor does.

        points: (B, P, 2), x and y in pixels of the model's square input. labels: (B, P) int32: 1 on the object, 0 off
        it, 2 and 3 two corners of a box, which come first. multimask: as in `decode`; three for a single point.
        """
        top = features.top
        if self.model.directly_add_no_mem_embed:
            top = top + self.model.no_mem_embed.view(1, -1, 1, 1)
        return self._decode(top, features, (points, labels), multimask)

    def _decode(self, top: Tensor, features: ImageFeatures, points: tuple[Tensor, Tensor], multimask: bool) -> Decoded:
        prompt_encoder, batch = self.model.sam_prompt_encoder, len(top)
        sparse, dense = prompt_encoder(points=points, boxes=None, masks=None)
        masks, ious, _, object_score = self.model.sam_mask_decoder(
            image_embeddings=top,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=False,
            high_res_features=list(features.high_res),
        )
        masks = masks.float()
        best = masks[torch.arange(batch, device=masks.device), ious.argmax(dim=1)].unsqueeze(1)
        return Decoded(best, masks, ious, object_score)


def project_heads(
    attention: RoPEAttention, q: Tensor, k: Tensor, v: Tensor, pointer_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The first half of a cross-attention to memory: projections, head layout, rotary encoding (not of pointers).

    q: (B, N, C); k, v: (B, L, D). Returns q (B, heads, N, d), k and v (B, heads, L, d), in SAM 2's own arithmetic.
    """
    q, k, v = attention.q_proj(q), attention.k_proj(k), attention.v_proj(v)
    q, k, v = (attention._separate_heads(x, attention.num_heads) for x in (q, k, v))
    spatial, pointers = k[:, :, : k.shape[2] - pointer_tokens], k[:, :, k.shape[2] - pointer_tokens :]
    q, spatial = apply_rotary_enc(q, spatial, attention.freqs_cis.to(q.device), repeat_freqs_k=attention.rope_k_repeat)
    return q, torch.cat([spatial, pointers], dim=2), v


def merge_heads(attention: RoPEAttention, mixed: Tensor) -> Tensor:
    """The last step of an attention: merge the heads, project. mixed: (B, heads, N, d). Returns (B, N, C)."""
    return attention.out_proj(attention._recombine_heads(mixed))


def _to_sequence(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (hw, B, C), the layout inside SAM 2."""
    return x.flatten(2).permute(2, 0, 1)


def _mlp(layer: MemoryAttentionLayer, x: Tensor) -> Tensor:
    """The last third of a memory-attention layer, with its residual connection."""
    hidden = layer.dropout(layer.activation(layer.linear1(layer.norm3(x))))
    return x + layer.dropout3(layer.linear2(hidden))
