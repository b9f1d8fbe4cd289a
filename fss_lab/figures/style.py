"""The style of every figure: colours, panels, legends.

One colour language, the same everywhere, safe for colour-blind readers (Okabe and Ito):

    SUPPORT    blue            what a support mask shows, and all that concerns the supports
    TRUTH      bluish green    the query's own mask, which the model never sees
    PREDICTION vermilion      what the model answers
    PRIOR      reddish purple  a guess at the query's mask; soft priors in PRIOR_MAP, white to purple
    ATTENTION_MAP              attention, dark to bright
    DIFFERENCE_MAP             after minus before: red = more, blue = less, white = the same

A mask is a translucent tint with a crisp contour. Nothing here touches pyplot, so no figure stays open behind
one's back. Every figure is a `Picture`: it shows itself in a notebook with an alternative text for those who
cannot see it, and `keep` also saves it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SUPPORT = "#0072B2"
TRUTH = "#009E73"
PREDICTION = "#D55E00"
PRIOR = "#CC79A7"
DEEP_PRIOR = "#8C3B6B"  # the same hue, dark enough to read
INK = "#333333"
PALE = "#BBBBBB"
PRIOR_MAP = LinearSegmentedColormap.from_list("prior", ["#FFFFFF", "#EBC6DA", PRIOR, DEEP_PRIOR, "#4A1038"])
ATTENTION_MAP = "magma"
DIFFERENCE_MAP = "RdBu_r"
MASKS = {"support mask": SUPPORT, "truth": TRUTH, "prediction": PREDICTION}

DPI = 100
TITLE, TEXT, SMALL = 13, 10.5, 9.5  # points


class Picture(Figure):
    """A matplotlib figure with an alternative text, which shows itself as PNG in a notebook."""

    def __init__(self, width: float, height: float, title: str, alt: str = "", gap: float = 0.07) -> None:
        """width, height: inches (100 pixels each). alt: one or two sentences that replace the picture.
        gap: free space on either side of every panel, in inches.
        """
        layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=0.07, compress=True)
        super().__init__(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white")
        self.alt = alt
        self._drawn: tuple[str, bytes] | None = None  # alternative text and PNG of the last time
        self.suptitle(title, fontsize=TITLE, fontweight="bold", color=INK)

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file; its description is the alternative text.

        In 256 colours (see `_flatten`), a quarter of the size. Drawn again only if something has changed.
        """
        if self._drawn is not None and self._drawn[0] == self.alt and not self.stale:
            return self._drawn[1]
        raw, file, notes = io.BytesIO(), io.BytesIO(), PngInfo()
        self.savefig(raw, format="rgba")
        drawn = Image.frombytes("RGBA", self.canvas.get_width_height(), raw.getvalue())
        images = [image for axes in self.axes for image in axes.images]
        maps = [image.get_cmap() for image in images if np.asarray(image.get_array()).ndim == 2]
        flat = _flatten(drawn.convert("RGB"), list({cmap.name: cmap for cmap in maps}.values()))
        notes.add_itxt("Description", self.alt)
        flat.save(file, "png", optimize=True, pnginfo=notes)
        self._drawn = self.alt, file.getvalue()
        self.stale = False  # saving has put its own colours back
        return self._drawn[1]

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """What Jupyter asks for: the PNG with its alternative text, which is also the plain-text form."""
        image = base64.b64encode(self.png()).decode()
        return {"image/png": image, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def keep(picture: Picture, folder: str | Path | None, name: str) -> Picture:
    """Save the picture as folder/name.png, unless folder is None, and return it, so that a cell can show it."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture.png())
    return picture


def chart(axes: Axes, x: str = "", y: str = "", grid: Literal["both", "x", "y"] = "both") -> None:
    """Name the axes of a chart and quiet it: a faint grid, no ticks, no frame on the right and above.

    grid: "x" for rows that are read from left to right, which have no frame beside them either.
    """
    axes.set_xlabel(x, fontsize=TEXT, color=INK)
    axes.set_ylabel(y, fontsize=TEXT, color=INK)
    axes.grid(axis=grid, color="#E6E6E6")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    axes.spines[["top", "right", "left"] if grid == "x" else ["top", "right"]].set_visible(False)


def interval_row(axes: Axes, row: int, interval: Sequence[float], colour: str, marker: str = "o") -> list[float]:
    """An estimate with its interval on one row of a chart. interval: estimate, low, high in 0..1; returns percent."""
    estimate, low, high = percent = [100 * value for value in interval]
    axes.hlines(row, low, high, color=colour, linewidth=3.5, alpha=0.45)
    axes.plot(estimate, row, marker, color=colour, markersize=8)
    return percent


def patch(colour: str, label: str) -> Patch:
    """A legend entry for a mask: tint and contour."""
    return Patch(facecolor=(*to_rgb(colour), 0.4), edgecolor=colour, linewidth=1.6, label=label)


def truth_line(label: str = "outline of the truth, for comparison") -> Line2D:
    """A legend entry for the contour of the query's true mask."""
    return Line2D([], [], color=TRUTH, linewidth=2, label=label)


def cell_entry(label: str = "the cell") -> Line2D:
    """A legend entry for `mark_cell`."""
    return Line2D([], [], color="white", marker="s", markersize=8, markeredgecolor="black", ls="none", label=label)


def legend(picture: Picture, *entries: Patch | Line2D | str) -> None:
    """One legend below all panels. entries: a string is a key of `MASKS`."""
    handles = [patch(MASKS[entry], entry) if isinstance(entry, str) else entry for entry in entries]
    picture.legend(
        handles=handles, loc="outside lower center", ncols=len(entries), fontsize=SMALL, frameon=False, labelcolor=INK
    )


def colour_bar(
    picture: Picture, image: AxesImage, axes: Sequence[Axes], label: str, part: tuple[float, float] | None = None,
    below: bool = False,
) -> None:  # fmt: skip
    """A labelled colour bar beside or below some panels. part: the only values that occur, if not the whole scale."""
    place: dict[str, Any] = {"location": "bottom", "shrink": 0.8} if below else {"shrink": 0.9}
    bar = picture.colorbar(image, ax=list(axes), aspect=(20 if below else 18) * len(axes), pad=0.03, **place)
    bar.set_label(label, fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=9, length=2)
    bar.outline.set_visible(False)
    if part is not None:
        bar.ax.set_ylim(*part)


def _flatten(image: Image.Image, maps: Sequence[Colormap]) -> Image.Image:
    """An RGB image in 256 colours: white, 64 steps of each map, so that maps stay true, the rest for the image."""
    steps = [cmap(np.linspace(0, 1, 64), bytes=True)[:, :3] for cmap in maps[:3]]
    fixed = np.concatenate([np.full((1, 3), 255), *steps]).astype(np.int64)
    ninth = Image.fromarray(np.asarray(image)[::3, ::3])  # of the pixels: as good a palette in a seventh of the time
    free = ninth.quantize(256 - len(fixed), Image.Quantize.MAXCOVERAGE, kmeans=1).getpalette() or []
    palette = np.concatenate([fixed, np.reshape(free, (-1, 3))])[:256]
    packed, place = np.unique(np.asarray(image).astype(np.int64) @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    # Pillow's own look-up rounds colours, which turns white into almost white
    nearest = torch.cdist(torch.tensor(colours).float(), torch.tensor(palette).float()).argmin(1).numpy()
    flat = Image.fromarray(nearest.astype(np.uint8)[place].reshape(image.height, image.width))
    flat.putpalette(palette.astype(np.uint8).tobytes())
    return flat
