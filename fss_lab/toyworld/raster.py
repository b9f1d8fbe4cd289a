"""An anti-aliased polygon filler in integer arithmetic.

The toy world must look the same on every machine, so nothing after the vertices are rounded to 1/64 pixel
depends on floating point: pixels are equal bit for bit on every platform and NumPy version.
"""

from __future__ import annotations

import numpy as np

SUBPIXEL = 64  # vertex units per pixel
SUBROWS = 4  # scan lines per pixel row
FULL = SUBPIXEL * SUBROWS  # coverage of a pixel that lies wholly inside


def to_subpixels(points: np.ndarray) -> np.ndarray:
    """Round vertices (V, 2) in pixels to whole 1/64 pixels, the unit of :func:`coverage`."""
    return np.floor(points * SUBPIXEL + 0.5).astype(np.int64)


def coverage(contours: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """How much of every pixel the polygon covers: (height, width) int32 in 0..256 (256 = wholly inside).

    contours: closed polygons, each (V, 2) int64 of x, y in 1/64 pixel. A contour that runs the other way round than the
    one about it is a hole. height, width: size of the canvas in pixels; whatever lies outside is cut off.
    """
    start = np.concatenate(contours)
    end = np.concatenate([points for contour in contours for points in (contour[1:], contour[:1])])
    scan = np.arange(height * SUBROWS) * (SUBPIXEL // SUBROWS) + SUBPIXEL // (2 * SUBROWS)
    below = start[:, 1:] > scan
    edge, row = np.nonzero(below != (end[:, 1:] > scan))
    x0, y0 = start[edge, 0], start[edge, 1]
    dx, dy = end[edge, 0] - x0, end[edge, 1] - y0
    x = np.clip(x0 + (scan[row] - y0) * dx // dy, 0, width * SUBPIXEL)
    sign = np.where(dy > 0, 1, -1)
    pixel, part = x // SUBPIXEL, x % SUBPIXEL
    # Each crossing switches the inside on from x to the right edge; a running sum along the row adds them up.
    cell = (row // SUBROWS) * (width + 2) + pixel
    steps = np.bincount(cell, sign * (SUBPIXEL - part), height * (width + 2))
    steps += np.bincount(cell + 1, sign * part, height * (width + 2))
    inside = steps.reshape(height, width + 2)[:, :width].astype(np.int32).cumsum(axis=1, dtype=np.int32)
    return np.minimum(np.abs(inside), FULL)
