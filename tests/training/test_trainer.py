"""Training the toy FSSAM for a few steps in every mode, and both pre-trainings."""

import json
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fss_lab import load_model
from fss_lab.backbones.checkpoints import load_metadata, load_run_file, load_state, save_run, save_safetensors
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import CheckpointError, NotFiniteError, RunError
from fss_lab.evaluation.scoring import evaluate
from fss_lab.files import alone
from fss_lab.method import FSSAM
from fss_lab.training import checkpoints, trainer
from fss_lab.training.config import TrainConfig, profile
from fss_lab.training.facts import read_config
from fss_lab.training.log import read_log
from fss_lab.training.trainer import base_episodes, load_trained, train, trainable_table

QUICK = TrainConfig(
    fold=1, steps=3, batch_size=2, validate_every=0, save_every=2, validation_episodes=3, tensorboard=False,
    accelerator="cpu",
)  # fmt: skip
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def start() -> dict[str, torch.Tensor]:
    return load_model("toy", weights="pretrained").sam2.model.state_dict()


def moved(model: FSSAM) -> set[str]:
    before = start()
    return {name for name, tensor in model.sam2.model.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of three steps with validations, its directory and its result."""
    directory = tmp_path_factory.mktemp("run")
    return directory, train(replace(QUICK, validate_every=2), directory)


def test_a_run_leaves_everything_it_promises(finished) -> None:
    directory, result = finished
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "run.yaml", "log.csv", "validation.csv", "last.pt", "best.pt", "weights.safetensors", "curves.png", ".locks",
    }  # fmt: skip
    assert read_config(directory / "run.yaml") == replace(QUICK, validate_every=2)
    assert [row["step"] for row in read_log(directory / "validation.csv")] == [0, 2, 3]
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    best = max(row["miou"] for row in read_log(directory / "validation.csv"))
    assert best == pytest.approx(result.progress.best_score, rel=1e-5)


def test_a_second_run_into_the_same_directory_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints, "LETTING_GO", 0.1)
    refused = pytest.raises(RunError, match="another run is at work in .*; wait for it to end, or choose another")
    with alone(tmp_path, "run"), refused:
        train(QUICK, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_every_process_learns_that_the_directory_is_not_free(tmp_path) -> None:
    """With a directory that cannot be one, and in a process that only hears of it."""
    (tmp_path / "file").write_text("")
    first = SimpleNamespace(is_global_zero=True, broadcast=lambda problem: problem)
    refused = pytest.raises(RunError, match=r"file cannot be used \(.*\); check the path")
    with refused, checkpoints.only_run_in(tmp_path / "file", first):
        pytest.fail("entered")
    second = SimpleNamespace(is_global_zero=False, broadcast=lambda problem: "another run is at work")
    with pytest.raises(RunError, match="another run is at work"), checkpoints.only_run_in(tmp_path, second):
        pytest.fail("entered")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_weights_are_those_of_the_best_step(finished) -> None:
    directory, result = finished
    weights, best = load_state(directory / "weights.safetensors"), load_run_file(directory / "best.pt")["model"]
    assert list(sorted(weights)) == list(sorted(name for name, _ in result.model.trainable_parameters()))
    assert all(torch.equal(weights[name], best[name].half().float()) for name in best)
    state = result.model.sam2.model.state_dict()
    assert all(torch.equal(state[name], best[name]) for name in best)
    facts = load_metadata(directory / "weights.safetensors")
    assert facts["fold"] == "1" and facts["step"] == str(result.progress.best_step)
    assert not result.model.training


def test_the_score_is_that_of_held_out_base_episodes(finished) -> None:
    _, result = finished
    config = replace(QUICK, validate_every=2)
    held_out = base_episodes(config, config.validation_episodes, config.validation_seed)
    assert set(held_out.classes).isdisjoint(range(5, 10))  # the novel classes of fold 1
    score = evaluate({"": result.model}, held_out, batch_size=config.batch_size)[""]
    assert score.miou == result.progress.best_score


@pytest.mark.slow
def test_base_classes_that_validation_does_not_show_have_no_score_and_that_is_printed_once(tmp_path, capsys) -> None:
    small = replace(QUICK, steps=2, batch_size=1, validate_every=2, validation_episodes=2)
    result = train(small, tmp_path)
    printed = capsys.readouterr().out
    assert (
        printed.count("the validation episodes show 2 of 15 base classes, and their mIoU is the mean over these") == 1
    )
    held_out = base_episodes(small, 2, small.validation_seed, held_out=True)
    assert result.progress.best_score == evaluate({"": result.model}, held_out, batch_size=1)[""].miou


def test_a_finished_run_can_be_loaded(finished) -> None:
    directory, result = finished
    model = load_trained(directory)
    episode = base_episodes(QUICK, 1, 9)[0]
    difference = model.segment(episode).logits - result.model.segment(episode).logits
    assert difference.abs().max() < 0.1 and not model.training
    yaml = directory / "run.yaml"
    text = yaml.read_text()
    try:
        yaml.write_text(text.replace("trainable: paper", "trainable: memory_encoder").replace("rounds: 3", "rounds: 2"))
        with pytest.raises(RunError, match="rounds was 3, now 2; trainable was 'paper', now 'memory_encoder'"):
            load_trained(directory)
    finally:
        yaml.write_text(text)


def test_weights_of_another_origin_are_not_a_run(tmp_path) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps({"fold": 1}))
    save_safetensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="was not written by `fss_lab.training.train`"):
        load_trained(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"shots": 2},
        {"calibration": "off"},
        {"prior": "foreground"},
        {"refinement": "v2"},
        {"schedule": "cosine"},
        {"optimiser": "sgd"},
    ],  # fmt: skip
    ids=lambda changes: "-".join(map(str, *changes.items())),
)
def test_variants_train(tmp_path, changes) -> None:
    model = train(replace(QUICK, steps=2, batch_size=1, **changes), tmp_path).model  # cosine stands still at first
    assert moved(model) and all(parameter.isfinite().all() for parameter in model.parameters())
    again = load_trained(tmp_path)
    for name in changes.keys() & {"calibration", "prior", "refinement"}:
        assert getattr(again.options, name) == changes[name]


@pytest.mark.slow
def test_training_moves_what_the_paper_trains_and_nothing_else(tmp_path) -> None:
    model = train(replace(QUICK, steps=2), tmp_path).model
    trained = {name for name, _ in model.trainable_parameters()}
    assert moved(model) <= trained
    assert {name.split(".")[0] for name in moved(model)} == {
        "memory_encoder", "memory_attention", "sam_mask_decoder",
    }  # fmt: skip
    assert (tmp_path / "last.pt").exists() and not (tmp_path / "best.pt").exists()  # there was no validation


@pytest.mark.slow
def test_the_baseline(tmp_path) -> None:
    model = train(replace(QUICK, memory="support", steps=2, batch_size=1), tmp_path).model
    assert model.options.memory == "support" and moved(model)
    assert load_trained(tmp_path).options.memory == "support"


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["memory_encoder", "as_published", ("*.gamma", "maskmem_tpos_enc")])
def test_trainable_sets(tmp_path, trainable) -> None:
    model = train(replace(QUICK, trainable=trainable, steps=1, batch_size=1), tmp_path).model
    expected = {name for name, _ in model.trainable_parameters(trainable)}
    assert moved(model) and moved(model) <= expected
    assert {name for name, p in model.sam2.model.named_parameters() if p.requires_grad} == expected
    assert set(load_state(tmp_path / "weights.safetensors")) == expected
    assert set(load_trained(tmp_path).sam2.model.state_dict()) == set(start())


def test_what_the_published_code_really_updates() -> None:
    """63 tensors with 15,144 numbers of SAM 2 small, of the 11.5 million that it means to train."""
    model = FSSAM(Sam2Backbone.build("sam2-small", 512), None, memory="support")
    updated = dict(model.trainable_parameters("as_published"))
    assert (len(updated), sum(p.numel() for p in updated.values())) == (63, 15_144)
    meant = [parameter.numel() for _, parameter in model.trainable_parameters()]
    assert sum(meant) == 11_497_349
    encoder = dict(model.trainable_parameters("memory_encoder"))
    assert {name.split(".")[0] for name in encoder} == {"memory_encoder"}


def test_trainable_sets_that_cannot_be() -> None:
    model = load_model("toy")
    with pytest.raises(ValueError, match="trainable must be one of .* or a list of name patterns, got 'everything'"):
        model.freeze("everything")
    with pytest.raises(ValueError, match=r"no parameter that can be trained matches 'image_encoder\.\*'"):
        model.freeze(["memory_encoder.*", "image_encoder.*"])


def test_the_table_of_what_is_trained() -> None:
    model = load_model("toy").freeze("memory_encoder")
    rows = {line.rsplit(None, 2)[0]: line.split()[-2:] for line in trainable_table(model).splitlines()[1:]}
    encoder = sum(parameter.numel() for parameter in model.sam2.model.memory_encoder.parameters())
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert rows["memory_encoder"] == [f"{encoder:,}"] * 2
    assert rows["together"] == [f"{encoder:,}", f"{everything:,}"]
    assert rows["image_encoder"][0] == rows["dense features"][0] == "0"


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    model = load_model("toy").freeze("memory_encoder").train()
    sam2 = model.sam2.model
    assert sam2.memory_encoder.training and not sam2.memory_attention.training and not sam2.sam_mask_decoder.training


@pytest.mark.slow
def test_accumulation_gives_the_same_weights(tmp_path) -> None:
    still = replace(QUICK, steps=2, dropout=0.0, learning_rate=1e-5, trainable=("memory_attention.*",))
    whole = train(still, tmp_path / "whole").model
    parts = train(replace(still, accumulate=2), tmp_path / "parts").model
    assert moved(whole) == moved(parts) != set()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_trains_the_same_parameters(tmp_path) -> None:
    """No weight is lost in autocast's cache, as in the published code."""
    exact = train(replace(QUICK, steps=1, batch_size=1), tmp_path / "exact").model
    mixed = train(replace(QUICK, steps=1, batch_size=1, precision="bf16-mixed"), tmp_path / "mixed").model
    assert moved(mixed) == moved(exact)


@pytest.mark.slow
def test_cached_features_change_nothing(tmp_path) -> None:
    small = replace(QUICK, steps=2, pool=2, validate_every=2, validation_episodes=2)
    plain = train(small, tmp_path / "plain").model
    cached = train(replace(small, cache=True, cache_directory=str(tmp_path / "kept")), tmp_path / "cached").model
    assert all(map(torch.equal, plain.parameters(), cached.parameters()))
    # two images of each of the two training and the two held-out episodes
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == 8


def test_dropout_can_be_set(tmp_path) -> None:
    model = train(replace(QUICK, steps=1, dropout=0.25), tmp_path).model
    layer = model.sam2.model.memory_attention.layers[0]
    assert layer.dropout1.p == layer.cross_attn_image.dropout_p == 0.25


def test_data_sets_and_weights_that_are_not_there(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'voc'; there is pictograms, pascal, coco, coco-panet"):
        train(profile("paper", dataset="voc", steps=1), tmp_path)
    with pytest.raises(ValueError, match=r"holds no PASCAL VOC 2012: expected SegmentationClassAug"):
        train(profile("paper", data_root=str(tmp_path)), tmp_path)
    lost = {"sam2_checkpoint": str(tmp_path / "lost.pt"), "features_checkpoint": str(tmp_path / "lost.pth")}
    with pytest.raises(CheckpointError, match=r"lost\.pth does not exist"):
        train(profile("paper", dataset="pictograms", steps=2, accelerator="cpu", **lost), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_papers_recipe_on_the_toy_world(tmp_path) -> None:
    config = profile(
        "paper", dataset="pictograms", model="toy", steps=1, workers=0, validate_every=0, batch_size=2,
        accelerator="cpu", devices=1,
    )  # fmt: skip
    assert train(config, tmp_path).progress.step == 1


@pytest.mark.slow
def test_a_step_that_was_not_finite_names_its_episodes(tmp_path, monkeypatch) -> None:
    real, calls = trainer.dice_loss, []

    def spoilt(logits, target):
        calls.append(1)
        return real(logits, target) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(trainer, "dice_loss", spoilt)
    with pytest.raises(NotFiniteError, match=r"loss of step 1 is nan \(episodes 2, 3\)\. The weights and .*last\.pt"):
        train(replace(QUICK, accumulate=2, save_every=1), tmp_path)
    assert load_run_file(tmp_path / "last.pt")["progress"]["step"] == 1


def test_a_run_of_an_earlier_version_is_resumed_bit_for_bit(tmp_path, monkeypatch) -> None:
    """Its options were fewer, and the frozen networks stood among them."""
    small = replace(QUICK, batch_size=1)
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        calls, real = [], trainer.episode_losses

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            return real(*arguments)

        context.setattr(trainer, "episode_losses", interrupted)
        train(small, tmp_path / "old")
    saved = load_run_file(tmp_path / "old/last.pt")
    assert saved["facts"]["frozen"].keys() == {"sam2", "features"}
    del saved["facts"]["optimiser"]
    save_run(tmp_path / "old/last.pt", saved)
    resumed, whole = (train(small, tmp_path / name) for name in ("old", "whole"))
    assert saved["progress"]["step"] == 2 and resumed.progress == whole.progress
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


@needs_cuda
@pytest.mark.gpu
def test_training_on_a_gpu_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    config = replace(QUICK, accelerator="cuda", validate_every=2, save_every=1)
    real, calls = trainer.episode_losses, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("gone")
        return real(*arguments)

    monkeypatch.setattr(trainer, "episode_losses", stopping)
    with pytest.raises(OSError, match="gone"):
        train(config, tmp_path)
    monkeypatch.undo()
    assert load_run_file(tmp_path / "last.pt")["progress"]["step"] == 2
    result = train(config, tmp_path)
    assert result.progress.step == 3 and next(result.model.parameters()).is_cuda
    assert [row["step"] for row in read_log(tmp_path / "validation.csv")] == [0, 2, 3]
    assert moved(result.model.cpu())
