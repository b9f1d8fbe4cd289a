"""Facts of the benchmarks that everything else agrees on: folds, splits, VOC's colours.

Imports nothing, because the command line makes options from it.
"""

from __future__ import annotations

FOLDS = 4
SPLITS = ("base", "novel")


def voc_palette() -> list[int]:
    """PASCAL VOC's colour map, 256 x RGB: the bits of the label spread over the three channels."""
    palette = []
    for label in range(256):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (label >> (3 * bit + channel) & 1) << (7 - bit)
        palette += colour
    return palette
