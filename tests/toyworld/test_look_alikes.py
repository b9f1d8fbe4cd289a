"""Scenes made to mislead."""

import numpy as np
import pytest

from fss_lab.cli import commands as cli
from fss_lab.datasets.folds import FOLDS
from fss_lab.evaluation.worlds import ToyWorld
from fss_lab.toyworld.look_alikes import LookAlikes


@pytest.mark.parametrize("fold", range(FOLDS))
def test_every_distractor_wears_the_colours_of_a_target_and_carries_some_of_its_parts(fold):
    data = LookAlikes(fold, shots=2, seed=1)
    assert data.classes == tuple(range(5 * fold, 5 * fold + 5))
    for index in range(3):
        class_id, scenes = data.scenes(index)
        assert len(scenes) == 3
        for scene in scenes:
            targets = [identity for identity in scene.identities if identity.class_id == class_id]
            others = [identity for identity in scene.identities if identity.class_id != class_id]
            assert len(targets) == 2 and 1 <= len(others) <= 3
            for other in others:
                (model,) = (target for target in targets if target.palette == other.palette)
                assert (other.texture, other.texture_colour) == (model.texture, model.texture_colour)
                own = [part.role for part in other.parts]
                borrowed = max(1, len(model.parts) // 3)
                wanted = [part.role for part in model.parts]
                assert any(own[-borrowed:] == wanted[i : i + borrowed] for i in range(len(wanted)))


def test_an_episode_is_always_the_same_and_unlike_that_of_pictograms():
    one, two = LookAlikes(0, seed=4)[3], LookAlikes(0, seed=4)[3]
    assert np.array_equal(one.query_image, two.query_image) and np.array_equal(one.query_mask, two.query_mask)
    plain = ToyWorld(number=10).episodes(0, 1, 4)[3]
    assert one.class_id == plain.class_id and not np.array_equal(one.query_image, plain.query_image)


@pytest.mark.slow
def test_evaluated_from_the_command_line(capsys, tmp_path):
    arguments = ["evaluate", "--dataset", "look-alikes", "--folds", "1", "--episodes", "1"]
    assert cli.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert "LookAlikes" in capsys.readouterr().out
    assert cli.main([*arguments, "--protocol", "fssam"]) == 1
    assert "look-alikes are fresh scenes" in capsys.readouterr().err
