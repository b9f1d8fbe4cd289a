"""Pre-training of the toy backbones: it runs, writes weights, and resumes."""

from dataclasses import replace

import pytest
import torch

from fss_lab.backbones.checkpoints import load_state
from fss_lab.backbones.toy import unpack
from fss_lab.training import loop
from recipes.pretrain import damage, main, pretrain_features, pretrain_sam2

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def check_pretraining(tmp_path, accelerator: str, steps: int) -> None:
    sam2 = pretrain_sam2(tmp_path / "sam2", steps=steps, clips=2, accelerator=accelerator)
    assert set(load_state(tmp_path / "sam2/weights.safetensors")) == set(sam2.model.state_dict())
    features = pretrain_features(tmp_path / "features", steps=2, classes_a_step=3, accelerator=accelerator)
    assert set(unpack(load_state(tmp_path / "features/weights.safetensors"))) == set(features.state_dict())
    assert not features.training and not sam2.training


def test_a_damaged_mask_is_a_coarse_uneven_guess() -> None:
    masks, others = torch.zeros(2, 64, 1, 128, 128)
    masks[:, :, 16:64, 16:64] = others[:, :, 64:112, 64:112] = 1
    torch.manual_seed(0)
    guess = damage(masks, others)
    assert guess.shape == masks.shape and guess.min() == 0 and guess.max() == 1
    on_object, on_others = ((guess * part).sum((1, 2, 3)) / part.sum((1, 2, 3)) for part in (masks, others))
    assert 0.6 < on_object.mean() < 0.8 and 0.2 < on_others.mean() < 0.4
    assert (on_object > on_others).float().mean() > 0.9
    assert 0.1 < (on_object < 0.5).float().mean() < 0.4  # some objects are hardly seen at all
    assert guess[(masks + others) == 0].mean() < 0.05
    assert damage(torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)).max() < 0.5


@pytest.mark.slow
def test_pretraining_runs_and_writes_weights(tmp_path) -> None:
    check_pretraining(tmp_path, "cpu", 1)


@needs_cuda
@pytest.mark.gpu
def test_pretraining_on_a_gpu(tmp_path) -> None:
    check_pretraining(tmp_path, "cuda", 2)


@pytest.mark.slow
def test_pretraining_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    options = {"steps": 2, "classes_a_step": 3, "accelerator": "cpu"}
    whole = pretrain_features(tmp_path / "whole", **options)
    real = loop.run_loop

    def stopping(fabric, run, learner, batches):
        losses, calls = learner.losses, []

        def stop_at_second(batch):
            calls.append(1)
            if len(calls) == 2:
                raise OSError("gone")
            return losses(batch)

        return real(fabric, replace(run, save_every=1), replace(learner, losses=stop_at_second), batches)

    monkeypatch.setattr("recipes.pretrain.run_loop", stopping)
    with pytest.raises(OSError, match="gone"):
        pretrain_features(tmp_path / "parts", **options)
    monkeypatch.undo()
    continued = pretrain_features(tmp_path / "parts", **options)
    assert all(map(torch.equal, whole.state_dict().values(), continued.state_dict().values()))  # batch norm too


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["features", "--steps", "1", "--output", str(tmp_path / "file" / "run"), "--accelerator", "cpu"])
    assert ended.value.code == 1
    assert "python -m recipes.pretrain: error:" in capsys.readouterr().err.splitlines()[-1]
