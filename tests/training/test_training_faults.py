"""A real training process is killed or loses its data: the last good checkpoint is there, and the run continues."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import fss_lab
from fss_lab.backbones.checkpoints import load_run_file, load_state
from fss_lab.cli import commands as cli
from fss_lab.errors import RunError
from fss_lab.training import checkpoints, trainer
from fss_lab.training.config import TrainConfig
from fss_lab.training.failures import explained_failures
from fss_lab.training.log import read_log
from fss_lab.training.trainer import base_episodes, train

CONFIG = TrainConfig(
    fold=2, steps=6, batch_size=1, save_every=1, validate_every=3, validation_episodes=2, tensorboard=False,
    accelerator="cpu",
)  # fmt: skip
ARGUMENTS = (
    "train --fold 2 --steps 6 --batch-size 1 --save-every 1 --validate-every 3 --validation-episodes 2 "
    "--no-tensorboard --accelerator cpu"
)


class Spoilt:
    """Episodes of which number 3 is not to be had."""

    def __init__(self, data, spoil) -> None:
        self.data, self.classes, self.spoil = data, data.classes, spoil

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        if index == 3:
            self.spoil()
        return self.data[index]


def missing_file() -> None:
    raise FileNotFoundError(2, "No such file or directory", "JPEGImages/3.jpg")


def killed_by_the_system() -> None:
    os._exit(9)


def step_of(directory: Path) -> int:
    return load_run_file(directory / "last.pt")["progress"]["step"]


def test_killed_and_continued_a_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fss_lab.__file__).parents[1])}
    command = [sys.executable, "-m", "fss_lab", *ARGUMENTS.split(), "--workers", "1", "--output", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    checkpoint, written = tmp_path / "killed/last.pt", set()
    try:
        deadline = time.monotonic() + 240
        while len(written) < 3:  # before the first step, and after two; only looked at, for Windows locks what is read
            assert process.poll() is None and time.monotonic() < deadline
            with contextlib.suppress(FileNotFoundError):
                written.add(checkpoint.stat().st_mtime_ns)
            time.sleep(0.005)
        if hasattr(signal, "SIGSTOP"):
            process.send_signal(signal.SIGSTOP)  # so that it does not end meanwhile
        with monkeypatch.context() as impatient, pytest.raises(RunError, match="another run is at work in .*killed"):
            impatient.setattr(checkpoints, "LETTING_GO", 0.1)
            train(CONFIG, tmp_path / "killed")
    finally:
        process.kill()
        process.wait()
    assert 2 <= step_of(tmp_path / "killed") < 6, "killed too late"
    continued = train(CONFIG, tmp_path / "killed")  # once the process that prepared its episodes has let go
    whole = train(CONFIG, tmp_path / "whole")
    assert continued.progress == whole.progress
    for name in ("last.pt", "best.pt"):
        one, other = (load_run_file(tmp_path / run / name) for run in ("killed", "whole"))
        assert one["facts"] == other["facts"] and len(one["model"]) > 100
        assert all(torch.equal(one["model"][key], other["model"][key]) for key in {*one["model"], *other["model"]})
        for key, state in one["optimiser"]["state"].items():
            assert all(torch.equal(state[part], other["optimiser"]["state"][key][part]) for part in state)
    one, other = load_state(continued.weights), load_state(whole.weights)
    assert all(torch.equal(one[name], other[name]) for name in {*one, *other})
    validations = [read_log(tmp_path / run / "validation.csv") for run in ("killed", "whole")]
    assert validations[0] == validations[1]


def test_a_data_set_that_vanishes_in_the_middle(tmp_path, monkeypatch) -> None:
    config = replace(CONFIG, validate_every=0, steps=5)
    monkeypatch.setattr(trainer, "base_episodes", lambda *arguments: Spoilt(base_episodes(*arguments), missing_file))
    with pytest.raises(RunError, match=r"episode 3 could not be made: FileNotFoundError: .*JPEGImages/3\.jpg.*intact"):
        train(config, tmp_path)
    assert step_of(tmp_path) == 3
    monkeypatch.undo()
    assert train(config, tmp_path).progress.step == 5


def test_a_process_that_prepares_episodes_dies(tmp_path, monkeypatch) -> None:
    spoilt = lambda *arguments: Spoilt(base_episodes(*arguments), killed_by_the_system)  # noqa: E731
    monkeypatch.setattr(trainer, "base_episodes", spoilt)
    config = replace(CONFIG, validate_every=0, steps=5, workers=1)
    with pytest.raises(RunError, match=r"prepares episodes died, often for lack of memory: lower workers\. The last"):
        train(config, tmp_path)
    monkeypatch.undo()
    assert train(config, tmp_path).progress.step == 5


class Dying(Dataset):
    """Dies with what it handed over before still under way."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        return killed_by_the_system() if index == 3 else [torch.zeros(3, 64, 64) for _ in range(6)]


def test_a_process_dies_while_it_hands_over_an_episode() -> None:
    for _ in range(5):  # torch tells it in one of four ways, by chance
        with pytest.raises(RunError, match="prepares episodes died"), explained_failures(), explained_failures():
            list(DataLoader(Dying(), batch_size=1, num_workers=1))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_sigterm_for_the_workers_too_ends_the_run_after_a_saved_step(tmp_path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(fss_lab.__file__).parents[1])}
    long = ["--steps", "10000", "--validate-every", "0", "--workers", "1", "--output", "run"]
    command = [sys.executable, "-m", "fss_lab", *ARGUMENTS.split(), *long]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "run/last.pt").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        _, error = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 143, error
    assert step_of(tmp_path / "run") >= 1


def test_ctrl_c_and_sigterm_leave_with_their_exit_codes(tmp_path) -> None:
    real = trainer.episode_losses
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):

        def losses(*arguments, number=number):
            signal.raise_signal(number)
            return real(*arguments)

        output = tmp_path / str(code)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trainer, "episode_losses", losses)
            try:
                ended = cli.main([*ARGUMENTS.split(), "--validate-every", "0", "--output", str(output)])
            except SystemExit as left:
                ended = left.code
        assert ended == code and step_of(output) == 1
