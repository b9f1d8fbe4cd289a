"""Drawings of animals; each call draws one identity of the class (x to the right, y down)."""

from __future__ import annotations

import math

import numpy as np

from fss_lab.toyworld.drawing_tools import Rng, chance, choose, dot, eye, fit, leaf, pair, shift, vary
from fss_lab.toyworld.shapes import Part, arc, curve, ellipse, part, polygon, stroke


def fish(rng: Rng) -> list[Part]:
    """Long, round or angular, swimming left; five tails, three back fins, stripes or a pale belly."""
    high, top, root = vary(rng, 0.25, 0.62), vary(rng, -0.35, 0.1), vary(rng, 0.05, 0.1)
    belly = high * vary(rng, 0.8, 1.1)
    points = [(-0.8, 0.0), (-0.62, -0.5 * high), (top, -high), (0.3, -0.55 * high), (0.6, -root)]
    body = curve(points + [(x, -y * belly / high) for x, y in points[:0:-1]], 3)
    spread, long = vary(rng, 0.25, 0.5), vary(rng, 0.9, 1.15)
    form = choose(rng, 0, 4)
    if form == 0:  # forked
        tail = polygon((0.5, 0), (long, -spread), (0.78, 0), (long, spread))
    elif form == 1:  # a fan
        tail = np.concatenate([[(0.5, 0.0)], arc(0.75, 0, 0.3, spread, -1.3, 1.3, steps=8)])
    elif form == 2:  # straight
        tail = polygon((0.5, 0), (0.9, -spread), (0.9, spread))
    elif form == 3:  # a shark's
        tail = polygon((0.5, 0), (0.75, -0.3), (long, -1.25 * spread - 0.2), (0.86, 0), (0.97, 0.7 * spread))
    else:  # two lobes
        lobe = leaf((0.48, 0), (long, spread), 0.32)
        tail = np.concatenate([lobe * [1, -1], lobe[::-1]])
    parts = [part(tail, "second")]
    fin, rise = choose(rng, 0, 3), vary(rng, 0.18, 0.38)
    if fin == 1:
        parts.append(part(polygon((-0.3, -0.7 * high), (0.2, -high - rise), (0.35, -0.4 * high)), "second"))
    elif fin == 2:
        parts.append(part(arc(0.0, -0.6 * high, 0.45, 0.35 * high + rise, math.pi, 2 * math.pi, steps=10), "second"))
    elif fin == 3:
        spikes = [(-0.4 + 0.2 * i, -high - (rise if i % 2 else 0.0)) for i in range(5)]
        parts.append(part(polygon((-0.4, -0.5 * high), *spikes, (0.4, -0.4 * high)), "second"))
    if chance(rng, 0.9):
        parts.append(part(polygon((-0.2, 0.6 * belly), (0.25, belly + 0.8 * rise), (0.25, 0.5 * belly)), "second"))
    parts.append(part(body, "body", textured=True))
    mark = choose(rng, 0, 3)
    if mark == 1:
        places = [(-0.28, 0.8), (0.02, 0.78), (0.3, 0.5)][: choose(rng, 1, 3)]
        parts += [part(ellipse(x, 0, 0.08, tall * min(high, belly), corners=12), "accent") for x, tall in places]
    elif mark == 2:
        parts.append(part(ellipse(-0.1, 0.55 * belly, 0.4, 0.35 * belly, corners=18), "light"))
    elif mark == 3:
        parts.append(part(polygon((-0.05, -0.15), (0.28, 0.0), (-0.02, 0.2), (-0.12, 0.02)), "second"))
    return fit([*parts, *eye(-0.52, -0.18 * high, vary(rng, 0.1, 0.14))])


def cat(rng: Rng) -> list[Part]:
    """Sitting and looking at us: pointed ears, two eyes, a nose, two paws and a tail, raised or lying."""
    fat, size = vary(rng, 0.8, 1.35), vary(rng, 0.34, 0.5)
    coat = chance(rng, 0.1)  # paws and tail tip in another colour
    side, lift = vary(rng, 0.6, 0.85), vary(rng, -0.35, 0.75)
    tail = [(0.2, 0.85), (side, 0.8), (side + 0.15, 0.6), (side, 0.5 * lift + 0.4), (side + 0.12, lift)]
    parts = [part(stroke(tail, 0.2, 0.16), "second" if coat else "body")]
    hip, chest = 0.5 * fat, 0.28 * fat
    points = [(0, -0.5), (chest, -0.2), (hip, 0.5), (0.85 * hip, 0.92), (-0.85 * hip, 0.92)]
    parts.append(part(curve([*points, (-hip, 0.5), (-chest, -0.2)], 4), textured=True))
    if chance(rng, 0.5):
        parts.append(part(ellipse(0, 0.2, 0.6 * chest, 0.38, corners=16), "light"))
    parts.append(pair(ellipse(0.2 * fat, 0.87, 0.17, 0.11, corners=12), "second" if coat else "light"))
    return fit(parts + _cat_head(rng, vary(rng, -0.1, 0.1), -0.6, size))


def _cat_head(rng: Rng, x: float, y: float, size: float) -> list[Part]:
    wide, ear, out = vary(rng, 1.0, 1.25), vary(rng, 1.3, 1.65), vary(rng, 0.75, 1.0)
    ears = polygon((0.1, -0.7), (out, -ear), (0.95 * wide, -0.1))
    inner = polygon((0.35, -0.75), (0.93 * out, -0.82 * ear), (0.8 * wide, -0.4))
    head = [pair(ears), pair(inner, "accent"), part(ellipse(0, 0, wide, 0.9, corners=24), textured=True)]
    if chance(rng, 0.1):
        head.append(part(polygon((-0.35, -0.85), (0.35, -0.85), (0, -0.15)), "second"))
    if chance(rng, 0.9):
        head.append(part(ellipse(0, 0.42, 0.5, 0.36, corners=14), "light"))
    apart = 0.45 * wide
    head += [pair(ellipse(apart, -0.08, 0.25, 0.22, corners=12), "light")]
    head += [pair(ellipse(apart, -0.08, 0.1, 0.2, corners=10), "dark")]
    head.append(part(polygon((-0.17, 0.22), (0.17, 0.22), (0, 0.42)), "dark"))
    return shift(head, x, y, size)


def bird(rng: Rng) -> list[Part]:
    """Plump, long-necked or long-legged; wing folded or raised, four beaks, three tails, perhaps a crest."""
    long, high, tilt = vary(rng, 0.45, 0.62), vary(rng, 0.3, 0.45), vary(rng, -0.1, 0.35)
    neck, head = (vary(rng, 0.4, 0.8) if chance(rng, 0.05) else 0.0), vary(rng, 0.2, 0.3)
    x = -0.75 * long - 0.12 - vary(rng, 0.0, 0.2) * neck
    y = -0.8 * high - 0.1 - neck
    rear = (0.85 * long * math.cos(tilt), 0.85 * long * math.sin(tilt))
    parts = []
    legs = vary(rng, 0.15, 0.75) if neck else vary(rng, 0.12, 0.35)
    if chance(rng, 0.95):
        ground = 0.8 * high + legs
        for foot in (-0.12, 0.16):
            toes = [(foot - 0.2, ground), (foot - 0.2, ground - 0.08), (foot - 0.045, ground - 0.08)]
            leg = polygon((foot - 0.045, 0), (foot + 0.045, 0), (foot + 0.045, ground), *toes)
            parts.append(part(leg, "accent"))
    tail, reach, droop = choose(rng, 0, 2), vary(rng, 0.4, 0.75), vary(rng, -0.35, 0.25)
    end = (rear[0] + reach, rear[1] + droop)
    if tail == 0:  # a blunt bar
        parts.append(part(stroke([(0.3 * long, 0), end], 0.3, 0.22), "second"))
    elif tail == 1:  # forked
        fork = [(end[0], end[1] - 0.17), (end[0] - 0.22, end[1] + 0.02), (end[0], end[1] + 0.2)]
        parts.append(part(polygon((0.3 * long, -0.12), *fork, (0.3 * long, 0.14)), "second"))
    else:  # a fan
        parts.append(part(stroke([(0.4 * long, 0), end], 0.12, 0.6), "second"))
    throat = [(x, y), (x - 0.02, y + 0.5 * neck), (-0.55 * long, -0.1)]
    parts.append(part(stroke(throat, 1.1 * head if neck else 1.7 * head, 0.9 * high)))
    parts.append(part(ellipse(0, 0, long, high, tilt, corners=24), textured=True))
    if chance(rng, 0.2):
        parts.append(part(ellipse(-0.25 * long, 0.35 * high, 0.55 * long, 0.5 * high, tilt + 0.3, corners=16), "light"))
    crest = choose(rng, 0, 3)
    if crest == 1:
        parts.append(part(polygon((x - 0.05, y - 0.8 * head), (x + 0.5, y - head - 0.2), (x + 0.1, y + 0.1)), "accent"))
    bill, form = vary(rng, 0.18, 0.45), choose(rng, 0, 3)
    tip = x - 0.8 * head - bill
    if form == 0:
        beak = polygon((x, y - 0.45 * head), (tip, y + 0.05), (x, y + 0.5 * head))
    elif form == 1:  # hooked
        beak = polygon((x, y - 0.6 * head), (tip + 0.06, y - 0.08), (tip, y + 0.22), (x, y + 0.5 * head))
    elif form == 2:  # a duck's
        beak = polygon((x, y - 0.3 * head), (tip + 0.1, y + 0.02), (tip, y), (tip, y + 0.13), (x, y + 0.6 * head))
    else:  # open
        beak = polygon((x, y - 0.5 * head), (tip, y - 0.12), (x - 0.9 * head, y + 0.04), (tip + 0.06, y + 0.18),
            (x, y + 0.6 * head))  # fmt: skip
    parts += [part(beak, "accent"), dot(x, y, head, "second" if chance(rng, 0.05) else "body")]
    parts += eye(x - 0.25 * head, y - 0.15 * head, 0.36 * head)
    if chance(rng, 0.1):  # raised
        lift, back = vary(rng, 0.65, 0.95), vary(rng, 0.2, 0.7)
        wing = [(-0.3, 0.05), (back - 0.35, -lift), (back + 0.1, -0.9 * lift), (back + 0.15, -0.55), (0.35, 0.02)]
        parts.append(part(curve(wing, 4), "second"))
    else:
        wide = vary(rng, 0.35, 0.6) * high
        wing = [(-0.5 * long, -0.1), (-0.1, -0.1 - wide), (0.7 * long, 0.1), (1.05 * long, 0.25), (0.05, wide)]
        parts.append(part(curve(wing, 4), "second"))
    return fit(parts)


def butterfly(rng: Rng) -> list[Part]:
    """From above: round, pointed or broad upper wings, round or tailed lower wings; spots and borders."""
    out, up = vary(rng, 0.75, 1.05), vary(rng, 0.6, 1.0)
    form = choose(rng, 0, 2)
    if form == 0:  # round
        upper = [(0.0, 0.1), (0.1, -0.35), (0.6 * out, -up), (out, -0.75 * up), (0.95 * out, -0.1), (0.5, 0.12)]
    elif form == 1:  # pointed
        upper = [(0.0, 0.1), (0.15, -0.3), (0.7 * out, -0.8 * up), (1.1 * out, -up), (0.85 * out, -0.3), (0.5, 0.1)]
    else:  # broad
        upper = [(0.0, 0.1), (0.25, -0.25), (0.95 * out, -0.65 * up), (1.05 * out, -0.4 * up), (0.9 * out, 0.1),
            (0.4, 0.12)]  # fmt: skip
    wide, low = vary(rng, 0.45, 0.8), vary(rng, 0.45, 0.85)
    lower = [(0.0, -0.05), (0.5 * wide, -0.05), (wide, 0.2), (0.85 * wide, 0.8 * low), (0.4 * wide, low),
        (0.1, 0.4 * low)]  # fmt: skip
    parts = []
    if chance(rng, 0.05):  # a swallowtail
        parts.append(pair(leaf((0.4 * wide, 0.5 * low), (0.75 * wide, low + 0.4), 0.24), "second"))
    parts.append(pair(curve(lower, 3), "second", textured=chance(rng, 0.5)))
    parts.append(pair(curve(upper, 3), "body", textured=True))
    mark = choose(rng, 0, 3)
    if mark in (1, 3):
        size = vary(rng, 0.1, 0.18)
        parts.append(pair(ellipse(0.65 * out, -0.45 * up, size, corners=12), "accent"))
        parts.append(pair(ellipse(0.55 * wide, 0.45 * low, 0.8 * size, corners=12), "light"))
    if mark == 2:
        parts.append(pair(curve([(0.6 * px + 0.06, 0.6 * py - 0.04) for px, py in upper], 3), "accent"))
    if mark == 3:
        parts.append(pair(ellipse(0.33 * out, -0.25 * up, 0.09, corners=10), "light"))
    spread, length = vary(rng, 0.15, 0.4), vary(rng, 0.35, 0.55)
    parts.append(
        pair(stroke([(0.02, -0.3), (0.5 * spread, -0.3 - 0.7 * length), (spread, -0.3 - length)], 0.08), "dark")
    )
    thick = vary(rng, 0.08, 0.14)
    parts.append(part(ellipse(0, 0.08, thick, vary(rng, 0.42, 0.6), corners=16), "dark"))
    parts.append(dot(0, -0.38, 1.1 * thick, "dark"))
    return fit(parts)


def snail(rng: Rng) -> list[Part]:
    """A shell with a spiral or rings on a long foot; head raised on the left."""
    size, at = vary(rng, 0.45, 0.65), vary(rng, 0.05, 0.3)
    tail, neck, lift = vary(rng, 0.75, 1.1), vary(rng, 0.65, 0.9), vary(rng, 0.1, 0.5)
    parts = []
    for lean in (-0.16, 0.1):
        tip = (-neck + lean * 1.6, 0.4 - lift - vary(rng, 0.4, 0.55))
        parts += [part(stroke([(-neck, 0.4 - lift), tip], 0.1, 0.08), "second"), dot(*tip, 0.085, "dark")]
    foot = [(tail, 0.72), (0.5 * tail, 0.5), (-0.35, 0.45), (-neck + 0.2, 0.45 - lift), (-neck, 0.28 - lift)]
    foot += [(-neck - 0.2, 0.42 - lift), (-neck - 0.08, 0.68 - 0.5 * lift), (-0.5, 0.74), (0, 0.76)]
    parts.append(part(curve(foot, 3), "second"))
    y = 0.55 - 0.85 * size
    parts.append(part(ellipse(at, y, size, size * vary(rng, 0.85, 1.05), corners=24), textured=True))
    role = "dark" if chance(rng, 0.1) else "accent"
    if chance(rng, 0.9):
        turns, line = vary(rng, 1.5, 2.1), vary(rng, 0.09, 0.12)
        count = 20
        spiral = []
        for i in range(count + 1):
            angle, reach = 2 * math.pi * turns * i / count + 0.5, size * (0.78 - 0.72 * i / count)
            spiral.append((at + reach * math.cos(angle), y + reach * math.sin(angle)))
        parts.append(part(stroke(spiral, line), role))
    else:
        parts.append(dot(at - 0.08 * size, y + 0.08 * size, 0.66 * size, role))
        parts.append(dot(at - 0.12 * size, y + 0.12 * size, 0.4 * size, "body"))
        if chance(rng, 0.5):
            parts.append(dot(at - 0.12 * size, y + 0.12 * size, 0.16 * size, role))
    return fit(parts)
