"""What any stock SAM 2 reads in its memory, recorded with hooks: frame by frame, column by column.

    with record_memory(predictor) as recording:  # a SAM2VideoPredictor, a SAM2Base, an FSSAM
        state = predictor.init_state("frames")
        predictor.add_new_mask(state, 0, 1, mask)
        for frame, objects, masks in predictor.propagate_in_video(state): ...
    recording.of(7).maps(cell=(8, 5))  # by remembered frame, (h, w)

Shapes: grid h x w, N = h * w cells, L memory tokens, B objects in a call.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any

import torch
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor, nn

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import InputError


@dataclass(frozen=True)
class Block:
    """Neighbouring memory tokens of one origin.

    frame: the remembered frame; of an FSSAM the number of the memory, supports first. columns: where they lie among the
    L tokens. pointer: they are the pieces of an object pointer, else a grid. code: the row of `maskmem_tpos_enc` that
    is their temporal code: the last for prompted frames, row a - 1 for the frame a before; None for pointers.
    """

    frame: int
    columns: slice
    pointer: bool
    code: int | None

    @property
    def tokens(self) -> int:
        """How many."""
        return self.columns.stop - self.columns.start


Origin = tuple[int, int, bool, int | None]
"""Of a block: frame, tokens, pointer, code."""


@dataclass(frozen=True)
class MemoryCall:
    """One call of memory attention. frame: that reads, None where there is no video. blocks: of the tokens that were
    read. q, k: of each layer after projection and rotary code, (B, heads, N, d) and (B, heads, L, d)."""

    frame: int | None
    blocks: tuple[Block, ...]
    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """h and w."""
        side = math.isqrt(self.q[0].shape[2])
        return side, side

    def attention(self, layer: int = -1, cell: tuple[int, int] | Tensor | None = None) -> Tensor:
        """What a cell (row, column) reads, or the mean over some (h, w) bool, or over all: (L,), mean over heads and
        objects; sums to 1. Computed from q and k as SAM 2 does. Of an FSSAM before its calibration."""
        q, k = self.q[layer].float(), self.k[layer].float()
        if isinstance(cell, Tensor):
            q = q[:, :, cell.flatten().to(q.device)]
        elif cell is not None:
            q = q[:, :, [cell[0] * self.grid[1] + cell[1]]]
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).mean((0, 1, 2)).cpu()

    def maps(self, layer: int = -1, cell: tuple[int, int] | Tensor | None = None) -> dict[int, Tensor]:
        """By remembered frame, the attention to its grid, (h, w); arguments as in `attention`."""
        weights = self.attention(layer, cell)
        return {b.frame: weights[b.columns].unflatten(0, self.grid) for b in self.blocks if not b.pointer}

    def pointers(self, layer: int = -1, cell: tuple[int, int] | Tensor | None = None) -> dict[int, float]:
        """By remembered frame, the attention to its object pointer, in 0..1."""
        weights = self.attention(layer, cell)
        return {b.frame: float(weights[b.columns].sum()) for b in self.blocks if b.pointer}


@dataclass
class Recording:
    """calls: of memory attention in their order; of several objects the stock predictor makes one each. images: by
    frame, (3, S, S) uint8 as the model saw them, those that were encoded meanwhile."""

    calls: list[MemoryCall] = field(default_factory=list)
    images: dict[int, Tensor] = field(default_factory=dict)

    def of(self, frame: int) -> MemoryCall:
        """The first call of a frame. Raises InputError where there is none."""
        for call in self.calls:
            if call.frame == frame:
                return call
        frames = sorted({call.frame for call in self.calls if call.frame is not None})
        raise InputError(f"no call of frame {frame} was recorded; those of {frames} were (the first reads no memory)")


def video_predictor(backbone: Sam2Backbone) -> SAM2VideoPredictor:
    """The stock video predictor on a backbone's networks; no weight is copied. It reads a folder of JPEG frames."""
    predictor = SAM2VideoPredictor.__new__(SAM2VideoPredictor)  # __init__ would build the networks anew
    flags = ("non_overlap_masks", "clear_non_cond_mem_around_input", "add_all_frames_to_correct_as_cond")
    settings = dict[str, Any](fill_hole_area=0) | dict.fromkeys(flags, False)  # its defaults
    predictor.__dict__.update(backbone.model.__dict__ | settings)
    return predictor


@contextmanager
def record_memory(
    model: Any,
    *,
    hide: Callable[[int | None, Block], bool] | None = None,
    temporal_code: bool = True,
    frames: Callable[[int | None], bool] = lambda frame: True,
) -> Iterator[Recording]:
    """Record every call of memory attention in a `with` block. Nothing is patched, and nothing stays behind.

    model: a `SAM2VideoPredictor` or any `SAM2Base`, a `Sam2Backbone`, an FSSAM. Unless told otherwise its outputs are
    the same to the last bit. Two interventions:
    hide: of the reading frame and a block, whether its tokens are taken out, so that the others share its attention;
    not for an FSSAM with calibration, see `fss_lab.interventions.knock_out`. temporal_code: False sets the codes of a
    frame's age to 0 meanwhile. frames: which reading frames are kept; q and k take 4 C (N + L) bytes in each layer.

    Hooks know no frame numbers: these are read in SAM 2's own function on the stack, in the order that it made.
    Raises InputError for a model that is no SAM 2, and where nothing is left to read.
    """
    stock = getattr(model, "sam2", model)
    stock = getattr(stock, "model", stock)
    if not isinstance(stock, SAM2Base):
        raise InputError(f"expected a SAM 2 (SAM2Base, video predictor, FSSAM), got {type(model).__name__}")
    recorder, codes = _Recorder(stock, hide, frames), stock.maskmem_tpos_enc.data
    with ExitStack() as cleanup:
        if not temporal_code:
            cleanup.callback(codes.copy_, codes.clone())
            codes.zero_()
        hooks = [
            stock.image_encoder.register_forward_pre_hook(recorder.see),
            stock.memory_attention.register_forward_pre_hook(recorder.begin, with_kwargs=True),
        ]
        for layer in stock.memory_attention.layers:
            cross = layer.cross_attn_image
            hooks.append(cross.q_proj.register_forward_hook(recorder.keep_q))
            hooks.append(cross.k_proj.register_forward_hook(partial(recorder.keep_k, cross)))
        for hook in hooks:
            cleanup.callback(hook.remove)
        yield recorder.recording


class _Recorder:
    def __init__(
        self, stock: SAM2Base, hide: Callable[[int | None, Block], bool] | None, frames: Callable[[int | None], bool]
    ) -> None:
        self.stock, self.hide, self.frames = stock, hide, frames
        self.recording = Recording()
        self.origin: tuple[int | None, tuple[Block, ...]] | None = None  # of the present call
        self.q: list[Tensor] = []
        self.k: list[Tensor] = []

    def see(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        caller = _caller("_get_image_feature")
        if caller is not None:
            mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            pixels = 255 * (given[0][0].detach().float().cpu() * std + mean)
            self.recording.images[caller.f_locals["frame_idx"]] = pixels.round().clamp(0, 255).to(torch.uint8)

    def begin(
        self, _: nn.Module, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self.q, self.k = [], []
        frame, blocks = self.origin = self._origin(len(given["memory"]), given["num_obj_ptr_tokens"])
        left = [block for block in blocks if self.hide is None or not self.hide(frame, block)]
        if len(left) == len(blocks):
            return None
        if not left:
            raise InputError(f"nothing is left to read in frame {frame}; hide must leave a block")
        self.origin = (frame, _laid_out([(block.frame, block.tokens, block.pointer, block.code) for block in left]))
        short = {x: torch.cat([given[x][block.columns] for block in left]) for x in ("memory", "memory_pos")}
        return args, given | short | {"num_obj_ptr_tokens": sum(block.tokens for block in left if block.pointer)}

    def keep_q(self, _: nn.Module, given: tuple[Tensor, ...], q: Tensor) -> None:
        self.q.append(q.detach())

    @torch.no_grad()
    def keep_k(self, cross: RoPEAttention, _: nn.Module, given: tuple[Tensor, ...], k: Tensor) -> None:
        frame, blocks = self.origin = self.origin or self._origin(k.shape[1], None)
        if self.frames(frame):
            pointers = sum(block.tokens for block in blocks if block.pointer)
            self.q[-1], k = _rotated(cross, self.q[-1], k.detach(), pointers)
            self.k.append(k)
        if cross is self.stock.memory_attention.layers[-1].cross_attn_image:
            if self.k:
                self.recording.calls.append(MemoryCall(frame, blocks, tuple(self.q), tuple(self.k)))
            self.origin, self.q, self.k = None, [], []

    def _origin(self, total: int, pointer_tokens: int | None) -> tuple[int | None, tuple[Block, ...]]:
        """The reading frame and what the `total` tokens are. pointer_tokens: None for as many as memories."""
        parts, rows = self.stock.hidden_dim // self.stock.mem_dim, self.stock.num_maskmem
        caller = _caller("_prepare_memory_conditioned_features")
        if caller is None:  # `Sam2Backbone.memory_tokens`: all of one age, each with a pointer or none
            n = (self.stock.image_size // 16) ** 2
            count = total // (n + parts) if pointer_tokens is None else (total - pointer_tokens) // n
            grids: list[Origin] = [(memory, n, False, rows - 1) for memory in range(count)]
            return None, _laid_out(grids + [(i, parts, True, None) for i in range((total - count * n) // parts)])
        names = caller.f_locals
        outputs = {id(out): t for store in names["output_dict"].values() for t, out in store.items()}
        pointers = {id(out["obj_ptr"]): t for store in names["output_dict"].values() for t, out in store.items()}
        origins: list[Origin] = [
            (outputs[id(out)], math.prod(out["maskmem_features"].shape[-2:]), False, rows - t_pos - 1)
            for t_pos, out in names.get("t_pos_and_prevs", ())
            if out is not None
        ]
        origins += [(pointers[id(pointer)], parts, True, None) for _, pointer in names.get("pos_and_ptrs", ())]
        return names["frame_idx"], _laid_out(origins)


def _laid_out(origins: list[Origin]) -> tuple[Block, ...]:
    stops = [*itertools.accumulate(tokens for _, tokens, _, _ in origins)]
    return tuple(
        Block(frame, slice(stop - tokens, stop), pointer, code)
        for stop, (frame, tokens, pointer, code) in zip(stops, origins, strict=True)
    )


def _caller(name: str) -> FrameType | None:
    """The innermost running function of this name in the `sam2` package."""
    frame: FrameType | None = sys._getframe()
    while frame and not (frame.f_code.co_name == name and frame.f_globals.get("__name__", "").startswith("sam2.")):
        frame = frame.f_back
    return frame


def _rotated(cross: RoPEAttention, q: Tensor, k: Tensor, pointers: int) -> tuple[Tensor, Tensor]:
    """Heads and rotary code as in `RoPEAttention.forward`, which has not run yet."""
    q, k = (cross._separate_heads(x, cross.num_heads) for x in (q, k))
    side, codes = math.isqrt(q.shape[2]), cross.freqs_cis
    if len(codes) != q.shape[2]:
        codes = cross.compute_cis(end_x=side, end_y=side)
    grids, pieces = k.split([k.shape[2] - pointers, pointers], dim=2)
    if grids.shape[2]:
        q, grids = apply_rotary_enc(q, grids, codes.to(q.device), repeat_freqs_k=cross.rope_k_repeat)
    return q, torch.cat([grids, pieces], dim=2)
