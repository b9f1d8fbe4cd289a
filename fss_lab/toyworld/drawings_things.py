"""Drawings of things people carry; each call draws one identity of the class (x to the right, y down)."""

from __future__ import annotations

import math

import numpy as np

from fss_lab.toyworld.drawing_tools import Rng, bar, chance, choose, dot, fit, group, ring, vary
from fss_lab.toyworld.shapes import Outline, Part, arc, box, curve, ellipse, part, polygon, regular, stroke


def key(rng: Rng) -> list[Part]:
    """A bow (ring, square, oval, clover, hexagon) with a hole, a shaft, and one to four teeth."""
    size, thick = vary(rng, 0.32, 0.5), vary(rng, 0.13, 0.22)
    end, form = vary(rng, 0.9, 1.4), choose(rng, 0, 4)
    hole = size - vary(rng, 0.14, 0.2)
    if form == 0:
        bow = ring(0, 0, size, size, size - hole)
    elif form == 1:
        bow = part(box(-size, -size, size, size, 0.12), holes=[box(-hole, -hole, hole, hole)])
    elif form == 2:
        bow = ring(0, 0, 0.75 * size, 1.25 * size, 0.8 * (size - hole))
    elif form == 3:  # a clover with a hole in every leaf
        spots = [(-0.68 * size, 0.0), (0.0, -0.62 * size), (0.0, 0.62 * size)]
        leaves = [ellipse(x, y, 0.58 * size, corners=14) for x, y in spots]
        bow = group(leaves, holes=[ellipse(x, y, 0.26 * size, corners=10) for x, y in spots])
    else:
        bow = part(regular(0, 0, 1.1 * size, 6, math.pi / 6), holes=[ellipse(-0.2 * size, 0, 0.45 * size, corners=14)])
    parts = [Part(bow.outlines, "body", True)]
    near = {2: 0.6, 3: 0.3, 1: 0.85}.get(form, 0.8) * size
    shaft = box(near, -thick / 2, end, thick / 2, 0.05)
    role = "body" if chance(rng, 0.9) else "second"
    bit = choose(rng, 0, 2)
    if bit == 0:  # separate teeth
        teeth = choose(rng, 1, 4)
        step = vary(rng, 0.17, 0.24)
        pieces = [bar(end - 0.08 - i * step, 0, vary(rng, 0.25, 0.45), 0.12) for i in range(teeth)]
        parts.append(group([shaft, *pieces], role, True))
    elif bit == 1:  # a flag with a notch
        tall, wide = vary(rng, 0.35, 0.5), vary(rng, 0.3, 0.42)
        flag = polygon((end - wide, 0), (end, 0), (end, tall), (end - 0.35 * wide, tall),
            (end - 0.35 * wide, tall - 0.16), (end - 0.65 * wide, tall - 0.16), (end - 0.65 * wide, tall),
            (end - wide, tall))  # fmt: skip
        parts.append(group([shaft, flag], role, True))
    else:  # a saw on one side
        tips = choose(rng, 3, 5)
        first = near + 0.35 * (end - near)
        step = (end - first) / tips
        saw = [(first + step * i / 2, vary(rng, 0.24, 0.34) if i % 2 else 0.13) for i in range(2 * tips + 1)]
        parts.append(group([shaft, polygon((first, 0), *saw, (end, 0))], role, True))
    if chance(rng, 0.2):
        parts.append(part(bar(near + vary(rng, 0.1, 0.2), -0.75 * thick - 0.04, 0.75 * thick + 0.04, 0.12), "accent"))
    return fit(parts)


def umbrella(rng: Rng) -> list[Part]:
    """A flat, deep or pagoda canopy of 3-7 panels, plain or in two colours; a hook, grip or knob below."""
    high, count, sag = vary(rng, 0.5, 0.95), choose(rng, 3, 7), vary(rng, 0.12, 0.26)
    pagoda, straight = chance(rng, 0.05), chance(rng, 0.05)
    length, thick = vary(rng, 0.75, 1.15), vary(rng, 0.1, 0.13)
    form, hook = choose(rng, 0, 2), vary(rng, 0.15, 0.22)
    parts = [part(bar(0, -high - vary(rng, 0.1, 0.22), length, thick), "dark")]
    if form == 0:
        side = 1 if chance(rng, 0.5) else -1
        crook = arc(side * hook, length, hook, hook, 0, math.pi, steps=8)
        points = [(float(x), float(y)) for x, y in (crook if side < 0 else crook[::-1])]
        parts.append(part(stroke(points, 1.2 * thick), "accent"))
    elif form == 1:
        parts.append(part(box(-0.11, length - 0.25, 0.11, length + 0.08, 0.08), "accent"))
    else:
        parts.append(dot(0, length, 0.15, "accent"))
    ends = [math.sin(math.pi / 2 * (2 * i / count - 1)) for i in range(count + 1)]
    power = 2.2 if pagoda else 1.0

    def rib(end: float) -> Outline:
        steps = [math.pi / 2 * i / 7 for i in range(8)]
        return np.array([(end * math.sin(s) ** power, -high * math.cos(s)) for s in steps])

    def hem(i: int) -> Outline:
        middle, half = (ends[i] + ends[i + 1]) / 2, (ends[i + 1] - ends[i]) / 2
        return arc(middle, 0, half, 0 if straight else -sag, math.pi, 0, steps=5)

    hems = np.concatenate([hem(i)[:-1] for i in range(count)])
    canopy = np.concatenate([rib(-1.0), hems[1:], rib(1.0)[::-1]])
    parts.append(part(canopy, textured=True))
    style = choose(rng, 0, 2)
    if style:
        panels = [np.concatenate([rib(ends[i]), hem(i)[1:-1], rib(ends[i + 1])[::-1]]) for i in range(1, count, 2)]
        parts.append(group(panels, "second"))
    if style == 2:  # a cap of another colour
        parts.append(part(np.concatenate([rib(-1.0)[:4], rib(1.0)[3::-1]]), "accent"))
    return fit(parts)


def guitar(rng: Rng) -> list[Part]:
    """Acoustic, cutaway, pear-shaped or twin-horned; long or short neck, three heads."""
    form, neck, thick = choose(rng, 0, 3), vary(rng, 0.5, 1.05), vary(rng, 0.15, 0.22)
    low, high, waist = vary(rng, 0.45, 0.58), vary(rng, 0.32, 0.44), vary(rng, 0.24, 0.34)
    half = [(0.0, -0.05), (0.8 * high, 0.0), (high, 0.22), (waist, 0.45), (low, 0.8), (0.7 * low, 1.08), (0.0, 1.14)]
    left = [(-x, y) for x, y in half[-2:0:-1]]
    if form == 0:
        body = curve(half + left, 3)
    elif form == 1:  # cutaway
        body = curve([(0.0, 0.12), (0.7 * high, 0.3), (high, 0.12), (1.1 * high, 0.3), *half[3:], *left], 3)
    elif form == 2:  # a pear
        wide = 0.85 * low
        body = curve([(0, 0), (0.35 * wide, 0.1), (wide, 0.65), (0.7 * wide, 1.02), (0, 1.1), (-0.7 * wide, 1.02),
            (-wide, 0.65), (-0.35 * wide, 0.1)], 4)  # fmt: skip
    else:  # two horns
        horn, other = vary(rng, -0.3, -0.05), vary(rng, -0.15, 0.1)
        body = curve([(0, 0.25), (0.2, 0.2), (0.8 * high, other), (high, 0.3), (waist, 0.5), (0.9 * low, 0.85),
            (0.5 * low, 1.12), (-0.5 * low, 1.12), (-0.9 * low, 0.85), (-waist, 0.5), (-high, 0.25),
            (-0.8 * high, horn), (-0.2, 0.2)], 3)  # fmt: skip
    electric = form == 3
    top = -neck
    parts = [part(body, textured=True)]
    if form == 0 and chance(rng, 0.5):  # a coloured face
        parts.append(part((curve(half + left, 3) - [0, 0.55]) * [0.8, 0.84] + [0, 0.56], "second"))
    if form in (0, 1) and chance(rng, 0.1):
        parts.append(part(curve([(0.1, 0.35), (0.3, 0.4), (0.34, 0.7), (0.12, 0.66)], 3), "accent"))
    pegs, wide = choose(rng, 1, 3), vary(rng, 0.13, 0.18)
    knobs = [box(-wide - 0.1, y, wide + 0.1, y + 0.09) for y in (top - 0.08 - 0.15 * i for i in range(pegs))]
    parts.append(group(knobs, "accent"))
    head = choose(rng, 0, 2)
    crown = top - 0.15 * pegs - 0.08
    if head == 0:
        parts.append(part(box(-wide, crown, wide, top + 0.08, 0.04), "second"))
    elif head == 1:
        parts.append(
            part(polygon((-0.09, top + 0.1), (-wide - 0.05, crown), (wide + 0.05, crown), (0.09, top + 0.1)), "second")
        )
    else:
        rim = [(-wide, crown), (wide + 0.1, crown - 0.12), (wide, top)]
        parts.append(part(polygon((-0.1, top + 0.1), *rim, (0.1, top + 0.1)), "second"))
    parts.append(part(bar(0, top, 0.35, thick), "dark" if chance(rng, 0.5) else "second"))
    if chance(rng, 0.5):
        frets = choose(rng, 2, 4)
        parts.append(
            group([bar(0, top + 0.2 * (i + 1), top + 0.2 * (i + 1) + 0.06, thick) for i in range(frets)], "light")
        )
    if electric:
        parts.append(group([box(-0.17, y, 0.17, y + 0.09) for y in (0.42, 0.58)], "light"))
        parts.append(group([ellipse(0.24, y, 0.06, corners=8) for y in (0.8, 0.95)], "accent"))
        parts.append(part(box(-0.18, 0.78, 0.1, 0.88), "dark"))
    else:
        hole = vary(rng, 0.14, 0.19)
        if chance(rng, 0.9):
            parts.append(dot(0, 0.42, hole + 0.07, "accent"))
        parts += [dot(0, 0.42, hole, "dark"), part(box(-0.22, 0.82, 0.22, 0.91), "dark")]
    return fit(parts)
