from __future__ import annotations

import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fss_lab.backbones.checkpoints import (
    load_into,
    load_metadata,
    load_run_file,
    load_state,
    load_tensors,
    save_run,
    save_safetensors,
)
from fss_lab.errors import CheckpointError, FileError
from fss_lab.files import remove_leftovers


def model(seed: int = 0, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(sorted(a)) == list(sorted(b)) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_safetensors(path, model().state_dict(), {"fold": "2", "note": "é"})
    return path


def test_safetensors_round_trip(weights: Path) -> None:
    assert same(load_state(weights), model().state_dict())
    assert load_metadata(weights) == {"fold": "2", "note": "é"}
    assert [path.name for path in weights.parent.iterdir()] == ["weights.safetensors"]


def test_saving_makes_the_folder_and_takes_views_and_parameters(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.safetensors"
    base = torch.arange(12.0).reshape(3, 4)
    save_safetensors(path, {"turned": base.T, "trained": nn.Parameter(base + 1)})
    loaded = load_state(path)
    assert torch.equal(loaded["turned"], base.T) and torch.equal(loaded["trained"], base + 1)
    assert load_metadata(path) == {}


def test_a_runs_checkpoint_tells_where_it_is_from(tmp_path: Path) -> None:
    save_run(tmp_path / "best.pt", {"facts": {"fold": 3, "rounds": 1}, "model": model().state_dict()})
    assert load_metadata(tmp_path / "best.pt") == {"config": '{"fold": 3, "rounds": 1}', "fold": "3"}
    torch.save({"facts": {"fold": 3}, "model": model().state_dict()}, tmp_path / "other.pt")
    assert load_metadata(tmp_path / "other.pt") == {}


def test_metadata_must_be_strings(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="strings to strings"):
        save_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {"fold": 2})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    weights: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = weights.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(FileError, match=r"weights.safetensors could not be written .*No space.*free some disk"):
        save_safetensors(weights, model(1).state_dict())
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights.read_bytes()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_safetensors(weights, model(1).state_dict())
    assert weights.read_bytes() == before
    assert list(weights.parent.iterdir()) == [weights]


def test_a_rename_that_is_refused_for_a_moment_is_tried_again(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refusals = os.replace, [PermissionError(13, "Permission denied")] * 3

    def replace(*arguments: Any) -> None:
        if refusals:
            raise refusals.pop()
        real(*arguments)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    save_safetensors(weights, model(1).state_dict())
    assert same(load_state(weights), model(1).state_dict())


@pytest.mark.parametrize(
    ("number", "advice"), [(13, "a folder you may write to, and close programs"), (5, "check the path and the disk")]
)
def test_the_advice_fits_the_error(weights: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(FileError, match=advice):
        save_safetensors(weights, model(1).state_dict())
    assert list(weights.parent.iterdir()) == [weights]


def test_saving_below_a_file_is_a_clear_error(weights: Path) -> None:
    with pytest.raises(FileError, match="could not be written"):
        save_safetensors(weights / "a.safetensors", {"a": torch.zeros(1)})


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s, "optimizer": {}}]
)
def test_torch_files_are_unwrapped(tmp_path: Path, suffix: str, wrap: Any) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(model().state_dict()), path)
    assert same(load_state(path), model().state_dict())


def test_the_prefix_of_data_parallel_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in model().state_dict().items()}, path)
    assert same(load_state(path), model().state_dict())
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}  # here it is part of a name
    torch.save(mixed, path)
    assert same(load_state(path), mixed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {"weight": torch.tensor([0.5, -3.0], dtype=dtype), "steps": torch.tensor(7)}
    save_safetensors(tmp_path / "a.safetensors", stored)
    torch.save(stored, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        loaded = load_state(tmp_path / name)
        assert loaded["weight"].dtype == torch.float32 and loaded["weight"].tolist() == [0.5, -3.0]
        assert loaded["steps"].dtype == torch.int64


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth does not exist .*download it"):
        load_state(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="is a directory, expected a weight file"):
        load_state(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"a\.onnx is no weight file; expected \.safetensors, \.pt"):
        load_state(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("content", [b"", b"x", b"<html>404</html>" * 50, bytes(range(256)) * 8])
def test_foreign_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} \({len(content)} bytes\) is no readable.*download it again"):
        load_state(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    state = {"a": torch.arange(1000.0)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_safetensors(path, state)
    whole = path.read_bytes()
    for part in (0.01, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(CheckpointError, match="cut short"):
            load_state(path)
    if suffix == ".safetensors":
        with pytest.raises(CheckpointError, match="cut short"):
            load_metadata(path)


def test_a_file_with_the_wrong_suffix(weights: Path) -> None:
    renamed = weights.rename(weights.with_suffix(".pth"))
    with pytest.raises(CheckpointError, match="of another format"):
        load_state(renamed)


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickled_code_never_runs(tmp_path: Path, save: Any) -> None:
    path, trace = tmp_path / "a.pth", tmp_path / "trace"
    save({"weight": Attack(trace)}, path)
    with pytest.raises(CheckpointError, match="pickled code, which is never run") as caught:
        load_state(path)
    assert not trace.exists()
    assert "weights_only" not in str(caught.value)  # torch advises to switch it off


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2), "holds no state dict but a Tensor"),
        ([torch.zeros(2)], "but a list"),
        ({}, "but nothing"),
        ({"model": {}}, "but nothing"),
        ({"weight": torch.zeros(1), "epoch": 3, "lr": 0.1}, "no tensors: epoch, lr"),
    ],
)
def test_files_without_a_state_dict(tmp_path: Path, value: Any, message: str) -> None:
    path = tmp_path / "a.pth"
    torch.save(value, path)
    with pytest.raises(CheckpointError, match=message):
        load_state(path)


@pytest.mark.parametrize("kind", ["?", "b", "B", "h", "i", "q", "Q", "e", "f", "d"])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_numbers_beside_the_weights_are_no_obstacle(tmp_path: Path, kind: str, module: bytes) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": model().state_dict(), "accuracy": np.dtype(kind).type(1)}, path, pickle_protocol=2)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content.replace(b"cnumpy._core.multiarray\n", b"c" + module + b"\n"))
    assert same(load_state(path), model().state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    state = {"a": torch.zeros(3), "b.weight": torch.tensor([1.0, value]), "steps": torch.tensor(7)}
    torch.save(state, tmp_path / "a.pth")
    save_safetensors(tmp_path / "a.safetensors", state)
    with pytest.raises(CheckpointError, match=rf"{name} holds NaN or infinite numbers in b\.weight; .* earlier check"):
        load_state(tmp_path / name)
    target = {key: torch.zeros_like(tensor) for key, tensor in state.items()}
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        load_tensors(target, state, source="last.pt")
    assert not target["b.weight"].any()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page"),
    ],
)
def test_what_was_saved_in_place_of_weights_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} .*: it is {message}"):
        load_state(tmp_path / name)


def test_load_into(weights: Path) -> None:
    target = model(seed=1)
    load_into(target, load_state(weights), source=weights)
    assert same(target.state_dict(), model().state_dict())


def test_a_state_that_does_not_fit_is_listed_and_changes_nothing() -> None:
    state = model(seed=1).state_dict()
    del state["0.bias"], state["1.running_mean"]
    state |= {"head.weight": torch.zeros(1), "0.weight": torch.zeros(5, 2)}
    target = model()
    with pytest.raises(CheckpointError) as caught:
        load_into(target, state, source="some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth does not fit Sequential. 2 missing: 0.bias, 1.running_mean; ")
    assert "1 unexpected: head.weight; 1 of another shape: 0.weight (5, 2) instead of (3, 2)." in message
    assert same(target.state_dict(), model().state_dict())


SAM2, SAM21 = ["image_encoder.trunk.a", "maskmem_tpos_enc"], ["no_obj_embed_spatial", "obj_ptr_tpos_proj.weight"]


@pytest.mark.parametrize(
    ("expected", "given", "message"),
    [
        (SAM2, SAM2 + SAM21, r"holds weights of SAM 2\.1, and the model is a SAM 2: choose a sam2\.1-"),
        (SAM2 + SAM21, SAM2, r"holds weights of SAM 2, and the model is a SAM 2\.1: choose a sam2-"),
        (SAM2, ["vision_encoder.backbone.a", "memory_attention.a"], "SAM 2 in the format of the transformers library"),
        (SAM2, ["embeddings.cls_token", "encoder.layer.0.norm1.weight"], "DINOv2 in the format of the transformers"),
        (["encoder.layer.0.norm1.weight"], ["cls_token", "blocks.0.norm1.weight"], "DINOv2, in its authors' format"),
        (["encoder.layer.0.norm1.weight"], SAM2, "SAM 2 in Meta's format"),
    ],
)
def test_weights_of_another_format_or_version_are_named(expected: list, given: list, message: str) -> None:
    target = {name: torch.zeros(1) for name in expected}
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_tensors(target, {name: torch.ones(1) for name in given}, source="a.pt")
    assert "missing" not in str(refusal.value)


def test_a_very_long_list_is_cut() -> None:
    state = {f"layer{i}": torch.zeros(1) for i in range(120)}
    with pytest.raises(CheckpointError, match="120 unexpected: layer0, .* and 70 more"):
        load_into(nn.Identity(), state, source="some.pth")


RUN = {"model": {"a": torch.arange(3.0)}, "step": 7, "best": float("-inf"), "states": (1, (2, 3), None, [b"x", "y"])}


def test_a_run_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.pt"
    save_run(path, RUN)
    found = load_run_file(path)
    assert torch.equal(found.pop("model")["a"], RUN["model"]["a"])  # type: ignore[index]
    assert found == {"format": "fss_lab training run 1", **{key: RUN[key] for key in ("step", "best", "states")}}
    assert load_state(path)["a"].tolist() == [0, 1, 2]  # its weights alone
    assert list(path.parent.iterdir()) == [path]


def test_a_run_that_cannot_be_written_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_run(path, RUN)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"last.pt could not be written .*No space.*free some disk"):
        save_run(path, {**RUN, "step": 8})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [{"a": torch.zeros(1)}, [1], {"format": "fss_lab training run 0", "step": 3}])
def test_checkpoints_of_others_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "last.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint of a run of this version.*another directory"):
        load_run_file(path)


def test_a_truncated_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_run(path, RUN)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="cut short"):
        load_run_file(path)


def test_load_tensors_copies_in_place_or_not_at_all() -> None:
    target = {"a": nn.Parameter(torch.zeros(3)), "b": torch.zeros(2, dtype=torch.int64)}
    with pytest.raises(CheckpointError, match=r"best\.pt does not fit .* 1 missing: b; 1 unexpected: c\."):
        load_tensors(target, {"a": torch.ones(3), "c": torch.ones(1)}, source="best.pt")
    assert not target["a"].any()
    held = target["a"]
    load_tensors(target, {"a": torch.ones(3), "b": torch.tensor([4, 5])}, source="best.pt")
    assert held.tolist() == [1, 1, 1] and target["b"].tolist() == [4, 5] and target["a"] is held


def test_only_what_a_killed_save_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [tmp_path / ".notes.tmp", tmp_path / "a.tmp", tmp_path / "last.pt"]
    for path in kept:
        path.touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # as if killed before it could tidy up
        patched.setattr(os, "replace", lambda *_: None)
        save_run(tmp_path / "last.pt", RUN)
    assert len(list(tmp_path.iterdir())) == 4
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
