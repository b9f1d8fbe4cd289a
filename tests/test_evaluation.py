"""Evaluation of several variants on the same episodes."""

import numpy as np
import pytest
import torch

from fss_lab import load_model
from fss_lab.datasets.pictograms import Pictograms
from fss_lab.episode import collate
from fss_lab.evaluation import evaluate, evaluate_identity, evaluate_toy, table
from fss_lab.metrics import SegmentationScore


def test_scores_are_those_of_one_episode_at_a_time() -> None:
    model, episodes = load_model("toy"), Pictograms(0, episodes=5, seed=1)
    together = evaluate({"a": model, "b": model.variant(rounds=0)}, episodes, batch_size=4)
    alone = SegmentationScore(episodes.classes)
    for episode in episodes:
        with torch.no_grad():
            alone.update(model(collate([episode])).logits[0] > 0, episode.query_mask, episode.class_id)
    # A pixel on the edge may fall either way when batches are added up in another order.
    np.testing.assert_allclose(together["a"].counts, alone.counts, atol=3)
    assert len(together["b"]) == 5


def test_models_with_other_encoders_are_refused() -> None:
    model, other = load_model("toy"), load_model("toy")
    with torch.no_grad():
        next(other.features.parameters()).add_(1)
    with pytest.raises(ValueError, match="'other' has other frozen encoders than 'model'"):
        evaluate({"model": model, "other": other}, Pictograms(0, episodes=1))
    with pytest.raises(ValueError, match="no model"):
        evaluate({}, Pictograms(0, episodes=1))


def test_folds_are_merged_into_one_score_over_all_classes() -> None:
    scores = evaluate_toy(folds=(1, 3), episodes=2)
    assert [len(score) for score in scores.values()] == [4] * 6
    assert scores["PPG"].class_ids == (*range(5, 10), *range(15, 20))
    assert set(evaluate_identity(folds=(0,), episodes=2)) == {
        "memory shows the same identity",
        "memory shows another identity",
    }


def test_table_is_markdown_in_percent() -> None:
    score = SegmentationScore([0], np.array([[0, 50, 100, 80, 100], [0, 50, 100, 80, 100]]))
    lines = table({"half": score}).splitlines()
    assert lines[2].startswith("| half    | 50.0 [50.0, 50.0]") and "65.0 [65.0, 65.0]" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
