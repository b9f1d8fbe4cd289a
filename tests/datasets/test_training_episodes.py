"""Episodes to train on: an epoch shows every image once, and an index means one episode for ever."""

from collections import Counter

import pytest
import torch
from helpers.tiny_images import SHOWN, TinyImages

from fss_lab.datasets.augmentation import Augmentation
from fss_lab.datasets.training_episodes import TrainingEpisodes

NAMES = [name for name, classes in SHOWN.items() if classes]


class Shown(TinyImages):
    """Without the image that counts for no class, as the data sets leave it out."""

    def __init__(self) -> None:
        super().__init__(without="c")


def episodes(shots: int = 1, seed: int = 3, number: int = 700, **options) -> TrainingEpisodes:
    return TrainingEpisodes(Shown(), shots, seed, episodes=number, size=8, **options)


def test_every_image_is_a_query_once_an_epoch_in_a_new_order() -> None:
    queries = [episodes().drawn(index).query for index in range(21)]
    epochs = [queries[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == NAMES for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_classes_and_supports_are_those_that_count() -> None:
    data = episodes()
    drawn = [data.drawn(index) for index in range(700)]
    for each in drawn:
        assert each.class_id in SHOWN[each.query] and each.class_id in SHOWN[each.supports[0]]
        assert each.supports[0] != each.query
    classes = Counter(each.class_id for each in drawn if each.query == "b")
    assert set(classes) == {3, 5} and min(classes.values()) > 30
    supports = {each.supports for each in drawn if each.query == "a"}
    assert supports == {("b",), ("e",), ("g",)}


def test_an_index_is_one_episode_in_any_order_and_process() -> None:
    view = {"augmentation": Augmentation(size=8)}
    one, other = episodes(**view), episodes(**view)
    later = one[100]
    for index in (5, 100, 20):
        assert other.drawn(index) == one.drawn(index)
    again = other[100]
    assert torch.equal(later.query_image, again.query_image) and torch.equal(later.support_masks, again.support_masks)
    assert episodes(seed=4).drawn(100) != one.drawn(100) or episodes(seed=4).drawn(101) != one.drawn(101)


def test_views_differ_between_epochs_and_are_plain_without_augmentation() -> None:
    plain, moved = episodes(), episodes(augmentation=Augmentation(size=8))
    first = next(i for i in range(7) if plain.drawn(i).query == "a")
    second = next(i for i in range(7, 14) if plain.drawn(i).query == "a")
    assert torch.equal(plain[first].query_image, plain[second].query_image)
    assert not torch.equal(moved[first].query_image, moved[second].query_image)
    episode = plain[first]
    assert episode.query_image.shape == (3, 8, 8) and episode.query_image.dtype == torch.float32
    assert episode.class_name == "cat" and set(episode.query_mask.unique().tolist()) == {0, 1, 255}


def test_too_few_images_and_indices_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="2-shot episodes need 3 images of every class, but tiny has 2 of 'dog'"):
        episodes(shots=2)
    with pytest.raises(ValueError, match="shots must be at least 1, got 0"):
        episodes(shots=0)
    with pytest.raises(IndexError, match=r"episode 700 is outside 0 \.\. 699"):
        episodes()[700]
    assert len(list(episodes(number=3))) == 3
