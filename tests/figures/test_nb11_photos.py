"""Figures of notebook 11."""

import numpy as np
import pytest
import torch

from fss_lab.figures.nb11_photos import photos_figure
from fss_lab.figures.style import Picture

WIDE, HIGH = torch.full((3, 30, 60), 100), torch.full((3, 60, 30), 200)


def half(image):
    mask = torch.zeros(image.shape[1:], dtype=torch.uint8)
    mask[: len(mask) // 2] = 1
    return mask


@pytest.mark.parametrize("shots", [1, 5])
def test_photos(shots):
    answers = {"a.jpg": (HIGH, half(HIGH) == 1), "b.jpg": (WIDE, half(WIDE) == 0)}
    picture = photos_figure([(WIDE, half(WIDE).numpy())] * shots, answers, "Mugs", [half(HIGH), half(WIDE)])
    assert isinstance(picture, Picture) and picture.png() and picture.get_figwidth() <= 10
    titles = [axes.get_title() for axes in picture.axes]
    assert len(titles) == shots + 2 and titles[-2:] == ["a.jpg: 100 %", "b.jpg: 0 %"]
    assert "50 % of the picture marked" in picture.alt


def test_photos_without_truth_or_without_answers():
    picture = photos_figure([(WIDE, half(WIDE))], {"a.jpg": (HIGH, torch.zeros(60, 30))}, "One")
    assert "a.jpg, 0 % of the picture marked" in picture.alt
    assert "answers: none" in photos_figure([(WIDE, np.ones((30, 60)))], {}, "Marked").alt


def test_a_large_photo_is_drawn_small():
    large = torch.full((3, 300, 4000), 100)
    picture = photos_figure([(large, half(large))], {"a.jpg": (large, half(large) == 1)}, "Large", [half(large)])
    drawn = [shown.get_array().shape[:2] for axes in picture.axes for shown in axes.images]
    assert drawn == [(75, 1000)] * 4 and picture.axes[1].get_title() == "a.jpg: 100 %"


def test_supports_may_have_names():
    picture = photos_figure({"exact": (WIDE, half(WIDE)), "box": (WIDE, half(WIDE))}, {}, "Two masks")
    assert [axes.get_title() for axes in picture.axes] == ["exact", "box"] and "exact, box" in picture.alt


def test_photos_refuses():
    with pytest.raises(ValueError, match="no photographs"):
        photos_figure([], {}, "Nothing")
    with pytest.raises(ValueError, match="each of 0 answers, got 1"):
        photos_figure([(WIDE, half(WIDE))], {}, "Truths", [half(WIDE)])
