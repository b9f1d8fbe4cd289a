"""Two processes on the CPU (gloo): the same weights as one, and no hanging when one of them fails."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fss_lab
from fss_lab.backbones.checkpoints import load_run_file
from fss_lab.errors import RunError
from fss_lab.training.config import TrainConfig
from fss_lab.training.devices import one_device
from fss_lab.training.log import read_log
from fss_lab.training.trainer import train

CONFIG = TrainConfig(
    fold=3, steps=3, batch_size=4, accumulate=1, dropout=0.0, learning_rate=1e-4, validate_every=3,
    validation_episodes=3, tensorboard=False, accelerator="cpu",
)  # fmt: skip
COMMAND = (
    "train --fold 3 --steps 3 --batch-size 4 --dropout 0 --learning-rate 1e-4 --validate-every 3 "
    "--validation-episodes 3 --no-tensorboard --accelerator cpu"
)

FAILING = """
import torch
from torch import nn
from lightning_fabric import Fabric
from pathlib import Path
from fss_lab.models.provenance import Facts
from fss_lab.training.loop import run_loop
from fss_lab.training.run import Learner, Run

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
weight = nn.Parameter(torch.ones(1))

def losses(step):
    if step == 3 and fabric.global_rank == 1:
        raise OSError("a broken disk")
    return {"loss": weight.square().sum()}

run = Run(Path("run"), Facts({}), steps=9, save_every=1)
learner = Learner(losses, [weight], {"w": weight}, torch.optim.SGD([weight], 1e-3))
run_loop(fabric, run, learner, lambda first: (([n], n) for n in range(first, 9)))
"""


def run(arguments: list[str], directory: Path, **more: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    clean["FSS_LAB_DEBUG"] = "1"
    environment = {**clean, "PYTHONPATH": str(Path(fss_lab.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**environment, **more},
        timeout=600,
        capture_output=True,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_two_processes_train_to_the_weights_of_one(tmp_path) -> None:
    ended = run(["-m", "fss_lab", *COMMAND.split(), "--devices", "2", "--strategy", "ddp", "--output", "two"], tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    train(CONFIG, tmp_path / "one")
    one, two = (load_run_file(tmp_path / name / "last.pt") for name in ("one", "two"))
    assert two["facts"]["devices"] == "2"
    start = train(replace(CONFIG, steps=1, learning_rate=0.0, validate_every=0), tmp_path / "start")
    before = dict(start.model.trainable_parameters())
    moved = [(one["model"][name] - tensor).abs().max().item() for name, tensor in before.items()]
    assert max(moved) > 1e-4  # so that being the same means something
    differences = torch.cat([(two["model"][name] - one["model"][name]).abs().flatten() for name in before])
    # A ReLU that rounding turns on, or a gradient that is nothing but rounding, makes a few numbers differ, and Adam
    # scales that up to its full steps; a batch shared out or averaged wrongly would change nearly all.
    assert (differences > 1e-6).double().mean() < 1e-3 and differences.max() < 1e-4
    logs = [[row["loss"] for row in read_log(tmp_path / name / "log.csv")] for name in ("one", "two")]
    assert abs(logs[0][0] - logs[1][0]) < 1e-5
    validations = [read_log(tmp_path / name / "validation.csv") for name in ("one", "two")]
    assert validations[0][0] == validations[1][0]  # before the first step, every episode counted once


LAUNCHERS = {
    "torchrun": "-m torch.distributed.run --nproc-per-node 2 --master-addr 127.0.0.1 --master-port {port} -m fss_lab",
    "fabric run": "-m lightning_fabric.cli --accelerator cpu --devices 2 --main-port {port} -- fss-lab",
}


@pytest.mark.skipif(sys.platform == "win32", reason="torch for Windows is built without what torchrun needs")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_are_honoured(tmp_path, launcher) -> None:
    """Two processes that share the run, not two that each train the whole of it into the same files."""
    (tmp_path / "fss-lab").write_text("import sys, fss_lab.cli; sys.exit(fss_lab.cli.main())")  # as pip installs it
    short = [*COMMAND.split(), "--steps", "1", "--validate-every", "0", "--output", "run"]
    ended = run([*LAUNCHERS[launcher].format(port=free_port()).split(), *short], tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("2 process(es) on cpu, precision 32-true") == 1
    assert load_run_file(tmp_path / "run/last.pt")["progress"]["step"] == 1


def test_an_unknown_launcher_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for start in (lambda: train(CONFIG, tmp_path), lambda: one_device("cpu")):
        with pytest.raises(RunError, match=r"WORLD_SIZE is 2, but this run is one of 1 process\(es\)\. Start it with"):
            start()
    assert list(tmp_path.iterdir()) == []


def test_processes_that_go_on_from_different_steps_are_refused(tmp_path) -> None:
    script = FAILING.replace('Path("run")', 'Path(f"run{fabric.global_rank}")').replace("step == 3", "step == 99")
    (tmp_path / "script.py").write_text(script.replace("steps=9", "steps=3"))
    run(["script.py"], tmp_path)
    assert (tmp_path / "run0/last.pt").exists() and not (tmp_path / "run1/last.pt").exists()
    ended = run(["script.py"], tmp_path)
    assert ended.returncode != 0 and "would resume from different steps: [3, 0]" in ended.stderr


def test_a_process_that_fails_ends_the_run(tmp_path) -> None:
    (tmp_path / "script.py").write_text(FAILING)
    ended = run(["script.py"], tmp_path)
    assert ended.returncode != 0 and "a broken disk" in ended.stderr
    assert load_run_file(tmp_path / "run/last.pt")["progress"]["step"] == 3
