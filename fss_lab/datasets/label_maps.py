"""Making one label map, in a process of its own: imports neither torch nor anything that does, so that it starts fast.

Labels are uint8 (H, W): 0 for background, class id + 1, 255 for ignored pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fss_lab.errors import InputError

Regions = tuple[tuple[int, int], list[tuple[int, Any]]]
"""(height, width) of an image, and label and outline of its instances in the order of painting; an outline is COCO's:
polygons, or run lengths."""


def voc_map(source: Path) -> np.ndarray | bytes:
    """VOC's map (.png) as it is, or the labels of SBD's class map (.mat).

    Raises what scipy, Pillow and NumPy raise for a bad file.
    """
    if source.suffix == ".png":
        with Image.open(source) as image:
            image.load()
        return source.read_bytes()
    from scipy.io import loadmat

    labels = np.asarray(loadmat(source, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation)
    if labels.ndim != 2 or labels.size == 0 or labels.min() < 0 or labels.max() > 255:
        raise InputError(f"GTcls.Segmentation is {labels.dtype} {labels.shape}; expected labels of 0..20 and 255")
    return labels.astype(np.uint8)


def coco_map(regions: Regions) -> np.ndarray:
    """Paint one image. Raises InputError and others for an outline that cannot be painted."""
    from pycocotools import mask as masks

    (height, width), instances = regions
    labels = np.zeros((height, width), np.uint8)
    for label, outline in instances:
        if isinstance(outline, list):
            if not outline or any(len(polygon) < 6 or len(polygon) % 2 for polygon in outline):
                raise InputError("an instance has a polygon of fewer than three points")
            code = masks.merge(masks.frPyObjects(outline, height, width))
        else:
            code = masks.frPyObjects(outline, height, width) if isinstance(outline["counts"], list) else outline
        if list(code["size"]) != [height, width]:
            raise InputError(f"an instance is for {code['size']} pixels, the image has {[height, width]}")
        labels[masks.decode([code])[..., 0].astype(bool)] = label
    return labels


def write_map(
    draw: Callable[[Any], np.ndarray | bytes], palette: Sequence[int], task: tuple[Path, Any]
) -> tuple[Path, str] | None:
    """Write the map `task[0]` from its source `task[1]` in one step; or say which file is bad, and why.

    Raises OSError where the map cannot be written; nothing of it is left then.
    """
    path, source = task
    try:
        drawn = draw(source)
    except Exception as error:  # whatever scipy, Pillow and pycocotools raise on damaged input
        where = source if isinstance(source, Path) else path
        return where, f"could not be made into a label map ({type(error).__name__}: {error})"
    aside = path.with_name(f".{path.name}.tmp")
    try:
        if isinstance(drawn, bytes):
            aside.write_bytes(drawn)
        else:
            image = Image.fromarray(drawn)
            image.putpalette(list(palette))  # makes it a palette image with the labels as indices
            image.save(aside, format="PNG")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)  # gone already after the rename
    return None
