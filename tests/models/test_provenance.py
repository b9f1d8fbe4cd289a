"""Weights and the frozen networks that they were trained with."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from fss_lab import load_model
from fss_lab.backbones.checkpoints import load_metadata, load_run_file, load_state, save_safetensors
from fss_lab.backbones.dinov2 import Dinov2Features
from fss_lab.backbones.origin import _ORIGINS, note_origin
from fss_lab.backbones.toy import WEIGHTS
from fss_lab.errors import RunError
from fss_lab.evaluation import ToyWorld
from fss_lab.models.provenance import Facts, frozen_networks, origins
from fss_lab.training.config import TrainConfig, profile
from fss_lab.training.facts import check_same_run, facts_of, read_config
from fss_lab.training.trainer import load_trained, train

QUICK = TrainConfig(
    fold=1, steps=1, batch_size=2, validate_every=0, save_every=1, tensorboard=False, accelerator="cpu"
)  # fmt: skip
COMMITS = ("0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    train(QUICK, directory)
    return directory


@pytest.fixture
def change(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Puts other numbers into a shipped file of frozen weights."""

    def put(file: str, start: str) -> None:
        folder = tmp_path / "weights"
        folder.mkdir()
        for name in ("toy_sam2.safetensors", "toy_features.safetensors"):
            shutil.copy(WEIGHTS / name, folder)
        state = load_state(WEIGHTS / file)
        name = next(name for name in state if name.startswith(start))
        save_safetensors(folder / file, {**state, name: state[name] + 1})
        monkeypatch.setattr("fss_lab.models.load.WEIGHTS", folder)

    return put


def test_a_run_says_what_its_frozen_networks_are(run) -> None:
    comments = [line for line in (run / "run.yaml").read_text().splitlines() if line.startswith("#")]
    frozen = json.loads(load_metadata(run / "weights.safetensors")["config"])["frozen"]
    assert [line.split(" (")[0] for line in comments[1:]] == [
        "# sam2 from toy_sam2.safetensors", "# features from toy_features.safetensors",
    ]  # fmt: skip
    assert all(frozen[name]["sha256"][:12] in "".join(comments) for name in ("sam2", "features"))
    assert read_config(run / "run.yaml") == QUICK
    assert load_run_file(run / "last.pt")["facts"]["frozen"] == frozen


@pytest.mark.parametrize(
    ("name", "file", "start"),
    [("sam2", "toy_sam2.safetensors", "image_encoder."), ("features", "toy_features.safetensors", "pyramids.0.stem.")],
)
def test_other_frozen_networks_are_refused_wherever_weights_are_used(run, change, name, file, start) -> None:
    change(file, start)
    for use in (
        lambda: load_trained(run),
        lambda: ToyWorld().load(run / "weights.safetensors", 1),
        lambda: ToyWorld().load(run / "last.pt", 1),
        lambda: train(QUICK, run),
    ):
        with pytest.raises(
            RunError, match=rf"frozen networks, and fits no others: {name} from {file} \(SHA-256"
        ) as told:
            use()
        assert f"now from {file} (SHA-256" in str(told.value) and str(told.value).count(" now from ") == 1


def test_what_was_trained_may_be_another_in_the_file_it_began_with(run, change) -> None:
    change("toy_sam2.safetensors", "memory_encoder.")
    assert origins(load_trained(run)) == {"sam2": "toy_sam2.safetensors", "features": "toy_features.safetensors"}


def test_weights_that_say_nothing_of_it_load(run, change, tmp_path) -> None:
    told = load_metadata(run / "weights.safetensors")
    plain = {name: value for name, value in json.loads(told["config"]).items() if name != "frozen"}
    save_safetensors(
        tmp_path / "old.safetensors", load_state(run / "weights.safetensors"), {**told, "config": json.dumps(plain)}
    )
    change("toy_features.safetensors", "pyramids.0.stem.")
    assert ToyWorld().load(tmp_path / "old.safetensors", 1).features is not None


def test_dinov2s_position_grid_and_names_do_not_count() -> None:
    """The one is resized after loading, which rounds in its own way on every machine, the others are transformers'."""
    pytest.importorskip("transformers", reason='needs pip install "fss-lab[real]"')
    model = load_model("toy")
    model.features = Dinov2Features.load(Path(__file__).parents[1] / "reference" / "dinov2_weights.safetensors", 2)
    before = frozen_networks(model, [])["features"]
    model.features.model.embeddings.position_embeddings.data += 1
    model.features.renamed = model.features.model
    del model.features.model
    assert frozen_networks(model, [])["features"] == before and before["from"] == "unknown files"
    model.features.renamed.layernorm.weight.data += 1
    assert frozen_networks(model, [])["features"] != before


def test_a_file_of_the_hub_is_told_as_it_can_be_pinned() -> None:
    network = nn.Linear(1, 1)
    for source, told in {
        f"/cache/models--facebook--sam2-hiera-small/snapshots/{COMMITS[0]}/sam2.pt": f"sam2-small@{COMMITS[0]}",
        f"/cache/models--facebook--sam2-hiera-small/snapshots/{COMMITS[1]}": f"sam2-small@{COMMITS[1]}",
        "/home/snapshots/sam2.pt": "/home/snapshots/sam2.pt",
        None: "random numbers",
    }.items():
        note_origin(network, "sam2-small", source)
        assert _ORIGINS[network] == told


def test_files_may_move_and_commits_be_named_where_the_numbers_are_known() -> None:
    config = profile("paper", sam2_checkpoint="there/sam2.pt")
    frozen = {name: {"sha256": 64 * "a", "from": "there"} for name in ("sam2", "features")}
    now = replace(config, model=f"sam2-small@{COMMITS[0]}+dinov2-base", sam2_checkpoint=None)
    check_same_run(facts_of(config, frozen), facts_of(now, frozen), "last.pt")
    with pytest.raises(RunError, match="model was 'sam2-small.*sam2_checkpoint was 'there/sam2.pt', now None"):
        check_same_run(facts_of(config), facts_of(now), "last.pt")
    with pytest.raises(RunError, match="belongs to another run: model was 'sam2-small.dinov2-base', now 'sam2-tiny"):
        other = facts_of(replace(config, model="sam2-tiny+dinov2-base"))
        check_same_run(facts_of(config, frozen), other, "last.pt")
    moved = {**frozen, "sam2": {"sha256": 64 * "b", "from": f"sam2-small@{COMMITS[1]}"}}
    with pytest.raises(
        RunError, match=rf"sam2 from there \(SHA-256 a+\), now from sam2-small@{COMMITS[1]} \(SHA-256 b+\)\."
    ):
        check_same_run(facts_of(config, frozen), facts_of(now, moved), "last.pt")


def test_the_facts_of_a_run_are_one_plain_dictionary_in_its_files() -> None:
    frozen = {"sam2": {"sha256": 64 * "a", "from": "there"}}
    plain = {"fold": 1, "frozen": frozen}
    assert Facts.of(plain) == Facts({"fold": 1}, frozen) and Facts.of(plain).plain() == plain
    assert Facts({"fold": 1}).plain() == {"fold": 1}
