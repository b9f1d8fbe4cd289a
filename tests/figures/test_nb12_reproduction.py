"""Figures of notebook 12."""

import pytest
import torch

from fss_lab.backbones.toy import ToyFeatures, build_toy_sam2
from fss_lab.figures.nb12_reproduction import columns_figure, losses_figure, similarity_figure
from fss_lab.figures.style import Picture
from fss_lab.method import FSSAM
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FSSAM(build_toy_sam2(), ToyFeatures().eval())


def traced(model, episode, **options):
    return model.variant(**options).segment(episode, trace=True).trace.layers[0]


def labels(axes):
    return [label.get_text() for label in axes.get_xticklabels()]


def test_columns_tell_which_block_is_calibrated(model):
    episode = Pictograms(1, shots=3)[0]
    published = traced(model, episode, calibration="as_published")
    corrected = traced(model, episode)
    picture = columns_figure({"as published": published, "corrected": corrected})
    assert isinstance(picture, Picture) and picture.png()
    first, second = picture.axes
    assert labels(first) == ["support 1", "support 2", "support 3", "query memory", "pointers"]
    assert labels(second) == ["mean of the supports", "query memory", "pointers"]
    heights = [bar.get_height() for bar in first.patches]
    assert heights[1] == pytest.approx(published.bias[..., 256:512].mean().item(), abs=1e-5) and heights[1] < 0
    assert heights[0] == heights[2] == heights[3] == heights[4] == 0
    assert [bar.get_height() < 0 for bar in second.patches] == [False, True, False]


def test_columns_of_one_shot_and_without_calibration(model):
    episode = Pictograms(3)[0]
    picture = columns_figure({"corrected": traced(model, episode), "off": traced(model, episode, calibration="off")})
    assert picture.png() and [labels(axes)[0] for axes in picture.axes] == ["support", "support"]


def test_columns_refuse(model):
    with pytest.raises(ValueError, match="pseudo"):
        columns_figure({})
    with pytest.raises(ValueError, match="pseudo"):
        columns_figure({"support": traced(model, Pictograms(0)[0], memory="support")})


def test_similarity():
    episode = Pictograms(2)[0]
    maps = {"weighted": torch.rand(16, 16), "plain": torch.full((16, 16), 0.25)}
    picture = similarity_figure(episode.query_image, episode.query_mask, maps)
    assert picture.png() and "weighted, plain" in picture.alt and "0.25" in picture.alt
    with pytest.raises(ValueError, match="no maps"):
        similarity_figure(episode.query_image, episode.query_mask, {})


def test_losses():
    picture = losses_figure({"paper": [0.5, 0.4], "as published": [0.5, 0.45]}, "Two runs")
    assert picture.png() and "paper from 0.50 to 0.40; as published from 0.50 to 0.45" in picture.alt
    with pytest.raises(ValueError, match="no losses"):
        losses_figure({"paper": []}, "No run")
