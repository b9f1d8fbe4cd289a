"""The pre-training corpus: classes composed at random, disjoint from the toy world's named ones.

A class is a recipe: a body, limbs that grow on its rim (some with a piece at their tip) and details on it; each piece
has an outline, a place and a size, and stands alone, mirrored, in a row or all round. An identity follows the
recipe with its own proportions, now and then another outline for a piece or none, and its own colours and texture.
What is learned on many such classes ("shape and part layout make the class") is then tried on drawings that
pre-training never saw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fss_lab.toyworld import shapes
from fss_lab.toyworld.drawing_tools import fit
from fss_lab.toyworld.scenes import (
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
from fss_lab.toyworld.shapes import Outline, Part, part

KINDS = (
    "ellipse", "box", "polygon", "star", "blob", "drop", "crescent", "ring", "bar", "trapezoid", "arch", "tail",
    "stem", "frame", "fan", "fork",
)  # fmt: skip
SOLID = (  # what a body may be
    "ellipse", "box", "polygon", "star", "blob", "drop", "trapezoid", "bar", "ring", "frame", "fan",
)  # fmt: skip
LAYOUTS = ("alone", "alone", "mirrored", "mirrored", "row", "radial")
RADII = (0.12, 0.42)  # of the image's size
ROLES = ("body", "second", "accent", "dark", "light")


@dataclass(frozen=True)
class Piece:
    """One line of a recipe.

    kinds: its outline; an identity takes one of them. size: half its length, as a share of its parent's. slim: width
    over length. place: on its parent's "rim", pointing outward, or "inside" it. angle: the direction from the parent's
    centre. reach: how far it overlaps the rim, or its distance from the centre when inside. layout: "alone";
    "mirrored" left-right; `copies` in a "row"; or "radial", all round. numbers: what the kinds need (corners, notch
    depth, bumps …). tip: a piece that grows at its far end.
    """

    kinds: tuple[str, ...]
    size: float
    slim: float
    place: str
    angle: float
    reach: float
    role: str
    layout: str
    copies: int
    optional: bool
    behind: bool
    numbers: tuple[float, ...]
    tip: Piece | None = None


@dataclass(frozen=True)
class RandomClass:
    """A class of the corpus: its number and its recipe."""

    class_id: int
    body: Piece
    pieces: tuple[Piece, ...]

    @classmethod
    def compose(cls, class_id: int, seed: int = 0) -> RandomClass:
        """The class with this number; the same for the same seed on every machine."""
        rng = np.random.default_rng([seed, class_id])
        body = _piece(rng, "body", 1.0, ("alone",))
        limbs = [_piece(rng, "rim", 0.3 + 0.8 * rng.random(), LAYOUTS) for _ in range(int(rng.integers(1, 5)))]
        details = [_piece(rng, "inside", 0.12 + 0.3 * rng.random(), LAYOUTS) for _ in range(int(rng.integers(0, 4)))]
        return cls(class_id, body, (*limbs, *details))

    def draw(self, rng: Rng) -> Identity:
        """One identity of the class; it fills -1..1 in its longer direction, like a Pictogram."""
        size = 0.75 + 0.5 * rng.random()
        body = _outline(rng, self.body, size)
        behind: list[Part] = []
        front: list[Part] = []
        for piece in self.pieces:
            if not (piece.optional and rng.random() < 0.35):
                (behind if piece.behind else front).extend(_grow(rng, piece, body, size))
        torso = part(body[0], self.body.role, holes=body[1:], textured=True)
        return dress(rng, self.class_id, fit([*behind, torso, *front]))


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


def _piece(rng: Rng, place: str, size: float, layouts: tuple[str, ...]) -> Piece:
    """A random piece with half its length `size` times its parent's; on a rim it may have another at its tip."""
    choices = SOLID if place == "body" else KINDS
    kinds = tuple(choices[int(rng.integers(len(choices)))] for _ in range(2 if rng.random() < 0.3 else 1))
    layout = layouts[int(rng.integers(len(layouts)))]
    copies = {"alone": 1, "mirrored": 2, "row": int(rng.integers(2, 5)), "radial": int(rng.integers(3, 9))}[layout]
    if layout in ("row", "radial"):
        size /= copies**0.5
    straight = rng.random() < 0.6  # along an axis of the drawing
    angle = math.pi / 2 * int(rng.integers(4)) if straight else 2 * math.pi * rng.random()
    if layout == "mirrored" and straight:
        angle += 0.3 + 0.9 * rng.random()  # or the two would cover each other
    slim = 0.3 + 0.9 * rng.random() if rng.random() < 0.6 else 0.15 + 0.3 * rng.random()
    role = ROLES[int(rng.integers(*{"body": (0, 1), "rim": (0, 3), "inside": (1, 5)}[place]))]
    tip = None
    if place == "rim" and layout in ("alone", "mirrored") and rng.random() < 0.35:
        tip = _piece(rng, "rim", 0.4 + 0.8 * rng.random(), ("alone",))
    return Piece(
        kinds, size, max(slim, 0.45) if place == "body" and rng.random() < 0.7 else slim, place, angle,
        0.6 * rng.random() if place == "inside" else 0.15 + 0.4 * rng.random(), role, layout, copies,
        place != "body" and rng.random() < 0.25, place == "rim" and rng.random() < 0.6,
        tuple(rng.random() for _ in range(8)), tip,
    )  # fmt: skip


def _grow(rng: Rng, piece: Piece, parent: list[Outline], parent_size: float) -> list[Part]:
    """The piece and its copies on a parent with this outline, in this identity's proportions, back to front."""
    size = parent_size * piece.size * (0.7 + 0.6 * rng.random())
    unit = _outline(rng, piece, size)
    head = None if piece.tip is None else _outline(rng, piece.tip, size * piece.tip.size)
    angle = piece.angle + 0.3 * (rng.random() - 0.5)
    centre = (parent[0].min(axis=0) + parent[0].max(axis=0)) / 2
    starts = [(centre, angle, False)]
    if piece.layout == "mirrored":
        starts.append((centre, math.pi - angle, True))
    elif piece.layout == "radial":
        starts = [(centre, angle + 2 * math.pi * i / piece.copies, False) for i in range(piece.copies)]
    elif piece.layout == "row":
        way = math.pi / 2 * round(2 * piece.angle / math.pi)  # all point the same way, side by side
        across = np.array([-math.sin(way), math.cos(way)])
        half = 0.75 * float(np.abs((parent[0] - centre) @ across).max())
        starts = [(centre + across * half * t, way, False) for t in np.linspace(-1, 1, piece.copies)]
    parts: list[Part] = []
    for origin, direction, flip in starts:
        rim = _rim(parent[0], origin, direction)
        distance = rim * piece.reach if piece.place == "inside" else rim + size * (1 - 2 * piece.reach)
        x, y = origin + distance * np.array([math.cos(direction), math.sin(direction)])
        turn = 0.0 if piece.place == "inside" and piece.layout == "row" else direction
        upright = [o * [1, -1] for o in unit] if flip else unit
        placed = [shapes.move(outline, x, y, turn=turn) for outline in upright]
        if piece.tip is not None and head is not None:
            ahead = size * (0.6 + piece.tip.size * (1 - piece.tip.reach))
            far = x + ahead * math.cos(direction), y + ahead * math.sin(direction)
            first, *holes = [shapes.move(outline, *far, turn=turn) for outline in head]
            parts.append(part(first, piece.tip.role, holes=holes, textured=True))
        first, *holes = placed
        parts.append(part(first, piece.role, holes=holes, textured=piece.place == "rim"))
    return parts


def _rim(outline: Outline, origin: np.ndarray, direction: float) -> float:
    """How far from `origin` the outline ends in a direction; 0 where the ray misses it."""
    p = shapes.move(outline - origin, turn=-direction)
    q = np.roll(p, -1, axis=0)
    crosses = (p[:, 1] > 0) != (q[:, 1] > 0)
    p, q = p[crosses], q[crosses]
    hits = p[:, 0] - p[:, 1] * (q[:, 0] - p[:, 0]) / (q[:, 1] - p[:, 1])
    return max(float(hits.max(initial=0.0)), 0.0)


def _outline(rng: Rng, piece: Piece, size: float) -> list[Outline]:
    """The piece's outline (and hole) about the origin, its length along x, in this identity's proportions."""
    slim = min(piece.slim * (0.7 + 0.6 * rng.random()), 1.3)
    kind = piece.kinds[int(rng.integers(len(piece.kinds)))]
    axes = np.array([size, size * slim])
    if piece.place == "body" and piece.numbers[6] < 0.5:
        axes = axes[::-1]  # tall rather than wide
    return [outline * axes for outline in _unit(rng, piece, kind)]


def _unit(rng: Rng, piece: Piece, kind: str) -> list[Outline]:
    """The piece's outline (and hole) with half axes 1, its numbers varied a little for this identity."""
    n = [number + 0.12 * (2 * rng.random() - 1) for number in piece.numbers]
    corners = 3 + int(4 * piece.numbers[0])
    if kind == "ellipse":
        return [shapes.ellipse(0, 0, 1)]
    if kind == "box":
        return [shapes.box(-1, -1, 1, 1, 0.5 * abs(n[1]))]
    if kind == "polygon":
        return [shapes.regular(0, 0, 1.1, corners, 2 * math.pi * piece.numbers[1])]
    if kind == "star":
        return [shapes.star(0, 0, 1.2, 0.35 + 0.45 * min(max(n[1], 0), 1), corners + 1, 2 * math.pi * piece.numbers[2])]
    if kind == "blob":
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
    if kind == "drop":
        return [np.concatenate([shapes.arc(0, 0.25, 0.8, 0.75, -0.15, math.pi + 0.15), [[0.0, -0.9 - 0.5 * n[1]]]])]
    if kind == "crescent":
        back = shapes.arc(0, 0, 1, 1, -math.pi / 2, math.pi / 2)
        return [
            np.concatenate([back, (shapes.arc(0, 0, 0.2 + 0.5 * abs(n[1]), 1, -math.pi / 2, math.pi / 2))[::-1][1:-1]])
            - [0.5, 0]
        ]
    if kind == "ring":
        return [shapes.ellipse(0, 0, 1), shapes.ellipse(0, 0, 0.4 + 0.35 * min(max(n[1], 0), 1))]
    if kind == "bar":
        return [shapes.box(-1.3, -0.35, 1.3, 0.35, 0.3 * abs(n[1]))]
    if kind == "arch":
        return [np.concatenate([shapes.arc(0, 0, 1, 1, -2.4, 0.9), shapes.arc(0, 0, 0.6, 0.6, -2.4, 0.9)[::-1]])]
    if kind == "tail":
        bend = 1.6 * (n[1] - 0.5)
        return [shapes.stroke([(-1, bend), (-0.4, 0), (0.3, -bend), (1, 0.3 * bend)], 0.7, 0.2 + 0.4 * abs(n[2]))]
    if kind == "stem":
        return [shapes.stroke([(-1, 0), (1, 0.4 * (n[1] - 0.5))], 0.15 + 0.3 * abs(n[2]), 0.12)]
    if kind == "frame":
        inner = 0.45 + 0.35 * min(max(n[1], 0), 1)
        return [shapes.box(-1, -1, 1, 1, 0.3 * abs(n[2])), shapes.box(-inner, -inner, inner, inner)]
    if kind == "fan":
        half = 0.4 + 1.0 * min(max(n[1], 0), 1)
        return [np.concatenate([[[-1.0, 0.0]], shapes.arc(-1, 0, 2, 1.5, -half, half)])]
    if kind == "fork":
        depth, gap = 1 - 1.6 * min(max(n[1], 0), 1), 0.15 + 0.4 * min(max(n[2], 0), 1)
        return [
            shapes.polygon((-1, -0.8), (1, -1), (1, -gap), (depth, -gap), (depth, gap), (1, gap), (1, 1), (-1, 0.8))
        ]
    top = 0.2 + 0.7 * min(max(n[1], 0), 1)
    return [shapes.polygon((-top, -1), (top, -1), (1, 1), (-1, 1))]
