"""The script for a card, rehearsed on a CPU: its stages yield rows, its conductor stops in time."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(FOLDER))
    try:
        import gpu
    finally:
        sys.path.remove(str(FOLDER))
    return gpu


@pytest.fixture
def trial(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.Trial, "batches", (1, 1))
    return gpu.Trial(tmp_path, torch.device("cpu"), small=True)


@pytest.mark.slow
def test_on_the_cpu_the_masks_are_those_of_the_cpu(gpu, trial) -> None:
    rows = gpu.run_stage("equality", trial)
    assert json.loads((trial.output / "equality.json").read_text()) == rows
    assert {(row["shots"], row["encoders"], row["cache"]) for row in rows} == {
        (shots, encoders, cache)
        for shots in (1, 2)
        for encoders in ("float32", "float32 without TF32", "bfloat16")
        for cache in (False, True)
    }
    assert all(row["largest difference of logits"] == 0 for row in rows if row["encoders"] != "bfloat16")
    assert all(0 < row["largest difference of logits"] < 1 for row in rows if row["encoders"] == "bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["speed", "training", "kernels"])
def test_a_stage_measures(gpu, trial, stage) -> None:
    rows = gpu.run_stage(stage, trial)
    assert len(rows) == {"speed": 7, "training": 8, "kernels": 20}[stage]
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert numbers and all(value > 0 for value in numbers)


def test_rows_of_a_stage_that_fails_later_are_kept(gpu, trial, monkeypatch) -> None:
    def failing(trial):
        yield {"a": 1.0}
        raise RuntimeError("the card is gone")

    monkeypatch.setitem(gpu.STAGES, "speed", (failing, 1))
    with pytest.raises(RuntimeError, match="gone"):
        gpu.run_stage("speed", trial)
    assert json.loads((trial.output / "speed.json").read_text()) == [{"a": 1.0}]
    assert "| a |\n|---|\n| 1 |" in gpu.report(trial, {"speed": "failed", "kernels": "no time left"})


def test_what_does_not_end_is_stopped(gpu, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    obedient = "import time; print('started', flush=True); time.sleep(60)"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    start = time.monotonic()
    outcome = gpu.run_limited([[sys.executable, "-c", code] for code in (obedient, deaf)], 1, tmp_path / "log")
    assert outcome == "stopped at its limit" and time.monotonic() - start < 20
    assert "started" in (tmp_path / "log").read_text()
    assert gpu.run_limited([[sys.executable, "-c", "1/0"]], 20, tmp_path / "log") == "failed"
    assert gpu.run_limited([[sys.executable, "-c", ""]], 20, tmp_path / "log") == "done"


def test_without_time_no_stage_starts(gpu, trial, monkeypatch) -> None:
    started = []
    monkeypatch.setattr(gpu, "run_limited", lambda commands, seconds, log: started.append(commands) or "done")
    gpu.conduct(trial, minutes=0)
    assert not started and (trial.output / "report.md").read_text().count("no time left") == len(gpu.STAGES) + 1
    gpu.conduct(trial, minutes=9)
    assert [commands[0][3] for commands in started[:-1]] == list(gpu.STAGES)
    assert all("recipes.pretrain" in command for command in started[-1])
