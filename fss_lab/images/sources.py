"""Opening a source: upright PIL images and channel-last arrays, and what to say of files that are neither."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor, bfloat16

from fss_lab.errors import ImageError
from fss_lab.files import impostor

Source = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor

# what Pillow's decoders raise on files that are cut short, damaged or no images
DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: values for which width and height change places
ANNOTATIONS = (".json", ".xml", ".txt")  # suffixes of files that `fss_lab.images.annotations` reads
TRUNCATED = "fss_lab truncated"  # marks images whose 16 bits Pillow has cut to 8, in `Image.info`


def as_list(sources: Source | Sequence[Source], dims: int) -> list[Source]:
    """One source or several -> several; arrays and tensors of more than `dims` axes are several.

    dims: 3 for images, 2 for masks. An array (H, W, C) with C = 1, 3 or 4 is one mask, with a channel axis.
    Raises TypeError for anything else.
    """
    if isinstance(sources, str | os.PathLike | Image.Image):
        return [sources]
    if isinstance(sources, np.ndarray) and dims == 2 and sources.ndim == 3 and sources.shape[-1] in (1, 3, 4):
        return [sources]
    if isinstance(sources, np.ndarray | Tensor) and sources.ndim <= dims:
        return [sources]
    if not isinstance(sources, np.ndarray | Tensor | list | tuple):
        raise TypeError(f"expected an image or mask, or a list of them, got {type(sources).__name__}")
    return list(sources)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an open image once its EXIF orientation is applied; reads the header only."""
    return image.size if image.getexif().get(ORIENTATION) in SIDEWAYS else image.size[::-1]


def orientation_doubt(photo: Source, mask: Source) -> str:
    """A warning where a mask of the right size may still lie wrongly on its photo, else "".

    That is so for a photo that EXIF turns without changing its size, and a mask that says nothing of a turn: it may
    have been drawn on the photo as it is stored or as it is shown. Arrays and tensors give no doubt.
    """
    turn, (height, width) = _orientation(photo)
    matters = turn != 1 and (turn not in SIDEWAYS or height == width)
    if not matters or isinstance(mask, np.ndarray | Tensor) or _orientation(mask)[0] != 1:
        return ""
    names = [it if isinstance(it, str | os.PathLike) else kind for it, kind in ((photo, "a photo"), (mask, "its mask"))]
    return (
        f"{names[0]} is stored turned (EXIF orientation {turn}) and read upright, but {names[1]} has no orientation: "
        "if it was drawn on the stored pixels, it lies wrongly. Look at both; to remove the doubt, save the photo "
        "upright and without EXIF orientation from an image editor"
    )


def _orientation(source: Source) -> tuple[int, tuple[int, int]]:
    """EXIF orientation, 1 without one, and upright size; of an image, or of a file that may be one."""
    with suppress(*DECODING_ERRORS):
        if isinstance(source, Image.Image):
            return source.getexif().get(ORIENTATION, 1), upright_size(source)
        if isinstance(source, str | os.PathLike):
            with Image.open(source) as image:
                return _orientation(image)
    return 1, (0, 0)


def open_source(source: Source) -> tuple[str, Image.Image | np.ndarray]:
    """A name for messages, and the upright decoded PIL image or the channel-last array of a source.

    Raises FileNotFoundError, IsADirectoryError, ImageError or TypeError.
    """
    if isinstance(source, Tensor):
        name = f"a tensor of shape {tuple(source.shape)}"
        tensor = source.detach().cpu()
        if tensor.dtype == bfloat16:  # unknown to numpy
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
    path = existing(source)
    if path.suffix.lower() in ANNOTATIONS:
        raise ImageError(
            f"{path} is no image; if it is the file of an annotation tool, load_mask reads it, and the photo is the "
            "image. Give both: remember(photo, annotations)"
        )
    if path.suffix.lower() == ".npy":
        try:
            return str(path), np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ImageError(f"{path} cannot be read as an array ({error}); save it with numpy.save") from error
    try:
        image = Image.open(path)
    except DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    with image:
        return str(path), _decode(image, path)


def existing(source: str | os.PathLike[str]) -> Path:
    """The path of a file with something in it. Raises IsADirectoryError, FileNotFoundError or ImageError."""
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, expected an image file; name one file in it")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist (looked from {Path.cwd()}); check the spelling of the path")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes); download or copy it again")
    return path


def _decode(image: Image.Image, name: str | Path) -> Image.Image:
    """Decode the pixels and turn the image upright."""
    truncated = not image.mode.startswith("I") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    try:
        image.load()
        deep = image.mode == "I" and image.format in ("PNG", "PPM")
        upright = ImageOps.exif_transpose(image)
    except DECODING_ERRORS as error:
        raise _unreadable(name, error) from error
    if deep:  # older Pillow opens 16-bit PNG as 32-bit integers
        return Image.fromarray(np.array(upright).astype(np.uint16))
    if truncated:
        upright.info[TRUNCATED] = True
    return upright


def _unreadable(name: str | Path, error: BaseException) -> ImageError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(
            f"{name} is larger than Pillow opens ({error}); reduce it in an image editor, or, if you trust the file, "
            "raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    if isinstance(name, Path) and (pretence := impostor(name)):
        return ImageError(f"{name} cannot be read as an image: {pretence}. Download or copy the image itself")
    if isinstance(name, Path) and name.suffix.lower() in (".heic", ".heif", ".avif"):
        return ImageError(
            f"{name} cannot be read as an image: Pillow lacks the decoder of this format, or the file is damaged. Save "
            "it as JPEG, or install pillow-heif and call pillow_heif.register_heif_opener()"
        )
    return ImageError(
        f"{name} cannot be read as an image ({error}); it may be cut short, damaged or not an image: "
        "copy or download it again, or open it in an image viewer and save it as PNG"
    )
