"""Figures of notebook 07."""

import pytest
import torch

from fss_lab.backbones.toy import ToyFeatures, build_toy_sam2
from fss_lab.figures.nb07_fssam import failures_figure, gains_figure, prior_matters_figure, shots_figure
from fss_lab.figures.style import Picture
from fss_lab.method import FSSAM
from fss_lab.metrics import Interval
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FSSAM(build_toy_sam2(), ToyFeatures().eval())


@pytest.mark.parametrize(("fold", "shots"), [(0, 1), pytest.param(2, 5, marks=pytest.mark.slow)])
def test_shots(model, fold, shots):
    episode = Pictograms(fold, shots=shots)[1]
    picture = shots_figure(episode, model.segment(episode, trace=True).trace)
    assert isinstance(picture, Picture) and picture.png()
    assert f"{shots} support images of the class {episode.class_name}" in picture.alt
    assert sum("prior" in axes.get_title() for axes in picture.axes) == shots
    with pytest.raises(ValueError, match="no priors"):
        truth = FSSAM(model.sam2, None, prior="truth")
        shots_figure(episode, truth.segment(episode, trace=True).trace)


@pytest.mark.slow
def test_failures(model):
    episodes = [Pictograms(1)[index] for index in range(2)]
    rows = [(e, torch.rand(16, 16), e.query_mask == 0, e.query_mask == 1) for e in episodes]
    picture = failures_figure(rows, "The worst")
    assert picture.png() and "0 %, with the true prior 100 %" in picture.alt
    with pytest.raises(ValueError, match="no failure"):
        failures_figure([], "None")


def test_gains():
    own = {"a over b": Interval(0.02, 0.01, 0.03), "b over c": Interval(-0.02, -0.03, -0.01)}
    picture = gains_figure({"1-shot": own, "5-shot": {"a over b": Interval(0.0, -0.1, 0.1)}}, "Gains")
    assert picture.png()
    assert "1-shot, a over b: +2.0 [+1.0, +3.0]" in picture.alt and "5-shot, a over b: +0.0" in picture.alt
    with pytest.raises(ValueError, match="no gains"):
        gains_figure({"1-shot": {}}, "Gains")


def test_prior_matters():
    picture = prior_matters_figure([0.1, 0.5, 0.9], [0.2, 0.6, 1.0], [0.9, 0.9, 0.9])
    assert picture.png() and "correlation 1.00" in picture.alt and "median IoU is 60 %" in picture.alt
    assert "higher in 3 of them" in picture.alt
    assert "not defined" in prior_matters_figure([0.1], [0.2], [0.9]).alt
    with pytest.raises(ValueError, match="equal numbers"):
        prior_matters_figure([0.1], [], [0.9])
