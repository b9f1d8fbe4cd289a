"""Drawings of vehicles; each call draws one identity of the class (x to the right, y down)."""

from __future__ import annotations

import math

import numpy as np

from fss_lab.toyworld.drawing_tools import Rng, bar, chance, choose, dot, dots, fit, group, ring, vary
from fss_lab.toyworld.shapes import Part, arc, box, curve, ellipse, part, polygon, stroke


def boat(rng: Rng) -> list[Part]:
    """A hull under a mast with one or two sails or a square one."""
    half, deep, rake = vary(rng, 0.75, 1.0), vary(rng, 0.3, 0.5), vary(rng, 0.1, 0.35)
    if chance(rng, 0.5):
        hull = polygon((-half, 0), (half, -vary(rng, 0, 0.15)), (half - rake, deep), (rake - half, deep))
    else:
        hull = np.concatenate([[(-half, -0.08)], arc(0, 0, half, deep, 0.0, math.pi, steps=10)])
        hull[1, 1] -= 0.08
    parts, form = [], choose(rng, 0, 2)
    mast, top = vary(rng, -0.2, 0.25), -vary(rng, 1.1, 1.6)
    parts.append(part(bar(mast, top, 0.05, 0.1), "dark"))
    if chance(rng, 0.5):
        parts.append(part(polygon((mast, top - 0.02), (mast + 0.38, top + 0.12), (mast, top + 0.26)), "accent"))
    low, start = -0.16, top + (0.3 if form == 2 else 0.12)
    if form == 2:  # square
        wide = vary(rng, 0.4, 0.62)
        sail = curve([(mast - 0.8 * wide, start), (mast + 0.8 * wide, start), (mast + wide, (start + low) / 2),
            (mast + 0.9 * wide, low), (mast - 0.9 * wide, low), (mast - wide, (start + low) / 2)], 3)  # fmt: skip
        parts.append(part(sail, "second", textured=True))
        parts.append(part(box(mast - wide, start - 0.06, mast + wide, start + 0.06), "dark"))
        if chance(rng, 0.5):
            parts.append(dot(mast, (start + low) / 2, 0.22, "accent"))
    else:
        bulge, far = vary(rng, 0.0, 0.25), half * vary(rng, 0.75, 1.0)
        middle = (mast + far) / 2
        sail = polygon((mast + 0.03, start), (middle + bulge, (start + low) / 2), (far, low), (mast + 0.03, low))
        parts.append(part(sail, "second", textured=True))
        if form == 1:  # a jib
            jib = polygon((mast - 0.03, start + 0.15), (mast - 0.03, low), (-half * vary(rng, 0.7, 1.0), low))
            parts.append(part(jib, "light"))
    parts.append(part(hull, textured=True))
    mark = choose(rng, 0, 2)
    if mark == 1:
        parts.append(part(box(-0.75 * half, 0.06, 0.75 * half, 0.17), "accent"))
    elif mark == 2:
        parts.append(dots([(x * half, 0.4 * deep) for x in (-0.45, 0, 0.45)], 0.09, "light"))
    return fit(parts)


def airplane(rng: Rng) -> list[Part]:
    """Nose to the left, seen from above; straight, swept or delta wings, jets or a propeller."""
    thick, sweep, span = vary(rng, 0.15, 0.3), vary(rng, 0.0, 0.6), vary(rng, 0.6, 1.15)
    root, chord = vary(rng, -0.45, -0.1), vary(rng, 0.36, 0.6)
    delta = chance(rng, 0.05)
    tip = 0.12 if delta else chord * vary(rng, 0.35, 0.85)
    if delta:
        chord, sweep = 0.8, 0.7
    wing = polygon((root, 0), (root + sweep, span), (root + sweep + tip, span), (root + chord, 0))
    parts = [part(wing * [1, side], "second", textured=True) for side in (-1, 1)]
    small = vary(rng, 0.25, 0.38)
    tail = polygon((0.62, 0), (0.85, small), (1.02, small), (0.95, 0), (1.02, -small), (0.85, -small))
    parts.append(part(tail, "second"))
    if chance(rng, 0.05):
        parts.append(part(box(-1.1, -0.38, -0.98, 0.38, 0.06), "dark"))  # the propeller
    spots = [(root + sweep * s / span - 0.12, s) for s in (0.36, 0.6)[: choose(rng, 0, 2)]]
    engines = [box(x, y - 0.08, x + 0.34, y + 0.08, 0.06) for x, s in spots for y in (s, -s)]
    if engines:
        parts.append(group(engines, "dark"))
    body = [(-1.02, 0), (-0.85, -0.75 * thick), (-0.5, -thick), (0.4, -0.9 * thick), (1.0, -0.3 * thick)]
    body += [(1.0, 0.25 * thick), (0.4, 0.85 * thick), (-0.5, thick), (-0.85, 0.75 * thick)]
    parts.append(part(curve(body, 3), textured=True))
    parts.append(part(stroke([(0.55, 0), (1.05, 0)], 0.08), "accent"))
    windows = choose(rng, 0, 4)
    if windows:
        parts.append(dots([(-0.3 + 0.2 * i, 0) for i in range(windows)], 0.06, "light"))
    parts.append(part(ellipse(-0.68, 0, 0.13, 0.6 * thick, corners=12), "light"))
    return fit(parts)


def car(rng: Rng) -> list[Part]:
    """A saloon, hatchback, van, pick-up, sports car or bubble car, heading left."""
    kinds = [  # bonnet's end, roof's front and rear, boot's start, height of the cabin
        (-0.5, -0.22, 0.35, 0.62, 0.4),
        (-0.55, -0.25, 0.65, 0.92, 0.45),
        (-0.92, -0.7, 0.85, 0.96, 0.62),
        (-0.5, -0.3, 0.12, 0.2, 0.45),
        (-0.25, 0.05, 0.3, 0.75, 0.28),
        (-0.6, -0.2, 0.25, 0.7, 0.55),
    ]
    kind = choose(rng, 0, 5)
    a, b, c, d, high = (value * vary(rng, 0.84, 1.14) for value in kinds[kind])
    waist, sill = -vary(rng, 0.22, 0.46), vary(rng, 0.08, 0.2)
    roof = waist - high
    if kind == 5:
        middle = (a + d) / 2
        cabin = arc(middle, waist + 0.05, (d - a) / 2, high + 0.05, math.pi, 2 * math.pi, steps=12)
    else:
        cabin = polygon((a, waist + 0.05), (b, roof), (c, roof), (d, waist + 0.05))
    parts = []
    if kind in (1, 2) and chance(rng, 0.05):
        parts.append(part(box(b + 0.1, roof - 0.12, c - 0.1, roof + 0.05), "accent"))  # luggage
    parts.append(part(cabin, "second" if chance(rng, 0.05) else "body", textured=True))
    radius = vary(rng, 0.16, 0.3)
    parts.append(part(box(-1, waist, 1, sill, vary(rng, 0.08, 0.22)), textured=True))
    if chance(rng, 0.05):
        parts.append(part(box(-0.96, sill - 0.16, 0.96, sill - 0.04), "accent"))
    low = waist - 0.03
    post = (b + c) / 2 + vary(rng, -0.1, 0.1)
    left, right = b + (a - b) * 0.75 + 0.1, c + (d - c) * 0.75 - 0.1
    inset = roof + 0.1
    front = polygon((left, low), (max(b, left) + 0.06 * (b > left), inset), (post - 0.05, inset), (post - 0.05, low))
    rear = polygon((post + 0.05, low), (post + 0.05, inset), (min(c, right), inset), (right, low))
    if kind == 5:
        front, rear = front * [0.8, 1] - [0.05, 0], rear * [0.85, 1]
    parts.append(group([front] if kind == 3 else [front, rear], "light"))
    parts.append(part(box(-1.02, waist + 0.07, -0.86, waist + 0.22, 0.06), "light"))
    parts.append(part(box(0.9, waist + 0.07, 1.02, waist + 0.22), "accent"))
    if chance(rng, 0.05) and kind != 2:
        parts.append(
            part(polygon((0.75, waist), (0.8, waist - 0.16), (1.08, waist - 0.2), (0.95, waist + 0.05)), "accent")
        )
    axles = [(-vary(rng, 0.52, 0.66), sill), (vary(rng, 0.5, 0.66), sill)]
    parts += [dots(axles, radius, "dark"), dots(axles, vary(rng, 0.4, 0.65) * radius, "light")]
    return fit(parts)


def bicycle(rng: Rng) -> list[Part]:
    """Two rings and a frame, diamond or step-through; three handlebars, basket, rack."""
    tube, tyre = vary(rng, 0.1, 0.13), vary(rng, 0.1, 0.14)
    big, small, ground = vary(rng, 0.3, 0.52), vary(rng, 0.3, 0.52), 0.5
    if chance(rng, 0.9):
        small = big
    front, rear = -vary(rng, 0.55, 0.72), vary(rng, 0.5, 0.78)
    fy, ry = ground - big, ground - small
    parts = []
    disc = choose(rng, 0, 2)
    for x, y, r in ((front, fy, big), (rear, ry, small)):
        if disc == 1:
            parts.append(dot(x, y, r - 0.04, "light"))
        parts.append(ring(x, y, r, r, tyre, "dark" if disc else "second"))
        parts.append(dot(x, y, 0.1, "accent"))
    crank, seat = (-0.02, 0.2), (vary(rng, 0.1, 0.3), -vary(rng, 0.25, 0.6))
    fork = (front + vary(rng, 0.1, 0.3), -vary(rng, 0.3, 0.6))
    low = chance(rng, 0.05)
    joint = (0.1, -0.05) if low else (seat[0], seat[1] + 0.08)
    tubes = [[(rear, ry), crank], [crank, (seat[0], seat[1] - 0.1)], [(rear, ry), joint], [crank, fork], [joint, fork],
        [(front, fy), fork, (fork[0] + 0.06, fork[1] - 0.2)]]  # fmt: skip
    parts.append(group([stroke(t, tube) for t in tubes], textured=True))
    parts.append(dot(*crank, 0.13, "accent"))
    saddle, x, y = (seat[0], seat[1] - 0.14), fork[0] + 0.06, fork[1] - 0.2
    form = choose(rng, 0, 2)
    if form == 0:
        bars = [(x - 0.22, y), (x + 0.12, y)]
    elif form == 1:
        bars = [(x + 0.02, y), (x - 0.22, y), (x - 0.24, y + 0.16), (x - 0.1, y + 0.2)]
    else:
        bars = [(x - 0.02, y), (x + 0.02, y - 0.14), (x + 0.25, y - 0.12)]
    if chance(rng, 0.05):
        parts.append(part(polygon((x - 0.45, y), (x - 0.02, y), (x - 0.02, y + 0.28), (x - 0.38, y + 0.28)), "accent"))
    if chance(rng, 0.05):
        parts.append(part(box(rear - 0.22, ry - small - 0.1, rear + 0.25, ry - small + 0.04), "accent"))
    parts.append(part(stroke(bars, 0.1), "dark"))
    wide = vary(rng, 0.16, 0.22)
    parts.append(part(box(saddle[0] - wide, saddle[1] - 0.06, saddle[0] + wide, saddle[1] + 0.06, 0.05), "dark"))
    return fit(parts)
