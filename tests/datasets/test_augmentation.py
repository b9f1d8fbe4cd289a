"""The training augmentation: image and mask together, padding, crops that keep the object; evaluation transforms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.datasets.augmentation import PADDING, Augmentation, foreground_in_windows, pad, stretch

STILL = Augmentation(size=64, scale=(1.0, 1.0), chance=0.0)


def scene(height: int = 60, width: int = 80, top: int = 20, left: int = 30, side: int = 16) -> tuple:
    """A white square on black, and its mask."""
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[top : top + side, left : left + side] = 1
    return (mask * 255).expand(3, height, width).contiguous(), mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_crop_without_anything_else_is_the_image_on_a_padded_square() -> None:
    image, mask = scene()
    pixels, labels = STILL(image, mask, rng())
    assert pixels.shape == (3, 64, 64) and pixels.dtype == labels.dtype == torch.uint8 and labels.shape == (64, 64)
    around = labels == 255
    assert around.sum() == 4 * 64  # 60 rows of 64, two more above and below
    assert around[:2].all() and around[-2:].all()
    assert (pixels[:, around] == torch.tensor(PADDING, dtype=torch.uint8)[:, None]).all()
    assert torch.equal(pixels[0] > 200, labels == 1)


@given(seed=st.integers(0, 10**6), height=st.integers(20, 150), width=st.integers(20, 150))
def test_mask_and_image_stay_together_whatever_is_drawn(seed, height, width) -> None:
    image, mask = scene(height, width, top=height // 3, left=width // 3, side=min(height, width) // 3)
    pixels, labels = Augmentation(size=64)(image, mask, rng(seed))
    assert pixels.shape == (3, 64, 64) and set(labels.unique().tolist()) <= {0, 1, 255}
    inside = labels != 255
    wrong = (pixels[0] > 127)[inside] != (labels == 1)[inside]
    # only along the square's outline, where the blur and the two ways of sampling differ
    assert wrong.sum() <= 4 * 1.1 * (min(height, width) // 3 + 2)


def test_what_lies_outside_after_a_rotation_is_padding_and_ignored() -> None:
    image = torch.full((3, 100, 100), 255, dtype=torch.uint8)
    turned = Augmentation(size=100, scale=(1.0, 1.0), degrees=10.0, chance=1.0)
    pixels, labels = turned(image, torch.ones(100, 100, dtype=torch.uint8), rng(3))
    corners = labels == 255
    assert 0 < corners.sum() < 2000 and corners[0, 0] | corners[0, -1]
    assert torch.equal(pixels[0][50, 50], torch.tensor(255, dtype=torch.uint8))
    outer = pixels.permute(1, 2, 0)[corners].float()
    assert (outer == torch.tensor(PADDING)).all(1).float().mean() > 0.4  # the rest: the blur's edge
    assert not (labels == 0).any()


def test_each_step_can_be_seen() -> None:
    image, mask = scene(64, 64, top=10, left=4)
    mirrored = blurred = turned = plain = 0
    for seed in range(60):
        pixels, labels = Augmentation(size=64, scale=(1.0, 1.0))(image, mask, rng(seed))
        rows, columns = np.nonzero(labels.numpy() == 1)
        mirrored += columns.mean() > 32
        turned += bool((labels == 255).any())
        still = not (labels == 255).any()
        blurred += still and bool(((pixels[0] > 20) & (pixels[0] < 235)).any())
        plain += torch.equal(labels, mask) and torch.equal(pixels, image)
    assert 18 <= mirrored <= 42 and 18 <= turned <= 42  # of 60 at 1/2
    assert 6 <= blurred <= 24 and 2 <= plain <= 16  # 1/4, 1/8


def test_scales_are_drawn_between_both_ends() -> None:
    image, mask = scene(100, 100, top=40, left=40, side=20)
    areas = [
        int((Augmentation(size=160, scale=(0.8, 1.25), chance=0.0)(image, mask, rng(seed))[1] == 1).sum())
        for seed in range(80)
    ]
    sides = np.sqrt(areas) / 20
    assert 0.79 <= sides.min() < 0.9 and 1.15 < sides.max() <= 1.3


def test_the_same_generator_gives_the_same_view_and_the_source_is_unchanged() -> None:
    image, mask = scene()
    before = image.clone(), mask.clone()
    one, other = (Augmentation(size=48)(image, mask, rng(5)) for _ in range(2))
    assert all(map(torch.equal, one, other)) and all(map(torch.equal, (image, mask), before))


@given(seed=st.integers(0, 10**6), top=st.integers(0, 180), left=st.integers(0, 280), side=st.integers(1, 64))
def test_a_crop_keeps_85_percent_of_what_fits_into_it(seed, top, left, side) -> None:
    image, mask = scene(244, 344, top, left, side)
    _, labels = STILL(image, mask, rng(seed))
    assert (labels == 1).sum() >= 0.85 * side * side


def test_where_no_crop_can_keep_enough_one_that_keeps_most_is_taken() -> None:
    image, mask = scene(200, 200, top=20, left=20, side=160)
    _, labels = STILL(image, mask, rng())
    assert (labels == 1).all()


def test_crops_without_foreground_are_anywhere() -> None:
    image = torch.arange(100, dtype=torch.uint8).expand(3, 100, 100).contiguous()
    lefts = {int(STILL(image, torch.zeros(100, 100, dtype=torch.uint8), rng(s))[0][0, 0, 0]) for s in range(60)}
    assert len(lefts) > 20 and min(lefts) < 6 and max(lefts) > 30


def test_ignored_pixels_are_no_foreground() -> None:
    image, mask = scene(200, 200, top=150, left=150, side=20)
    mask[:100] = 255
    for seed in range(5):
        assert (STILL(image, mask, rng(seed))[1] == 1).sum() >= 340


def test_windows_are_counted_by_hand() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1]], bool)
    assert foreground_in_windows(mask, 2).tolist() == [[2, 2]]
    assert foreground_in_windows(mask, 1).tolist() == mask.astype(int).tolist()


def test_padding_goes_on_all_sides() -> None:
    pixels, labels = pad(np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8), 5)
    assert pixels.shape == (5, 5, 3) and (labels == 0).sum() == 6 and labels[1, 1] == labels[2, 3] == 0
    assert (pixels[labels == 255] == PADDING).all()
    untouched = pad(np.zeros((7, 6, 3), np.uint8), np.zeros((7, 6), np.uint8), 5)
    assert untouched[0].shape == (7, 6, 3) and not untouched[1].any()


def test_evaluation_stretches_corner_to_corner() -> None:
    image = torch.arange(4.0).expand(3, 2, 4) * 10
    stretched, _ = stretch(image, torch.zeros(2, 4, dtype=torch.uint8), 7)
    assert stretched.shape == (3, 7, 7) and stretched.dtype == torch.float32
    assert stretched[0, 0].tolist() == pytest.approx([0, 5, 10, 15, 20, 25, 30])
    mask = torch.tensor([[0, 1], [255, 0]], dtype=torch.uint8)
    _, stretched = stretch(torch.zeros(3, 2, 2), mask, 4)
    assert stretched.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [255, 255, 0, 0], [255, 255, 0, 0]]


def test_a_stretched_white_image_stays_within_0_and_255() -> None:
    white = torch.full((3, 360, 480), 255, dtype=torch.uint8)
    stretched, _ = stretch(white, torch.zeros(360, 480), 256)  # unclamped: 255.00003
    assert stretched.shape == (3, 256, 256) and stretched.min() > 254.99 and stretched.max() <= 255
