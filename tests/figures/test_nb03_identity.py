"""Figures of notebook 03: what they show and say."""

import pytest
import torch
from helpers.pictures import titles

from fss_lab.datasets.folds import FOLDS
from fss_lab.figures.nb03_identity import likeness_figure, looks_figure, supports_figure
from fss_lab.toyworld.identities import TRAITS, SharedTraits


@pytest.fixture(scope="module", params=range(FOLDS))
def tasks(request):
    return {shared: SharedTraits(request.param, shared)[0] for shared in ("everything", "nothing")}


def test_every_support_stands_above_its_prediction(tasks):
    masks = {"everything": tasks["everything"].query_mask == 1, "nothing": tasks["nothing"].query_mask == 2}
    picture = supports_figure(tasks, masks)
    assert titles(picture) == ["query", "everything", "nothing", "truth", "IoU 100 %", "IoU 0 %"]
    assert "everything: 100 percent, nothing: 0 percent" in picture.alt


def test_four_supports_fit_and_names_must_agree():
    tasks = {shared: SharedTraits(0, shared)[1] for shared in TRAITS}
    masks = {shared: task.query_mask == 1 for shared, task in tasks.items()}
    assert len(titles(supports_figure(tasks, masks))) == 10
    with pytest.raises(ValueError, match="a mask for each"):
        supports_figure(tasks, {"everything": masks["everything"]})
    with pytest.raises(ValueError, match="a mask for each"):
        supports_figure({}, {})


def test_likeness_has_a_row_for_each_kind_of_features(tasks):
    maps = {
        "SAM 2": {"a": torch.rand(16, 16), "b": torch.rand(16, 16)},
        "dense": {"a": torch.rand(32, 32), "b": torch.rand(32, 32)},
    }
    notes = {name: {"a": 0.9, "b": 0.25} for name in maps}
    picture = likeness_figure(tasks["nothing"], maps, notes)
    assert titles(picture)[:3] == ["query, SAM 2", "a\nseparation 0.90", "b\nseparation 0.25"]
    assert "dense, b: 0.25" in picture.alt


def test_looks_share_one_scale(tasks):
    maps = {"everything": torch.full((16, 16), 1 / 256), "nothing": torch.full((16, 16), 1 / 512)}
    picture = looks_figure(tasks, maps, {"everything": 0.5, "nothing": 0.25})
    assert titles(picture) == ["everything", "nothing", "50 % on its object", "25 % on its object"]
    norms = [axes.images[0].norm.vmax for axes in picture.axes[2:4]]
    assert norms == [100 / 256] * 2
