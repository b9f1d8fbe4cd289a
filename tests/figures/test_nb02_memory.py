"""Figures of notebook 02: what they show and say."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.datasets.folds import FOLDS
from fss_lab.figures.nb02_memory import clip_figure, mask_code_figure, memory_figure, reading_figure, tracks_figure
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module")
def clip():
    images, instances = Pictograms(1).clip(0, 5)
    return images, torch.where(instances == 255, 255, (instances == 1).long())


@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_clip_shows_the_given_mask_and_then_the_truth(fold):
    images, instances = Pictograms(fold).clip(0, 3)
    assert titles(clip_figure(images, (instances == 1).long())) == ["frame 0: given", "frame 1", "frame 2"]


def test_a_tracked_clip_names_every_score(clip):
    images, truths = clip
    picture = clip_figure(images, truths, truths == 1)
    assert titles(picture) == ["frame 0: given", *(f"frame {t}: IoU 100 %" for t in range(1, 5))]
    assert "100 in frame 4" in picture.alt


def test_few_panels_reach_from_the_first_frame_to_the_last(clip):
    assert titles(clip_figure(*clip, panels=3)) == ["frame 0: given", "frame 2", "frame 4"]


def test_the_mask_curve_says_its_numbers():
    picture = mask_code_figure()
    titles(picture)
    written = [text.get_text() for text in picture.axes[0].texts]
    assert written == ["0.4 → −7.6", "0.5 → 0.0", "0.6 → 7.6"]
    assert all(mark in picture.alt for mark in written)


def test_a_memory_tells_how_much_of_the_change_is_inside(clip):
    images, truths = clip
    memory, inside = torch.randn(24, 16, 16), torch.nn.functional.adaptive_avg_pool2d((truths[:1] == 1).float(), 16)
    picture = memory_figure(images[0], truths[0], torch.randn(96, 16, 16), memory, memory - (inside > 0.99).float())
    assert titles(picture)[1:3] == ["features F\n96 × 16 × 16", "memory Mem\n24 × 16 × 16"]
    assert "100 percent" in picture.alt
    titles(memory_figure(images[0], truths[0], memory, memory, memory))  # no change at all


def test_reading_tells_the_share_on_the_object(clip):
    images, truths = clip
    inside = torch.nn.functional.adaptive_avg_pool2d((truths[:1] == 1).float(), 16)[0] > 0.5
    picture = reading_figure(images[2], truths[2], (3, 4), inside / inside.sum() / 2, images[0], truths[0], "layer 1")
    assert titles(picture)[-1] == "50 % on the object's cells"
    assert "row 3, column 4" in picture.alt


def test_tracks_draw_one_line_each():
    picture = tracks_figure({"first": [1.0, 0.8], "latest": [1.0, 0.05]}, "Two memories")
    titles(picture)
    assert [line.get_label() for line in picture.axes[0].lines] == ["first", "latest"]
    assert "latest: 100, 5" in picture.alt and picture.axes[0].get_ylim()[0] == 0
    with pytest.raises(ValueError, match="no tracks"):
        tracks_figure({})
