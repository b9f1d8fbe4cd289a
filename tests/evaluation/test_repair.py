"""The repair of wounds: how an object is cut, what is measured by hand, and what IMR does to a wound of the toy."""

import numpy as np
import pytest
import torch

from fss_lab import Pictograms, load_model
from fss_lab.episode import collate
from fss_lab.errors import InputError
from fss_lab.evaluation.repair import (
    CONTAGIOUS,
    HEALABLE,
    MEASURES,
    ORDINARY,
    cut,
    guesses,
    measure_repairs,
    memory_distance,
)


@pytest.fixture(scope="module")
def data():
    return Pictograms(2, "novel", 1, 5, episodes=2)


def test_a_wound_halves_the_object_and_names_the_largest_other_one(data):
    for index in range(6):
        class_id, scenes = Pictograms(2, seed=5).scenes(index)
        scene = scenes[0]
        kept, missing, other = cut(scene, class_id)
        target = torch.from_numpy(scene.mask(class_id) == 1)
        assert torch.equal(kept | missing, target) and not (kept & missing).any()
        assert abs(int(kept.sum()) - int(missing.sum())) < 0.12 * int(target.sum())  # one row or column of ties
        assert other.any() and not (other & target).any()
        rows, columns = (missing.any(axis).nonzero() for axis in (1, 0))
        apart = [int(part.min()) > int(kept.any(axis).nonzero().max()) for part, axis in ((rows, 1), (columns, 0))]
        assert any(apart), "the cut is one straight line"
    with pytest.raises(InputError, match="no object of the class 19"):
        cut(scene, 19)


def test_memory_distance_by_hand():
    true = torch.zeros(1, 2, 1, 3)
    memory = torch.tensor([[[[3.0, 0.0, 1.0]], [[4.0, 2.0, 0.0]]]])  # lengths 5, 2, 1
    covered = torch.tensor([[[1.0, 0.5, 0.0]]])
    both = torch.stack([memory, memory * 2])  # two rounds
    expected = [(5 + 0.5 * 2) / 1.5, 1.0]
    assert memory_distance(both, true, covered)[:, 0].tolist() == [
        pytest.approx(expected), pytest.approx([2 * x for x in expected])
    ]  # fmt: skip


@pytest.mark.slow
def test_imr_heals_a_wound_and_lets_another_object_in(data):
    model = load_model("toy", fold=2)
    measured = measure_repairs(model, data, rounds=2)
    assert set(measured) == {kind + name for kind in ("", "witnesses, ") for name in (ORDINARY, HEALABLE, CONTAGIOUS)}
    assert measured[HEALABLE].shape == (2, 3, len(MEASURES)) and measured["witnesses, " + HEALABLE].shape == (
        2,
        2,
        3,
        2,
    )
    before, _, after = measured[HEALABLE].mean(0)
    assert after[0] > before[0] and after[1] > before[1]  # the mask
    assert after[3] < 0.6 * before[3]  # the memory
    first = [measured[name][:, 0] for name in (HEALABLE, CONTAGIOUS)]
    np.testing.assert_allclose(*first)  # before any round P_fg is not used
    assert (measured[CONTAGIOUS][:, 2, 4] > measured[HEALABLE][:, 2, 4]).all()  # background gets worse

    encoded = model.encode(collate([data[0]]))
    given = guesses(encoded, [cut(data.scenes(0)[1][0], data[0].class_id)])
    assert given[ORDINARY] is encoded and given[HEALABLE].priors.foreground.sum() == encoded.query_masks.sum()
    with pytest.raises(InputError, match="no guesses to replace"):
        guesses(model.encode(collate([data[0]]), priors=False), [])
