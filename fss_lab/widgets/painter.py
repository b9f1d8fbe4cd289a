"""Draw a support mask in the notebook: brush and polygon on your own photo, with the mouse, a finger or the keyboard.

    painter = MaskPainter("dog.jpg")
    painter                                            # shows it; draw
    model.segment("other.jpg", painter.support)        # a photo and its mask
    painter.save("dog_mask.png")
    MaskPainter("dog.jpg", model=model)                # also has a wand: SAM 2 answers a click with a mask
    MaskPainter("other.jpg", mask=prediction.mask)     # corrects a prediction

Without a browser, draw in code (`MaskPainter("dog.jpg", strokes=[polygon([(60, 40), (210, 35), (140, 190)])])`) or make
the mask in any image editor: white on black, as large as the photo, saved as PNG.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image, ImageDraw
from torch import Tensor

from fss_lab.backbones.cache import FeatureCache
from fss_lab.errors import InputError
from fss_lab.images import Source, load_image, load_mask
from fss_lab.method import FSSAM
from fss_lab.method.pictures import save_png

LONGEST = 1600  # pixels: longest side of the picture that the browser gets; the mask has the photo's own size
HERE = Path(__file__).parent
Point = tuple[float, float]


def polygon(points: Iterable[Point], *, erase: bool = False) -> dict[str, Any]:
    """A stroke that fills a polygon. points: at least three (x, y) in pixels of the photo, (0, 0) its top left corner.

    erase: take the pixels out of the mask.
    """
    return {"tool": "polygon", "erase": erase, "points": [list(point) for point in points]}


def brush(points: Iterable[Point], size: float, *, erase: bool = False) -> dict[str, Any]:
    """A stroke of a round brush of `size` pixels of the photo along a line through `points`; one point makes a dot."""
    return {"tool": "brush", "erase": erase, "size": size, "points": [list(point) for point in points]}


def wand(points: Iterable[Point], *, erase: bool = False) -> dict[str, Any]:
    """A stroke that marks the object on which all `points` lie, as the painter's model sees it."""
    return {"tool": "wand", "erase": erase, "points": [list(point) for point in points]}


CLEAR = {"tool": "clear"}
"""The stroke that empties the mask; it can be undone like every other."""


def draw_mask(
    shape: tuple[int, int],
    strokes: Sequence[dict[str, Any]],
    base: np.ndarray | None = None,
    answer: Callable[[dict[str, Any]], np.ndarray] | None = None,
) -> np.ndarray:
    """Draw strokes, one after the other, on a mask. shape: (H, W). Returns (H, W) uint8 of 0 and 1.

    base: (H, W) uint8 of 0 and 1 to begin with, None: empty. answer: what a `wand` stroke marks, bool (H, W).
    Raises InputError for something that is no stroke, and for a wand without an answer.
    """
    height, width = shape
    canvas = Image.new("L", (width, height)) if base is None else Image.fromarray(base)
    draw = ImageDraw.Draw(canvas)
    for stroke in strokes:
        _check(stroke)
        if stroke["tool"] == "clear":
            canvas.paste(0, (0, 0, width, height))
            continue
        if stroke["tool"] == "wand":
            if answer is None:
                raise InputError("a wand needs a model that answers clicks: MaskPainter(photo, model=model)")
            canvas.paste(0 if stroke["erase"] else 1, (0, 0), Image.fromarray(answer(stroke)))
            continue
        # Pillow counts from the middle of the first pixel, a canvas in the browser from its corner
        points = [(x - 0.5, y - 0.5) for x, y in stroke["points"]]
        fill = 0 if stroke["erase"] else 1
        if stroke["tool"] == "polygon":
            draw.polygon(points, fill=fill)
        else:
            radius = max(stroke["size"], 1) / 2
            draw.line(points, fill=fill, width=max(round(stroke["size"]), 1))
            for x, y in points:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return np.array(canvas)


class MaskPainter(anywidget.AnyWidget):
    """A photo to draw on.

    mask: (H, W) uint8 of 0 and 1 at the photo's own size; a new array after every stroke
        (`painter.observe(function, "mask")`).
    strokes: what was drawn, in order, as `polygon`, `brush`, `wand` and `CLEAR` make it; may be set.
    tool: "brush", "polygon" or, with a model, "wand". eraser: strokes take away. brush_size: diameter in pixels of the
        photo.
    """

    _esm = "".join((HERE / name).read_text(encoding="utf-8") for name in ("painter_canvas.js", "painter.js"))
    _css = HERE / "painter.css"

    mask = traitlets.Instance(np.ndarray, read_only=True)
    strokes = traitlets.List(trait=traitlets.Dict()).tag(sync=True)
    tool = traitlets.Enum(["brush", "polygon", "wand"], "brush").tag(sync=True)
    eraser = traitlets.Bool(False).tag(sync=True)
    brush_size = traitlets.Float(20.0, min=1.0).tag(sync=True)
    _picture = traitlets.Bytes().tag(sync=True)  # JPEG
    _size = traitlets.List(trait=traitlets.Int()).tag(sync=True)  # of the photo: height, width
    _marked = traitlets.Float(0.0).tag(sync=True)  # part of the photo, 0..1
    _areas = traitlets.Dict().tag(sync=True)  # PNGs of what the browser cannot draw: "base", and wands by their points
    _has_wand = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        photo: Source,
        *,
        mask: Source | None = None,
        foreground: int | str | None = None,
        model: FSSAM | None = None,
        strokes: Sequence[dict[str, Any]] = (),
        brush_size: float | None = None,
    ) -> None:
        """photo: a path, PIL image, array or tensor, as `fss_lab.images.load_image` reads it.
        mask: to begin with and correct, of the photo's size, e.g. `prediction.mask`; foreground: which of its values is
        meant, see `load_mask`. model: answers the clicks of a wand, see `FSSAM.click`. strokes: drawn already.
        brush_size: None: a twentieth of the photo's longer side.

        Raises what `load_image` and `load_mask` raise, InputError for a mask of another size or something that is no
        stroke, and traitlets.TraitError for a brush of less than a pixel.
        """
        self.image: Tensor = load_image(photo)  # 3, H, W; upright, as the mask
        _, height, width = self.image.shape
        base = np.zeros((height, width), np.uint8)
        if mask is not None:
            base = (load_mask(mask, foreground=foreground, photo=photo) == 1).numpy().astype(np.uint8)
        if base.shape != (height, width):
            raise InputError(
                f"the photo has {width} x {height} pixels and its mask {base.shape[1]} x {base.shape[0]}; give the "
                "mask of this photo at the same size"
            )
        self.model, self._base, self._cache, self._answers = model, base, FeatureCache(), dict[str, np.ndarray]()
        super().__init__(
            _picture=_jpeg(self.image),
            _size=[height, width],
            _has_wand=model is not None,
            _areas={"base": _png(base)} if base.any() else {},
            brush_size=max(height / 20, width / 20, 1.0) if brush_size is None else brush_size,
            strokes=list(strokes),
        )
        self._draw()

    def __repr__(self) -> str:
        height, width = self._size
        return f"MaskPainter({width} x {height}, {self._marked:.1%} marked)"

    @property
    def support(self) -> tuple[Tensor, np.ndarray]:
        """The photo (3, H, W) and its mask, as `FSSAM.segment` takes a support.

        Raises InputError while nothing is marked.
        """
        if not self.mask.any():
            raise InputError("nothing is marked yet: draw on the object, or set `strokes`")
        return self.image, self.mask

    def undo(self) -> None:
        """Take the last stroke back, if there is one."""
        self.strokes = self.strokes[:-1]

    def clear(self) -> None:
        """Empty the mask (`undo` brings it back)."""
        self.strokes = [*self.strokes, CLEAR]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a PNG, black and white. Raises InputError for another suffix (JPEG would blur the mask),
        FileError where the file cannot be written."""
        save_png(path, self.mask * np.uint8(255))

    def _answer(self, stroke: dict[str, Any]) -> np.ndarray:
        """What the model sees under the points of a wand, bool (H, W); looked up once, for the browser too."""
        key = ";".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in stroke["points"])
        if key not in self._answers:
            assert self.model is not None
            self._answers[key] = self.model.click(self.image, stroke["points"], cache=self._cache).mask.numpy()
            self._areas = {**self._areas, key: _png(self._answers[key].astype(np.uint8))}
        return self._answers[key]

    @traitlets.validate("strokes")
    def _validate_strokes(self, proposal: Any) -> Any:
        draw_mask((self._size[0], self._size[1]), proposal["value"], self._base, self.model and self._answer)
        return proposal["value"]

    @traitlets.observe("strokes")
    def _draw(self, change: object = None) -> None:
        mask = draw_mask((self._size[0], self._size[1]), self.strokes, self._base, self.model and self._answer)
        self._marked = float(mask.mean())
        self.set_trait("mask", mask)


def _jpeg(image: Tensor) -> bytes:
    """The picture that the browser shows, at most `LONGEST` pixels long."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.thumbnail((LONGEST, LONGEST))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return content.getvalue()


def _png(mask: np.ndarray) -> bytes:
    """A mask (H, W) of 0 and 1 as the browser lays it over the picture: clear, and the colour of what is marked."""
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, 0x00, 0x72, 0xB2])
    scale = min(1.0, LONGEST / max(mask.shape))
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.NEAREST)
    content = io.BytesIO()
    picture.save(content, "PNG", transparency=0)
    return content.getvalue()


def _check(stroke: Any) -> None:
    """Raise InputError for what is no stroke."""
    needed = {
        "polygon": {"erase", "points"},
        "brush": {"erase", "points", "size"},
        "clear": set(),
        "wand": {"erase", "points"},
    }
    tool = stroke.get("tool") if isinstance(stroke, dict) else None
    if tool not in needed or not needed[tool] <= set(stroke):
        raise InputError(
            f"{stroke!r} is no stroke; make one with polygon(points), brush(points, size) or wand(points), or use CLEAR"
        )
    points = stroke.get("points", ())
    least = {"polygon": 3, "brush": 1, "wand": 1, "clear": 0}[tool]
    if len(points) < least or not all(len(point) == 2 and np.isfinite(point).all() for point in points):
        raise InputError(f"a {tool} needs at least {least} points (x, y) in pixels of the photo, got {points!r}")
    if tool == "brush" and not 0 < stroke["size"] < np.inf:
        raise InputError(f"a brush has a size of more than 0 pixels, got {stroke['size']!r}")
