"""Drawing episodes: both protocols by hand on eight tiny images, lists that are saved, and the toy world as images."""

import json

import pytest
import torch
from helpers.tiny_images import SHOWN, TinyImages
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.datasets.protocols import BENCHMARKS, EpisodeList, ListedEpisodes, benchmark, draw_episodes, load_or_draw
from fss_lab.toyworld.pictogram_images import PictogramImages
from fss_lab.toyworld.pictograms import Pictograms

FSSAM, HSNET = BENCHMARKS["fssam"], BENCHMARKS["hsnet"]


def test_the_two_protocols_are_known_by_name_and_tell_what_they_do() -> None:
    assert (benchmark("fssam").seed, benchmark("hsnet").seed) == (321, 0)
    assert str(FSSAM) == (
        "fssam (queries: images in order, over 1,000 in a seeded one; a random class of each; IoU at the label's own "
        "size; several shots: fused by the model)"
    )
    assert "vote over one-shot masks" in str(HSNET) and "the model's square" in str(HSNET)
    with pytest.raises(ValueError, match="protocol must be one of fssam, hsnet, got 'pfenet'"):
        benchmark("pfenet")


def test_fssam_walks_through_the_images_and_takes_a_random_class_of_each() -> None:
    drawn = draw_episodes(FSSAM, TinyImages(), shots=1, count=70).episodes
    assert "".join(e.query for e in drawn[:9]) == "abdefghab"  # c shows nothing; after h it starts again
    assert all(e.class_id in SHOWN[e.query] for e in drawn)
    assert {e.class_id for e in drawn if e.query == "b"} == {3, 5}


def test_a_usual_list_asks_about_images_from_all_of_a_long_data_set() -> None:
    class Many(TinyImages):
        names = tuple(f"{name}{i}" for i in range(300) for name in "abdg")

        def __init__(self) -> None:
            self.class_uniform = False

        def counts_for(self, name: str) -> tuple[int, ...]:
            return SHOWN[name[0]]

    queries = [e.query for e in draw_episodes(FSSAM, Many(), shots=1, count=1200).episodes]
    assert sorted(queries) == sorted(Many.names)  # each once
    first = [int(query[1:]) for query in queries[:400]]
    assert max(first) > 250 and sum(number < 100 for number in first) < 200  # in order it would be all of them
    assert queries != [e.query for e in draw_episodes(FSSAM, Many(), shots=1, count=1200, seed=7).episodes]


def test_hsnet_walks_through_pairs_of_image_and_class() -> None:
    drawn = draw_episodes(HSNET, TinyImages(), shots=1, count=13).episodes
    pairs = [("a", 3), ("b", 3), ("b", 5), ("d", 5), ("e", 3), ("e", 5), ("f", 5), ("g", 3), ("g", 4), ("h", 4)]
    assert [(e.query, e.class_id) for e in drawn] == [*pairs, ("h", 5), ("a", 3), ("b", 3)]


def test_hsnet_draws_the_class_first_where_classes_are_uniform() -> None:
    drawn = draw_episodes(HSNET, TinyImages(class_uniform=True), shots=1, count=600).episodes
    shares = [sum(e.class_id == c for e in drawn) / len(drawn) for c in (3, 4, 5)]
    assert all(abs(share - 1 / 3) < 0.06 for share in shares)  # by pairs they would be 4, 2 and 5 of 11
    assert {e.query for e in drawn if e.class_id == 4} == {"g", "h"}


@given(
    name=st.sampled_from(["fssam", "hsnet"]),
    uniform=st.booleans(),
    shots=st.integers(1, 2),
    seed=st.integers(0, 2**32),
    count=st.integers(1, 20),
)
def test_every_draw_is_valid_and_continues_shorter_and_fewer(
    name: str, uniform: bool, shots: int, seed: int, count: int
) -> None:
    images = TinyImages(uniform, without="gh")
    images.classes = (3, 5)
    drawn = draw_episodes(BENCHMARKS[name], images, shots, count, seed).episodes
    more = draw_episodes(BENCHMARKS[name], images, shots, count + 3, seed).episodes
    assert more[:count] == drawn
    for e in more:
        assert e.query not in e.supports and len(set(e.supports)) == len(e.supports)
        assert all(e.class_id in SHOWN[image] for image in (e.query, *e.supports))
    single = draw_episodes(BENCHMARKS[name], images, 1, count, seed).episodes
    assert [(e.query, e.class_id, e.supports[:1]) for e in drawn] == [(e.query, e.class_id, e.supports) for e in single]


def test_a_draw_is_the_same_on_every_machine() -> None:
    """Changes only when the rule of drawing changes; then numbers from older lists are no longer repeated."""
    assert "".join(e.supports[0] for e in draw_episodes(FSSAM, TinyImages(), 1, 12).episodes) == "bhhdbhgbfebh"
    digest = "6a87af8555de5c81174a832b913d75c6015e67f4cada934e19efe67a8767fa87"
    assert draw_episodes(HSNET, TinyImages(True), 1, 20).digest == digest


def test_a_class_needs_one_image_more_than_shots() -> None:
    with pytest.raises(ValueError, match="2-shot episodes need 3 images of every class, but tiny has 2 of 'dog'"):
        draw_episodes(FSSAM, TinyImages(), 2, 5)
    with pytest.raises(ValueError, match="at least 1, got 0 and 5"):
        draw_episodes(FSSAM, TinyImages(), 0, 5)


def test_a_saved_list_comes_back_and_a_changed_one_is_refused(tmp_path) -> None:
    path = tmp_path / "new" / "list.json"
    drawn = draw_episodes(FSSAM, TinyImages(), 1, 12, seed=4)
    drawn.save(path)
    again = EpisodeList.load(path)
    assert again == drawn and again.digest == drawn.digest == json.loads(path.read_text())["sha256"]
    before = path.read_bytes()
    again.save(path)
    assert path.read_bytes() == before

    path.write_text(path.read_text().replace('["a"', '["b"', 1))
    with pytest.raises(ValueError, match="was changed after it was written"):
        EpisodeList.load(path)
    for text in ("no JSON", "[]", "{}", '{"format": 1, "sha256": ""}', '{"format": 2}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is no episode list of this version"):
            EpisodeList.load(path)


def test_a_saved_list_is_used_again_only_for_the_same_question(tmp_path) -> None:
    path = tmp_path / "list.json"
    first = load_or_draw(path, FSSAM, TinyImages(), 1, 6)
    assert first.seed == 321 and load_or_draw(path, FSSAM, TinyImages(), 1, 6) == first
    with pytest.raises(ValueError, match="seed 321, not 5; 6 episodes, not 7. Choose another directory"):
        load_or_draw(path, FSSAM, TinyImages(), 1, 7, seed=5)
    with pytest.raises(ValueError, match="protocol 'fssam', not 'hsnet'"):
        load_or_draw(path, HSNET, TinyImages(), 1, 6)


def test_listed_episodes_show_one_class_and_keep_the_target_at_its_own_size() -> None:
    images = TinyImages()
    drawn = draw_episodes(HSNET, images, 1, 3)
    episodes = ListedEpisodes(drawn, images)
    assert len(episodes) == 3 and episodes.classes == (3, 4, 5) and episodes.protocol is HSNET
    episode = list(episodes)[2]  # b, class 5
    expected = torch.zeros(6, 6, dtype=torch.uint8)
    expected[2, ::2], expected[:, 5] = 1, 255
    assert torch.equal(episode.query_mask, expected) and torch.equal(episodes.target(2), expected)
    assert (episode.class_id, episode.class_name, episode.shots) == (5, "cow", 1)
    assert torch.equal(episode.support_images[0], images.image(drawn.episodes[2].supports[0]))

    stretched = ListedEpisodes(drawn, images, size=12)
    assert stretched[2].query_image.shape == (3, 12, 12)
    assert torch.equal(stretched[2].query_mask, expected.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.equal(stretched.target(2), expected)
    with pytest.raises(IndexError, match="episode 3 is outside 0 .. 2"):
        episodes[3]


def test_a_list_is_refused_for_other_images() -> None:
    drawn = draw_episodes(FSSAM, TinyImages(), 1, 7)
    with pytest.raises(ValueError, match="tiny lacks images of the list: a"):
        ListedEpisodes(drawn, TinyImages(without="a"))
    other = TinyImages()
    other.name = "large"
    with pytest.raises(ValueError, match="drawn from tiny, fold 1, novel; got large"):
        ListedEpisodes(drawn, other)


def test_pictogram_images_are_the_queries_of_pictograms_with_all_classes() -> None:
    images, world = PictogramImages(2, images=4, seed=3), Pictograms(2, seed=3, episodes=4)
    name = images.names[1]
    assert torch.equal(images.image(name), world[1].query_image)
    label = images.label(name)
    assert torch.equal(label == world[1].class_id + 1, world[1].query_mask == 1)
    assert torch.equal(label == 255, world[1].query_mask == 255)
    for each in images.names:
        areas = {c: int((images.label(each) == c + 1).sum()) for c in range(20)}
        assert images.counts_for(each) == tuple(c for c in range(10, 15) if areas[c] >= 512)
    assert images.class_name(world[1].class_id) == world[1].class_name
    with pytest.raises(KeyError, match="no image 'novel2_000007'"):
        images.image("novel2_000007")
    with pytest.raises(ValueError, match="images must be at least 1"):
        PictogramImages(2, images=0)
