"""The toy world: its models with shipped weights and with one's own, and its episodes; see test_photographs too."""

import json
import pickle

import pytest
import torch

from fss_lab import load_model
from fss_lab.backbones.checkpoints import save_run, save_safetensors
from fss_lab.backbones.toy import WEIGHTS
from fss_lab.errors import CheckpointError
from fss_lab.evaluation import worlds
from fss_lab.evaluation.scoring import evaluate, weights_digest
from fss_lab.evaluation.variants import FULL, STEPS, suite
from fss_lab.evaluation.worlds import Identity, Photographs, ToyWorld, evaluate_toy
from fss_lab.toyworld.pictograms import Pictograms


def test_a_world_is_a_plain_record(tmp_path) -> None:
    for world in (ToyWorld(number=3, variants=suite), Photographs(dataset="coco", lists=tmp_path), Identity("same")):
        assert vars(pickle.loads(pickle.dumps(world))) == vars(world)
    with pytest.raises(ValueError, match="the toy world is one of .* got 'pascal'"):
        ToyWorld(dataset="pascal")
    with pytest.raises(ValueError, match="photographs are one of .* got 'pictograms'"):
        Photographs(dataset="pictograms")


def test_the_networks_are_loaded_once_and_what_was_not_trained_is_shared(monkeypatch) -> None:
    calls, world = [], ToyWorld()
    monkeypatch.setattr(worlds, "load_model", lambda *a, **k: calls.append(k) or load_model(*a, **k))
    first, second = world.models(1), world.models(2)
    assert len(calls) == 1
    states = [dict(model.sam2.model.named_parameters()) for model in (first[FULL], second[FULL])]
    trained = {name for name, _ in first[FULL].trainable_parameters()}
    assert {name for name in states[0] if states[0][name] is not states[1][name]} == trained
    assert weights_digest(first[FULL]) == weights_digest(load_model("toy", fold=1))
    baseline = "support memory, fine-tuned"
    assert weights_digest(second[baseline]) == weights_digest(load_model("toy", fold=2, weights="baseline"))
    assert second[baseline].options == load_model("toy", fold=2, weights="baseline").options
    stock = first["support memory, not fine-tuned"]
    assert weights_digest(stock) == weights_digest(load_model("toy", weights="pretrained"))


def test_models_that_differ_behind_the_encoders_are_evaluated_together(tmp_path) -> None:
    trained = {n: p.detach() + 1 for n, p in load_model("toy").trainable_parameters(["sam_prompt_encoder.*"])}
    save_safetensors(tmp_path / "run.safetensors", trained)
    models = ToyWorld(weights={"mine": str(tmp_path / "run.safetensors")}).models(0)
    chosen = {name: models[name] for name in (FULL, "trained: mine")}
    assert weights_digest(chosen[FULL]) != weights_digest(chosen["trained: mine"])
    scores = evaluate(chosen, Pictograms(0, episodes=1, size=64))
    assert [len(score) for score in scores.values()] == [1, 1]


def test_folds_are_merged_into_one_score_over_all_classes_shown() -> None:
    scores = evaluate_toy(folds=(1, 3), episodes=1)
    assert [len(score) for score in scores.values()] == [2] * 7
    assert scores["PPG"].class_ids == (8, 19)
    assert set(STEPS) <= set(scores)


def test_own_weights_take_the_place_of_the_shipped_ones(tmp_path) -> None:
    shipped = str(WEIGHTS / "toy_fold{fold}_fssam.safetensors")
    assert weights_digest(ToyWorld().load(shipped, 2)) == weights_digest(load_model("toy", fold=2))
    assert ToyWorld().load(shipped, 2, rounds=0).options.rounds == 0
    assert "support memory, fine-tuned" not in ToyWorld(weights={"fssam": shipped}).models(0)
    models = ToyWorld(weights={"baseline": shipped, "mine": shipped}).models(0)
    assert models["support memory, fine-tuned"].options.memory == "support"
    assert weights_digest(models["trained: mine"]) == weights_digest(models[FULL])

    with pytest.raises(ValueError, match="was trained with fold 3, not 0. .* classes of one fold are novel in another"):
        ToyWorld().load(str(WEIGHTS / "toy_fold3_fssam.safetensors"), 0)
    save_safetensors(tmp_path / "other.safetensors", {"elephant": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="weights that this SAM 2 does not have: elephant"):
        ToyWorld().load(tmp_path / "other.safetensors", 0)


def test_weights_of_a_run_bring_its_options(tmp_path) -> None:
    some = dict(list(load_model("toy", fold=1).trainable_parameters())[:2])
    path = str(tmp_path / "fold{fold}.safetensors")
    run = {"memory": "support", "rounds": 1, "weights": "fssam", "steps": 5, "model": "toy"}
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps(run), "fold": "1"})
    model = ToyWorld().load(path, 1)
    assert (model.options.memory, model.options.rounds, model.options.calibration) == ("support", 1, "corrected")
    assert weights_digest(model) == weights_digest(load_model("toy", fold=1))  # the rest is what the run began with
    with pytest.raises(ValueError, match="was trained with memory='support'; give it as baseline="):
        ToyWorld(weights={"fssam": path}).models(1)
    unfinished = {"facts": {**run, "fold": 1}, "model": {name: tensor.detach() for name, tensor in some.items()}}
    save_run(tmp_path / "best.pt", unfinished)
    assert ToyWorld().load(tmp_path / "best.pt", 1).options == model.options
    with pytest.raises(ValueError, match="was trained with fold 1, not 0"):
        ToyWorld().load(tmp_path / "best.pt", 0)
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps({"model": "sam2-small"})})
    with pytest.raises(ValueError, match="was trained with model 'sam2-small', not 'toy'"):
        ToyWorld().load(path, 1)
    save_safetensors(tmp_path / "fold1.safetensors", some, {"config": json.dumps({"weights": "random"})})
    with pytest.raises(ValueError, match="was trained from random weights"):
        ToyWorld().load(path, 1)
