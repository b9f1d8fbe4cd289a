"""Small helpers that the toy world's drawings share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fss_lab.toyworld.shapes import Outline, Part, Point, box, ellipse, mirror, move, part, polygon

Rng = np.random.Generator


def vary(rng: Rng, low: float, high: float) -> float:
    """A proportion between `low` and `high`; ordinary ones, near the middle, are common and extreme ones rare."""
    return low + (high - low) * float(rng.random(3).mean())


def chance(rng: Rng, probability: float) -> bool:
    """True with this probability: whether an identity has some optional piece."""
    return bool(rng.random() < probability)


def choose(rng: Rng, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included: how many of a piece, or which of its forms.

    The first is the usual one: each is chosen six times as often as the next.
    """
    shares = np.cumsum(6 ** np.arange(high - low, -1, -1))  # whole numbers: the same on every machine
    return low + int(np.searchsorted(shares, rng.integers(shares[-1]), side="right"))


def fit(parts: Sequence[Part]) -> list[Part]:
    """The parts shifted and scaled together so that they fill -1..1 in their longer direction, centred."""
    points = np.concatenate([outline for piece in parts for outline in piece.outlines])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 2 / float((high - low).max())
    middle = (low + high) / 2
    return [replace(piece, outlines=tuple((outline - middle) * scale for outline in piece.outlines)) for piece in parts]


def group(
    outlines: Sequence[Outline], role: str = "body", textured: bool = False, *, holes: Sequence[Outline] = ()
) -> Part:
    """Several outlines, overlapping or not, painted as one.

    They become one contour: from the first outline's start it visits each of the others and comes back the
    way it went, so the bridges enclose nothing.
    """
    first, *others = (part(outline).outlines[0] for outline in outlines)
    home = first[:1]
    tours = [np.concatenate([other, other[:1], home]) for other in others]
    return part(np.concatenate([first, home, *tours]), role, holes=holes, textured=textured)


def symmetric(*right: Point) -> Outline:
    """The outline through the points on the right, from top to bottom, and their mirror images on the left."""
    return polygon(*right, *((-x, y) for x, y in reversed(right)))


def pair(outline: Outline, role: str = "body", textured: bool = False) -> Part:
    """The outline and its mirror image about x = 0."""
    return group([outline, mirror(outline)], role, textured)


def ring(x: float, y: float, rx: float, ry: float, width: float, role: str = "body", textured: bool = False) -> Part:
    """An ellipse about (x, y), outer half axes rx and ry, with a hole that leaves a rim of `width`."""
    hole = ellipse(x, y, rx - width, ry - width, corners=18)
    return part(ellipse(x, y, rx, ry, corners=24), role, holes=[hole], textured=textured)


def dot(x: float, y: float, radius: float, role: str = "dark") -> Part:
    """A small disc."""
    return part(ellipse(x, y, radius, corners=12), role)


def dots(places: Sequence[Point], radius: float, role: str = "dark") -> Part:
    """Small discs of one size, painted as one part."""
    return group([ellipse(x, y, radius, corners=12) for x, y in places], role)


def eye(x: float, y: float, radius: float) -> list[Part]:
    """A white eye with a dark pupil."""
    return [dot(x, y, radius, "light"), dot(x, y, 0.55 * radius, "dark")]


def bar(x: float, y0: float, y1: float, width: float) -> Outline:
    """An upright bar about x, from y0 down to y1."""
    return box(x - width / 2, y0, x + width / 2, y1)


def shift(parts: Sequence[Part], dx: float, dy: float, scale: float = 1.0) -> list[Part]:
    """The parts scaled about the origin, then shifted."""
    return [replace(piece, outlines=tuple(move(o, dx, dy, scale=scale) for o in piece.outlines)) for piece in parts]


def leaf(base: Point, tip: Point, width: float) -> Outline:
    """A pointed leaf from `base` to `tip`, `width` wide in the middle."""
    (x, y), dx, dy = base, tip[0] - base[0], tip[1] - base[1]
    half = width / (2 * max(math.hypot(dx, dy), 1e-9))
    edge = [(0.0, 0.0), (0.15, 0.6), (0.4, 1.0), (0.7, 0.75), (1.0, 0.0), (0.7, -0.75), (0.4, -1.0), (0.15, -0.6)]
    return polygon(*[(x + t * dx - s * half * dy, y + t * dy + s * half * dx) for t, s in edge])
