"""The score that says whether the class is shown at all."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fss_lab.errors import DataError, FileError
from fss_lab.method import FSSAM
from fss_lab.method.presence import EVIDENCE, Presence, score, sigmoid
from fss_lab.method.prompts import MASK_EPSILON
from fss_lab.models import load_model
from fss_lab.toyworld.pictograms import Pictograms

FINITE = st.floats(-50, 50)
PRESENCE = Presence({"likeness": 8.0, "predicted_iou": 1.5}, -4.0, "made up")


@given(x=FINITE)
def test_a_sigmoid_never_overflows(x: float) -> None:
    assert sigmoid(x) == pytest.approx(1 / (1 + math.exp(-x)), abs=1e-12)
    assert sigmoid(1e4) == 1 and sigmoid(-1e4) == 0


@given(likeness=FINITE, iou=FINITE)
def test_a_fit_weighs_the_evidence(likeness: float, iou: float) -> None:
    known = {"likeness": likeness, "predicted_iou": iou, "object_score": 3.0}
    assert score(known, PRESENCE) == sigmoid(8 * likeness + 1.5 * iou - 4)
    assert 0 <= score(known, PRESENCE) <= 1
    assert score(known, None) == sigmoid(3.0)  # SAM 2's own
    assert score({}, None) == 0.5


def test_every_prediction_knows_its_evidence(model: FSSAM, make_batch) -> None:
    batch = make_batch(1, 2)
    support = model.remember(batch.support_images[0], batch.support_masks[0])
    prediction = model.segment(batch.query_images[0], support, trace=True)
    assert set(prediction.evidence) == set(EVIDENCE) and all(map(math.isfinite, prediction.evidence.values()))
    decoded = prediction.trace.decoded
    assert prediction.evidence["object_score"] == float(decoded.object_score)
    assert prediction.evidence["predicted_iou"] == float(decoded.ious.max())
    assert prediction.score == sigmoid(float(decoded.object_score))
    inside = prediction.probability[prediction.mask]
    assert prediction.evidence["confidence"] == pytest.approx(float(inside.mean()) if len(inside) else 0, abs=1e-3)


def test_likeness_by_hand(model: FSSAM, make_batch) -> None:
    """The cosine of two mean features, each under its own mask."""
    batch = make_batch(1, 1)
    support = model.remember(batch.support_images[0], batch.support_masks[0])
    query = batch.query_images[0]
    prediction = model.segment(query, support)
    _, dense = model.encode_images([query])

    def mean_under(features, mask):
        mask = torch.nn.functional.interpolate(
            mask[None, None], features.shape[-2:], mode="bilinear", align_corners=True
        )
        return ((features * mask).sum((-2, -1)) / (mask.sum() + MASK_EPSILON))[0]

    target, ground = mean_under(support.features, support.masks[0]), mean_under(support.features, 1 - support.masks[0])
    answer = mean_under(dense, prediction.probability)
    likeness = float(torch.cosine_similarity(answer, target, dim=0))
    assert prediction.evidence["likeness"] == pytest.approx(likeness, abs=1e-4)
    contrast = likeness - float(torch.cosine_similarity(answer, ground, dim=0))
    assert prediction.evidence["likeness_contrast"] == pytest.approx(contrast, abs=1e-4)
    peak = float(torch.cosine_similarity(dense[0], target[:, None, None], dim=0).max())
    assert prediction.evidence["prior_peak"] == pytest.approx(peak, abs=1e-4)


def test_what_was_not_asked_is_no_evidence(model: FSSAM, make_batch) -> None:
    batch = make_batch(1, 1)
    pair, query = (batch.support_images[0], batch.support_masks[0]), batch.query_images[0]
    bare = FSSAM(model.sam2, None, memory="support").segment(query, pair)
    assert set(bare.evidence) == {"object_score", "predicted_iou", "confidence"}
    alone = model.variant(memory="none").segment(query, pair)
    assert "object_score" not in alone.evidence and alone.score == 0.5
    assert set(model.click(query, [(5, 5)]).evidence) == {"object_score", "predicted_iou", "confidence"}


def test_a_fit_counts_for_the_options_that_it_was_made_under(model: FSSAM, make_batch) -> None:
    batch = make_batch(1, 1)
    pair, query = (batch.support_images[0], batch.support_masks[0]), batch.query_images[0]
    model.presence = PRESENCE
    prediction = model.segment(query, pair)
    assert prediction.score == PRESENCE.score(prediction.evidence)
    assert model.variant(rounds=model.options.rounds).presence is PRESENCE
    other = model.variant(rounds=0).segment(query, pair)
    assert other.score == sigmoid(other.evidence["object_score"])


@given(weights=st.dictionaries(st.sampled_from(sorted(EVIDENCE)), FINITE), intercept=FINITE, about=st.text())
def test_it_is_read_back_as_it_was_saved(tmp_path_factory, weights: dict, intercept: float, about: str) -> None:
    path = tmp_path_factory.getbasetemp() / "presence.json"
    presence = Presence(weights, intercept, about.encode(errors="replace").decode())
    presence.save(path)
    assert Presence.load(path) == presence


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weights": {}, "intercept": 0}', '{"weights": [], "intercept": 0, "about": ""}']
    + ['{"weights": {"size": 1}, "intercept": 0, "about": ""}', '{"weights": {}, "intercept": "a", "about": ""}']
    + [
        '{"weights": {"likeness": NaN}, "intercept": 0, "about": ""}',
        '{"weights": {}, "intercept": null, "about": ""}',
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "presence.json").write_text(content)
    with pytest.raises(DataError, match=r"presence\.json holds no score of presence .* benchmarks/presence\.py"):
        Presence.load(tmp_path / "presence.json")
    with pytest.raises(FileNotFoundError):
        Presence.load(tmp_path / "nowhere.json")
    with pytest.raises(FileError, match="could not be written"):
        PRESENCE.save(tmp_path / "presence.json" / "file")


@pytest.mark.slow
def test_the_toys_score_tells_present_from_absent_classes() -> None:
    """On a few queries of classes that it never saw: most with the class are above one half, most without below."""
    model, episodes = load_model("toy"), Pictograms(0, "novel", seed=5, episodes=40)
    assert model.presence is not None and "base classes" in model.presence.about
    assert load_model("toy", weights="baseline").presence is load_model("toy", rounds=0).presence is None
    supports = {}
    for index in range(20):
        episode = episodes[index]
        supports.setdefault(episode.class_id, model.remember(list(episode.support_images), list(episode.support_masks)))
    present, absent = [], []
    for index in range(20, 32):
        class_id, scenes = episodes.scenes(index)
        strangers = [c for c in supports if c not in scenes[0].class_ids]
        for names, scores in (([class_id], present), (strangers[:1], absent)):
            scores += [model.segment(episodes[index].query_image, supports[c]).score for c in names if c in supports]
    assert len(present) >= 10 and len(absent) >= 10
    assert np.mean(np.array(present)[:, None] > np.array(absent)) > 0.8
    assert np.mean(np.array(present) > 0.5) > 0.6 and np.mean(np.array(absent) < 0.5) > 0.6


# -- the fit --

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "presence.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("presence_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fit_finds_the_function_that_made_the_data(benchmark) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 2)) * (3.0, 0.1) + (1.0, 5.0)
    shown = rng.random(len(x)) < 1 / (1 + np.exp(-(0.7 * x[:, 0] + 6 * x[:, 1] - 31)))
    count = min(shown.sum(), (~shown).sum())
    weights, intercept = benchmark.fit(np.stack([x[shown][:count], x[~shown][:count]]))
    assert weights == pytest.approx([0.7, 6], rel=0.1)
    p = 1 / (1 + np.exp(-(np.stack([x[shown][:count], x[~shown][:count]]) @ weights + intercept)))
    assert p.mean() == pytest.approx(0.5, abs=1e-3)  # calibrated in the large
    apart, _ = benchmark.fit(np.array([[[1.0], [2.0]], [[-1.0], [-2.0]]]))
    assert np.isfinite(apart).all() and apart[0] > 0  # also where a cut parts the two


def test_the_area_under_the_curve(benchmark) -> None:
    assert benchmark.area([np.array([[3.0, 4.0], [1.0, 2.0]])]).estimate == 1
    assert benchmark.area([np.array([[1.0, 1.0], [1.0, 1.0]])]).estimate == 0.5
    scores = np.random.default_rng(1).normal(size=(2, 300)) + [[1.0], [0.0]]
    estimate, low, high = benchmark.area([scores, scores])
    assert low < estimate < high and estimate == pytest.approx(0.76, abs=0.05)  # Phi(1 / sqrt 2)


def test_a_stranger_is_a_class_that_the_query_does_not_show(benchmark) -> None:
    cases = benchmark.Cases(Pictograms(1, "novel", seed=3, episodes=12))
    for index in range(6):
        class_id = cases.case(cases.stranger(index))[0].class_id
        episode = cases.case(index)[0]
        _, scenes = cases.episodes.scenes(index)
        assert not (scenes[0].mask(class_id) == 1).any() and class_id != episode.class_id


@pytest.mark.slow
def test_the_benchmark_goes_on_and_reports(benchmark, tmp_path: Path, monkeypatch) -> None:
    command = ["presence", "--output", str(tmp_path), "--folds", "0", "--episodes", "6", "--base-episodes", "5"]
    monkeypatch.setattr("sys.argv", command)
    benchmark.main()
    rows = [json.loads(line) for line in (tmp_path / "evidence_fold0_novel.jsonl").read_text().splitlines()]
    assert [row["episode"] for row in rows] == list(range(6)) and set(rows[0]["present"]) == set(EVIDENCE)
    assert len((tmp_path / "evidence_fold0_base.jsonl").read_text().splitlines()) == 5
    assert "Area under the ROC curve" in (tmp_path / "presence.md").read_text()
    assert (tmp_path / "presence.png").stat().st_size > 1000
    first, presence = rows, Presence.load(tmp_path / "presence.json")
    assert "base classes, 5 queries" in presence.about
    with (tmp_path / "evidence_fold0_novel.jsonl").open("w") as file:  # as if it had been killed after three
        file.writelines(json.dumps(row) + "\n" for row in first[:3])
    benchmark.main()
    again = [json.loads(line) for line in (tmp_path / "evidence_fold0_novel.jsonl").read_text().splitlines()]
    assert again == first and replace(Presence.load(tmp_path / "presence.json")) == presence
