"""The pre-training corpus: classes composed at random, disjoint from the toy world's named ones.

A class is a recipe: which outlines, where, how large; alone, mirrored, in a row or around the centre. An identity
follows the recipe with its own proportions, colours and texture. What is learned on many such classes ("shape and
part layout make the class") is then tried on drawings that pre-training never saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fss_lab.datasets import shapes
from fss_lab.datasets.scenes import (
    Identity,
    Rng,
    Scene,
    clip_poses,
    draw_background,
    draw_radius,
    dress,
    render,
    scatter,
)
from fss_lab.datasets.shapes import Outline, Part, part

KINDS = (
    "ellipse", "box", "polygon", "star", "blob", "drop", "crescent", "ring", "bar", "trapezoid", "arch", "tail"
)  # fmt: skip
LAYOUTS = ("alone", "alone", "mirrored", "mirrored", "row", "radial")
RADII = (0.1, 0.36)  # of the image's size
ROLES = ("body", "second", "accent", "dark", "light")


@dataclass(frozen=True)
class Piece:
    """One line of a recipe: an outline of size (rx, ry) about (x, y), and how often it is repeated there.

    layout: "alone"; "mirrored" left-right; `copies` in a "row" through (x, y); or "radial", all round the centre.
    """

    kind: str
    x: float
    y: float
    rx: float
    ry: float
    turn: float
    role: str
    layout: str
    copies: int
    optional: bool
    numbers: tuple[float, ...]  # what the kind needs: corners, notch depth, bumps …


@dataclass(frozen=True)
class RandomClass:
    """A class of the corpus: its number and its recipe, back to front."""

    class_id: int
    pieces: tuple[Piece, ...]

    @classmethod
    def compose(cls, class_id: int, seed: int = 0) -> RandomClass:
        """The class with this number; the same for the same seed on every machine."""
        rng = np.random.default_rng([seed, class_id])
        pieces = [_piece(rng, 0.0, 0.0, 0.45 + 0.3 * rng.random(), ROLES[0])]
        for _ in range(int(rng.integers(1, 5))):  # limbs: on the body's rim
            angle, reach = 2 * math.pi * rng.random(), 0.45 + 0.3 * rng.random()
            x, y = reach * math.cos(angle), reach * math.sin(angle)
            role = ROLES[int(rng.integers(3))]
            pieces.insert(0, _piece(rng, x, y, 0.16 + 0.3 * rng.random(), role, LAYOUTS))
        for _ in range(int(rng.integers(0, 4))):  # details: on the body
            x, y = (0.6 * (2 * rng.random() - 1) * 0.6 for _ in range(2))
            role = ROLES[int(rng.integers(1, 5))]
            pieces.append(_piece(rng, x, y, 0.08 + 0.14 * rng.random(), role, LAYOUTS))
        return cls(class_id, tuple(pieces))

    def draw(self, rng: Rng) -> Identity:
        """One identity of the class."""
        stretch = [0.78 + 0.44 * rng.random() for _ in range(2)]
        parts: list[Part] = []
        for piece in self.pieces:
            if piece.optional and rng.random() < 0.35:
                continue
            parts += _draw_piece(rng, piece, stretch)
        return dress(rng, self.class_id, parts)


class RandomScenes:
    """Scenes and clips of randomly composed classes.

    Args:
        classes: how many classes there are, numbered 0 … classes - 1.
        seed: chooses the classes; scenes take their own generator.
        size: height and width of the images in pixels.
    """

    def __init__(self, classes: int = 400, seed: int = 0, size: int = 256):
        self.classes = [RandomClass.compose(class_id, seed) for class_id in range(classes)]
        self.size = size

    def scene(self, rng: Rng, class_ids: list[int]) -> Scene:
        """A scene with one new identity of each class listed, the last one in front."""
        identities = [self.classes[class_id].draw(rng) for class_id in class_ids]
        poses = scatter(rng, self.size, self._radii(rng, len(identities)), turn=0.5)
        return render(draw_background(rng, self.size), identities, poses, rng)

    def clip(self, rng: Rng, frames: int, objects: int, jump: bool) -> list[Scene]:
        """The same identities in `frames` scenes: moving smoothly, or with `jump` placed and sized anew in each.

        Instances keep their numbers; later ones stand in front.
        """
        chosen = rng.choice(len(self.classes), objects, replace=False)
        identities = [self.classes[int(class_id)].draw(rng) for class_id in chosen]
        background = draw_background(rng, self.size)
        first = scatter(rng, self.size, self._radii(rng, objects))
        if not jump:
            paths = [clip_poses(rng, pose, frames, self.size) for pose in first]
            return [render(background, identities, list(poses), rng) for poses in zip(*paths, strict=True)]
        clip = [render(background, identities, first, rng)]
        for _ in range(frames - 1):
            poses = scatter(rng, self.size, self._radii(rng, objects))
            clip.append(render(draw_background(rng, self.size), identities, poses, rng))
        return clip

    def _radii(self, rng: Rng, count: int) -> list[float]:
        return [draw_radius(rng, self.size, *RADII) for _ in range(count)]


def _piece(rng: Rng, x: float, y: float, radius: float, role: str, layouts: tuple[str, ...] = ()) -> Piece:
    """A random piece; without layouts to choose from it is the body, upright and never left out."""
    slim = 0.45 + 0.75 * rng.random()
    kind = KINDS[int(rng.integers(len(KINDS)))]
    turn = 0.0 if not layouts or rng.random() < 0.3 else 2 * math.pi * rng.random()
    layout = layouts[int(rng.integers(len(layouts)))] if layouts else "alone"
    copies = {"alone": 1, "mirrored": 2, "row": int(rng.integers(2, 5)), "radial": int(rng.integers(3, 8))}[layout]
    if layout in ("row", "radial"):
        radius /= copies**0.5
    optional = bool(layouts) and radius < 0.25 and rng.random() < 0.3
    numbers = tuple(rng.random() for _ in range(8))
    return Piece(kind, x, y, radius, radius * slim, turn, role, layout, copies, optional, numbers)


def _draw_piece(rng: Rng, piece: Piece, stretch: list[float]) -> list[Part]:
    """The piece in this identity's proportions, a part for each copy."""
    rx, ry = (r * s * (0.82 + 0.36 * rng.random()) for r, s in zip((piece.rx, piece.ry), stretch, strict=True))
    x, y = (p * s + 0.06 * (2 * rng.random() - 1) for p, s in zip((piece.x, piece.y), stretch, strict=True))
    turn = piece.turn + 0.25 * (2 * rng.random() - 1)
    unit = [outline * [rx, ry] for outline in _unit(rng, piece)]
    placed = [[shapes.move(outline, x, y, turn=turn) for outline in unit]]
    if piece.layout == "mirrored":
        placed.append([shapes.mirror(outline) for outline in placed[0]])
    elif piece.layout == "row":
        gap, way = 2.4 * rx, math.pi * round(2 * piece.numbers[7]) / 2  # along x or y
        shifts = [gap * (i - (piece.copies - 1) / 2) for i in range(piece.copies)]
        placed = [[shapes.move(outline, math.cos(way) * d, math.sin(way) * d) for outline in placed[0]] for d in shifts]
    elif piece.layout == "radial":
        turns = [2 * math.pi * i / piece.copies for i in range(piece.copies)]
        placed = [[shapes.move(outline, turn=t) for outline in placed[0]] for t in turns]
    textured = piece.rx > 0.2
    return [part(first, piece.role, holes=holes, textured=textured) for first, *holes in placed]


def _unit(rng: Rng, piece: Piece) -> list[Outline]:
    """The piece's outline (and hole) with half axes 1, its numbers varied a little for this identity."""
    n = [number + 0.12 * (2 * rng.random() - 1) for number in piece.numbers]
    corners = 3 + int(4 * piece.numbers[0])
    if piece.kind == "ellipse":
        return [shapes.ellipse(0, 0, 1)]
    if piece.kind == "box":
        return [shapes.box(-1, -1, 1, 1, 0.5 * abs(n[1]))]
    if piece.kind == "polygon":
        return [shapes.regular(0, 0, 1.1, corners, 2 * math.pi * piece.numbers[1])]
    if piece.kind == "star":
        return [shapes.star(0, 0, 1.2, 0.35 + 0.45 * min(max(n[1], 0), 1), corners + 1, 2 * math.pi * piece.numbers[2])]
    if piece.kind == "blob":
        angles = [2 * math.pi * i / 8 for i in range(8)]
        return [
            shapes.curve(
                [
                    ((0.55 + 0.6 * r) * math.cos(a), (0.55 + 0.6 * r) * math.sin(a))
                    for a, r in zip(angles, n, strict=True)
                ],
                3,
            )
        ]
    if piece.kind == "drop":
        return [np.concatenate([shapes.arc(0, 0.25, 0.8, 0.75, -0.15, math.pi + 0.15), [[0.0, -0.9 - 0.5 * n[1]]]])]
    if piece.kind == "crescent":
        back = shapes.arc(0, 0, 1, 1, -math.pi / 2, math.pi / 2)
        return [
            np.concatenate([back, (shapes.arc(0, 0, 0.2 + 0.5 * abs(n[1]), 1, -math.pi / 2, math.pi / 2))[::-1][1:-1]])
            - [0.5, 0]
        ]
    if piece.kind == "ring":
        return [shapes.ellipse(0, 0, 1), shapes.ellipse(0, 0, 0.4 + 0.35 * min(max(n[1], 0), 1))]
    if piece.kind == "bar":
        return [shapes.box(-1.3, -0.35, 1.3, 0.35, 0.3 * abs(n[1]))]
    if piece.kind == "arch":
        return [np.concatenate([shapes.arc(0, 0, 1, 1, -2.4, 0.9), shapes.arc(0, 0, 0.6, 0.6, -2.4, 0.9)[::-1]])]
    if piece.kind == "tail":
        bend = 1.6 * (n[1] - 0.5)
        return [shapes.stroke([(-1, bend), (-0.4, 0), (0.3, -bend), (1, 0.3 * bend)], 0.7, 0.2 + 0.4 * abs(n[2]))]
    top = 0.2 + 0.7 * min(max(n[1], 0), 1)
    return [shapes.polygon((-top, -1), (top, -1), (1, 1), (-1, 1))]
