"""Panels of every figure: an image with a mask, a map in colours, features in colours, a framed cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, to_rgb
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from fss_lab.figures.style import INK, PALE, SUPPORT, TEXT, TRUTH


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
    pixels = values.detach().float().cpu().numpy()
    return axes.imshow(pixels, cmap, norm, extent=_extent(size or values.shape), interpolation="nearest")


def _extent(size: Sequence[int]) -> tuple[float, float, float, float]:
    return -0.5, size[1] - 0.5, size[0] - 0.5, -0.5


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
    pixels = colours.to(torch.uint8).permute(1, 2, 0).numpy()
    axes.imshow(pixels, extent=_extent(mask.shape), interpolation="nearest")
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


def mark_cell(
    axes: Axes, cell: tuple[int, int], grid: Sequence[int], size: Sequence[int], end: tuple[int, int] | None = None
) -> None:
    """Frame one cell of the grid, or a region up to the opposite corner `end`, over an image of `size` (H, W)."""
    high, wide = size[0] / grid[0], size[1] / grid[1]
    (top, left), (bottom, right) = np.sort([cell, cell if end is None else end], axis=0)
    corner = (left * wide - 0.5, top * high - 0.5)
    extent = ((right - left + 1) * wide, (bottom - top + 1) * high)
    for colour, width in (("black", 3.5), ("white", 1.5)):
        axes.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=colour, linewidth=width, zorder=5))
