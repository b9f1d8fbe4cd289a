"""Checkpoints of the authors' published program, written here in its format from random weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fss_lab import load_authors_checkpoint
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import CheckpointError
from fss_lab.method import FSSAM
from fss_lab.models import authors
from fss_lab.models.authors import AuthorsReport

pytest.importorskip("transformers", reason='DINOv2 needs the optional package: pip install "fss-lab[real]"')

SIZE = 128  # pixels; the weights are those of any size
LINEAR = "memory_attention.layers.3.cross_attn_image.q_proj.weight"
SCALE = "memory_attention.layers.3.norm1.weight"
FROZEN = "image_encoder.trunk.blocks.0.norm1.weight"

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def sam2() -> State:
    """A SAM 2 tiny whose values are exact in half precision, to keep the files small."""
    torch.manual_seed(0)
    return {name: tensor.half() for name, tensor in Sam2Backbone.build("sam2-tiny", SIZE).model.state_dict().items()}


@pytest.fixture(scope="module")
def dino() -> State:
    """DINOv2's own names: the reference weights, spread over 64 channels (one head, as every published size has)."""
    narrow = load_file(Path(__file__).parents[1] / "reference" / "dinov2_weights.safetensors")
    return {name: tensor.repeat([2 if n in (32, 96, 128) else 1 for n in tensor.shape])
            for name, tensor in narrow.items()}  # fmt: skip


@pytest.fixture(scope="module")
def meta(sam2: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SAM 2 checkpoint that training started from, in Meta's format."""
    path = tmp_path_factory.mktemp("meta") / "sam2_hiera_tiny.pt"
    torch.save({"model": sam2}, path)
    return path


def write(path: Path, sam2: State, dino: State, prefix: str = "", **changes: float) -> Path:
    """A checkpoint of the authors' program. changes: what is added to SAM 2 entries, by the names above."""
    sam2 = sam2 | {globals()[name]: sam2[globals()[name]] + amount for name, amount in changes.items()}
    parts = {f"{prefix}sam2.{name}": tensor for name, tensor in sam2.items()}
    parts |= {f"{prefix}dino.{name}": tensor for name, tensor in dino.items()}
    optimizer = {"state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}
    torch.save({"epoch": 299, "state_dict": parts, "optimizer": optimizer}, path)
    return path


def load(path: Path, reference: Path, **options: Any) -> tuple[FSSAM, AuthorsReport]:
    return load_authors_checkpoint(path, sam2_checkpoint=reference, image_size=SIZE, **options)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_weight_comes_back(tmp_path: Path, sam2: State, dino: State, meta: Path, prefix: str) -> None:
    path = write(tmp_path / "best.pth", sam2, dino, prefix, SCALE=0.5)
    model, report = load(path, meta, calibration="as_published")
    found = model.sam2.model.state_dict()
    assert found.keys() == sam2.keys()
    for name, tensor in sam2.items():
        assert torch.equal(found[name], tensor.float() + (0.5 if name == SCALE else 0)), name
    layer = model.features.model.state_dict()["encoder.layer.1.mlp.fc2.weight"]
    assert torch.equal(layer, dino["blocks.1.mlp.fc2.weight"].float())
    assert model.options.calibration == "as_published" and not model.training
    assert (report.sam2, report.dinov2, report.ignored) == ("sam2-tiny", "DINOv2 of 2 layers, 64 channels", ())


def test_training_that_left_every_linear_and_conv_weight_alone_is_reported(
    tmp_path: Path, sam2: State, dino: State, meta: Path
) -> None:
    _, report = load(write(tmp_path / "best.pth", sam2, dino, SCALE=0.5), meta)
    assert report.linear is not None and report.scales is not None and report.frozen is not None
    assert report.linear.tensors_changed == report.frozen.tensors_changed == 0
    assert (report.scales.tensors, report.scales.parameters) == (63, 15144)  # as measured on the published program
    assert (report.scales.tensors_changed, report.scales.parameters_changed) == (1, 256)
    assert report.scales.largest == pytest.approx(0.5, abs=1e-3)
    groups = (report.linear, report.scales, report.frozen)
    assert sum(group.parameters for group in groups) == sum(tensor.numel() for tensor in sam2.values())
    assert str(report).endswith("Every Linear and Conv weight is SAM 2's own: training changed only scales and tokens.")
    assert f"changed against {meta}" in str(report)


def test_training_that_changed_linear_weights_is_reported(tmp_path: Path, sam2: State, dino: State, meta: Path) -> None:
    _, report = load(write(tmp_path / "best.pth", sam2, dino, LINEAR=0.25, SCALE=0.5), meta)
    assert report.linear is not None and report.linear.tensors_changed == 1
    assert report.linear.parameters_changed == sam2[LINEAR].numel()
    assert str(report).endswith("they were trained.")


@pytest.mark.parametrize(("changes", "verdict"), [({}, "no training at all"), ({"FROZEN": 1}, "another SAM 2")])
def test_no_training_and_another_origin_are_told_apart(
    tmp_path: Path, sam2: State, dino: State, meta: Path, changes: dict[str, float], verdict: str
) -> None:
    _, report = load(write(tmp_path / "best.pth", sam2, dino, **changes), meta)
    assert verdict in str(report).splitlines()[-1]


def test_it_can_do_without_a_comparison_and_names_what_it_ignores(tmp_path: Path, sam2: State, dino: State) -> None:
    path = write(tmp_path / "best.pth", sam2, dino)
    content = torch.load(path, weights_only=True)
    content["state_dict"]["criterion.weight"] = torch.ones(2)
    torch.save(content, path)
    _, report = load_authors_checkpoint(path, compare=False, image_size=SIZE)
    assert report.linear is None and report.ignored == ("criterion.weight",)
    assert "1 entries ignored: criterion.weight" in str(report) and "not compared" in str(report)


def test_the_reference_comes_from_the_hub_by_default(
    tmp_path: Path, sam2: State, dino: State, meta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(authors, "fetch", lambda name: asked.append(name) or meta)
    _, report = load_authors_checkpoint(write(tmp_path / "best.pth", sam2, dino), image_size=SIZE)
    assert asked == ["sam2-tiny"] and report.compared_with == str(meta)


def test_without_a_reference_the_message_says_how_to_do_without(
    tmp_path: Path, sam2: State, dino: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> Path:
        raise CheckpointError(f"{name} could not be fetched")

    monkeypatch.setattr(authors, "fetch", gone)
    with pytest.raises(CheckpointError, match=r"best\.pth cannot be compared .*compare=False.*sam2-tiny could not be"):
        load_authors_checkpoint(write(tmp_path / "best.pth", sam2, dino), image_size=SIZE)


def test_a_checkpoint_without_dinov2_takes_it_from_elsewhere(
    tmp_path: Path, sam2: State, dino: State, meta: Path
) -> None:
    path = write(tmp_path / "best.pth", sam2, {})
    torch.save(dino, tmp_path / "dinov2.pth")
    model, report = load(path, meta, features_checkpoint=tmp_path / "dinov2.pth")
    assert model.features.channels == 64 and report.dinov2.endswith("(from elsewhere)")


def test_other_files_are_refused(tmp_path: Path, sam2: State, dino: State, meta: Path) -> None:
    with pytest.raises(CheckpointError, match=r"sam2_hiera_tiny\.pt is no checkpoint of the authors' program"):
        load(meta, meta)
    incomplete = {name: tensor for name, tensor in sam2.items() if name != SCALE}
    with pytest.raises(CheckpointError, match=rf"best\.pth does not fit SAM2Base. 1 missing: {SCALE}"):
        load(write(tmp_path / "best.pth", incomplete, dino), meta)
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "gone.pth", meta)


def test_no_code_in_it_is_run(tmp_path: Path, meta: Path) -> None:
    torch.save({"epoch": 1, "state_dict": argparse.Namespace(), "optimizer": {}}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="pickled code, which is never run"):
        load(tmp_path / "evil.pth", meta)
