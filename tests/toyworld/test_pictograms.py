"""The toy world: what it promises about classes, scenes, episodes, clips and files."""

import hashlib

import numpy as np
import pytest
import torch

from fss_lab.datasets.folds import FOLDS
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms, fold_classes
from fss_lab.toyworld.scenes import IGNORE, ring

PIXELS = "a6dbaa6d6a61510735c1902784b97faf8b1a6324982d48d59f567080153e080c"


def test_four_folds_of_five_split_the_classes() -> None:
    assert len(CLASS_NAMES) == 20
    for fold in range(FOLDS):
        novel, base = fold_classes(fold, "novel"), fold_classes(fold, "base")
        assert len(novel) == 5 and sorted((*novel, *base)) == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold": 4}, "fold must be one of 0, 1, 2, 3"),
        ({"fold": 0, "split": "test"}, '"base" or "novel"'),
        ({"fold": 0, "shots": 0}, "shots must be"),
        ({"fold": 0, "identity": "none"}, "identity must be"),
        ({"fold": 0, "targets": 4}, "targets must be"),
        ({"fold": 0, "size": 32}, "size must be"),
    ],
)
def test_bad_arguments_say_what_was_expected(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pictograms(**arguments)


def test_an_episode_outside_the_data_set_is_an_error() -> None:
    with pytest.raises(IndexError, match="episode 3 is outside 0 .. 2"):
        Pictograms(0, episodes=3)[3]


@pytest.mark.parametrize("fold", range(FOLDS))
@pytest.mark.parametrize("split", ["novel", "base"])
def test_a_balanced_list_shows_every_class_equally_often_and_draws_nothing_anew(fold: int, split: str) -> None:
    data = Pictograms(fold, split, seed=2)
    for per_class in (1, 3):
        chosen = data.balanced(per_class)
        classes = [data.class_of(number) for number in chosen.numbers]
        assert {c: classes.count(c) for c in data.classes} == dict.fromkeys(data.classes, per_class)
        assert list(chosen.numbers) == sorted(chosen.numbers) and chosen.classes == data.classes
    assert set(data.balanced(1).numbers) <= set(chosen.numbers)
    number = chosen.numbers[0]
    assert chosen[0].class_id == data[number].class_id == data.class_of(number)
    with pytest.raises(ValueError, match="per_class must be 1 to 0 in these 4 episodes, got 1"):
        Pictograms(fold, split, episodes=4).balanced(1)
    with pytest.raises(ValueError, match="got 0"):
        data.balanced(0)


def test_pixels_are_the_same_on_every_machine() -> None:
    """Changes only when the toy world itself changes; then the shipped weights and results must be made anew."""
    digest = hashlib.sha256()
    for fold in range(FOLDS):
        _, scenes = Pictograms(fold, "novel", 2, seed=7).scenes(3)
        for scene in scenes:
            digest.update(scene.image.tobytes() + scene.instances.tobytes())
    assert digest.hexdigest() == PIXELS


def test_episodes_do_not_depend_on_the_order_of_asking() -> None:
    first, again = Pictograms(1, shots=2, seed=5), Pictograms(1, shots=2, seed=5)
    later = first[4]
    again[0]
    torch.testing.assert_close(again[4].query_image, later.query_image, rtol=0, atol=0)
    assert not torch.equal(first[0].query_image, later.query_image)
    other_seed = Pictograms(1, shots=2, seed=6)[4]
    assert not torch.equal(other_seed.query_image, later.query_image)


@pytest.mark.parametrize("split", ["base", "novel"])
def test_scenes_show_the_target_among_others_and_base_scenes_no_novel_class(split: str) -> None:
    data = Pictograms(2, split, 1, seed=1, episodes=25)
    seen = set()
    for index in range(len(data)):
        class_id, scenes = data.scenes(index)
        assert class_id in data.classes
        for scene in scenes:
            assert scene.area(class_id) >= 512
            assert any(other != class_id for other in scene.class_ids)
            seen |= set(scene.class_ids)
            assert set(np.unique(scene.instances)) <= {0, *range(1, len(scene.class_ids) + 1), IGNORE}
            labels = data.labels(scene)
            assert set(np.unique(labels)) <= {0, IGNORE, *(c + 1 for c in scene.class_ids)}
            np.testing.assert_array_equal(labels == class_id + 1, scene.mask(class_id) == 1)
    if split == "base":
        assert not seen & set(fold_classes(2, "novel"))
    else:
        assert seen - set(data.classes)


def test_episode_tensors() -> None:
    episode = Pictograms(3, shots=5, seed=2)[1]
    assert episode.query_image.shape == (3, 256, 256) and episode.query_image.dtype == torch.uint8
    assert episode.support_images.shape == (5, 3, 256, 256) and episode.support_masks.shape == (5, 256, 256)
    assert set(episode.query_mask.unique().tolist()) == {0, 1, 255}
    assert episode.class_name == CLASS_NAMES[episode.class_id]


def test_same_identity_changes_the_support_but_not_the_query() -> None:
    same = Pictograms(0, identity="same", targets=1, seed=3)[2]
    other = Pictograms(0, identity="other", targets=1, seed=3)[2]
    assert torch.equal(same.query_image, other.query_image)
    assert not torch.equal(same.support_images, other.support_images)

    def mean_colour(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image[:, mask == 1].float().mean(1)

    wanted = mean_colour(same.query_image, same.query_mask)
    distances = [
        (mean_colour(episode.support_images[0], episode.support_masks[0]) - wanted).norm() for episode in (same, other)
    ]
    assert distances[0] < 15 < distances[1]


@pytest.mark.slow
def test_colour_says_little_of_the_class() -> None:
    """Nearest mean colour among the classes does hardly better than the 1 in 5 of guessing."""
    data = Pictograms(0, seed=4, episodes=120, targets=1)
    colours, classes = [], []
    for index in range(len(data)):
        class_id, (scene, _) = data.scenes(index)
        colours.append(scene.image[scene.mask(class_id) == 1].mean(0))
        classes.append(class_id)
    x, y = np.array(colours), np.array(classes)
    means = np.stack([x[:60][y[:60] == c].mean(0) for c in data.classes])
    nearest = np.array(data.classes)[((x[60:, None] - means) ** 2).sum(2).argmin(1)]
    assert (nearest == y[60:]).mean() < 0.4


def test_clips_move_the_same_identities() -> None:
    images, instances = Pictograms(1, seed=8).clip(0, frames=5)
    assert images.shape == (5, 3, 256, 256) and instances.shape == (5, 256, 256)
    assert all((frame == 1).any() for frame in instances)
    assert not torch.equal(instances[0], instances[-1])


def test_ring_marks_both_sides_of_a_border() -> None:
    instances = np.zeros((5, 6), dtype=np.uint8)
    instances[:, 3:] = 1
    np.testing.assert_array_equal(ring(instances)[2], [0, 0, 255, 255, 1, 1])


def test_distractor_is_the_largest_object_of_another_class() -> None:
    data = Pictograms(0, episodes=4)
    for index in range(4):
        class_id, (query, *_) = data.scenes(index)
        others = [(query.instances == n).sum() for n, other in enumerate(query.class_ids, start=1) if other != class_id]
        mask = data.distractor(index)
        assert mask is not None and mask.sum() == max(others) and not (mask & (data[index].query_mask == 1)).any()
