"""Figures of memories and their refinement."""

import io

import pytest
import torch

from fss_lab.figures import Picture
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


def check(picture):
    assert isinstance(picture, Picture) and picture.alt and picture.dpi <= 110
    assert picture.get_figwidth() <= 10
    picture.savefig(io.BytesIO())


def test_pictures_without_an_episode():
    check(sharpening_figure())
    check(agreement_figure())
    picture = progress_figure(torch.tensor([[0.2, 0.4], [0.4, 0.8]]), "Progress", "IoU")
    check(picture)
    assert "30, 60" in picture.alt


def test_pictures_of_memories(task):
    check(memories_figure(task, [rand(6, 4, 4), rand(6, 4, 4) + 1, rand(6, 4, 4)], [rand(4, 4), rand(4, 4)]))


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_pictures_of_rounds(task, rounds):
    picture = rounds_figure(task, rand(4, 4), rand(4, 4), [(rand(4, 4), rand(4, 4), rand(4, 4))] * rounds)
    check(picture)
    assert f"in {rounds} rounds" in picture.alt


def test_no_round_is_refused(task):
    with pytest.raises(ValueError, match="refine at least once"):
        rounds_figure(task, rand(4, 4), rand(4, 4), [])
