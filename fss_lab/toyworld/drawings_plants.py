"""Drawings of plants and mushrooms; each call draws one identity of the class (x to the right, y down)."""

from __future__ import annotations

import math

import numpy as np

from fss_lab.toyworld.drawing_tools import Rng, chance, choose, dot, dots, fit, group, leaf, shift, symmetric, vary
from fss_lab.toyworld.shapes import Outline, Part, Point, arc, curve, ellipse, part, polygon, stroke


def tree(rng: Rng) -> list[Part]:
    """A fir, a round, clouded, tall or tiered crown on a straight or forked trunk, with or without fruit."""
    form, wide, tall = choose(rng, 0, 4), vary(rng, 0.45, 0.8), vary(rng, 0.4, 0.75)
    thick = vary(rng, 0.07, 0.16)
    trunk = [polygon((-1.6 * thick, tall), (-thick, -0.5), (thick, -0.5), (1.6 * thick, tall))]
    if form in (1, 2) and chance(rng, 0.5):
        trunk += [stroke([(0, 0.25), (side * 0.7 * wide, -0.45)], 0.14, 0.08) for side in (-1, 1)]
    parts = [group(trunk, "second")]
    top = -1.2
    fruit: list[Point] = []
    if form == 0:  # a fir
        tiers = choose(rng, 3, 4)
        step = 1.3 / tiers
        for i in reversed(range(tiers)):
            half = wide * (i + 1.6) / (tiers + 0.6)
            low = top + (i + 1) * step
            parts.append(part(polygon((-half, low), (0, low - 1.7 * step), (half, low)), textured=True))
    elif form == 1:  # one ball
        high = vary(rng, 0.55, 0.75)
        parts.append(part(ellipse(0, -0.5, wide, high, corners=24), textured=True))
        fruit = [(-0.5, -0.6), (0.1, -0.85), (0.5, -0.45), (-0.1, -0.3)]
    elif form == 2:  # a cloud
        bumps, size = choose(rng, 4, 6), vary(rng, 0.32, 0.42)
        around = [2 * math.pi * i / bumps + vary(rng, -0.2, 0.2) for i in range(bumps)]
        balls = [ellipse(wide * 0.75 * math.cos(a), -0.5 + 0.4 * math.sin(a), size, corners=14) for a in around]
        parts.append(group([ellipse(0, -0.5, 0.4, corners=14), *balls], textured=True))
        fruit = [(-0.6, -0.55), (0.0, -0.8), (0.65, -0.5), (0.1, -0.35)]
    elif form == 3:  # a poplar
        half = 0.55 * wide
        crown = [(0, -1.35), (half, -0.5), (0.75 * half, 0.0), (0, 0.12), (-0.75 * half, 0.0), (-half, -0.5)]
        parts.append(part(curve(crown, 4), textured=True))
    else:  # flat tiers, as of an acacia or a pine
        for i in range(choose(rng, 2, 3)):
            side = vary(rng, -0.25, 0.25) * wide
            size = wide * (1.15 - 0.25 * i)
            parts.append(part(ellipse(side, -0.15 - 0.42 * i, size, 0.27, corners=18), textured=True))
    if fruit and chance(rng, 0.5):
        parts.append(dots([(x * wide, y) for x, y in fruit], 0.09, "accent"))
    if chance(rng, 0.05):
        parts.append(part(ellipse(0, tall, vary(rng, 0.3, 0.6), 0.1, corners=14), "accent"))
    return fit(parts)


def flower(rng: Rng) -> list[Part]:
    """A daisy, a star, a round rosette or a tulip on a straight or bent stem with up to three leaves."""
    bend, length, thick = vary(rng, -0.25, 0.25), vary(rng, 0.75, 1.3), vary(rng, 0.1, 0.15)
    stem = [(0.0, 0.0), (0.6 * bend, 0.35 * length), (bend, 0.7 * length), (0.8 * bend, length)]
    parts = [part(stroke(stem, thick), "second")]
    for i in range(choose(rng, 0, 3)):
        side, base = (-1) ** i, length * (0.9 - 0.13 * i)
        tip = (bend + side * vary(rng, 0.4, 0.6), base - vary(rng, 0.05, 0.45))
        parts.append(part(leaf((0.9 * bend, base), tip, vary(rng, 0.18, 0.28)), "second"))
    form, size = choose(rng, 0, 4), vary(rng, 0.45, 0.62)
    if form == 4:  # a tulip
        wide, tips = vary(rng, 0.32, 0.48), choose(rng, 2, 4)
        crown = [(wide - wide * i / tips, (-0.62, -0.3)[i % 2]) for i in range(2 * tips + 1)]
        cup = [*crown, (-1.05 * wide, -0.1), (-0.5 * wide, 0.2), (0.5 * wide, 0.2), (1.05 * wide, -0.1)]
        parts.append(part(polygon(*cup), textured=True))
        if chance(rng, 0.9):
            parts.append(part(leaf((0, 0.2), (0, -0.68), 0.8 * wide), "accent"))
        return fit(parts)
    petals, turn = choose(rng, 4, 9) if form else choose(rng, 8, 12), vary(rng, 0, 1)
    angles = [turn + 2 * math.pi * i / petals for i in range(petals)]
    heart, broad = vary(rng, 0.18, 0.3), 2.4 * size / petals
    if form == 3:  # far enough to touch the petals
        heart = max(heart, 0.7 * size - 0.7 * broad)
    rows = [(size, "body")] if chance(rng, 0.85) else [(1.12 * size, "body"), (0.75 * size, "accent")]
    for reach, role in rows:
        parts.append(group([_petal(a, reach, broad, form) for a in angles], role, role == "body"))
    parts.append(dot(0, 0, heart, "dark" if chance(rng, 0.05) else "light"))
    if chance(rng, 0.1):
        parts.append(dot(0, 0, 0.55 * heart, "accent"))
    return fit(parts)


def _petal(angle: float, reach: float, broad: float, form: int) -> Outline:
    x, y = math.cos(angle), math.sin(angle)
    if form in (0, 1):  # long
        return ellipse(0.55 * reach * x, 0.55 * reach * y, 0.55 * reach, 0.55 * broad, angle, corners=10)
    if form == 2:  # pointed
        return leaf((0, 0), (1.2 * reach * x, 1.2 * reach * y), 1.4 * broad)
    return ellipse(0.65 * reach * x, 0.65 * reach * y, 0.7 * broad, corners=10)


def mushroom(rng: Rng) -> list[Part]:
    """A round, bell-shaped, flat or pointed cap, spotted or banded, on a fat or slim stem; perhaps two."""
    parts = _toadstool(rng)
    if chance(rng, 0.05):
        far = vary(rng, 0.5, 0.7) * (-1 if chance(rng, 0.5) else 1)
        size = vary(rng, 0.4, 0.6)
        parts = shift(_toadstool(rng), far, 0.95 * (1 - size), size) + parts
        parts.append(part(ellipse(far / 2, 0.98, 0.75, 0.12, corners=18), "accent"))  # the ground
    return fit(parts)


def _toadstool(rng: Rng) -> list[Part]:
    form, wide, high = choose(rng, 0, 3), vary(rng, 0.65, 1.0), vary(rng, 0.55, 0.85)
    slim, foot = vary(rng, 0.14, 0.32), vary(rng, 1.0, 1.6)
    stem = [(-slim, -0.2), (slim, -0.2), (slim, 0.3), (foot * slim, 0.8), (0.7 * slim, 0.98)]
    stem += [(-0.7 * slim, 0.98), (-foot * slim, 0.8), (-slim, 0.3)]
    parts = [part(curve(stem, 3), "light" if chance(rng, 0.5) else "second")]
    if chance(rng, 0.05):
        parts.append(part(polygon((-slim, 0.2), (slim, 0.2), (1.6 * slim, 0.42), (-1.6 * slim, 0.42)), "accent"))
    if chance(rng, 0.5):
        parts.append(part(ellipse(0, 0, 0.9 * wide, 0.17, corners=18), "second"))
    if form == 0:  # a dome
        cap = np.concatenate(
            [arc(0, 0, wide, high, math.pi, 2 * math.pi, steps=14), arc(0, 0, wide, 0.12, 0, math.pi, steps=6)[1:-1]]
        )
    elif form == 1:  # a bell
        wide *= 0.75
        cap = curve(
            [(-wide, 0.1), (-0.6 * wide, -0.5), (0, -high - 0.15), (0.6 * wide, -0.5), (wide, 0.1), (0, 0.02)], 4
        )
    elif form == 2:  # broad and flat
        high *= 0.6
        cap = curve([(-wide, 0.02), (-0.65 * wide, -0.8 * high), (0, -high), (0.65 * wide, -0.8 * high), (wide, 0.02),
            (0, 0.12)], 4)  # fmt: skip
    else:  # pointed
        cap = polygon(
            (-wide, 0.06), (-0.5 * wide, -0.6 * high), (0, -high - 0.15), (0.5 * wide, -0.6 * high), (wide, 0.06)
        )
    parts.append(part(cap, textured=True))
    mark = choose(rng, 0, 2)
    if mark == 1:
        size = vary(rng, 0.08, 0.13)
        places = [(-0.5, -0.25), (0.05, -0.35), (0.5, -0.2), (-0.15, -0.75), (0.28, -0.65)][: choose(rng, 3, 5)]
        parts.append(dots([(x * wide, y * high) for x, y in places], size, "light"))
    elif mark == 2 and form in (0, 3):
        parts.append(part(symmetric((0.85 * wide, -0.25 * high), (0.98 * wide, 0)), "accent"))
    return parts
