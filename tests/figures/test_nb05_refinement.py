"""Figures of memories and their refinement."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.figures.nb05_refinement import (
    agreement_figure,
    memories_figure,
    progress_figure,
    rounds_figure,
    sharpening_figure,
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
    picture = progress_figure(torch.tensor([[0.2, 0.4], [0.4, 0.8]]), "Progress", "IoU")
    titles(picture)
    assert "30, 60" in picture.alt


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
