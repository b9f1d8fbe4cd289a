"""Images as uint8 RGB; the rules are in the text of `fss_lab.images`."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fss_lab.errors import ImageError, InputError
from fss_lab.images.sources import TRUNCATED, Source, open_source

LARGE = 3  # a photo whose longer side exceeds the model's size so many times is reduced first


def load_image(source: Source, *, range: tuple[float, float] | None = None) -> Tensor:
    """Read an image as a uint8 RGB tensor (3, H, W), values 0..255; see the text of `fss_lab.images` for the rules.

    range: the numbers of the source that are black and white, e.g. (0, 4095) for 12-bit data, (0, 1) for such floats;
    what lies beyond becomes black or white.

    Raises FileNotFoundError or IsADirectoryError for such paths, ImageError for files that are no readable
    image and for arrays of the wrong shape or range, TypeError for any other kind of source, InputError for a range
    that is none. The result shares no memory with the source.
    """
    if range is not None and not (len(range) == 2 and all(map(math.isfinite, range)) and range[0] < range[1]):
        raise InputError(f"range must be two finite numbers (black, white), black the smaller one, got {range!r}")
    name, content = open_source(source)
    array = _from_pil(content, name, range) if isinstance(content, Image.Image) else _from_array(content, name, range)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def reduced(image: Tensor, size: int) -> Tensor:
    """A photo that is very large for a model, averaged down to at most twice the model's size; others unchanged.

    image: (3, H, W) uint8. size: side of the model's square input, in pixels. A photo whose longer side exceeds
    `LARGE` times `size` becomes (3, min(H, 2 size), min(W, 2 size)). The method's own resize reads single pixels,
    which is right for photos of some 500 pixels and keeps the noise of larger ones. No benchmark's are so large.
    """
    if max(image.shape[-2:]) <= LARGE * size:
        return image
    height, width = (min(side, 2 * size) for side in image.shape[-2:])
    return F.interpolate(image[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]


def _from_pil(image: Image.Image, name: str, bounds: tuple[float, float] | None) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if image.mode.startswith(("I", "F")):  # 16-bit, 32-bit and float grey, which convert() would clip
        array = np.array(image)
        pixels = _from_array(array, name, bounds)
        key = image.info.get("transparency")
        return np.where((array == key)[..., None], np.uint8(255), pixels) if isinstance(key, int) else pixels
    clear = {"A", "a"} & set(image.getbands()) or "transparency" in image.info
    try:
        pixels = np.array(image.convert("RGBA" if clear else "RGB"))
    except ValueError as error:
        raise ImageError(f"{name} has the colours {image.mode}, which cannot be converted; save it as RGB") from error
    if image.info.get(TRUNCATED) and (bounds is not None or pixels[..., :3].max() < 128):
        raise ImageError(
            f"{name} is a colour image of 16 bits, of which Pillow reads the upper 8 (the largest is "
            f"{pixels[..., :3].max()}); read it with another program and give the array, with range=(black, white)"
        )
    if bounds is not None:
        pixels[..., :3] = _scaled(pixels[..., :3], bounds)
    return _on_white(pixels) if clear else pixels


def _from_array(array: np.ndarray, name: str, bounds: tuple[float, float] | None) -> np.ndarray:
    """uint8 (H, W, 3)."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or array.size == 0:
        raise ImageError(
            f"{name} is no image; expected an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (H, W), "
            "(3, H, W) or (4, H, W). Give one image at a time; channels come last in arrays, first in tensors"
        )
    pixels = _eight_bit(array, name, bounds)
    return _on_white(pixels) if pixels.shape[-1] == 4 else np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _eight_bit(array: np.ndarray, name: str, bounds: tuple[float, float] | None) -> np.ndarray:
    """bounds: the numbers that are black and white, also of a fourth channel."""
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{name} holds {array.dtype}; expected uint8, uint16, bool, or numbers in 0..255")
    if bounds is not None:
        if not np.isfinite(array).all():
            raise ImageError(f"{name} holds NaN or infinite numbers; replace them first")
        return _scaled(array, bounds)
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    low, high = array.min(), array.max()
    remedy = "say which of its numbers are black and white, e.g. load_image(..., range=(0, {}))"
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        if 0 < high < 2**15:  # 12-bit cameras, reflectances, copies of 8-bit data: black, if read as 0..65535
            full = next((top for top in (255, 1023, 4095, 10_000, 16_383) if high <= top), high)
            raise ImageError(f"{name} holds 16-bit numbers up to {high}, not half of 65535; {remedy.format(full)}")
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if not (low >= 0 and high <= 255):  # written so that NaN fails too
        remedy = remedy.format(f"{high:g}")
        raise ImageError(f"{name} must lie in 0..255, got values from {low:g} to {high:g}; rescale it, or {remedy}")
    # 0..1, perhaps a little or, as in HDR, far above it; whole numbers above 1 are not of this kind
    fractions = array.dtype.kind == "f" and bool((array != np.rint(array)).any())
    if array.dtype.kind == "f" and (0 < high <= 1 or fractions and (high <= 16 or np.quantile(array, 0.99) <= 1)):
        raise ImageError(
            f"{name} must lie in 0..255, but its largest value is {high:g}, as of an image in 0..1: multiply by 255 if "
            f"it is one, or {remedy.format(1)}"
        )
    return np.rint(array).astype(np.uint8)


def _scaled(array: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    black, white = bounds
    return np.rint((array.astype(np.float64) - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 (H, W, 4) on white: uint8 (H, W, 3)."""
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
