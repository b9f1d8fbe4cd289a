"""The toy world's drawings: what every identity of every class must satisfy, whatever its seed."""

from itertools import combinations

import numpy as np
import pytest

from fss_lab.toyworld.drawing_tools import choose, fit, group, leaf, ring, shift, vary
from fss_lab.toyworld.drawings import CLASSES, draw
from fss_lab.toyworld.raster import FULL, coverage, to_subpixels
from fss_lab.toyworld.shapes import Part, box, ellipse, part

ROLES = {"body", "second", "accent", "dark", "light"}
SIZE = 64  # pixels; the drawing's -1..1 spans 60 of them


def drawing(name: str, seed: int) -> list[Part]:
    return draw(name, np.random.default_rng(seed))


def paint(piece: Part) -> np.ndarray:
    contours = [to_subpixels(outline * 30 + SIZE / 2) for outline in piece.outlines]
    return coverage(contours, SIZE, SIZE)


def silhouette(parts: list[Part]) -> np.ndarray:
    return np.max([paint(piece) for piece in parts], axis=0) * 2 >= FULL


def corners(parts: list[Part]) -> np.ndarray:
    return np.concatenate([outline for piece in parts for outline in piece.outlines])


def largest_piece(mask: np.ndarray) -> int:
    """Pixels of the biggest 4-connected piece of the mask."""
    best, todo = 0, {(int(y), int(x)) for y, x in np.argwhere(mask)}
    while todo:
        stack, size = [todo.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in todo:
                    todo.remove(near)
                    stack.append(near)
        best = max(best, size)
    return best


def test_twenty_classes() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES)[:5] == ["fish", "house", "mug", "tree", "key"]


def test_an_unknown_class_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'unicorn'.*fish.*snail"):
        draw("unicorn", np.random.default_rng(0))


@pytest.mark.parametrize("name", CLASSES)
def test_every_identity_is_sound(name: str) -> None:
    for seed in range(60):
        parts = drawing(name, seed)
        points = corners(parts)
        assert np.isfinite(points).all()
        low, high = points.min(axis=0), points.max(axis=0)
        assert (high - low).max() == pytest.approx(2)
        assert low + high == pytest.approx(0, abs=1e-9)
        assert {piece.role for piece in parts} <= ROLES
        assert any(piece.textured for piece in parts)
        assert 2 <= len(parts) <= 16
        assert len(points) <= 400, "too slow to paint"


@pytest.mark.parametrize("name", CLASSES)
def test_the_silhouette_is_one_bold_piece(name: str) -> None:
    for seed in range(8):
        mask = silhouette(drawing(name, seed))
        assert mask.mean() > 0.08
        assert largest_piece(mask) >= 0.95 * mask.sum()


@pytest.mark.parametrize("name", CLASSES)
def test_the_seed_decides_everything(name: str) -> None:
    first, again, other = drawing(name, 3), drawing(name, 3), drawing(name, 4)
    assert [(p.role, p.textured) for p in first] == [(p.role, p.textured) for p in again]
    assert np.array_equal(corners(first), corners(again))
    assert not np.array_equal(corners(first), corners(other))


@pytest.mark.parametrize("name", CLASSES)
def test_identities_differ_in_shape(name: str) -> None:
    masks = [silhouette(drawing(name, seed)) for seed in range(14)]
    overlap = np.array([(a & b).sum() / (a | b).sum() for a, b in combinations(masks, 2)])
    assert (overlap < 0.95).mean() > 0.9
    assert np.median(overlap) < 0.9


def test_ordinary_proportions_and_first_forms_are_common_and_odd_ones_rare() -> None:
    rng = np.random.default_rng(0)
    middle = np.array([0.25 < vary(rng, 0, 1) < 0.75 for _ in range(4000)])
    assert middle.mean() == pytest.approx(0.86, abs=0.03)  # of evenly spread ones it would be a half
    forms = np.bincount([choose(rng, 2, 4) for _ in range(4000)], minlength=6) / 4000
    assert forms == pytest.approx([0, 0, 36 / 43, 6 / 43, 1 / 43, 0], abs=0.03)


def test_fit_centres_and_fills_without_distorting() -> None:
    square, circle = fit([part(box(2, 2, 4, 3)), part(ellipse(3, 2.5, 0.25))])
    assert np.ptp(square.outlines[0], axis=0) == pytest.approx([2, 1])
    assert square.outlines[0].mean(axis=0) == pytest.approx([0, 0])
    assert circle.outlines[0][0] == pytest.approx([0.25, 0])


def test_a_group_paints_the_union_of_its_outlines() -> None:
    outlines = [ellipse(-0.5, 0, 0.3), box(-0.4, -0.1, 0.6, 0.2), ellipse(0.7, -0.6, 0.2)[::-1]]
    together = paint(group(outlines))
    union = np.max([paint(part(outline)) for outline in outlines], axis=0)
    # Only where two edges share a pixel do the coverages add up; the bridges cost no more than rounding.
    assert ((np.abs(together - union) > 8).sum()) < 12
    assert ((together * 2 >= FULL) != (union * 2 >= FULL)).sum() < 6


def test_a_group_keeps_its_holes() -> None:
    outlines = [ellipse(-0.4, 0, 0.5), ellipse(0.4, 0, 0.5)]
    cover = paint(group(outlines, holes=[ellipse(-0.5, 0, 0.2), ellipse(0.5, 0, 0.2)]))
    middle = SIZE // 2
    assert cover[middle, middle - 15] == cover[middle, middle + 15] == 0
    assert cover[middle, middle] == FULL


def test_a_ring_is_hollow() -> None:
    cover = paint(ring(0, 0, 0.8, 0.8, 0.2))
    assert cover[SIZE // 2, SIZE // 2] == 0
    assert cover[SIZE // 2, SIZE // 2 + 21] == FULL


def test_a_leaf_runs_from_base_to_tip() -> None:
    outline = leaf((0.0, 0.0), (1.0, 0.0), 0.4)
    assert outline.min(axis=0) == pytest.approx([0, -0.2])
    assert outline.max(axis=0) == pytest.approx([1, 0.2])


def test_shift_scales_before_it_moves() -> None:
    (moved,) = shift([part(box(0, 0, 1, 1), "accent", textured=True)], 2, 3, 0.5)
    assert moved.role == "accent" and moved.textured
    assert moved.outlines[0].min(axis=0) == pytest.approx([2, 3])
    assert moved.outlines[0].max(axis=0) == pytest.approx([2.5, 3.5])
