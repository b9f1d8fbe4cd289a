"""Reading images and masks from files, PIL images, arrays and tensors. Nothing here resamples.

Images become uint8 RGB. The rules:

- EXIF orientation is applied, so the result stands as a viewer shows it (masks too).
- Grey is repeated over the channels; palette, CMYK and the like are converted; an animation gives its first
  frame.
- Transparency is composited on white, as most viewers do: the colour below a transparent pixel is arbitrary.
- 16-bit data is scaled to 8 bit (65535 becomes 255).
- Arrays are (H, W) or (H, W, C), tensors (H, W) or (C, H, W), with C = 1, 3 or 4 (RGBA), values 0..255.
  Floats that end at 1 or below are refused: 0..1 and an almost black 0..255 cannot be told apart.

Masks become uint8 with 0 background, 1 foreground, 255 ignore. What the values of a source mean is decided by
the set of values it holds:

- bool, or {0, 1}: 1 is foreground.
- {0, 255} or {0, 65535}: the white of a binary image, as in COCO style masks, is *foreground*.
- {0, 1, 255} with both 1 and 255 present: 255 is *ignore*, as in VOC style label maps.
- Palette images count by their index, RGB masks must have three equal channels.
- Anything else is an error, unless `foreground` says which value is meant.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fss_lab.errors import ImageError

Source = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

# what Pillow's decoders raise on files that are cut short, damaged or no images
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: values for which width and height change places


def as_list(sources: Source | Sequence[Source], dims: int) -> list[Source]:
    """One source or several -> several; arrays and tensors of more than `dims` axes are several.

    Raises TypeError for anything else.
    """
    if isinstance(sources, str | os.PathLike | Image.Image):
        return [sources]
    if isinstance(sources, np.ndarray | Tensor) and sources.ndim <= dims:
        return [sources]
    if not isinstance(sources, np.ndarray | Tensor | list | tuple):
        raise TypeError(f"expected an image or mask, or a list of them, got {type(sources).__name__}")
    return list(sources)


def load_image(source: Source) -> Tensor:
    """Read an image as a uint8 RGB tensor (3, H, W), values 0..255; see the module's text for the rules.

    Raises FileNotFoundError or IsADirectoryError for such paths, ImageError for files that are no readable
    image and for arrays of the wrong shape or range, TypeError for any other kind of source. The result
    shares no memory with the source.
    """
    name, content = _open(source)
    array = _rgb_from_pil(content, name) if isinstance(content, Image.Image) else _rgb_from_array(content, name)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an open image once its EXIF orientation is applied; reads the header only."""
    return image.size if image.getexif().get(ORIENTATION) in SIDEWAYS else image.size[::-1]


def load_mask(source: Source, *, foreground: int | None = None) -> Tensor:
    """Read a mask as a uint8 tensor (H, W) of 0 (background), 1 (foreground), 255 (ignore).

    foreground: the value that means foreground, e.g. a class index of a label map. Then 255 is ignore (unless
    `foreground` is 255) and every other value background. Without it the module's rules apply. It settles the
    one ambiguous case: {0, 255} reads as white foreground without it, as background and ignore with 1.

    Raises as `load_image`, and ImageError for values that do not say which of them is foreground.
    """
    name, content = _open(source)
    if isinstance(content, Image.Image):
        content = np.array(content)  # palette images give their indices
    values = _one_channel(content, name)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    present = np.unique(values)  # sorted
    if np.isnan(present.astype(np.float64)).any():
        raise ImageError(f"{name} is a mask with NaN in it; give 0 for background and 1 for foreground")
    if foreground is not None:
        mask = np.where(values == 255, 255, 0).astype(np.uint8)
        mask[values == foreground] = 1
    elif set(present.tolist()) <= {0, 1, 255} and 1 in present:
        mask = values.astype(np.uint8)
    elif set(present.tolist()) <= {0, 255} or set(present.tolist()) <= {0, 65535}:
        mask = (values > 0).astype(np.uint8)
    else:
        listed = ", ".join(f"{value:g}" for value in present[:10]) + (", ..." if len(present) > 10 else "")
        raise ImageError(
            f"{name} is a mask with the values {listed} ({len(present)} in all); expected 0 and 1, "
            "0 and 255 (foreground), or 0, 1 and 255 (ignore). If it is a label map, say which value is the "
            "class: load_mask(..., foreground=3). If it is a soft mask or was saved as JPEG, threshold it "
            "(mask > 127) and save it as PNG."
        )
    return torch.from_numpy(np.ascontiguousarray(mask))


def _open(source: Source) -> tuple[str, Image.Image | np.ndarray]:
    """A name for messages, and the upright decoded PIL image or the channel-last array of a source."""
    if isinstance(source, Tensor):
        name = f"a tensor of shape {tuple(source.shape)}"
        tensor = source.detach().cpu()
        if tensor.dtype == torch.bfloat16:  # unknown to numpy
            tensor = tensor.float()
        return name, (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    if isinstance(source, np.ndarray):
        return f"an array of shape {source.shape}", source
    if isinstance(source, Image.Image):
        name = f"a PIL image ({source.mode}, {source.width}x{source.height})"
        return name, _decode(source, name)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"expected a path, a PIL image, a numpy array or a tensor, got {type(source).__name__}; "
            "several images are read one by one"
        )
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, expected an image file; name one file in it")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist (looked from {Path.cwd()}); check the spelling of the path")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes); download or copy it again")
    try:
        image = Image.open(path)
    except DECODING_ERRORS as error:
        raise _unreadable(str(path), error) from error
    with image:
        return str(path), _decode(image, str(path))


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Decode the pixels and turn the image upright."""
    try:
        image.load()
        deep = image.mode == "I" and image.format == "PNG"
        upright = ImageOps.exif_transpose(image)
    except DECODING_ERRORS as error:
        raise _unreadable(name, error) from error
    # older Pillow opens 16-bit PNG as 32-bit integers
    return Image.fromarray(np.array(upright).astype(np.uint16)) if deep else upright


def _unreadable(name: str, error: BaseException) -> ImageError:
    return ImageError(
        f"{name} cannot be read as an image ({error}); it may be cut short, damaged or not an image: "
        "copy or download it again, or open it in an image viewer and save it as PNG"
    )


def _rgb_from_pil(image: Image.Image, name: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if image.mode.startswith(("I", "F")):  # 16-bit, 32-bit and float grey, which convert() would clip
        return _rgb_from_array(np.array(image), name)
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_white(np.array(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _rgb_from_array(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.size == 0:
        raise ImageError(
            f"{name} is no image; expected an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (H, W), "
            "(3, H, W) or (4, H, W). Give one image at a time; channels come last in arrays, first in tensors"
        )
    pixels = _eight_bit(array, name)
    if pixels.shape[-1] == 4:
        return _on_white(pixels)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _eight_bit(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise ImageError(f"{name} holds {array.dtype}; expected uint8, uint16, bool, or numbers in 0..255")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255):  # written so that NaN fails too
        raise ImageError(f"{name} must lie in 0..255, got values from {low:g} to {high:g}; rescale it")
    if array.dtype.kind == "f" and 0 < high <= 1:
        raise ImageError(f"{name} must lie in 0..255, but its largest value is {high:g}: multiply by 255 if it is 0..1")
    return np.rint(array).astype(np.uint8)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 (H, W, 4) on white: uint8 (H, W, 3)."""
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _one_channel(array: np.ndarray, name: str) -> np.ndarray:
    """(H, W) of a mask; RGB, grey + alpha and RGBA only where the extra channels say nothing."""
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
    if len(channels) in (2, 4) and (channels.pop() != 255).any():
        raise ImageError(
            f"{name} is a mask with transparency; if the opaque part is the foreground, pass the alpha "
            "channel alone: np.array(image)[..., -1] > 127"
        )
    if any((channel != channels[0]).any() for channel in channels):
        raise ImageError(
            f"{name} is a mask with colours; expected grey or palette. Pick the colour of the class and "
            "pass a bool array: (array == colour).all(-1)"
        )
    return channels[0]
