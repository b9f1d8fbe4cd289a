"""Figures of the support's calibration."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.figures.nb06_calibration import bias_figure, calibration_figure, trial_figure
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module", params=[(0, 1), pytest.param((3, 5), marks=pytest.mark.slow)], ids=str)
def task(request):
    fold, shots = request.param
    return Pictograms(fold, "novel", shots)[0]


def test_the_bias_is_drawn():
    titles(bias_figure())


def test_a_cell_and_its_attention(task):
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    before, after = torch.full((4, 4), 0.05), torch.full((4, 4), 0.025)
    picture = calibration_figure(task, (1, 2), maps[0], maps[1], -10 * maps[2], before, after)
    titles(picture)
    assert "80 % and 40 %" in picture.alt
    titles(calibration_figure(task, (0, 0), maps[0], maps[1], -maps[2], torch.zeros(4, 4), torch.zeros(4, 4)))


def test_a_planted_object_and_what_every_bias_makes_of_it(task):
    truth = task.query_mask == 1
    planted = torch.zeros_like(truth)
    planted[:40, :40] = True
    picture = trial_figure(task, planted, {"no bias": planted, "SCMA": truth & ~planted, "other": truth})
    titles(picture)
    assert "no bias 0 and 100 %, SCMA" in picture.alt and picture.alt.count("and 0 %") >= 1
