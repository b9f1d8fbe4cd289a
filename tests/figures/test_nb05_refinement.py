"""Figures of memories and their refinement."""

import numpy as np
import pytest
import torch
from helpers.pictures import titles

from fss_lab.figures.nb05_refinement import (
    agreement_figure,
    by_round_figure,
    memories_figure,
    rounds_figure,
    sharpening_figure,
    wound_figure,
)
from fss_lab.toyworld.pictograms import Pictograms


@pytest.fixture(scope="module", params=[(1, 1), pytest.param((3, 5), marks=pytest.mark.slow)], ids=str)
def task(request):
    fold, shots = request.param
    return Pictograms(fold, "novel", shots)[0]


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_pictures_without_an_episode():
    titles(sharpening_figure())
    titles(agreement_figure())
    values = np.array([[0.2, 0.4], [0.4, 0.8], [np.nan, np.nan]])
    panels = {"IoU in percent": {"wound": values}, "distance": {"wound": values}}
    picture = by_round_figure(panels, "Rounds", {name: {"wound": [0.25, 0.5]} for name in panels})
    titles(picture)
    assert "IoU in percent, wound: 30, 60; distance, wound: 0.30, 0.60" in picture.alt


def test_pictures_of_memories(task):
    titles(memories_figure(task, [rand(6, 4, 4), rand(6, 4, 4) + 1, rand(6, 4, 4)], [rand(4, 4), rand(4, 4)]))


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_pictures_of_rounds(task, rounds):
    picture = rounds_figure(task, rand(4, 4), rand(4, 4), [(rand(4, 4), rand(4, 4), rand(4, 4))] * rounds)
    titles(picture)
    assert f"in {rounds} rounds" in picture.alt


def test_no_round_is_refused(task):
    with pytest.raises(ValueError, match="refine at least once"):
        rounds_figure(task, rand(4, 4), rand(4, 4), [])


def test_pictures_of_a_wound(task):
    half, whole = (rand(256, 256) > level for level in (0.5, 0.2))
    guesses, masks = {"one": (half, whole), "two": (half, half)}, {"one": [half] * 2, "two": [whole] * 2}
    picture = wound_figure(task, guesses, masks, [0, 3])
    titles(picture)
    assert "% after 0" in picture.alt and "two: " in picture.alt
