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
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

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
        self.savefig(raw, format="png")
        images = [image for axes in self.axes for image in axes.images]
        maps = [image.get_cmap() for image in images if np.asarray(image.get_array()).ndim == 2]
        flat = _flatten(Image.open(raw).convert("RGB"), list({cmap.name: cmap for cmap in maps}.values()))
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


def overlay(axes: Axes, image: Tensor, mask: Tensor | None = None, colour: str = SUPPORT, width: float = 1.5) -> None:
    """Draw an image and, on it, a mask as a translucent tint with a crisp contour.

    image: (3, H, W) in 0..255. mask: (H, W), 1 where the object is (0, 255 and False are not drawn), or None.
    width: of the contour in points; thinner suits small panels.
    """
    bare(axes)
    axes.imshow(image.detach().cpu().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    if mask is None:
        return
    tint = np.zeros((*mask.shape, 4))
    tint[..., :3] = to_rgb(colour)
    tint[..., 3] = 0.4 * (mask == 1).cpu().numpy()
    axes.imshow(tint)
    contour(axes, mask, colour, width=width)


def contour(axes: Axes, mask: Tensor, colour: str, size: Sequence[int] | None = None, width: float = 1.5) -> None:
    """Outline a mask (H, W), 1 where the object is, with a thin white rim that keeps it visible everywhere.

    size: height and width of the axes' image in pixels, if not the mask's own. Nothing is drawn for a mask
    without an edge.
    """
    inside = np.pad((mask == 1).cpu().numpy().astype(float), 1)  # objects at the border get a closed outline
    if not inside.any():
        return
    high, wide = size or mask.shape
    x = (np.arange(inside.shape[1]) - 0.5) * wide / mask.shape[1] - 0.5
    y = (np.arange(inside.shape[0]) - 0.5) * high / mask.shape[0] - 0.5
    axes.contour(x, y, inside, levels=[0.5], colors="white", linewidths=width + 1, alpha=0.8)
    axes.contour(x, y, inside, levels=[0.5], colors=colour, linewidths=width)
    axes.set(xlim=(-0.5, wide - 0.5), ylim=(high - 0.5, -0.5))


def heat(
    axes: Axes, values: Tensor, cmap: str | Colormap, norm: Normalize, size: Sequence[int] | None = None
) -> AxesImage:
    """Draw a map (h, w) with crisp cells, stretched over an image of `size` (H, W) if given."""
    bare(axes)
    for spine in axes.spines.values():  # a map may be white up to its border
        spine.set(visible=True, color=PALE, linewidth=0.8)
    height, width = size or values.shape
    return axes.imshow(
        values.detach().float().cpu().numpy(),
        cmap=cmap,
        norm=norm,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )


def bare(axes: Axes) -> None:
    """Take ticks and frame from a panel that shows an image or a map."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def name_panel(axes: Axes, text: str, colour: str = INK, size: float = TEXT, bold: bool = True) -> None:
    """Write a panel's title in the colour of what it shows."""
    axes.set_title(text, fontsize=size, color=colour, fontweight="bold" if bold else "normal", pad=5)


def mask_panel(
    axes: Axes, image: Tensor, mask: Tensor | None, name: str, colour: str = SUPPORT, width: float = 1.5
) -> None:
    """An image with a mask, under its title in the mask's colour; see `overlay`."""
    overlay(axes, image, mask, colour, width)
    name_panel(axes, name, colour)


def map_panel(
    axes: Axes, values: Tensor, name: str, cmap: str | Colormap, norm: Normalize, mask: Tensor, colour: str = INK
) -> AxesImage:
    """A map (h, w) stretched over the query, under its title, with the outline of the query's true mask (H, W)."""
    image = heat(axes, values, cmap, norm, mask.shape)
    contour(axes, mask, TRUTH, mask.shape, width=1)
    name_panel(axes, name, colour)
    return image


def feature_panel(axes: Axes, colours: Tensor, name: str, mask: Tensor, mask_colour: str, colour: str = INK) -> None:
    """Features (3, h, w) as `principal_colours` makes them, stretched over an image with the outline of a mask."""
    bare(axes)
    height, width = mask.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(colours.to(torch.uint8).permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest")
    contour(axes, mask, mask_colour, mask.shape, width=1)
    name_panel(axes, name, colour)


def principal_colours(*maps: Tensor) -> list[Tensor]:
    """Feature maps as pictures: equal features get equal colours, in all maps.

    maps: (C, h, w) each, of one C. Red, green and blue are the first three principal components over all positions of
    all maps. Returns one RGB image (3, h, w) in 0..255 for each.
    """
    vectors = torch.cat([features.detach().float().cpu().flatten(1).T for features in maps])  # positions, C
    vectors = vectors - vectors.mean(0)
    directions = torch.linalg.svd(vectors, full_matrices=False).Vh[:3]  # 3, C
    colours = vectors @ directions.T  # positions, 3
    low, high = colours.quantile(0.02, 0), colours.quantile(0.98, 0)
    colours = ((colours - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * 255
    parts = colours.split([features[0].numel() for features in maps])
    return [part.T.unflatten(1, features.shape[-2:]) for part, features in zip(parts, maps, strict=True)]


def symmetric(change: Tensor, least: float = 1e-6) -> Normalize:
    """The scale of a map of differences: white is no change. least: its smallest half width."""
    limit = max(float(change.abs().max()), least)
    return Normalize(-limit, limit)


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


def mark_cell(axes: Axes, cell: tuple[int, int], grid: Sequence[int], size: Sequence[int]) -> None:
    """Frame one cell of the grid over an image of `size` (H, W)."""
    high, wide = size[0] / grid[0], size[1] / grid[1]
    corner = (cell[1] * wide - 0.5, cell[0] * high - 0.5)
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="black", linewidth=3.5, zorder=5))
    axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor="white", linewidth=1.5, zorder=6))


def _flatten(image: Image.Image, maps: Sequence[Colormap]) -> Image.Image:
    """An RGB image in 256 colours: white, 64 steps of each map, so that maps stay true, the rest for the image."""
    steps = [cmap(np.linspace(0, 1, 64), bytes=True)[:, :3] for cmap in maps[:3]]
    fixed = np.concatenate([np.full((1, 3), 255), *steps]).astype(np.int64)
    free = image.quantize(256 - len(fixed), Image.Quantize.MAXCOVERAGE, kmeans=1).getpalette() or []
    palette = np.concatenate([fixed, np.reshape(free, (-1, 3))])[:256]
    packed, place = np.unique(np.asarray(image).astype(np.int64) @ (65536, 256, 1), return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
    # Pillow's own look-up rounds colours, which turns white into almost white
    nearest = torch.cdist(torch.tensor(colours).float(), torch.tensor(palette).float()).argmin(1).numpy()
    flat = Image.fromarray(nearest.astype(np.uint8)[place].reshape(image.height, image.width))
    flat.putpalette(palette.astype(np.uint8).tobytes())
    return flat
