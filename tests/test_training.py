"""The training loop, FSSAM on a fold, and both pre-trainings, a few steps each."""

import csv

import pytest
import torch
from torch import nn

from fss_lab import load_model
from fss_lab.checkpoints import load_metadata, load_state
from fss_lab.pretraining import pretrain_features, pretrain_sam2
from fss_lab.training import poly, run_loop, train


def _fit(directory, steps: int, stop_after: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(step: int) -> dict[str, torch.Tensor]:
        if step == stop_after:
            raise KeyboardInterrupt
        x = torch.randn(16, 4)
        return {"loss": (model(x)[:, 0] - x.sum(1)).pow(2).mean()}

    run_loop(
        model,
        model.parameters(),
        losses,
        directory,
        steps=steps,
        learning_rate=1e-2,
        schedule=poly,
        save_every=10,
    )
    return model


def test_an_interrupted_run_continues_as_if_nothing_had_happened(tmp_path) -> None:
    whole = _fit(tmp_path / "whole", 60)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "parts", 60, stop_after=37)
    continued = _fit(tmp_path / "parts", 60)
    for expected, actual in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(expected, actual)


def test_the_log_holds_means_of_twenty_steps_and_the_loss_falls(tmp_path) -> None:
    _fit(tmp_path, 200)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(20, 201, 20))
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])


def test_a_loss_that_is_not_finite_stops_before_the_weights(tmp_path) -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="step 0 is nan"):
        run_loop(
            layer, layer.parameters(), lambda step: {"loss": layer(torch.ones(2)).sum() * torch.nan}, tmp_path,
            steps=3, learning_rate=1.0, schedule=poly,
        )  # fmt: skip
    assert torch.equal(layer.weight, before)


def test_training_moves_what_the_paper_trains_and_nothing_else(tmp_path) -> None:
    start = load_model("toy", weights="pretrained").sam2.model.state_dict()
    models = train(tmp_path, fold=1, steps=2, batch_size=2, validation_episodes=5)
    assert [model.options.memory for model in models.values()] == ["pseudo", "support"]
    for name, model in models.items():
        state, trained = model.sam2.model.state_dict(), {key for key, _ in model.trainable_parameters()}
        moved = {key for key, tensor in state.items() if not torch.equal(tensor, start[key])}
        assert moved <= trained
        assert {key.split(".")[0] for key in moved} == {
            "memory_encoder",
            "memory_attention",
            "sam_mask_decoder",
        }
        assert set(load_state(tmp_path / f"{name}.safetensors")) == trained
        assert load_metadata(tmp_path / f"{name}.safetensors")["fold"] == "1"


def test_pretraining_runs_and_writes_weights(tmp_path) -> None:
    sam2 = pretrain_sam2(tmp_path / "sam2", steps=1, clips=2)
    assert set(load_state(tmp_path / "sam2/weights.safetensors")) == set(sam2.model.state_dict())
    features = pretrain_features(tmp_path / "features", steps=2, classes_a_step=3)
    assert set(load_state(tmp_path / "features/weights.safetensors")) == set(features.state_dict())
    assert not features.training and not sam2.training
