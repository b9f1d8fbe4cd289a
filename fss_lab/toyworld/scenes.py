"""Paints identities into scenes: the renderer shared by the toy world and the pre-training corpus.

An *identity* is one individual of a class: its parts, colours and texture. A *pose* says where and how it stands.
A *scene* is a background with identities on it, and for every pixel which of them is seen there.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace

import numpy as np

from fss_lab.toyworld.raster import FULL, SUBPIXEL, coverage, to_subpixels
from fss_lab.toyworld.shapes import Part

IGNORE = 255
Rng = np.random.Generator
Colour = tuple[int, int, int]
NOISE = (np.arange(256, dtype=np.int32) - 128) // 20  # grey levels, evenly spread over about -6..6
TEXTURES = ("plain", "stripes", "checks", "dots", "speckle")


@dataclass(frozen=True)
class Identity:
    """One individual: what class it is of, its parts back to front, its colours by role and its texture."""

    class_id: int
    parts: tuple[Part, ...]
    palette: dict[str, Colour]
    texture: str = "plain"
    texture_colour: Colour = (128, 128, 128)
    texture_size: int = 24  # period in 1/100 drawing units


@dataclass(frozen=True)
class Pose:
    """Centre (x, y) and radius in pixels, turn in radians (clockwise), squash of the height, mirrored or not."""

    x: float
    y: float
    radius: float
    turn: float = 0.0
    squash: float = 1.0
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """image: (H, W, 3) uint8 RGB. instances: (H, W) uint8; 0 = background, i + 1 = object i, 255 = the ring about every
    object's border. identities: the objects, in the order of their instance numbers."""

    image: np.ndarray
    instances: np.ndarray
    identities: tuple[Identity, ...]

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The class of every object, in the order of their instance numbers."""
        return tuple(identity.class_id for identity in self.identities)

    def mask(self, class_id: int) -> np.ndarray:
        """(H, W) uint8: 1 on every object of the class, 255 on border rings, 0 elsewhere."""
        table = np.zeros(256, dtype=np.uint8)
        table[IGNORE] = IGNORE
        for number, other in enumerate(self.class_ids, start=1):
            table[number] = other == class_id
        return table[self.instances]

    def labels(self, ring: int) -> np.ndarray:
        """(H, W) int64: 0 = background, class id + 1 on objects, `ring` on border rings."""
        table = np.zeros(256, dtype=np.int64)
        table[1 : len(self.class_ids) + 1] = np.array(self.class_ids) + 1
        table[IGNORE] = ring
        return table[self.instances]

    def area(self, class_id: int) -> int:
        """Pixels that the class covers."""
        return int((self.mask(class_id) == 1).sum())


def dress(rng: Rng, class_id: int, parts: list[Part], textured: float = 0.6) -> Identity:
    """Draw colours for the parts and, with the probability `textured`, a texture; they say nothing of the class."""
    palette = {role: _colour(rng) for role in ("body", "second", "accent")}
    palette["dark"] = _colour(rng, (0.0, 0.6), (0.05, 0.25))
    palette["light"] = _colour(rng, (0.0, 0.25), (0.85, 1.0))
    texture = TEXTURES[int(rng.integers(1, len(TEXTURES)))] if rng.random() < textured else "plain"
    return Identity(class_id, tuple(parts), palette, texture, _colour(rng), int(rng.integers(16, 44)))


def silhouette(identity: Identity, size: int) -> np.ndarray:
    """(size, size) float32 in 0..1: how much of every cell of -1..1 the identity's drawing covers, upright."""
    contours = [to_subpixels((outline + 1) * (size / 2)) for part in identity.parts for outline in part.outlines]
    return (coverage(contours, size, size) / FULL).astype(np.float32)


def scatter(rng: Rng, size: int, radii: list[float], turn: float = 0.45) -> list[Pose]:
    """Poses for objects of these radii in a size x size image, as far apart as twelve tries each allow."""
    poses: list[Pose] = []
    for radius in radii:
        best, best_gap = None, -math.inf
        for _ in range(12):
            margin = 0.75 * radius
            x, y = (margin + (size - 2 * margin) * rng.random() for _ in range(2))
            gap = min((math.hypot(x - p.x, y - p.y) - 0.85 * (radius + p.radius) for p in poses), default=math.inf)
            if gap > best_gap:
                best, best_gap = (x, y), gap
            if gap > -0.25 * radius:
                break
        assert best is not None
        poses.append(
            Pose(*best, radius, (2 * rng.random() - 1) * turn, 0.85 + 0.3 * rng.random(), bool(rng.random() < 0.5))
        )
    return poses


def draw_radius(rng: Rng, size: int, low: float, high: float) -> float:
    """A radius in pixels, log-uniform between `low` and `high` of the image's size."""
    return size * low * (high / low) ** rng.random()


def render(background: np.ndarray, identities: list[Identity], poses: list[Pose], rng: Rng) -> Scene:
    """Paint the identities, back to front, over the background (H, W, 3) and add the sensor's noise."""
    height, width = background.shape[:2]
    canvas = background.astype(np.int32)
    instances = np.zeros((height, width), dtype=np.uint8)
    for number, (identity, pose) in enumerate(zip(identities, poses, strict=True), start=1):
        paint(canvas, instances, identity, pose, number)
    grains = np.frombuffer(rng.bytes(height * width), dtype=np.uint8).reshape(height, width, 1)
    image = np.clip(canvas + NOISE[grains], 0, 255).astype(np.uint8)
    return Scene(image, ring(instances), tuple(identities))


def paint(canvas: np.ndarray, instances: np.ndarray, identity: Identity, pose: Pose, number: int) -> None:
    """Paint one identity into `canvas` (H, W, 3) int32 and its number into `instances` (H, W), both in place."""
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    across, along = pose.radius * (-1 if pose.flip else 1), pose.radius * pose.squash

    def posed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        right, down = pose.x + across * cos * x - along * sin * y, pose.y + across * sin * x + along * cos * y
        return np.stack([right, down], axis=1)

    outlines = [[posed(*outline.T) for outline in part.outlines] for part in identity.parts]
    corners = np.concatenate([outline for part in outlines for outline in part])
    region = _region(corners, canvas.shape)
    if region is None:
        return
    rows, columns = region
    # Drawing coordinates of every pixel, in 1/1024 units: the inverse of the pose, rounded to whole numbers.
    inverse = [cos / across, sin / across, -sin / along, cos / along]
    a, b, c, d = (math.floor(1024 * value + 0.5) for value in inverse)
    x = np.arange(columns.start, columns.stop, dtype=np.int32) - math.floor(pose.x)
    y = (np.arange(rows.start, rows.stop, dtype=np.int32) - math.floor(pose.y))[:, None]
    u, v = a * x + b * y, c * x + d * y
    gain = 256 - (np.clip(v, -1200, 1200) * 40 >> 10)  # lighter above, darker below
    pattern = _pattern(identity, u, v)
    solid = np.zeros(u.shape, dtype=np.int32)
    for part, contours in zip(identity.parts, outlines, strict=True):
        spot = _region(contours[0], canvas.shape)
        if spot is None:
            continue
        cover = _cover(contours, spot)
        local = (
            slice(spot[0].start - rows.start, spot[0].stop - rows.start),
            slice(spot[1].start - columns.start, spot[1].stop - columns.start),
        )
        colour = np.array(identity.palette[part.role], dtype=np.int32)
        if part.textured and pattern is not None:
            colour = colour + ((identity.texture_colour - colour) * pattern[local][..., None] >> 8)
        shaded = colour * gain[local][..., None] >> 8
        target = canvas[spot]
        target += (shaded - target) * cover[..., None] >> 8  # FULL = 256
        solid[local] = np.maximum(solid[local], cover)
    instances[region][solid * 2 >= FULL] = number


def ring(instances: np.ndarray) -> np.ndarray:
    """Mark the pixels on both sides of every border with 255, as PASCAL VOC does."""
    border = np.zeros(instances.shape, dtype=bool)
    for axis in (0, 1):
        at, edges = np.moveaxis(instances, axis, 0), np.moveaxis(border, axis, 0)  # views
        step = at[1:] != at[:-1]
        edges[1:] |= step
        edges[:-1] |= step
    return np.where(border, IGNORE, instances).astype(np.uint8)


def draw_background(rng: Rng, size: int) -> np.ndarray:
    """(size, size, 3) int32 in 0..255: soft clouds of two colours, sometimes banded, with a few faint patches."""
    first, second = (np.array(_colour(rng, (0.0, 0.55), (0.3, 0.95)), dtype=np.int32) for _ in range(2))
    clouds = (_clouds(rng, size, size // 4) * 5 + _clouds(rng, size, max(size // 16, 2)) * 3) >> 3
    if rng.random() < 0.4:
        a, b = (int(rng.integers(-40, 41)) for _ in range(2))
        period = int(rng.integers(300, 1600)) * size // 256
        line = np.arange(size, dtype=np.int32)
        clouds = (clouds * 3 + _wave(a * line + b * line[:, None], period)) >> 2
    canvas = first + ((second - first) * clouds[..., None] >> 8)
    for _ in range(int(rng.integers(0, 4))):
        angles = sorted(2 * math.pi * rng.random() for _ in range(int(rng.integers(3, 8))))
        x, y, r = size * rng.random(), size * rng.random(), size * (0.08 + 0.25 * rng.random())
        patch = np.array([(x + r * math.cos(t), y + r * math.sin(t)) for t in angles])
        colour = np.array(_colour(rng, (0.0, 0.6), (0.3, 0.95)), dtype=np.int32)
        spot = _region(patch, canvas.shape)
        if spot is not None:
            canvas[spot] += (colour - canvas[spot]) * _cover([patch], spot)[..., None] >> 9  # half transparent
    return canvas


def clip_poses(rng: Rng, pose: Pose, frames: int, size: int) -> list[Pose]:
    """A smooth path of `frames` poses that starts at `pose`: it drifts, turns and grows or shrinks, mirrored never."""
    dx, dy = (size * 0.3 * (2 * rng.random() - 1) for _ in range(2))
    spin, growth = 0.6 * (2 * rng.random() - 1), 0.75 + 0.6 * rng.random()
    margin = 0.6 * pose.radius
    path = []
    for frame in range(frames):
        t = frame / max(frames - 1, 1)
        x, y = (min(max(p + t * d, margin), size - margin) for p, d in ((pose.x, dx), (pose.y, dy)))
        path.append(replace(pose, x=x, y=y, turn=pose.turn + t * spin, radius=pose.radius * growth**t))
    return path


def _colour(rng: Rng, saturation: tuple[float, float] = (0.2, 1.0), value: tuple[float, float] = (0.35, 1.0)) -> Colour:
    between = (low + (high - low) * rng.random() for low, high in ((0.0, 1.0), saturation, value))
    red, green, blue = colorsys.hsv_to_rgb(*between)
    return math.floor(255 * red), math.floor(255 * green), math.floor(255 * blue)


def _region(points: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """The rows and columns of the canvas that the points span, or None when they lie outside."""
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int) + 1
    left, top = max(low[0], 0), max(low[1], 0)
    right, bottom = min(high[0], shape[1]), min(high[1], shape[0])
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _cover(outlines: list[np.ndarray], spot: tuple[slice, slice]) -> np.ndarray:
    """The coverage of the outlines, in pixels of the whole canvas, on the part of it that `spot` names."""
    rows, columns = spot
    origin = np.array([columns.start, rows.start]) * SUBPIXEL
    shifted = [to_subpixels(outline) - origin for outline in outlines]
    return coverage(shifted, rows.stop - rows.start, columns.stop - columns.start)


def _wave(value: np.ndarray, period: int) -> np.ndarray:
    """Bands with soft edges: 0..256 in the course of every `period`."""
    triangle = np.abs(value % period - period // 2) * 4 - period  # -period..period
    return np.clip(128 + triangle * 384 // period, 0, 256)


def _pattern(identity: Identity, u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    """The texture in drawing coordinates (1/1024 units): 0..256 = from the part's colour to the texture's."""
    period = identity.texture_size * 1024 // 100
    if identity.texture == "stripes":
        return _wave(u + v // 2, period)
    if identity.texture == "checks":
        return np.abs(_wave(u, period) - _wave(v, period))
    if identity.texture == "dots":
        du, dv = u % period - period // 2, v % period - period // 2
        return np.clip(384 - (du * du + dv * dv) * 4096 // (period * period), 0, 256)
    if identity.texture == "speckle":
        cell = (u // (period // 4)) * 79 + (v // (period // 4)) * 143 + identity.texture_size
        return cell * cell % 257 * 3 // 4
    return None


def _clouds(rng: Rng, size: int, cell: int) -> np.ndarray:
    """(size, size) smooth noise in 0..255: random values `cell` pixels apart, smoothly joined."""
    count = -(-size // cell) + 1
    knots = rng.integers(0, 256, (count, count), dtype=np.int32)
    step = np.arange(cell, dtype=np.int32)
    weight = (256 * step * step * (3 * cell - 2 * step) // cell**3)[:, None]  # smooth at the knots
    for _ in range(2):
        knots = (knots[:-1, None] * (256 - weight) + knots[1:, None] * weight) >> 8
        knots = knots.reshape(-1, knots.shape[-1])[:size].T
    return knots
