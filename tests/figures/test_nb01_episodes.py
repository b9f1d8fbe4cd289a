"""Figures of notebook 01: what they count, name and say."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.datasets.folds import FOLDS
from fss_lab.figures.nb01_episodes import counting_figure, folds_figure, number_grids, prototype_figure
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms, fold_classes


def test_every_number_of_a_grid_is_written():
    grids = {"one": torch.tensor([[0, 1], [2, 255]]), "two": torch.tensor([[0.05, 0.5]])}
    picture = number_grids(grids, "Numbers")
    assert titles(picture) == ["one", "two"]
    shown = [[text.get_text() for text in axes.texts] for axes in picture.axes]
    assert shown == [["0", "1", "2", "255"], ["0.05", "0.5"]]
    assert "one: [[0, 1], [2, 255]]; two: [[0.05, 0.5]]" in picture.alt


def test_a_grid_may_be_all_ignored_and_its_colours_must_fit():
    titles(number_grids({"ring": torch.full((2, 2), 255)}, "Nothing counts"))
    with pytest.raises(ValueError, match="a colour for each"):
        number_grids({"one": torch.ones(1, 1)}, "Numbers", ["red", "blue"])
    with pytest.raises(ValueError, match="at least one grid"):
        number_grids({}, "Numbers")


@pytest.mark.parametrize("fold", range(FOLDS))
def test_the_folds_name_their_classes(fold):
    picture = folds_figure(fold)
    titles(picture)
    novel = {CLASS_NAMES[c] for c in fold_classes(fold, "novel")}
    assert all(name in picture.alt for name in novel)
    assert not any(f" {name}" in picture.alt for name in set(CLASS_NAMES) - novel)


def test_an_unknown_fold_is_refused():
    with pytest.raises(ValueError, match="fold must be"):
        folds_figure(4)


def test_counts_are_those_of_iou():
    truth = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 255], [0, 1, 1, 255], [0, 0, 0, 0]])
    mask = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]).bool()
    picture = counting_figure(torch.full((3, 4, 4), 128), truth, mask)
    assert titles(picture) == ["truth", "prediction", "what is counted"]
    for part in ("(I): 2 pixels", "missed: 2 pixels", "too much: 1 pixels", "40 percent"):
        assert part in picture.alt


@pytest.mark.parametrize(("fold", "shots"), [(0, 1), (2, 5)])
def test_prototypes_are_shown_for_any_number_of_shots(fold, shots):
    task = Pictograms(fold, shots=shots)[1]
    maps = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0))
    picture = prototype_figure(task, *maps, task.query_mask == 1, margin=0.25)
    names = titles(picture)
    assert len(names) == 6 and ("support" if shots == 1 else "support 1 of 5") in names
    assert "prediction, IoU 100 %" in names and task.class_name in picture.alt and "margin of 0.25" in picture.alt
