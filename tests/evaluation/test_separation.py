"""The separation of every map of the method."""

import numpy as np
import pytest
import torch

from fss_lab import load_model
from fss_lab.episode import collate
from fss_lab.evaluation.separation import object_cells, separation_maps, separations
from fss_lab.metrics import separation
from fss_lab.toyworld.pictograms import Pictograms

NAMES = ["dense features", "SAM 2's features", "A of IMR", "B of IMR", "c of SCMA, layer 1", "c of SCMA, layer 2"]


def test_cells_half_as_full_as_the_fullest_belong_to_the_object() -> None:
    mask = torch.zeros(4, 8, dtype=torch.uint8)
    mask[:2, 0], mask[0, 2], mask[2:, 4:6] = 1, 1, 255  # half of a cell, a quarter of one, and a border ring
    expected = torch.zeros(2, 4, dtype=torch.bool)
    expected[0, :2] = True
    assert object_cells(mask, (2, 4)).equal(expected)
    assert not object_cells(torch.zeros(4, 8), (2, 4)).any()


@pytest.mark.parametrize("shots", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_map_is_measured_alike(shots: int) -> None:
    model, episodes = load_model("toy"), Pictograms(0, shots=shots, episodes=2, seed=1)
    measured = separations(model, episodes)
    assert list(measured) == NAMES and all(values.shape == (2,) for values in measured.values())
    with torch.no_grad():
        features = model.extract(collate([episodes[1]]))
        trace = model.predict(model.encode(features), trace=True).trace
        assert trace is not None
        maps = separation_maps(features, trace)
        inside = object_cells(episodes[1].query_mask, (16, 16))
        for name in NAMES:
            assert maps[name].shape == (1, 16, 16)
            assert separation(maps[name][0], inside) == pytest.approx(measured[name][1], abs=2e-3)
    np.testing.assert_array_less(0.8, measured["dense features"])


@pytest.mark.parametrize("options", [{"rounds": 0}, {"calibration": "off"}, {"memory": "support"}])
def test_maps_that_are_not_made_cannot_be_measured(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="priors, IMR and SCMA"):
        separations(load_model("toy").variant(**options), Pictograms(0, episodes=1))
