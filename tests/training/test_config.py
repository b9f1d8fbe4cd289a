"""What describes a run: options, profiles, run.yaml, the command line; and the order of its episodes."""

import re
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch

from fss_lab.cli import commands as cli
from fss_lab.episode import Episode
from fss_lab.errors import CheckpointError, NotFiniteError, RunError
from fss_lab.training.batches import EpisodeBatches
from fss_lab.training.config import TrainConfig, profile
from fss_lab.training.facts import HARMLESS, check_same_run, facts_of, read_config, to_yaml
from fss_lab.training.optimisers import OPTIMISERS

# -- the configuration --


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": 4}, r"fold must be one of \(0, 1, 2, 3\), got 4"),
        ({"steps": 0}, "steps must be a number of at least 1, got 0"),
        ({"steps": 2.5}, "steps must be of type int, got 2.5"),
        ({"shots": True}, "shots must be of type int, got True"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number of at least 0, got nan"),
        ({"learning_rate": "fast"}, "learning_rate must be of type float, got 'fast'"),
        ({"schedule": "linear"}, r"schedule must be one of \('poly', 'cosine'\)"),
        ({"optimiser": "adam"}, f"optimiser must be one of {re.escape(str(tuple(OPTIMISERS)))}"),
        ({"precision": "fp16"}, "precision must be one of"),
        ({"memory": "long"}, "memory must be one of"),
        ({"memory": "none"}, "nothing to train"),
        ({"dropout": 1.0}, "dropout must be below 1"),
        ({"devices": "two"}, 'devices must be "auto" or a number'),
        ({"trainable": []}, "one or more patterns"),
        ({"trainable": [1]}, "one or more patterns"),
        ({"patience": 2, "validate_every": 0}, "patience needs validations"),
        ({"seed": 5, "validation_seed": 5}, "seed and validation_seed must differ"),
    ],
)
def test_values_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


def test_whole_numbers_are_taken_for_fractions_and_devices() -> None:
    config = TrainConfig(weight_decay=1, devices=4, trainable=["a.*"])
    assert (config.weight_decay, config.devices, config.trainable) == (1.0, "4", ("a.*",))
    assert isinstance(config.weight_decay, float)


def test_the_toy_profile() -> None:
    toy = profile()
    assert toy == profile("toy") == TrainConfig()
    assert (toy.learning_rate, toy.weight_decay, toy.schedule, toy.batch_size) == (3e-4, 0, "poly", 8)


@pytest.mark.parametrize(("dataset", "fold", "images", "epochs"), [("pascal", 2, 2752, 300), ("coco", 0, 21917, 75)])
def test_the_paper_profile_is_the_papers_recipe(dataset, fold, images, epochs) -> None:
    paper = profile("paper", dataset=dataset, fold=fold)
    assert (paper.learning_rate, paper.weight_decay, paper.schedule) == (1e-3, 0, "poly")
    assert (paper.batch_size, paper.seed, paper.precision, paper.trainable) == (8, 321, "auto", "paper")
    assert (paper.devices, profile().devices) == ("auto", "1")
    assert paper.model == "sam2-small+dinov2-base" and paper.image_size == 512
    assert paper.steps == epochs * images // 8
    assert profile("paper", dataset=dataset, fold=fold, batch_size=4).steps == epochs * images // 4


def test_profiles_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="profile must be one of"):
        profile("quick")
    with pytest.raises(ValueError, match="no number of epochs for 'pictograms'.*give the steps"):
        profile("paper", dataset="pictograms")
    assert profile("paper", dataset="pictograms", steps=7).steps == 7
    with pytest.raises(ValueError, match="no number of epochs for 'pascal', fold 0, protocol 'hsnet'; give the steps"):
        profile("paper", protocol="hsnet")  # it keeps images that the paper's leaves out


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        profile("paper", fold=3, devices=4),
        TrainConfig(trainable=("memory_attention.*", "*.gamma"), dropout=0.0, learning_rate=1e-7, memory="support"),
    ],
)
def test_run_yaml_repeats_the_run(config, tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(facts_of(config)), encoding="utf-8")
    assert read_config(path) == config


BOMB = "a: &a [1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold: 1\nspeed: 3\n", "options that `fss-lab train --help` does not know: speed"),
        ("fold: 9\n", "fold must be one of"),
        ("- 1\n", "no run.yaml: expected lines such as `fold: 0`"),
        ("fold: [1\n", "cannot be read"),
        ("data_root: ${oc.env:HOME}\n", "interpolation .* is not allowed"),
        ('data_root: "\\x24{fold}"\n', "interpolation .* is not allowed"),
        (BOMB, "YAML alias"),
    ],
)
def test_other_files_are_refused(text, message, tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=f"run.yaml.*{message}"):
        read_config(path)
    with pytest.raises(RunError, match="cannot be read"):
        read_config(tmp_path / "gone.yaml")


def test_only_harmless_options_may_change() -> None:
    config = TrainConfig()
    moved = replace(config, devices="2", strategy="ddp", accumulate=4, workers=3, cache=True, save_every=5)
    check_same_run(facts_of(config), facts_of(moved), "last.pt")
    other = replace(config, steps=50, learning_rate=1e-3)
    with pytest.raises(RunError, match=r"last\.pt .*: steps was 40, now 50; learning_rate was 0\.0003, now 0\.001\. "):
        check_same_run(facts_of(config), facts_of(other), "last.pt")
    assert set(HARMLESS) <= {field.name for field in fields(TrainConfig)}


# -- the command line --


def given(arguments, monkeypatch) -> tuple[TrainConfig, object]:
    calls = []
    monkeypatch.setattr("fss_lab.training.trainer.train", lambda config, output: calls.append((config, output)))
    assert cli.main(["train", *arguments]) == 0
    return calls[0]


def test_options_become_the_configuration(tmp_path, monkeypatch) -> None:
    arguments = "--fold 2 --memory support --learning-rate 1e-3 --tensorboard --cache --devices 2 --dropout 0"
    config, output = given([*arguments.split(), "--output", str(tmp_path)], monkeypatch)
    assert config == TrainConfig(
        fold=2, memory="support", learning_rate=1e-3, tensorboard=True, cache=True, devices="2", dropout=0.0
    )
    assert output == tmp_path


def test_trainable_takes_a_word_or_patterns(monkeypatch) -> None:
    output = ["--output", "x", "--trainable"]
    assert given([*output, "memory_encoder"], monkeypatch)[0].trainable == "memory_encoder"
    assert given([*output, "*.gamma"], monkeypatch)[0].trainable == ("*.gamma",)
    assert given([*output, "no_mem_embed"], monkeypatch)[0].trainable == ("no_mem_embed",)
    assert given([*output, "a.b", "c"], monkeypatch)[0].trainable == ("a.b", "c")


def test_a_run_is_repeated_from_its_yaml_with_changes(tmp_path, monkeypatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(facts_of(TrainConfig(fold=3, steps=9))), encoding="utf-8")
    config, _ = given(["--config", str(path), "--seed", "5", "--output", "x"], monkeypatch)
    assert config == TrainConfig(fold=3, steps=9, seed=5)


def test_profiles_by_name(monkeypatch) -> None:
    config, _ = given(["--profile", "paper", "--fold", "1", "--output", "x"], monkeypatch)
    assert config == profile("paper", fold=1)


@pytest.mark.parametrize(
    "error",
    [RunError("no"), CheckpointError("no"), FileNotFoundError("no"), NotFiniteError("no"), FloatingPointError("no")],
)
def test_what_a_user_can_put_right_is_one_line(error, monkeypatch, capsys) -> None:
    def fail(config, output):
        raise error

    monkeypatch.setattr("fss_lab.training.trainer.train", fail)
    if type(error) is not FloatingPointError:  # of some library: a traceback says more
        assert cli.main(["train", "--output", "x"]) == 1
        assert capsys.readouterr().err == "fss-lab train: error: no\n"
        monkeypatch.setenv("FSS_LAB_DEBUG", "1")
    with pytest.raises(type(error)):
        cli.main(["train", "--output", "x"])


def test_a_value_that_fss_lab_refuses_is_one_line(monkeypatch, capsys) -> None:
    assert cli.main(["train", "--dropout", "2", "--output", "x"]) == 1
    assert capsys.readouterr().err == "fss-lab train: error: dropout must be below 1, got 2.0\n"
    monkeypatch.setattr("fss_lab.training.trainer.train", lambda config, output: int("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["train", "--output", "x"])


@pytest.mark.parametrize("arguments", [[], ["--config", "a", "--profile", "toy", "--output", "x"], ["--steps", "many"]])
def test_arguments_that_do_not_fit(arguments, capsys) -> None:
    try:
        code = cli.main(["train", *arguments])
    except SystemExit as refused:
        code = refused.code
    assert code == 2 and "fss-lab train" in capsys.readouterr().err


def test_help_explains_every_option(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for field in fields(TrainConfig):
        assert f"--{field.name.replace('_', '-')}" in printed
        assert len(field.metadata["help"]) > 8
        # argparse breaks lines after hyphens too
        assert field.metadata["help"].split(",")[0].replace(" ", "") in printed.replace(" ", ""), field.name


# -- the order of the episodes --


class Numbers:
    """Episodes whose query's first pixel is their number; some kill or fail."""

    classes = (0,)

    def __init__(self, length: int, broken: int = -1) -> None:
        self.length, self.broken = length, broken

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Episode:
        if index == self.broken:
            raise FileNotFoundError(f"image_{index}.jpg")
        image, mask = torch.full((3, 4, 4), index, dtype=torch.uint8), torch.ones(4, 4, dtype=torch.uint8)
        return Episode(image, mask, image[None], mask[None], 0, "number")


def order(first=0, data=None, steps=4, **options) -> list[list[int]]:
    data = data or Numbers(100)
    numbers = []
    for listed, batch in EpisodeBatches(data, 12, steps, **options)(first):
        assert batch.query_images[:, 0, 0, 0].tolist() == listed
        numbers.append(listed)
    return numbers


def test_a_step_holds_the_same_episodes_however_it_is_cut() -> None:
    whole = order()
    assert whole == [list(range(12 * step, 12 * step + 12)) for step in range(4)]
    assert order(2) == whole[2:]
    for processes, accumulate in ((1, 3), (2, 1), (2, 3), (4, 1)):
        parts = [order(rank=rank, processes=processes, accumulate=accumulate) for rank in range(processes)]
        for step, expected in enumerate(whole):
            mine = [part for own in parts for part in own[step * accumulate : (step + 1) * accumulate]]
            assert sorted(number for part in mine for number in part) == expected


def test_a_small_data_set_is_shuffled_anew_each_time_round() -> None:
    turns = [number for step in order(data=Numbers(8), steps=4) for number in step]
    rounds = [turns[start : start + 8] for start in range(0, 48, 8)]
    assert rounds[0] == list(range(8)) and all(sorted(turn) == list(range(8)) for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) == 6
    assert order(2, data=Numbers(8), steps=4) == order(data=Numbers(8), steps=4)[2:]
    assert order(data=Numbers(8), steps=4, seed=1) != order(data=Numbers(8), steps=4)


def test_workers_change_nothing() -> None:
    assert order(1, data=Numbers(20), workers=2) == order(1, data=Numbers(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_names_the_episode(workers) -> None:
    message = r"^episode 14 could not be made: FileNotFoundError: image_14\.jpg\. The last [^\n]* continue it$"
    with pytest.raises(RunError, match=message):
        order(data=Numbers(100, broken=14), workers=workers)


def test_batches_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="batch_size 12 cannot be divided evenly by 5 processes x 1 .*multiple of 5"):
        EpisodeBatches(Numbers(3), 12, 1, processes=5)
    with pytest.raises(ValueError, match="holds no episode"):
        EpisodeBatches(Numbers(0), 12, 1)


def test_the_configuration_does_not_wait_for_torch() -> None:
    code = "import sys, fss_lab.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
