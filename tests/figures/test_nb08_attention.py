"""Figures of notebook 08."""

from dataclasses import replace

import pytest
import torch

from fss_lab import figures
from fss_lab.backbones.toy import ToyFeatures, build_toy_sam2
from fss_lab.figures.nb08_attention import (
    background_figure,
    calibration_figure,
    cells_figure,
    influence_figure,
    masses_figure,
)
from fss_lab.figures.style import Picture
from fss_lab.method import FSSAM
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FSSAM(build_toy_sam2(), ToyFeatures().eval())


@pytest.fixture(scope="module", params=[(0, 1), pytest.param((3, 5), marks=pytest.mark.slow)])
def episode(request):
    fold, shots = request.param
    return Pictograms(fold, shots=shots)[2]


@pytest.fixture(scope="module")
def trace(model, episode):
    return model.segment(episode, trace=True).trace


def test_masses():
    masses = torch.tensor([[[0.2, 0.7, 0.1], [0.3, 0.6, 0.1]]])  # 1 layer, before and after, 3 parts
    picture = masses_figure({"object": masses, "background": masses.flip(1)})
    assert isinstance(picture, Picture) and picture.png()
    assert "object, query memory: 70, 60" in picture.alt and "background, query memory: 60, 70" in picture.alt
    with pytest.raises(ValueError, match="no masses"):
        masses_figure({})


def test_cells(episode, trace, model):
    grid = tuple(trace.support_masks_attention.shape[-2:])
    cells = {"centre": figures.central_cell(episode.query_mask, grid[0]), "corner": (0, 0)}
    picture = cells_figure(episode, trace, cells, layer=0)
    assert picture.png() and "layer 1" in picture.alt and "corner" in picture.alt
    row = trace.layers[0].attention[0].mean(0)[0]  # of the corner
    support, query = (
        100 * float(row[part].sum()) for part in (trace.layers[0].columns.support, trace.layers[0].columns.query)
    )
    assert f"corner: {support:.0f} % and {query:.0f} %" in picture.alt
    with pytest.raises(ValueError, match="memory grid"):
        cells_figure(episode, trace, {"outside": (grid[0], 0)})
    with pytest.raises(ValueError, match="no query memory"):
        without = model.variant(memory="support").segment(episode, trace=True).trace
        cells_figure(episode, without, cells)


def test_calibration(episode, trace, model):
    picture = calibration_figure(episode, trace)
    assert picture.png() and "layer 2:" in picture.alt
    with pytest.raises(ValueError, match="no calibration"):
        calibration_figure(episode, model.variant(calibration="off").segment(episode, trace=True).trace)
    with pytest.raises(ValueError, match="no object"):
        calibration_figure(replace(episode, query_mask=torch.zeros_like(episode.query_mask)), trace)


def test_influence():
    picture = influence_figure({"support memory": 0.25, "pointers": 0.05}, {"support memory": -0.1, "pointers": 0.2})
    assert picture.png()
    assert "attention in percent: support memory 25, pointers 5; points of IoU lost: support memory -10" in picture.alt
    with pytest.raises(ValueError, match="same parts"):
        influence_figure({"support memory": 0.25}, {"pointers": 0.2})


def test_background():
    picture = background_figure({"all": [(0.2, 0.1), (0.4, 0.3)], "some": [(0.1, 0.0), (0.1, 0.0)]}, "Background")
    assert picture.png() and picture.alt == (
        "Background. all: mean 30.0 % before and 20.0 % after; some: mean 10.0 % before and 0.0 % after."
    )
    for nothing in ({}, {"all": []}):
        with pytest.raises(ValueError, match="no episodes"):
            background_figure(nothing, "Background")
