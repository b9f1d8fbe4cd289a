"""The integer polygon filler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.toyworld import shapes
from fss_lab.toyworld.raster import FULL, SUBPIXEL, coverage, to_subpixels


def test_a_box_covers_its_exact_area() -> None:
    cover = coverage([to_subpixels(shapes.box(1.5, 2.25, 4.0, 5.0))], 8, 8)
    assert cover.sum() == 2.5 * 2.75 * FULL
    assert cover[3, 2] == FULL and cover[3, 1] == FULL // 2 and cover[2, 2] == FULL * 3 // 4 and cover[6, 6] == 0


def test_a_hole_is_cut_out_whatever_its_direction() -> None:
    outer, hole = shapes.box(0, 0, 8, 8), shapes.box(2, 2, 6, 6)
    for inner in (hole, hole[::-1]):
        part = shapes.part(outer, holes=[inner])
        assert coverage([to_subpixels(outline) for outline in part.outlines], 8, 8).sum() == (64 - 16) * FULL


def test_what_lies_outside_the_canvas_is_cut_off() -> None:
    cover = coverage([to_subpixels(shapes.box(-5, -5, 20, 20))], 6, 7)
    assert cover.shape == (6, 7) and (cover == FULL).all()


@given(st.integers(3, 9), st.floats(4, 14), st.floats(0, 6), st.integers(-40, 40), st.integers(-40, 40))
def test_area_is_the_polygons_and_a_shift_by_whole_pixels_only_moves_it(corners, radius, turn, dx, dy) -> None:
    outline = to_subpixels(shapes.regular(60, 60, radius, corners, turn))
    x, y = outline[:, 0] / SUBPIXEL, outline[:, 1] / SUBPIXEL
    area = abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
    cover = coverage([outline], 120, 120)
    assert cover.sum() / FULL == pytest.approx(area, rel=0.02, abs=0.5)
    moved = coverage([outline + np.array([dx, dy]) * SUBPIXEL], 120, 120)
    np.testing.assert_array_equal(np.roll(cover, (dy, dx), (0, 1)), moved)
