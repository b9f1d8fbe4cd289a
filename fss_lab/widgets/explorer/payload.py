"""A run as the browser needs it: a description in JSON, and one block of bytes.

Queries and keys travel, not attention matrices: the browser computes the rows it shows. All queries of a layer times
one key are as quick, so columns need only the sums and ranges of the rows, which travel too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fss_lab.method.calibration import STRENGTH, calibration_bias
from fss_lab.method.trace import LayerTrace
from fss_lab.widgets.explorer.runs import Run

TOLERANCE = 1e-3  # of attention weights; what float16 would miss by more travels as float32
LARGEST = 1024.0  # of the numbers in float16: the middle of its range
IMAGE_SIDE = 512  # pixels; larger images are drawn smaller than that anyway
MASK_SIDE = 256

Reference = dict[str, Any]


class Block:
    """Arrays one after the other in one block of bytes; what is added twice is stored once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._known: dict[tuple[str, bytes], Reference] = {}
        self._length = 0

    def add(self, kind: str, content: bytes, **more: Any) -> Reference:
        """Store bytes and return the reference that stands for them in the description."""
        if (kind, content) not in self._known:
            self._known[kind, content] = {"$": kind, "at": self._length, "bytes": len(content), **more}
            padding = -len(content) % 8  # typed arrays must start at multiples of their item size
            self._parts.append(content + bytes(padding))
            self._length += len(content) + padding
        return self._known[kind, content]

    def floats(self, values: Tensor, dtype: torch.dtype = torch.float32) -> Reference:
        """Store numbers as float32 or float16, row by row, little-endian."""
        array = values.detach().to("cpu", dtype).contiguous().numpy()
        return self.add("f2" if dtype == torch.float16 else "f4", array.astype(array.dtype.newbyteorder("<")).tobytes())

    def mask(self, mask: Tensor) -> Reference | None:
        """Store a bool mask (H, W) as bits, at MASK_SIDE at most; None if it is empty."""
        if not mask.any():
            return None
        size = _at_most(mask.shape, MASK_SIDE)
        small = F.interpolate(mask[None, None].float().cpu(), size, mode="nearest-exact")[0, 0] > 0.5
        return self.add("bits", np.packbits(small.numpy()).tobytes(), height=size[0], width=size[1])

    def image(self, image: Tensor) -> Reference:
        """Store an image (3, H, W) in 0..255 as PNG or JPEG, whichever is smaller, at IMAGE_SIDE at most."""
        pixels = image.detach().cpu().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        height, width = _at_most(pixels.shape[:2], IMAGE_SIDE)
        picture = Image.fromarray(pixels)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        jpeg, png = io.BytesIO(), io.BytesIO()
        picture.save(jpeg, "jpeg", quality=88, subsampling=0)
        picture.save(png, "png")
        small = min((jpeg.getvalue(), png.getvalue()), key=len)
        return self.add("image", small, height=height, width=width)

    def content(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


def pack(runs: Sequence[Run]) -> tuple[dict[str, Any], bytes]:
    """Description and bytes of runs that share grid and number of layers."""
    # imported only now, so that the explorer does not wait for matplotlib before there is something to show
    from matplotlib import colormaps

    from fss_lab.figures import ATTENTION_MAP, DIFFERENCE_MAP, PREDICTION, PRIOR_MAP, SUPPORT, TRUTH

    block = Block()
    description = {
        "grid": list(runs[0].grid),
        "strength": STRENGTH,
        "className": runs[0].class_name,
        "runs": [_pack_run(run, block) for run in runs],
        "palettes": {
            name: block.add("u1", colormaps.get_cmap(cmap)(np.arange(256), bytes=True)[:, :3].tobytes())
            for name, cmap in (("weight", ATTENTION_MAP), ("difference", DIFFERENCE_MAP), ("prior", PRIOR_MAP))
        },
        "colours": {"support": SUPPORT, "truth": TRUTH, "prediction": PREDICTION},
    }
    return description, block.content()


def _pack_run(run: Run, block: Block) -> dict[str, Any]:
    trace = run.trace
    inside_name, inside = run.foreground
    layers = [_pack_layer(layer, block) for layer in trace.layers]
    rounds = [
        {"similarity": block.floats(done.similarity), "weight": block.floats(done.weight)} for done in trace.rounds
    ]
    return {
        "name": run.name,
        "shots": run.shots,
        "blocks": run.blocks,
        "queryMemory": run.has_query_memory,
        "alive": run.traced is not None,
        "query": None if run.query is None else block.image(run.query),
        "supports": [None] * run.shots if run.supports is None else [block.image(image) for image in run.supports],
        "supportMasks": [block.mask(mask == 1) for mask in trace.support_masks[0]],
        "visible": trace.support_masks_attention[0].flatten(1).any(1).tolist(),
        "prediction": block.mask(run.prediction),
        "truth": None if run.truth is None else block.mask(run.truth == 1),
        "foreground": {"of": inside_name, "map": block.floats(inside.float()), "cells": int(inside.sum())},
        "layers": layers,
        "deviation": max(layer["deviation"] for layer in layers),
        "priors": [{"name": name, "map": block.floats(values)} for name, values in run.priors],
        "rounds": rounds,
        "likeSupport": None if trace.support_similarity is None else block.floats(trace.support_similarity),
    }


def _pack_layer(layer: LayerTrace, block: Block) -> dict[str, Any]:
    """Queries, keys and what the columns need, in the smallest type that keeps what is shown true."""
    q, k = layer.q[0].detach().float().cpu(), layer.k[0].detach().float().cpu()  # heads, tokens, d
    # Softmax and the calibration do not see what all keys have in common, but rounding does.
    common = k.mean(1, keepdim=True)  # heads, 1, d
    shift = (q @ common.mT)[..., 0] / math.sqrt(q.shape[-1])  # heads, N
    k = k - common
    biased = layer.biased
    term = None if layer.calibration is None else layer.calibration[0].detach().float().cpu()
    for dtype in (torch.float16, torch.float32):
        (q_small, q_scale), (k_small, k_scale) = _shrink(q, dtype), _shrink(k, dtype)
        scale = q_scale * k_scale / math.sqrt(q.shape[-1])
        weights = _reconstruct(q_small, k_small, scale, term, biased)
        deviation = float((weights - layer.attention[0].detach().float().cpu()).abs().max())
        if deviation <= TOLERANCE:
            break

    logits = layer.logits[0].detach().float().cpu()  # heads, N, L
    ranged = logits if biased is None else logits[..., biased]
    rows = [
        logits.logsumexp(-1),
        (logits + layer.bias[0].float().cpu()).logsumexp(-1),
        ranged.amin(-1),
        ranged.amax(-1),
    ]
    columns = layer.columns
    return {
        "heads": q.shape[0],
        "channels": q.shape[-1],
        "columns": {name: _ends(getattr(columns, name)) for name in ("support", "query", "pointers")},
        "biased": None if biased is None else _ends(biased),
        "q": block.floats(q_small, dtype),
        "k": block.floats(k_small, dtype),
        "scale": scale,
        "rows": block.floats(torch.stack([values - shift for values in rows], -1)),  # heads, N, 4
        "calibration": None if term is None else block.floats(term),  # heads, h, w
        "shotSimilarity": None if layer.shot_similarity is None else block.floats(layer.shot_similarity[0]),
        "deviation": deviation,
    }


def _reconstruct(q: Tensor, k: Tensor, scale: float, term: Tensor | None, biased: slice | None) -> Tensor:
    """The attention as the browser will compute it, (heads, N, L)."""
    logits = q.float() @ k.float().mT * scale
    if term is not None and biased is not None:
        logits[..., biased] += calibration_bias(logits[..., biased], term)
    return logits.softmax(-1)


def _shrink(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Numbers in a type, brought into the middle of its range, and the factor that brings them back."""
    factor = max(float(values.abs().max()), 1e-30) / LARGEST
    return (values / factor).to(dtype), factor


def _ends(part: slice) -> list[int]:
    return [part.start, part.stop]


def _at_most(size: Sequence[int], side: int) -> tuple[int, int]:
    """height, width of the same shape with a longest side of at most `side` pixels."""
    height, width = size[0], size[1]
    factor = min(1.0, side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
