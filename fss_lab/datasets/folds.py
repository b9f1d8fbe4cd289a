"""Facts of the benchmarks that everything else agrees on: folds, splits, published counts, VOC's colours.

Imports nothing, because the command line makes options from it.
"""

from __future__ import annotations

FOLDS = 4
SPLITS = ("base", "novel")
PAPER_EPOCHS = {"pascal": 300, "coco": 75}
TRAINING_IMAGES = {"pascal": (4208, 3726, 2752, 4510), "coco": (21917, 41809, 43045, 44614)}  # of folds 0 to 3


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
