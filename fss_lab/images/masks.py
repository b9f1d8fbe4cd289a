"""Masks as uint8 with 0 background, 1 foreground, 255 ignore; the rules are in the text of `fss_lab.images`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fss_lab.errors import ImageError, InputError
from fss_lab.images.annotations import annotated_mask
from fss_lab.images.sources import ANNOTATIONS, TRUNCATED, Source, open_source

SPECK = 0.05  # 1s fewer than this share of the 255s are specks in a black and white mask, rather than an object


def load_mask(
    source: Source, *, foreground: int | str | None = None, threshold: float | None = None, photo: Source | None = None
) -> Tensor:
    """Read a mask as a uint8 tensor (H, W) of 0 (background), 1 (foreground), 255 (ignore).

    foreground: the value that means foreground, e.g. a class index of a label map. Then 255 is ignore (unless
        `foreground` is 255) and every other value background. Without it the rules of `fss_lab.images` apply. It
        settles the one ambiguous case: {0, 255} reads as white foreground without it, as background and ignore with 1.
        In the file of an annotation tool: the name or number of a class.
    threshold: grey values above it are foreground, all others background; for soft masks and masks saved as JPEG.
    photo: path of the photo that the mask belongs to. Needed where the file of an annotation tool describes several
        photos, or where a YOLO file has no photo of its name beside it. Annotations for another size are refused.

    Raises FileNotFoundError, IsADirectoryError or TypeError for such sources; ImageError for one that cannot be read or
    does not say which of its values is foreground; InputError for `foreground` and `threshold` at once;
    MissingPackageError for COCO's annotations without pycocotools.
    """
    if foreground is not None and threshold is not None:
        raise InputError(f"give foreground ({foreground}) or threshold ({threshold}), not both")
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in ANNOTATIONS:
        photo_path = Path(photo) if isinstance(photo, str | os.PathLike) else None
        return torch.from_numpy(annotated_mask(source, foreground, photo_path))
    name, content = open_source(source)
    if isinstance(foreground, str):
        raise ImageError(f"{name} is a mask of pixels, whose foreground is a number, not {foreground!r}")
    values = _one_channel(content, name)
    if isinstance(content, Image.Image) and content.mode in ("P", "PA"):
        values, foreground = _palette_values(values, content, name, foreground, threshold)
    return torch.from_numpy(np.ascontiguousarray(_meaning(values, name, foreground, threshold)))


def _meaning(values: np.ndarray, name: str, foreground: int | None, threshold: float | None) -> np.ndarray:
    """(H, W) of any numbers -> uint8 with 0, 1, 255."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    present, counts = np.unique(values, return_counts=True)  # sorted
    if np.isnan(present.astype(np.float64)).any():
        raise ImageError(f"{name} is a mask with NaN in it; give 0 for background and 1 for foreground")
    if threshold is not None:
        return (values > threshold).astype(np.uint8)
    if foreground is not None:
        mask = np.where(values == 255, 255, 0).astype(np.uint8)
        mask[values == foreground] = 1
        return mask
    number = dict(zip(present.tolist(), counts.tolist(), strict=True))
    if set(number) <= {0, 1, 255} and 1 in number:
        if number[1] < SPECK * number.get(255, 0):
            raise ImageError(
                f"{name} is a mask with {number[255]} pixels of 255 and only {number[1]} of 1: a white object with "
                "stray pixels (foreground=255), or a small object beside ignored ones (foreground=1)? Say which: "
                "load_mask(..., foreground=255), on the command line --foreground 255"
            )
        return values.astype(np.uint8)
    if set(number) <= {0, 255} or set(number) <= {0, 65535}:
        return (values > 0).astype(np.uint8)
    listed = ", ".join(f"{value:g}" for value in present[:10]) + (", ..." if len(present) > 10 else "")
    raise ImageError(
        f"{name} is a mask with the values {listed} ({len(present)} in all); expected 0 and 1, "
        "0 and 255 (foreground), or 0, 1 and 255 (ignore). If it is a label map, say which value is the "
        "class: load_mask(..., foreground=3), on the command line --foreground 3. If it is a soft mask or was "
        "saved as JPEG, threshold it: load_mask(..., threshold=127), on the command line --threshold 127"
    )


def _one_channel(content: Image.Image | np.ndarray, name: str) -> np.ndarray:
    """(H, W) of a mask, of palettes the indices; more channels where they say nothing, or VOC's colours."""
    if isinstance(content, Image.Image):
        if content.mode in ("P", "PA", "L", "1", "RGB") and "transparency" in content.info or content.mode == "PA":
            _check_opaque(np.array(content.convert("RGBA"))[..., 3], name)
        if content.mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
            content = content.convert("RGB")
        array = np.array(content)
        if content.mode == "PA":
            return array[..., 0]
        if content.info.get(TRUNCATED):
            raise ImageError(
                f"{name} is a mask of 16 bits a colour, of which Pillow reads the upper 8; save it as 8-bit grey PNG"
            )
    else:
        array = content
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{name} holds {array.dtype}; a mask holds bool or numbers")
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[-1] > 4):
        raise ImageError(
            f"{name} is no mask; expected an array or tensor (H, W), or one with a channel axis of length 1 "
            "(last in an array, first in a tensor). Give one mask at a time"
        )
    if array.ndim == 2:
        return array
    channels: list[Any] = list(np.moveaxis(array, -1, 0))
    if len(channels) in (2, 4):
        _check_opaque(channels.pop(), name)
    if all((channel == channels[0]).all() for channel in channels):
        return channels[0]
    labels = _voc_labels(np.stack(channels, axis=-1))
    if labels is None:
        raise ImageError(
            f"{name} has colours; expected a mask in grey, with a palette, or in VOC's colours. Are photo and mask "
            "swapped? If it is a mask, pick the colour of the class in Python: (array == colour).all(-1)"
        )
    return labels


def _check_opaque(alpha: np.ndarray, name: str) -> None:
    if (alpha != (1 if alpha.dtype == bool else 255)).any():
        raise ImageError(
            f"{name} is a mask with transparency; if the opaque part is the foreground, pass the alpha "
            "channel alone: np.array(image)[..., -1] > 127"
        )


def voc_colours() -> np.ndarray:
    """PASCAL VOC's colour map, (256, 3) uint8: the bits of the label spread over the three channels."""
    labels = np.arange(256)
    bits = [sum((labels >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(bits, axis=1).astype(np.uint8)


def _voc_labels(colours: np.ndarray) -> np.ndarray | None:
    """(..., 3) -> labels of VOC's colour map, or None if there are others than its colours."""
    if colours.dtype != np.uint8:
        return None
    bits = [(colours[..., c].astype(int) >> (7 - bit) & 1) << (3 * bit + c) for bit in range(3) for c in range(3)]
    labels = np.sum(bits, axis=0)
    return labels if (voc_colours()[labels % 256] == colours).all() else None


def _palette_values(
    indices: np.ndarray, image: Image.Image, name: str, foreground: int | None, threshold: float | None
) -> tuple[np.ndarray, int | None]:
    """What the pixels of a palette image mean, their indices or their grey values, and which is foreground.

    Raises ImageError where index and colour differ and nothing decides."""
    rgb = np.array(image.convert("RGB"))
    used, first = np.unique(indices, return_index=True)
    colours = rgb.reshape(-1, 3)[first]
    grey = rgb[..., 0] if (colours == colours[:, :1]).all() else None
    if threshold is not None:
        if grey is None:
            raise ImageError(f"{name} has a palette of colours, which no threshold cuts; give foreground=, an index")
        return grey, None
    if grey is None and foreground is not None or (colours == voc_colours()[used]).all():
        return indices, foreground  # of colours that are no numbers, or VOC's
    if grey is None:
        if used.tolist() == [0, 1] and not colours[0].any():
            return indices, None  # black and one colour, in this order
    else:
        white, two_tone = grey == 255, set(np.unique(grey).tolist()) <= {0, 255}
        by_index, by_colour = indices == foreground, grey == foreground
        if (grey == indices).all() or (foreground is not None and (by_index == by_colour).all()):
            return indices, foreground
        if two_tone and (foreground is None or ((by_index | by_colour) == white).all()):
            return white, 1
    listed = ", ".join(f"{i} = {tuple(c)}" for i, c in list(zip(used.tolist(), colours.tolist(), strict=True))[:5])
    raise ImageError(
        f"{name} has a palette that can be read in two ways, by index or by colour ({listed}): by index "
        f"{_reading(indices, foreground)}, by colour {_reading(grey, foreground)}. Save it as a grey PNG, 0 and 255, "
        "or pass a bool array: np.array(image) == index"
    )


def _reading(values: np.ndarray | None, foreground: int | None) -> str:
    if values is None:
        return "nothing certain"
    value = foreground if foreground is not None else 1 if (values == 1).any() else 255
    return f"{int((values == value).sum())} of {values.size} pixels are foreground ({value})"
