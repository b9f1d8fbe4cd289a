"""The road map of the course: FSSAM as blocks, with the tensors that go from one to the next.

The README's block diagram is `keep(road_map(shapes=False), "docs/images", "method")`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from fss_lab.errors import InputError
from fss_lab.figures.panels import overlay
from fss_lab.figures.style import DEEP_PRIOR, INK, PALE, PREDICTION, SMALL, SUPPORT, TEXT, Picture
from fss_lab.toyworld.pictograms import Pictograms

WIDTH, HEIGHT, SIDE = 10.9, 3.95, 0.8  # inches, as all places below; SIDE of the small images
BYPASS, CEILING, QUERY, SUPPORTS, FLOOR = 3.25, 2.85, 2.25, 0.95, 0.4  # three lanes, and where blocks begin and end


class Block(NamedTuple):
    """One step of the method."""

    name: str
    task: str  # in two lines
    notebooks: str
    left: float
    right: float
    bottom: float = FLOOR
    name_top: float = 2.15  # where its name begins
    task_top: float = 1.88  # where its task begins, and below it its notebooks


BLOCKS = {
    "episode": Block("Episode", "query and\nsupports", "01", 0.05, 1.03, FLOOR, 2.77, 1.6),
    "features": Block("Features", "frozen\nencoders", "01, 02", 2.01, 2.89),
    "ppg": Block("PPG", "guess\npriors", "04", 3.93, 4.63, 1.6, 2.75, 2.48),
    "remember": Block("Remember", "memory\nencoder", "02", 5.29, 6.29),
    "imr": Block("IMR", "refine the\nmemory", "05", 7.05, 7.85, 1.6, 2.75, 2.48),
    "scma": Block("SCMA", "memory\nattention", "06, 08", 8.61, 9.45),
    "mask": Block("Mask", "SAM 2's\ndecoder", "02, 07", 9.97, 10.85, 0.88, 2.77, 1.6),
}
ARROWS = [  # left, right, lane; the tensor's symbol, its shape in the toy world, its colour
    (1.03, 2.01, QUERY, "$X_Q$", "3×256×256", INK),
    (1.03, 2.01, SUPPORTS, "$X_S,\\ M_S$", "K×3×256×256\nK×256×256", SUPPORT),
    (2.89, 3.93, QUERY, "dense\nfeatures", "192×32×32\nK×192×32×32", INK),
    (2.89, 4.28, SUPPORTS, "$F_S,\\ M_S$", "K×96×16×16\nK×256×256", SUPPORT),
    (4.28, 5.29, SUPPORTS, "", "", SUPPORT),
    (4.63, 5.29, QUERY, "$P_d$\n$P_{fg}$", "256×256", DEEP_PRIOR),
    (6.29, 7.05, QUERY, "$Mem_d$\n$Mem_{fg}$", "24×16×16", DEEP_PRIOR),
    (6.29, 7.45, SUPPORTS, "$Mem_S$", "K×24×16×16", SUPPORT),
    (7.45, 8.61, SUPPORTS, "", "", SUPPORT),
    (7.85, 8.61, QUERY, "refined\n$Mem_d$", "24×16×16", DEEP_PRIOR),
    (9.45, 9.97, QUERY, "", "96×\n16×16", INK),
]
BRANCHES = [  # up from the supports' lane into a block, or down from the bypass: x, from, to, colour
    (4.28, SUPPORTS, 1.6, SUPPORT),
    (7.45, SUPPORTS, 1.6, SUPPORT),
    (5.79, BYPASS, CEILING, INK),
    (9.03, BYPASS, CEILING, INK),
]
UNITS = "K supports · images of 256×256 pixels · SAM 2's 16×16 cells hold 96 features, or 24 numbers of memory, each"


def road_map(highlight: str | Collection[str] = (), shapes: bool = True) -> Picture:
    """FSSAM from the episode to the mask: blocks, and on the arrows what goes from one to the next.

    highlight: the block or blocks that the reader is at: episode, features, ppg, remember, imr, scma, mask.
    shapes: write the tensors' shapes in the toy world below their symbols. Raises InputError for an unknown block.
    """
    present = {highlight} if isinstance(highlight, str) else set(highlight)
    if unknown := present - set(BLOCKS):
        raise InputError(f"the road map has no block {sorted(unknown)}: it has {', '.join(BLOCKS)}")
    names = ", ".join(block.name for key, block in BLOCKS.items() if key in present)
    height = HEIGHT if shapes else HEIGHT - 0.2
    picture = Picture(WIDTH, height, f"Where you are: {names}" if names else "FSSAM: from an episode to a mask")
    picture.set_layout_engine("none")
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT - height, HEIGHT))
    axes.axis("off")
    axes.plot([2.45, 2.45, 9.03], [CEILING, BYPASS, BYPASS], color=INK, linewidth=1.4)
    _write(axes, 4.12, BYPASS + 0.06, "SAM 2's features of the query, $F_Q$", side="bottom")
    for x, start, end, colour in BRANCHES:
        _arrow(axes, (x, start), (x, end), colour)
    for left, right, lane, symbol, shape, colour in ARROWS:
        _arrow(axes, (left, lane), (right, lane), colour)
        _write(axes, (left + right) / 2 - 0.02, lane + 0.07, symbol, colour, side="bottom")
        if shapes:
            _write(axes, (left + right) / 2 - 0.02, lane - 0.08, shape, colour, size=9)
    if shapes:
        _write(axes, 4.12, BYPASS - 0.08, "96×16×16", size=9)
        _write(axes, WIDTH / 2, 0.24, UNITS)
    for key, block in BLOCKS.items():
        _draw(axes, block, key in present)
    _draw_example(axes)
    steps = " → ".join(f"{block.name} ({' '.join(block.task.split())})" for block in BLOCKS.values())
    picture.alt = (
        f"The steps of FSSAM as blocks: {steps}. IMR uses the supports' memories too; SCMA reads all memories "
        f"for the query's features.{f' Highlighted: {names}.' if names else ''}"
    )
    return picture


def _draw(axes: Axes, block: Block, present: bool) -> None:
    """A block with its name, what it does and its notebooks; dark where the reader is."""
    corner, extent = (block.left, block.bottom), (block.right - block.left, CEILING - block.bottom)
    paper, edge, ink = (INK, INK, "white") if present else ("#F3F3F3", PALE, INK)
    axes.add_patch(
        FancyBboxPatch(corner, *extent, "round,pad=0,rounding_size=0.08", facecolor=paper, edgecolor=edge, zorder=2)
    )
    x = (block.left + block.right) / 2
    _write(axes, x, block.name_top, block.name, ink, TEXT + 0.5, "bold")
    if block.name != "Episode":  # which shows its task
        _write(axes, x, block.task_top, block.task, ink)
    _write(axes, x, block.task_top - 0.46 * (block.name != "Episode"), block.notebooks, ink, 9)


def _draw_example(axes: Axes) -> None:
    """What goes in, query and support, and what should come out, in the colour of a prediction."""
    task, (episode, mask) = Pictograms(0)[19], (BLOCKS["episode"], BLOCKS["mask"])
    for block, y, image, truth, colour in (
        (episode, 2.08, task.query_image, None, INK),
        (episode, SUPPORTS, task.support_images[0], task.support_masks[0], SUPPORT),
        (mask, 2.08, task.query_image, task.query_mask, PREDICTION),
    ):
        corner = ((block.left + block.right - SIDE) / 2, y - SIDE / 2)
        panel = axes.inset_axes((*corner, SIDE, SIDE), transform=axes.transData, zorder=3)
        overlay(panel, image, truth, colour, width=1)


def _write(
    axes: Axes, x: float, y: float, text: str, colour: str = INK, size: float = SMALL, weight: str = "normal",
    side: str = "top",
) -> None:  # fmt: skip
    """Centred at x; y is the text's upper edge, or with side="bottom" its lower one."""
    axes.text(x, y, text, color=colour, ha="center", va=side, fontsize=size, fontweight=weight, linespacing=1.2)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0)
    arrow.set(color=colour, linewidth=1.4)
    axes.add_patch(arrow)
