"""Fetching published weights, with the real huggingface_hub client and a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.local_hub import COMMIT, OTHER, REVISIONS, Hub, serve
from safetensors.torch import load_file

from fss_lab import load_model
from fss_lab.backbones.checkpoints import load_state
from fss_lab.backbones.dinov2 import SIZES
from fss_lab.backbones.hub import commit_of, fetch, weights_folder
from fss_lab.backbones.registry import FEATURES, PUBLISHED
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.sam2_config import CONFIGS
from fss_lab.cli import commands as cli
from fss_lab.errors import CheckpointError

constants = pytest.importorskip("huggingface_hub.constants", reason='needs pip install "fss-lab[real]"')


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setenv("FSS_LAB_WEIGHTS", str(tmp_path / "weights"))
        yield server


def put(hub: Hub, repo: str, **files: bytes) -> None:
    (hub.root / repo).mkdir(parents=True)
    for name, content in files.items():
        (hub.root / repo / name.replace("__", ".")).write_bytes(content)


def test_every_pair_has_published_weights() -> None:
    assert set(PUBLISHED) == set(CONFIGS) | set(FEATURES)


def test_the_files_of_sam2_are_those_that_its_own_package_names() -> None:
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    ours = {each.repo: (f"configs/{name.split('-')[0]}", each.files) for name, each in PUBLISHED.items()}
    for repo, (config, file) in HF_MODEL_ID_TO_FILENAMES.items():
        assert ours[repo] == (str(Path(config).parent.as_posix()), (file,))


def test_a_file_is_fetched_once(hub: Hub) -> None:
    put(hub, "facebook/sam2-hiera-tiny", sam2_hiera_tiny__pt=b"weights")
    path = fetch("sam2-tiny")
    assert path.name == "sam2_hiera_tiny.pt" and path.read_bytes() == b"weights"
    assert commit_of(path) == COMMIT
    hub.requests.clear()
    assert fetch("sam2-tiny") == path and hub.requests == []


def test_dinov2_is_a_directory_with_both_files_of_one_commit(hub: Hub) -> None:
    put(hub, "facebook/dinov2-base", config__json=b"{}", model__safetensors=b"weights")
    path = fetch("dinov2-base")
    assert (path / "config.json").read_bytes() == b"{}" and (path / "model.safetensors").read_bytes() == b"weights"
    assert commit_of(path) == COMMIT
    # the branch may have moved between the two: the second is asked for by the commit of the first
    assert f"/facebook/dinov2-base/resolve/{COMMIT}/model.safetensors" in {path for _, path in hub.requests}


def test_what_was_fetched_stays_when_the_branch_moves(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    put(hub, "facebook/dinov2-base", config__json=b"{}", model__safetensors=b"weights")
    path = fetch("dinov2-base")
    monkeypatch.setitem(REVISIONS, "main", OTHER)
    assert fetch("dinov2-base") == path and commit_of(path) == COMMIT
    assert commit_of(fetch("dinov2-base", revision="main")) == OTHER  # asked for by name, the branch is looked up


def test_half_fetched_weights_are_completed(hub: Hub) -> None:
    put(hub, "facebook/dinov2-base", config__json=b"{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        fetch("dinov2-base")
    (hub.root / "facebook/dinov2-base/model.safetensors").write_bytes(b"weights")
    assert (fetch("dinov2-base") / "model.safetensors").read_bytes() == b"weights"


def test_a_revision_pins(hub: Hub) -> None:
    put(hub, "facebook/sam2-hiera-tiny", sam2_hiera_tiny__pt=b"weights")
    assert commit_of(fetch("sam2-tiny", revision="v2")) == OTHER
    assert {path.split("/")[4] for _, path in hub.requests} == {"v2"}
    with pytest.raises(CheckpointError, match=r"Revision Not Found.* revision gone, on the Hugging Face hub"):
        fetch("sam2-tiny", revision="gone")


def test_a_transfer_that_breaks_off_goes_on(hub: Hub) -> None:
    content = torch.arange(500_000, dtype=torch.int32).numpy().tobytes()
    put(hub, "facebook/sam2-hiera-tiny", sam2_hiera_tiny__pt=content)
    hub.cut = 700_000
    assert fetch("sam2-tiny").read_bytes() == content
    assert [method for method, _ in hub.requests].count("GET") == 2


def test_a_file_that_is_not_there_is_named_with_what_to_do(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model("sam2.1-base-plus+dinov2-base")
    message = str(caught.value)
    assert "sam2.1_hiera_base_plus.pt of facebook/sam2.1-hiera-base-plus, revision main" in message
    assert f"put it at {tmp_path / 'weights' / 'sam2.1_hiera_base_plus.pt'}" in message
    assert "--sam2-checkpoint" in message and "--weights random" in message and "\n" not in message
    with pytest.raises(CheckpointError, match=r"dinov2_vitb14_pretrain\.pth .*features_checkpoint="):
        fetch("dinov2-base")
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_a_file_of_ones_own_comes_before_the_hub(hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "weights" / "sam2_hiera_large.pt"
    own.parent.mkdir()
    own.write_bytes(b"own")
    assert fetch("sam2-large") == own and not hub.requests
    for path in (own, tmp_path / "snapshots" / "sam2_hiera_large.pt"):
        with pytest.raises(ValueError, match="does not lie in huggingface_hub's cache"):
            commit_of(path)
    with pytest.raises(CheckpointError, match="could not be fetched"):
        fetch("sam2-large", revision=COMMIT)  # a file of one's own is of no commit


def test_offline_is_respected_and_the_cache_still_serves(hub: Hub, tmp_path: Path) -> None:
    put(hub, "facebook/sam2-hiera-tiny", sam2_hiera_tiny__pt=b"weights")
    path = fetch("sam2-tiny")
    hub.requests.clear()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": constants.HF_HUB_CACHE, "HF_ENDPOINT": hub.url}
    code = "from fss_lab.backbones.hub import fetch; print(fetch('sam2-tiny')); fetch('sam2-small')"
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(path)
    assert "CheckpointError: the weights sam2-small are not on this machine" in found.stderr
    assert "put it at " + str(tmp_path / "weights" / "sam2_hiera_small.pt") in found.stderr
    assert hub.requests == []


def test_without_huggingface_hub_the_remedy_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "fss-lab\[real\]"'):
        fetch("sam2-tiny")


def test_a_command_says_it_in_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["--model", "sam2-tiny+dinov2-small"]
    command = ["train", *pair, "--output", str(tmp_path / "run"), "--accelerator", "cpu", "--steps", "1"]
    for remedy in ("put it at", 'pip install "fss-lab[real]"'):
        assert cli.main(command) == 1
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith("fss-lab train: error:") and remedy in message
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert not (tmp_path / "run").exists()


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no published weights 'sam3'; expected one of sam2-tiny"):
        fetch("sam3")


def test_the_folder_of_weights_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FSS_LAB_WEIGHTS", raising=False)
    assert weights_folder() == Path.home() / ".cache" / "fss_lab" / "weights"
    monkeypatch.setenv("FSS_LAB_WEIGHTS", str(tmp_path))
    assert weights_folder() == tmp_path


@pytest.mark.slow
def test_a_pair_comes_from_the_hub_with_its_weights(hub: Hub) -> None:
    """The whole way of load_model("sam2-tiny+dinov2-small"): full-size files in both published formats."""
    transformers = pytest.importorskip("transformers", reason='needs pip install "fss-lab[real]"')
    torch.manual_seed(0)
    put(hub, "facebook/sam2-hiera-tiny")
    sam2 = {name: tensor.half() for name, tensor in Sam2Backbone.build("sam2-tiny").model.state_dict().items()}
    torch.save({"model": sam2}, hub.root / "facebook/sam2-hiera-tiny/sam2_hiera_tiny.pt")
    config = transformers.Dinov2Config(image_size=518, patch_size=14, **SIZES["small"])
    transformers.Dinov2Model(config).half().save_pretrained(hub.root / "facebook/dinov2-small")

    model = load_model(f"sam2-tiny@{COMMIT}+dinov2-small", image_size=128)
    assert all(torch.equal(tensor, sam2[name].float()) for name, tensor in model.sam2.model.state_dict().items())
    saved = load_file(hub.root / "facebook/dinov2-small/model.safetensors")
    name = "encoder.layer.11.mlp.fc2.weight"
    assert torch.equal(model.features.model.state_dict()[name], saved[name].float())
    assert f"/facebook/sam2-hiera-tiny/resolve/{COMMIT}/sam2_hiera_tiny.pt" in {path for _, path in hub.requests}
    assert load_state(fetch("sam2-tiny")).keys() == sam2.keys()
