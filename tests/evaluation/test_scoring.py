"""Evaluation of several variants on the same episodes, by protocol."""

import numpy as np
import pytest
import torch
from helpers.tiny_images import Threshold, TinyImages

from fss_lab import load_model
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.episode import Subset, collate
from fss_lab.evaluation import jobs
from fss_lab.evaluation.scoring import evaluate, one_shot, vote, weights_digest
from fss_lab.metrics import SegmentationScore
from fss_lab.toyworld.pictograms import Pictograms


def test_scores_are_those_of_one_episode_at_a_time() -> None:
    model, episodes = load_model("toy"), Pictograms(0, episodes=3, seed=1)
    together = evaluate({"a": model, "b": model.variant(rounds=0)}, episodes, batch_size=2)
    alone = SegmentationScore(episodes.classes)
    for episode in episodes:
        with torch.no_grad():
            alone.update(model(collate([episode])).logits[0] > 0, episode.query_mask, episode.class_id)
    # A pixel on the edge may fall either way when batches are added up in another order.
    np.testing.assert_allclose(together["a"].counts, alone.counts, atol=3)
    assert len(together["b"]) == 3


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("number", [1, 3, 9])
def test_a_class_that_a_short_list_leaves_out_has_no_score(fold: int, number: int) -> None:
    """One rule for notebooks, `evaluate`, validation and jobs: the mean over the classes that have an episode."""
    data = Pictograms(fold, episodes=number, seed=7, size=64)
    classes = {data.class_of(index) for index in range(number)}
    score = evaluate({"": Threshold()}, data)[""]
    whole = SegmentationScore(data.classes, score.counts)
    assert set(score.class_ids) == classes
    assert score.miou == pytest.approx(sum(whole.iou_per_class[c] for c in classes) / len(classes))
    facts = {"classes": data.classes, "models": {"": {}}}
    assert jobs._scores({0: {"": score.counts.tolist()}}, facts)[""].miou == score.miou


def test_an_empty_list_scores_zero() -> None:
    assert evaluate({"": Threshold()}, Pictograms(0, episodes=0))[""].miou == 0


def test_models_with_other_encoders_are_refused() -> None:
    model, other = load_model("toy"), load_model("toy")
    with torch.no_grad():
        next(other.features.parameters()).add_(1)
    with pytest.raises(ValueError, match="'other' has other frozen encoders than 'model'"):
        evaluate({"model": model, "other": other}, Pictograms(0, episodes=1))
    with pytest.raises(ValueError, match="no model"):
        evaluate({}, Pictograms(0, episodes=1))
    half = load_model("toy")
    half.precision = "bfloat16"
    with pytest.raises(ValueError, match="'half' has other frozen encoders"):
        evaluate({"model": model, "half": half}, Pictograms(0, episodes=1))
    with torch.no_grad():
        next(other.features.parameters()).sub_(1)
        next(other.features.buffers()).add_(1)
    with pytest.raises(ValueError, match="has other frozen encoders"):
        evaluate({"model": model, "other": other}, Pictograms(0, episodes=1))


def test_a_part_has_the_episodes_asked_for() -> None:
    episodes = Pictograms(2, episodes=5, size=64)
    part = Subset(episodes, range(1, 5, 3))
    assert len(part) == 2 and part.classes == episodes.classes
    for episode, number in zip(part, (1, 4), strict=True):
        assert torch.equal(episode.query_image, episodes[number].query_image)


# ---- protocols


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([5, 3, 2, 0], [1, 1, 0, 0]),  # half of 5 is 2.5
        ([4, 2, 1, 0], [1, 1, 0, 0]),  # exactly half is enough
        ([1, 0, 0, 1], [1, 0, 0, 1]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_votes_by_hand(votes: list[int], expected: list[int]) -> None:
    masks = torch.tensor([[[vote > shot for vote in votes]] for shot in range(5)])  # 5, 1, 4
    assert vote(masks).tolist() == [[bool(value) for value in expected]]
    assert torch.equal(vote(masks[:1]), masks[0])


def test_one_shot_of_several_is_what_that_support_alone_gives() -> None:
    model, several = load_model("toy"), Pictograms(0, shots=2, episodes=2)
    batch = collate(list(several))
    second = collate([
        type(e)(e.query_image, e.query_mask, e.support_images[1:], e.support_masks[1:], e.class_id, e.class_name)
        for e in several
    ])  # fmt: skip
    with torch.no_grad():
        one, alone = model.predict(model.encode(one_shot(model.extract(batch), 1))), model(second)
    torch.testing.assert_close(one.logits, alone.logits, atol=2e-3, rtol=1e-4)


def test_hsnet_votes_over_one_shot_answers_and_fssam_asks_the_model_once() -> None:
    images = TinyImages(without="gh")
    images.classes = (3, 5)
    model = Threshold()
    for name, protocol in BENCHMARKS.items():
        episodes = ListedEpisodes(draw_episodes(protocol, images, 2, 8), images)
        score = evaluate({"": model}, episodes, batch_size=3)[""]
        for row, episode in zip(score.counts.tolist(), episodes, strict=True):
            features = model.extract(collate([episode]))
            if name == "fssam":
                mask = model.predict(model.encode(features)).logits[0] > 0
            else:  # of two votes one is enough
                mask = (model.predict(model.encode(one_shot(features, 0))).logits > 0)[0]
                mask = mask | (model.predict(model.encode(one_shot(features, 1))).logits > 0)[0]
            alone = SegmentationScore(images.classes)
            alone.update(mask, episode.query_mask, episode.class_id)
            assert row == alone.counts[0].tolist()


def test_iou_is_counted_at_the_labels_size_or_at_the_models_square() -> None:
    images, sizes = TinyImages(), {}
    for name, protocol in BENCHMARKS.items():
        episodes = ListedEpisodes(draw_episodes(protocol, images, 1, 4), images, size=18)
        counts = evaluate({"": Threshold()}, episodes)[""].counts
        sizes[name] = set((counts[:, 1] + counts[:, 4]).tolist())  # pixels that are not ignored
    assert sizes == {"fssam": {6 * 5}, "hsnet": {18 * 15}}


def test_the_digest_is_of_all_weights_and_of_nothing_else() -> None:
    model, same = load_model("toy", fold=1), load_model("toy", fold=1, rounds=0)
    assert weights_digest(model) == weights_digest(same) != weights_digest(load_model("toy", fold=2))
    with torch.no_grad():
        list(same.sam2.model.parameters())[-1].view(-1)[0] += 1e-6
    assert weights_digest(model) != weights_digest(same)
