"""Drawings of a house and its things; each call draws one identity of the class (x to the right, y down)."""

from __future__ import annotations

import math

import numpy as np

from fss_lab.toyworld.drawing_tools import Rng, bar, chance, choose, dot, dots, fit, group, pair, ring, symmetric, vary
from fss_lab.toyworld.shapes import Part, arc, box, curve, ellipse, part, polygon, stroke


def house(rng: Rng) -> list[Part]:
    """Five roofs, one or two floors, 1-4 windows, a door, perhaps a chimney and a garage."""
    half, high, rise = vary(rng, 0.5, 0.9), vary(rng, 0.65, 1.25), vary(rng, 0.4, 0.75)
    eave, form = half + vary(rng, 0.06, 0.2), choose(rng, 0, 4)
    parts = []
    if chance(rng, 0.05):
        side, low = (-1 if chance(rng, 0.5) else 1), 0.6 * high
        far = side * (half + 0.5)
        parts.append(part(box(min(0, far), -low, max(0, far), 0), "second"))
        parts.append(part(bar(side * (half + 0.24), -0.65 * low, 0, 0.3), "dark"))
    if chance(rng, 0.5):
        parts.append(part(bar(vary(rng, 0.3, 0.6) * half, -high - 0.8 * rise - 0.15, -0.8 * high, 0.2), "accent"))
    parts.append(part(box(-half, -high, half, 0), textured=True))
    if form == 0:  # gable
        roof = polygon((-eave, -high), (0, -high - rise), (eave, -high))
    elif form == 1:  # hip
        ridge = vary(rng, 0.35, 0.65) * half
        roof = polygon((-eave, -high), (-ridge, -high - 0.8 * rise), (ridge, -high - 0.8 * rise), (eave, -high))
    elif form == 2:  # flat
        roof = box(-eave, -high - 0.18, eave, -high + 0.06)
    elif form == 3:  # lean-to
        roof = polygon((-eave, -high - 0.08), (-eave, -high), (eave, -high), (eave, -high - 0.8 * rise))
    else:  # a barn's
        knee = 0.65 * eave
        roof = polygon(
            (-eave, -high), (-knee, -high - 0.65 * rise), (0, -high - rise), (knee, -high - 0.65 * rise), (eave, -high)
        )
    parts.append(part(roof, "second", textured=True))
    if form in (0, 4) and chance(rng, 0.1):
        parts.append(dot(0, -high - 0.35 * rise, 0.13, "light"))
    floors = 2 if high > 0.95 else 1
    columns = 3 if half > 0.72 else 2
    places = [half * (2 * (i + 0.5) / columns - 1) for i in range(columns)]
    door = choose(rng, 0, columns - 1)
    width, sill = vary(rng, 0.24, 0.32), vary(rng, 0.26, 0.36)
    parts.append(part(bar(places[door], -0.5, 0, width), "accent" if chance(rng, 0.5) else "dark"))
    windows = []
    for floor in range(floors):
        y = -high + 0.3 + 0.5 * floor if floors == 2 else -0.62 * high
        windows += [(x, y) for i, x in enumerate(places) if i != door or floor < floors - 1]
    round_by = 0.15 if chance(rng, 0.05) else 0.0
    panes = [box(x - width / 2, y - sill / 2, x + width / 2, y + sill / 2, round_by) for x, y in windows[:4]]
    parts.append(group(panes, "light"))
    return fit(parts)


def mug(rng: Rng) -> list[Part]:
    """Tall or short, straight, tapered or bulging; four handles, perhaps a saucer, a band or a motif."""
    tall, top, foot = vary(rng, 0.55, 1.05), vary(rng, 0.5, 0.7), vary(rng, 0.65, 1.1)
    foot *= top
    belly = (top + foot) / 2 + (vary(rng, 0.08, 0.18) if chance(rng, 0.05) else 0.0)
    thick, out, drop = vary(rng, 0.13, 0.18), vary(rng, 0.38, 0.55), vary(rng, 0.35, 0.5) * tall
    x, form = min(top, belly), choose(rng, 0, 3)
    if form == 0:
        handle = ring(x, 0, out, max(drop, 0.28), thick, "body")
    elif form == 1:
        handle = part(box(0, -drop, x + out, drop, 0.1), holes=[box(0, thick - drop, x + out - thick, drop - thick)])
    elif form == 2:  # pointed
        outer = polygon((0, -drop), (x + out, -drop), (0.8 * x, drop + 0.1))
        inner = polygon((0, thick - drop), (x + out - 1.7 * thick, thick - drop), (0.8 * x, drop - 1.0 * thick))
        handle = part(outer, holes=[inner])
    else:  # an ear
        ear = [(x - 0.1, -0.9 * drop), (x + 0.8 * out, -drop), (x + out, -0.2 * drop), (x + 0.5 * out, 0.5 * drop),
            (x - 0.1, drop)]  # fmt: skip
        handle = part(stroke(ear, thick))
    parts = [handle]
    if chance(rng, 0.05):
        wide = top + vary(rng, 0.3, 0.5)
        parts.append(part(symmetric((wide, tall - 0.06), (0.55 * wide, tall + 0.14)), "second"))
    side = [(top, -tall), (belly, 0.0), (0.96 * foot, 0.75 * tall), (0.8 * foot, tall)]
    walls = side if belly > (top + foot) / 2 else [side[0], (0.98 * foot, 0.8 * tall), side[3]]
    parts.append(part(symmetric(*walls), textured=True))
    mark = choose(rng, 0, 3)
    if mark == 1:
        parts.append(part(box(-0.93 * min(top, foot, belly), -0.2, 0.93 * min(top, foot, belly), 0.15), "accent"))
    elif mark == 2:
        heart = symmetric((0, -0.12), (0.1, -0.25), (0.27, -0.2), (0.3, 0.0), (0, 0.3))
        parts.append(part(heart, "accent"))
    elif mark == 3:
        parts.append(dot(0, 0, 0.24, "accent"))
    rim = vary(rng, 0.1, 0.2)
    parts.append(part(ellipse(0, -tall, top + 0.03, rim, corners=20), "second"))
    parts.append(part(ellipse(0, -tall, top - 0.07, rim - 0.05, corners=18), "dark"))
    return fit(parts)


def chair(rng: Rng) -> list[Part]:
    """From the front: five backs over a seat, on four legs or one foot, with or without arms."""
    top, front, rise = vary(rng, 0.4, 0.55), vary(rng, 0.5, 0.68), vary(rng, 0.75, 1.15)
    deep, legs, thick = vary(rng, 0.22, 0.35), vary(rng, 0.5, 0.8), vary(rng, 0.11, 0.16)
    parts = []
    if chance(rng, 0.05):  # one foot
        base = vary(rng, 0.35, 0.55)
        parts.append(group([bar(0, 0, deep + legs, 0.18), ellipse(0, deep + legs, base, 0.12, corners=16)], "dark"))
    else:
        splay = vary(rng, -0.02, 0.16)
        parts.append(pair(stroke([(0.7 * top, 0), (0.7 * top + splay / 2, deep + 0.7 * legs)], 0.1), "dark"))
        parts.append(pair(stroke([(front - thick, 0.05), (front - thick + splay, deep + legs)], thick), "second"))
        if chance(rng, 0.05):
            parts.append(part(box(-front + thick, deep + 0.4 * legs, front - thick, deep + 0.4 * legs + 0.1), "second"))
    form = choose(rng, 0, 4)
    if form == 0:
        parts.append(part(box(-top, -rise, top, 0.05, vary(rng, 0, 0.35)), textured=True))
    elif form in (1, 2):  # a frame with upright or level bars
        inner = top - 0.13
        count = choose(rng, 2, 3)
        if form == 1:
            gap = (2 * inner - 0.11 * (count - 1)) / count
            spots = [-inner + i * (gap + 0.11) for i in range(count)]
            holes = [box(x, 0.16 - rise, x + gap, 0) for x in spots]
        else:
            gap = (rise - 0.16 - 0.13 * (count - 1)) / count
            holes = [box(-inner, y, inner, y + gap) for y in (0.16 - rise + i * (gap + 0.13) for i in range(count))]
        parts.append(part(box(-top, -rise, top, 0.05, 0.12), holes=holes, textured=True))
    elif form == 3:  # a round back on two posts
        parts.append(pair(bar(0.6 * top, -0.5 * rise, 0.05, 0.12), "second"))
        parts.append(part(ellipse(0, -0.66 * rise, 1.1 * top, 0.38 * rise, corners=20), textured=True))
    else:  # an armchair's wings
        parts.append(part(box(-top, -rise, top, 0.05, 0.3), textured=True))
        parts.append(pair(box(front - 0.16, -0.42, front + 0.12, deep, 0.14), "second"))
    seat = polygon((-top, 0), (top, 0), (front, deep), (-front, deep))
    parts.append(part(seat, "accent" if chance(rng, 0.5) else "body"))
    parts.append(part(box(-front, deep - 0.02, front, deep + vary(rng, 0.1, 0.18)), "second"))
    return fit(parts)


def lamp(rng: Rng) -> list[Part]:
    """A table or floor lamp with a conical, straight, domed or bell shade."""
    base = vary(rng, 0.3, 0.5)
    tall, low, top = vary(rng, 0.5, 1.5), vary(rng, 0.5, 0.75), vary(rng, 0.2, 0.45)
    shade, thick = vary(rng, 0.5, 0.8), vary(rng, 0.1, 0.16)
    parts, foot = [], choose(rng, 0, 3)
    parts.append(part(bar(0, -0.1, tall, thick), "second"))
    if foot == 0:  # a plate
        parts.append(part(box(-base, tall - 0.06, base, tall + 0.1, 0.06), "second"))
    elif foot == 1:  # a dome
        parts.append(part(arc(0, tall + 0.08, base, 0.26, math.pi, 2 * math.pi, steps=10), "second"))
    elif foot == 2:  # a vase
        wide, end = vary(rng, 0.24, 0.4), max(tall, 0.6)
        vase = [(-0.1, end - 0.55), (0.1, end - 0.55), (wide, end - 0.2), (0.6 * wide, end + 0.08),
            (-0.6 * wide, end + 0.08), (-wide, end - 0.2)]  # fmt: skip
        parts.append(part(curve(vase, 4), "second", textured=True))
    else:  # three legs
        legs = [stroke([(0, tall - 0.35), (x, tall + 0.08)], 0.11) for x in (-base, 0, base)]
        parts.append(group(legs, "second"))
    if chance(rng, 0.05):
        x = 0.5 * low * (1 if chance(rng, 0.5) else -1)
        parts += [part(bar(x, -0.1, 0.2, 0.08), "dark"), dot(x, 0.24, 0.09, "accent")]
    if chance(rng, 0.5):
        parts.append(part(ellipse(0, 0, 0.18, 0.14, corners=14), "light"))
    form = choose(rng, 0, 3)
    if form == 0:
        cover = polygon((-low, 0), (-top, -shade), (top, -shade), (low, 0))
    elif form == 1:
        cover = box(-0.85 * low, -shade, 0.85 * low, 0)
    elif form == 2:
        cover = arc(0, 0, low, 0.9 * shade, math.pi, 2 * math.pi, steps=14)
    else:  # a bell
        side = [(top, -shade), (0.85 * top, -0.6 * shade), (0.65 * low, -0.25 * shade), (low, 0)]
        cover = polygon(*[(-x, y) for x, y in reversed(side)], *side)
    parts.append(part(cover, textured=True))
    trim = choose(rng, 0, 2)
    if trim == 1:
        edge = 0.85 * low if form == 1 else low - 0.02
        parts.append(part(box(-edge, -0.13, edge, 0), "accent"))
    elif trim == 2:
        parts.append(dot(0, -shade * (0.9 if form == 2 else 1.0), 0.1, "accent"))
    return fit(parts)


def teapot(rng: Rng) -> list[Part]:
    """Round, tall, flat or angular; spout to the left, handle behind or over the top, lid with a knob."""
    wide, high, form = vary(rng, 0.5, 0.68), vary(rng, 0.38, 0.62), choose(rng, 0, 3)
    thick, tip = vary(rng, 0.12, 0.17), -vary(rng, 0.15, 0.5)
    parts = []
    over = chance(rng, 0.05)
    if over:
        loop = vary(rng, 0.55, 0.75)
        outer = arc(0, -0.5 * high, 0.9 * wide, loop + 0.3, math.pi, 2 * math.pi, steps=14)
        inner = arc(0, -0.5 * high, 0.9 * wide - thick, loop + 0.3 - thick, math.pi, 2 * math.pi, steps=12)
        parts.append(part(np.concatenate([outer, inner[::-1]]), "second"))
    else:
        size = vary(rng, 0.3, 0.42)
        if chance(rng, 0.9):
            parts.append(ring(wide + 0.05, -0.05, size, vary(rng, 0.28, 0.4), thick, "second"))
        else:
            right, top = wide + size, -vary(rng, 0.28, 0.4)
            hole = box(0.5 * wide + thick, top + thick, right - thick, 0.3 - thick)
            parts.append(part(box(0.5 * wide, top, right, 0.3, 0.08), "second", holes=[hole]))
    out = wide + vary(rng, 0.35, 0.5)
    if chance(rng, 0.9):  # a swan's neck
        spout = [(-0.6 * wide, 0.2), (-wide - 0.08, 0.12), (-out + 0.14, 0.5 * tip), (-out, tip)]
        parts.append(part(stroke(spout, 0.34, 0.16), "second"))
    else:
        parts.append(
            part(polygon((-0.5 * wide, 0.3), (-out, tip), (-out + 0.22, tip - 0.06), (-0.5 * wide, -0.25)), "second")
        )
    if chance(rng, 0.5):
        parts.append(part(box(-0.6 * wide, 0.7 * high, 0.6 * wide, high + 0.1), "second"))
    if form == 0:
        body = ellipse(0, 0, wide, high, corners=26)
    elif form == 1:  # a pear
        side = [(0.5 * wide, -high), (0.75 * wide, -0.3 * high), (wide, 0.45 * high), (0.6 * wide, high)]
        body = curve(symmetric(*side), 3)
    elif form == 2:  # angular
        body = symmetric((0.55 * wide, -high), (wide, 0.2 * high), (0.7 * wide, high))
    else:  # a can
        body = polygon((-0.7 * wide, -1.1 * high), (0.7 * wide, -1.1 * high), (0.95 * wide, high), (-0.95 * wide, high))
    parts.append(part(body, textured=True))
    mark = choose(rng, 0, 3)
    if mark == 1:
        parts.append(part(box(-0.86 * wide, -0.02, 0.86 * wide, 0.14), "accent"))
    elif mark == 2:
        parts.append(dot(0, 0.05, 0.2, "accent"))
    elif mark == 3:
        parts.append(dots([(x * wide, 0.1) for x in (-0.5, 0, 0.5)], 0.09, "light"))
    lid, top = 0.62 * wide, -high * (0.82 if form == 0 else 1.0 if form != 3 else 1.1)
    rise = vary(rng, 0.16, 0.28)
    parts.append(part(arc(0, top + 0.03, lid, rise, math.pi, 2 * math.pi, steps=10), "second"))
    parts.append(dot(0, top - rise - 0.03, vary(rng, 0.09, 0.13), "accent"))
    return fit(parts)
