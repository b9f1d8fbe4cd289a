"""The corpus of randomly composed classes, and the silhouettes that pre-training reads off it."""

import numpy as np
import pytest

from fss_lab.toyworld.scenes import Identity, silhouette
from fss_lab.toyworld.shapes import box, part
from recipes.random_classes import RandomClass, RandomScenes


def _drawing(class_id: int, seed: int) -> np.ndarray:
    return silhouette(RandomClass.compose(class_id).draw(np.random.default_rng(seed)), 24)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


def test_random_classes_are_many_different_and_repeatable() -> None:
    recipes = [RandomClass.compose(number) for number in range(300)]
    assert len(set(recipes)) == 300
    assert RandomClass.compose(17) == recipes[17]
    assert RandomClass.compose(17, seed=1) != recipes[17]


@pytest.mark.parametrize("class_id", range(40))
def test_an_identity_fills_the_frame(class_id: int) -> None:
    for seed in range(3):
        parts = RandomClass.compose(class_id).draw(np.random.default_rng(seed)).parts
        points = np.concatenate([outline for piece in parts for outline in piece.outlines])
        assert np.isclose(np.abs(points).max(), 1) and np.isfinite(points).all()
        assert _drawing(class_id, seed).mean() > 0.02


def test_identities_of_a_class_differ_but_less_than_classes_do() -> None:
    same = [_overlap(_drawing(c, 0), _drawing(c, 1)) for c in range(60)]
    other = [_overlap(_drawing(c, 0), _drawing(c + 1, 1)) for c in range(60)]
    assert np.mean(other) + 0.1 < np.mean(same) < 0.9


def test_the_silhouette_is_the_covered_share_of_every_cell() -> None:
    identity = Identity(0, (part(box(-1, -1, 0, 1)), part(box(-0.5, -1, 0, 0))), {})
    assert np.array_equal(silhouette(identity, 4), np.tile(np.float32([1, 1, 0, 0]), (4, 1)))
    holed = Identity(0, (part(box(-1, -1, 1, 1), holes=[box(-0.5, -0.5, 0.5, 0.5)]),), {})
    assert silhouette(holed, 4)[1:3, 1:3].sum() == 0 and silhouette(holed, 4).sum() == 12


def test_random_scenes_and_clips() -> None:
    corpus = RandomScenes(classes=20, size=128)
    scene = corpus.scene(np.random.default_rng(0), [3, 5, 7])
    assert scene.image.shape == (128, 128, 3) and scene.class_ids == (3, 5, 7)
    assert [identity.class_id for identity in scene.identities] == [3, 5, 7]
    for jump in (False, True):
        clip = corpus.clip(np.random.default_rng(1), 3, 2, jump)
        assert len(clip) == 3 and len({frame.class_ids for frame in clip}) == 1
        again = corpus.clip(np.random.default_rng(1), 3, 2, jump)
        assert all((a.image == b.image).all() for a, b in zip(clip, again, strict=True))
