"""Images and masks from files, PIL images, arrays, tensors and the files of annotation tools.

Knows nothing of models and data sets. Nothing here resamples but `reduced`.

Images become uint8 RGB. The rules:

- EXIF orientation is applied, so the result stands as a viewer shows it (masks too).
- Grey is repeated over the channels; palette, CMYK and the like are converted; an animation gives its first
  frame.
- Transparency is composited on white, as most viewers do: the colour below a transparent pixel is arbitrary.
- 16-bit data is scaled to 8 bit (65535 becomes 255). If it fills less than half of its range, say which numbers are
  black and white: `range=(0, 4095)`.
- Arrays are (H, W) or (H, W, C), tensors (H, W) or (C, H, W), with C = 1, 3 or 4, values 0..255. The channels are
  red, green, blue (and opacity): turn OpenCV's BGR around, `array[..., ::-1]`.
- Floats that may be meant as 0..1 are refused: nobody can tell them from an almost black 0..255.

Masks become uint8 with 0 background, 1 foreground, 255 ignore. What the values of a source mean is decided by
the set of values it holds:

- bool, or {0, 1}: 1 is foreground.
- {0, 255} or {0, 65535}: the white of a binary image, as in COCO style masks, is *foreground*.
- {0, 1, 255} with both 1 and 255 present: 255 is *ignore*, as in VOC style label maps. Where 1 is a speck beside
  255 this is refused.
- Palette images: black and white by their colours, VOC's colours (RGB too) by their index; others count by
  their index if that and the colours agree. RGB masks must have three equal channels otherwise.
- Anything else is an error, unless `foreground` says which value is meant, or `threshold` where a grey mask is cut.
- `.json`, `.xml` and `.txt` are files of annotation tools, see `fss_lab.images.annotations`.
"""

from fss_lab.images.masks import load_mask
from fss_lab.images.photographs import load_image, reduced
from fss_lab.images.sources import DECODING_ERRORS, Source, as_list, orientation_doubt, upright_size

__all__ = [
    "DECODING_ERRORS", "Source", "as_list", "load_image", "load_mask", "orientation_doubt", "reduced", "upright_size",
]  # fmt: skip
