"""What happens to a photograph and its mask on the way to the network: at random in training, always alike in testing.

Images are uint8 RGB (3, H, W), masks uint8 (H, W) of 0, 1 and 255 (ignore); both always go together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from fss_lab.episode import IGNORE

PADDING = (124, 116, 104)  # ImageNet's mean colour, nearly 0 after the normalisation
_GAUSS = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))  # deviation 1.1 pixels: OpenCV's choice for 5 pixels
_BLUR = ImageFilter.Kernel((5, 5), np.outer(_GAUSS, _GAUSS).ravel().tolist())


@dataclass(frozen=True)
class Augmentation:
    """The training augmentation of the paper (Sec. Implementation Details): scale, rotate, blur, mirror, crop.

    size: side of the square that comes out, in pixels. scale: smallest and largest factor, of each
    data set in its record. degrees: largest rotation
    either way. chance: of rotation, of blur and of mirroring, each on its own. kept: share of the foreground (after
    scaling and rotation) that the crop keeps. What lies outside of the image is `PADDING`, and 255 in the mask.
    shrink: photos whose longer side exceeds `size` are first averaged down to it; the benchmarks' are smaller.
    """

    size: int = 512
    scale: tuple[float, float] = (0.9, 1.1)
    degrees: float = 10.0
    chance: float = 0.5
    kept: float = 0.85
    shrink: bool = False

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A new view of an image (3, H, W) uint8 with its mask (H, W): both size x size. rng: of this view alone.

        Images are sampled bilinearly, masks by the nearest pixel; the blur leaves a border of two pixels as it is.
        """
        photo = Image.fromarray(image.permute(1, 2, 0).numpy())
        label = Image.fromarray(mask.numpy())
        factor = rng.uniform(*self.scale) * (min(1, self.size / max(photo.size)) if self.shrink else 1)
        size = max(1, round(photo.width * factor)), max(1, round(photo.height * factor))
        photo, label = photo.resize(size, Image.Resampling.BILINEAR), label.resize(size, Image.Resampling.NEAREST)
        if rng.random() < self.chance:
            angle = rng.uniform(-self.degrees, self.degrees)
            photo = photo.rotate(angle, Image.Resampling.BILINEAR, fillcolor=PADDING)
            label = label.rotate(angle, Image.Resampling.NEAREST, fillcolor=IGNORE)
        if rng.random() < self.chance:
            photo = photo.filter(_BLUR)
        pixels, labels = np.array(photo), np.array(label)
        if rng.random() < self.chance:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        pixels, labels = self._crop(*pad(pixels, labels, self.size), rng)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), torch.from_numpy(labels.copy())

    def _crop(self, pixels: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A window at random among all that keep enough foreground; where none does, one of those that keep most."""
        inside = foreground_in_windows(labels == 1, self.size)
        enough = min(self.kept * (labels == 1).sum(), inside.max())
        tops, lefts = np.nonzero(inside >= enough)
        choice = int(rng.integers(len(tops)))
        window = slice(tops[choice], tops[choice] + self.size), slice(lefts[choice], lefts[choice] + self.size)
        return pixels[window], labels[window]


def pad(pixels: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad an image (H, W, 3) and its labels (H, W) on all sides alike, so that both sides have at least `size`."""
    height, width = labels.shape
    top, left = max(0, size - height) // 2, max(0, size - width) // 2
    padded = np.full((max(height, size), max(width, size), 3), PADDING, np.uint8)
    around = np.full(padded.shape[:2], IGNORE, np.uint8)
    window = slice(top, top + height), slice(left, left + width)
    padded[window], around[window] = pixels, labels
    return padded, around


def foreground_in_windows(foreground: np.ndarray, size: int) -> np.ndarray:
    """Pixels of a mask (H, W) bool in every size x size window: (H - size + 1, W - size + 1), by its upper left corner.

    By the summed-area table: each window is four of its entries.
    """
    table = np.zeros((foreground.shape[0] + 1, foreground.shape[1] + 1), np.int64)
    table[1:, 1:] = foreground.cumsum(0).cumsum(1)
    return table[size:, size:] - table[:-size, size:] - table[size:, :-size] + table[:-size, :-size]


def stretch(image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The evaluation transform (Sec. Implementation Details) to size x size pixels; the aspect ratio is not kept.

    image: (3, H, W), stretched bilinearly to float. mask: (H, W), by the nearest pixel, to uint8.
    """
    image = F.interpolate(image[None].float(), (size, size), mode="bilinear", align_corners=True)[0]
    mask = F.interpolate(mask[None, None].float(), (size, size), mode="nearest")[0, 0].to(torch.uint8)
    return image.clamp(0, 255), mask  # rounding turns a white area into 255.00003
