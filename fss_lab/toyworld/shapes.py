"""Outlines from which the toy world's drawings are composed.

Every function returns a closed outline (V, 2) float64 in drawing units: x to the right, y down, the whole
drawing within about -1..1. A :class:`Part` is one or more outlines painted in one of the identity's colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Outline = np.ndarray
Point = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One painted piece of a drawing.

    outlines: the contour, and after it the holes in it. role: which of the identity's colours paints it: "body",
    "second", "accent", "dark" or "light". textured: whether the identity's texture covers it.
    """

    outlines: tuple[Outline, ...]
    role: str = "body"
    textured: bool = False


def part(outline: Outline, role: str = "body", *, holes: Sequence[Outline] = (), textured: bool = False) -> Part:
    """A :class:`Part` whose holes run against its contour, whichever way they were drawn."""
    outline = _clockwise(outline)
    return Part((outline, *(_clockwise(hole)[::-1] for hole in holes)), role, textured)


def polygon(*points: Point) -> Outline:
    """The polygon through the points."""
    return np.array(points, dtype=np.float64)


def ellipse(x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0, corners: int = 28) -> Outline:
    """Ellipse about (x, y) with half axes rx and ry (a circle without ry), tilted by `tilt` radians."""
    return arc(x, y, rx, rx if ry is None else ry, 0.0, 2 * math.pi * (1 - 1 / corners), tilt, corners - 1)


def arc(
    x: float, y: float, rx: float, ry: float, start: float, end: float, tilt: float = 0.0, steps: int = 16
) -> Outline:
    """Points on an ellipse from angle `start` to `end` (radians, clockwise from the right); closed by its chord."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    points = []
    for i in range(steps + 1):
        angle = start + (end - start) * i / steps
        u, v = rx * math.cos(angle), ry * math.sin(angle)
        points.append((x + u * cos - v * sin, y + u * sin + v * cos))
    return np.array(points)


def box(x0: float, y0: float, x1: float, y1: float, round_by: float = 0.0) -> Outline:
    """Rectangle from (x0, y0) to (x1, y1), its corners rounded with radius `round_by`."""
    if round_by <= 0:
        return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    r = min(round_by, (x1 - x0) / 2, (y1 - y0) / 2)
    quarter = math.pi / 2
    centres = [(x1 - r, y1 - r, 0), (x0 + r, y1 - r, 1), (x0 + r, y0 + r, 2), (x1 - r, y0 + r, 3)]
    return np.concatenate([arc(x, y, r, r, k * quarter, (k + 1) * quarter, steps=4) for x, y, k in centres])


def regular(x: float, y: float, radius: float, corners: int, turn: float = 0.0) -> Outline:
    """Regular polygon; with turn = 0 a corner points up."""
    return star(x, y, radius, radius, corners, turn)[::2]


def star(x: float, y: float, outer: float, inner: float, tips: int, turn: float = 0.0) -> Outline:
    """Star whose tips lie at `outer` and whose notches at `inner`; with turn = 0 a tip points up."""
    angles = [turn - math.pi / 2 + math.pi * i / tips for i in range(2 * tips)]
    radii = [outer, inner] * tips
    return np.array([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)])


def stroke(points: Sequence[Point], width: float, end_width: float | None = None) -> Outline:
    """A line through the points, `width` wide at the start and `end_width` at the end, with blunt ends."""
    path = np.array(points, dtype=np.float64)
    ahead = np.gradient(path, axis=0)
    ahead /= np.maximum(np.sqrt((ahead**2).sum(axis=1, keepdims=True)), 1e-9)
    half = np.linspace(width, width if end_width is None else end_width, len(path))[:, None] / 2
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * half
    return np.concatenate([path + side, (path - side)[::-1]])


def curve(points: Sequence[Point] | Outline, steps: int = 6) -> Outline:
    """A smooth closed outline through the points (Catmull-Rom)."""
    p = np.array(points, dtype=np.float64)
    before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = (np.arange(steps) / steps)[:, None, None]
    constant, linear, square = 2 * p, after - before, 2 * before - 5 * p + 4 * after - beyond
    points_at = 0.5 * (constant + linear * t + square * t**2 + (3 * p - before - 3 * after + beyond) * t**3)
    return points_at.transpose(1, 0, 2).reshape(-1, 2)


def move(
    outline: Outline, dx: float = 0.0, dy: float = 0.0, *, turn: float = 0.0, scale: float = 1.0, flip: bool = False
) -> Outline:
    """Mirror left-right, scale, turn (radians, clockwise), then shift an outline about the origin."""
    x, y = outline[:, 0] * (-scale if flip else scale), outline[:, 1] * scale
    cos, sin = math.cos(turn), math.sin(turn)
    return np.stack([x * cos - y * sin + dx, x * sin + y * cos + dy], axis=1)


def mirror(outline: Outline) -> Outline:
    """The outline mirrored left-right about x = 0."""
    return move(outline, flip=True)


def _clockwise(outline: Outline) -> Outline:
    x, y = outline[:, 0], outline[:, 1]
    area = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() + x[-1] * y[0] - x[0] * y[-1]  # twice, with sign
    return outline if area >= 0 else outline[::-1]
