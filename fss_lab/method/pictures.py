"""Masks as files and as pictures: PNGs that keep every pixel, tints with an outline, the photo beside its mask."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor, uint8

from fss_lab.errors import InputError
from fss_lab.files import write_atomically
from fss_lab.images.masks import voc_colours

if TYPE_CHECKING:
    from fss_lab.figures.style import Picture

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Of the classes 1, 2, ... in overlays, from the start again after the last; safe for colour-blind readers. The first
is the colour of a prediction (`figures.style.PREDICTION`). Files have VOC's palette, which other tools know."""
DRAWN = 800  # pixels: the longest side of a picture within a figure


def save_png(path: str | os.PathLike[str], pixels: np.ndarray, palette: bool = False) -> None:
    """Write (H, W) uint8 as a PNG, grey or as indices of VOC's palette, in one step.

    Raises InputError for another suffix than .png, FileError where the file cannot be written.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: a mask is saved as .png, which keeps every pixel; give the file this suffix")
    image, content = Image.fromarray(pixels), io.BytesIO()
    if palette:
        image.putpalette(voc_colours().tobytes())
    image.save(content, "PNG")
    write_atomically(path, content.getvalue())


def tinted(photo: Tensor, labels: np.ndarray) -> Image.Image:
    """The photo with a tint and a white-rimmed outline on every region.

    photo: (3, H, W) in 0..255. labels: (H, W) uint8, 0 where nothing is drawn, else the number of a class from 1 on.
    Returns RGB of the photo's size.
    """
    line = max(1, round(max(labels.shape) / 600))  # pixels on either side of a border
    image = Image.fromarray(photo.detach().cpu().clamp(0, 255).to(uint8).permute(1, 2, 0).contiguous().numpy())
    rows, columns = np.flatnonzero(labels.any(1)), np.flatnonzero(labels.any(0))
    if not rows.size:
        return image
    top, left = max(0, rows[0] - 2 * line), max(0, columns[0] - 2 * line)
    labels = labels[top : rows[-1] + 2 * line + 1, left : columns[-1] + 2 * line + 1]  # nothing is drawn elsewhere
    counts = Image.fromarray(np.ascontiguousarray(labels)).histogram()
    classes = {number: COLOURS[(number - 1) % len(COLOURS)] for number in range(1, 256) if counts[number]}

    def paint(colour: str, where: np.ndarray, strength: int = 255) -> None:
        image.paste(colour, (int(left), int(top)), Image.fromarray(where * np.uint8(strength)))

    for number, colour in classes.items():
        paint(colour, labels == number, 102)  # two fifths
    largest, smallest = _spread(labels, 2 * line), 255 - _spread(255 - labels, 2 * line)
    paint("white", largest != smallest)
    largest, smallest = _spread(labels, line), 255 - _spread(255 - labels, line)
    for number, colour in classes.items():
        paint(colour, (largest != smallest) & (largest == number))
    return image


def _spread(labels: np.ndarray, radius: int) -> np.ndarray:
    """The largest label within a square of `radius` pixels around each."""
    for axis in (0, 1):
        reach = 0
        while reach < radius:
            step = min(2 * reach + 1, radius - reach)
            spread = labels.copy()
            target, source = spread.swapaxes(0, axis), labels.swapaxes(0, axis)
            np.maximum(target[step:], source[:-step], out=target[step:])
            np.maximum(target[:-step], source[step:], out=target[:-step])
            labels, reach = spread, reach + step
    return labels


def side_by_side(photo: Tensor, overlay: Image.Image, title: str, alt: str, names: Sequence[str] = ()) -> Picture:
    """A figure of the photo and its overlay. names: of classes, for a legend in the overlay's colours."""
    # imported here, because matplotlib is slow to load and nothing else of the method draws
    from fss_lab.figures.panels import bare, name_panel
    from fss_lab.figures.style import PREDICTION, Picture, legend, patch

    plain = tinted(photo, np.zeros(photo.shape[-2:], np.uint8))
    side = 4.0 / max(1.0, photo.shape[-2] / photo.shape[-1])  # inches across
    picture = Picture(2 * side + 0.3, side * photo.shape[-2] / photo.shape[-1] + (1.15 if names else 0.85), title, alt)
    panels = (("query", plain, "#333333"), ("prediction", overlay, PREDICTION))
    for axes, (name, image, colour) in zip(picture.subplots(1, 2), panels, strict=True):
        image.thumbnail((DRAWN, DRAWN))
        bare(axes)
        axes.imshow(np.asarray(image))
        name_panel(axes, name, colour if not names else "#333333")
    if names:
        legend(picture, *(patch(COLOURS[i % len(COLOURS)], name) for i, name in enumerate(names)))
    return picture
