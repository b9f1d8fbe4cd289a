"""Figures of dense features and priors."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.figures.nb04_prompts import (
    features_figure,
    guess_figure,
    maps_figure,
    regions_figure,
    similarity_figure,
    thresholds_figure,
)
from fss_lab.figures.panels import principal_colours
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module", params=[(0, 1), (2, 5)], ids=["fold 0, 1 shot", "fold 2, 5 shots"])
def task(request):
    fold, shots = request.param
    return Pictograms(fold, "novel", shots)[0]


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_equal_features_get_equal_colours():
    features = torch.zeros(6, 4, 4)
    features[0, :2], features[1, 2:] = 1, 1
    one, other = principal_colours(features, features.flip(1))
    assert one.shape == (3, 4, 4) and one.min() >= 0 and one.max() <= 255
    torch.testing.assert_close(one[:, 0, 0], other[:, 3, 3])
    assert not torch.allclose(one[:, 0, 0], one[:, 3, 3])
    (moved,) = principal_colours(features + 3)
    torch.testing.assert_close(moved, principal_colours(features)[0], atol=0.01, rtol=0)


def test_pictures_of_features_and_priors(task):
    size = tuple(task.query_mask.shape)
    titles(features_figure(task, rand(6, 8, 8), rand(6, 8, 8) + 1))
    titles(regions_figure(task, rand(8, 8)))
    titles(similarity_figure(task, 2 * rand(8, 8) - 1, 1 - 2 * rand(8, 8)))
    titles(maps_figure(task, {"small": rand(8, 8), "large": rand(*size)}, "Two maps"))
    titles(maps_figure(task, {f"map {i}": rand(8, 8) for i in range(6)}, "Six maps", outline=False))
    titles(thresholds_figure({"P_fg": rand(9), "P_d": rand(9)}, torch.linspace(0.1, 0.9, 9), "Thresholds"))


def test_the_guess_tells_its_score(task):
    picture = guess_figure(task, (task.query_mask == 1).float(), 0.5)
    titles(picture)
    assert "IoU is 100 %" in picture.alt
    assert "IoU is 0 %" in guess_figure(task, torch.zeros(task.query_mask.shape), 0.5).alt
