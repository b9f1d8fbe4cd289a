"""The loop on a tiny regression: schedules, logs, resuming, killing, signals, faults."""

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import fss_lab
from fss_lab.backbones.checkpoints import load_run_file, save_run, save_safetensors
from fss_lab.errors import CheckpointError, FileError, MissingPackageError, NotFiniteError, RunError
from fss_lab.models.provenance import Facts
from fss_lab.training import seeds
from fss_lab.training.log import RunLog, read_log
from fss_lab.training.loop import run_loop
from fss_lab.training.optimisers import OPTIMISERS, cosine, poly
from fss_lab.training.run import Learner, Progress, Run, Validation

FACTS = {"what": "a tiny regression", "seed": 0}


def fit(
    directory, steps=30, before_loss=lambda step: None, scores=None, facts=FACTS, validate_every=0, patience=0,
    optimiser=None, schedule=poly, clip=float("inf"), save_every=10, tensorboard=False,
):  # fmt: skip
    """Train a linear model with dropout for some steps; returns it and the progress."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(16, 4)
        wrong = before_loss(step) or 0.0
        return {"loss": (model(x)[:, 0] - x.sum(1)).pow(2).mean() + wrong, "squares": x.pow(2).mean()}

    parameters = list(model.parameters())
    optimiser = optimiser or OPTIMISERS["adamw"](parameters, 1e-2, 0.0)
    run = Run(directory, Facts.of(facts), steps, save_every=save_every, tensorboard=tensorboard)
    learner = Learner(losses, parameters, model.state_dict(), optimiser, schedule, clip)
    validation = None if scores is None else Validation(scores.__next__, validate_every, patience)
    return model, run_loop(cpu(), run, learner, one_by_one(steps), validation)


def cpu() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def one_by_one(steps):
    """Batches that hold nothing but their number."""
    return lambda first: (([number], number) for number in range(first, steps))


def at(step, action):
    """Calls action in the loss of that step."""
    return lambda now: action() if now == step else None


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def without_time(path: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in read_log(path)]


def scores_of(*values):
    return ({"score": value} for value in values)


def test_schedules() -> None:
    assert [poly(step, 10) for step in (0, 5)] == [1.0, 0.5**0.9]
    assert cosine(0, 1000) == pytest.approx(1 / 50) and cosine(500, 1000) == pytest.approx(0.5)


def test_the_log_holds_means_of_twenty_steps_and_the_loss_falls(tmp_path) -> None:
    fit(tmp_path, 210)
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [*range(20, 201, 20), 210]
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert all(0.7 < row["squares"] < 1.3 for row in rows)
    assert rows[4]["learning_rate"] == pytest.approx(1e-2 * poly(99, 210), rel=1e-4)


def test_an_interrupted_run_continues_as_if_nothing_had_happened(tmp_path) -> None:
    def fail() -> None:
        raise OSError("the network drive is gone")

    whole, _ = fit(tmp_path / "whole", 60)
    with pytest.raises(OSError, match="drive is gone"):
        fit(tmp_path / "parts", 60, at(37, fail))
    assert load_run_file(tmp_path / "parts/last.pt")["progress"]["step"] == 30
    continued, progress = fit(tmp_path / "parts", 60)
    assert same(whole, continued) and progress.step == 60
    assert without_time(tmp_path / "parts/log.csv") == without_time(tmp_path / "whole/log.csv")


def test_a_finished_run_is_not_trained_again(tmp_path) -> None:
    model, progress = fit(tmp_path)
    again, unchanged = fit(tmp_path, before_loss=lambda step: pytest.fail("trained again"))
    assert same(model, again) and unchanged == progress


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from fss_lab.training.log import RunLog
from test_training_loop import at, fit, scores_of
from pathlib import Path

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at_call(function, number):
    calls = []
    def wrapped(*arguments):
        calls.append(1)
        if len(calls) == number:
            die()
        return function(*arguments)
    return wrapped

def die_after_validation():
    real = RunLog.add
    def add(log, name, step, values):
        real(log, name, step, values)
        if name == "validation" and step == 10:
            die()
    RunLog.add = add
    fit(Path("row"), save_every=2, scores=scores_of(0.1, 0.5), validate_every=10)

# run.yaml is written first, so the 4th write is the checkpoint of step 6
moments = {
    "start": lambda: fit(Path("start"), before_loss=at(0, die), save_every=2),
    "loss": lambda: fit(Path("loss"), before_loss=at(5, die), save_every=2),
    "fsync": lambda: (setattr(os, "fsync", die_at_call(os.fsync, 4)), fit(Path("fsync"), save_every=2)),
    "replace": lambda: (setattr(os, "replace", die_at_call(os.replace, 4)), fit(Path("replace"), save_every=2)),
    "row": die_after_validation,
}
for name, moment in moments.items():
    child = os.fork()
    if child == 0:
        moment()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, name
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_any_moment_a_run_continues_bit_for_bit(tmp_path) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(fss_lab.__file__).parents[1])}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    whole, _ = fit(tmp_path / "whole", save_every=2)
    left = {"start": 0, "loss": 4, "fsync": 4, "replace": 4}
    for name, step in left.items():
        if step:
            assert load_run_file(tmp_path / name / "last.pt")["progress"]["step"] == step
        assert bool(list((tmp_path / name).glob(".*.tmp"))) == (name in ("fsync", "replace"))
        continued, _ = fit(tmp_path / name, save_every=2)
        assert same(whole, continued)
        assert not list((tmp_path / name).glob(".*.tmp"))  # what the killed process was writing
    assert [row["step"] for row in read_log(tmp_path / "row/validation.csv")] == [0, 10]  # in the file, not yet saved
    _, progress = fit(tmp_path / "row", save_every=2, scores=scores_of(0.5, 0.4, 0.3), validate_every=10)
    assert progress.best_step == 10
    assert [row["step"] for row in read_log(tmp_path / "row/validation.csv")] == [0, 10, 20, 30]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_finishes_the_step_saves_and_leaves(tmp_path, number, error, capfd) -> None:
    before = signal.getsignal(number)
    with pytest.raises(error) as left:
        fit(tmp_path / "stopped", 30, at(6, lambda: signal.raise_signal(number)))
    assert error is KeyboardInterrupt or left.value.code == 143
    assert load_run_file(tmp_path / "stopped/last.pt")["progress"]["step"] == 7
    assert capfd.readouterr().err == f"stopped: step 7 of 30 is saved in {tmp_path / 'stopped'}\n"
    assert signal.getsignal(number) is before
    assert same(fit(tmp_path / "stopped")[0], fit(tmp_path / "whole")[0])
    assert capfd.readouterr().out == f"resuming {tmp_path / 'stopped'} after step 7 of 30\n"
    fit(tmp_path / "stopped")
    assert capfd.readouterr().out == f"{tmp_path / 'stopped'} is complete\n"
    assert without_time(tmp_path / "stopped/log.csv") == without_time(tmp_path / "whole/log.csv")


def test_a_second_ctrl_c_does_not_wait(tmp_path) -> None:
    def impatient() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, 30, at(16, impatient))
    assert load_run_file(tmp_path / "last.pt")["progress"]["step"] == 10


def test_another_run_is_refused_by_the_fields_that_differ(tmp_path) -> None:
    fit(tmp_path, 10)
    before = (tmp_path / "run.yaml").read_bytes()
    with pytest.raises(RunError, match=r"last\.pt belongs to another run: seed was 0, now 1\. Use the same options"):
        fit(tmp_path, 10, facts={**FACTS, "seed": 1})
    assert (tmp_path / "run.yaml").read_bytes() == before
    fit(tmp_path, 10, facts={**FACTS, "devices": "4"})  # where it runs does not matter


def test_without_its_checkpoint_a_run_is_replaced_by_itself_alone(tmp_path) -> None:
    facts = {**FACTS, "fold": 0, "frozen": {"sam2": {"sha256": "ab", "from": "here"}}}
    moved = {**facts, "frozen": {"sam2": {"sha256": "ab", "from": "there"}}}
    other = {**facts, "frozen": {"sam2": {"sha256": "cd", "from": "here"}}}
    fit(tmp_path, 10, scores=scores_of(0.5, 0.4), validate_every=10, facts=facts)
    (tmp_path / "last.pt").unlink()
    with pytest.raises(RunError, match=r"best\.pt belongs to another run: seed was 0, now 1"):
        fit(tmp_path, 10, facts={**facts, "seed": 1})
    with pytest.raises(RunError, match="with other frozen networks"):
        fit(tmp_path, 10, facts=other)
    assert not (tmp_path / "last.pt").exists() and load_run_file(tmp_path / "best.pt")["facts"] == facts
    assert fit(tmp_path, 10, facts=moved)[1].step == 10
    for name in ("last.pt", "best.pt"):  # then nothing is lost
        (tmp_path / name).unlink()
    assert fit(tmp_path, 10, facts={**facts, "seed": 1})[1].step == 10


def test_weights_of_pretraining_are_replaced_by_the_same_run_alone(tmp_path) -> None:
    """Nothing in them tells their run, but run.yaml does."""
    fit(tmp_path, 10)
    (tmp_path / "last.pt").unlink()
    save_safetensors(tmp_path / "weights.safetensors", {"w": torch.zeros(1)}, {})
    with pytest.raises(RunError, match=r"run\.yaml belongs to another run: seed was 0, now 1"):
        fit(tmp_path, 10, facts={**FACTS, "seed": 1})
    (tmp_path / "run.yaml").unlink()
    with pytest.raises(RunError, match=r"run\.yaml cannot be read"):
        fit(tmp_path, 10)


@pytest.mark.parametrize("spoil", ["truncated", "foreign", "mismatching", "incomplete"])
def test_a_checkpoint_that_cannot_be_used_is_refused(tmp_path, spoil) -> None:
    fit(tmp_path, 10)
    path = tmp_path / "last.pt"
    content = load_run_file(path)
    if spoil == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif spoil == "foreign":
        torch.save(content["model"], path)
    elif spoil == "incomplete":
        save_run(path, {key: value for key, value in content.items() if key != "optimiser"})
    else:
        save_run(path, {**content, "model": {"0.weight": torch.zeros(3, 3)}})
    reason = {
        "truncated": r"cut short.*copy .*best\.pt, if there is one, over it, or use another directory",
        "foreign": "no checkpoint of a run",
        "mismatching": "3 missing: 0.bias.*shape",
        "incomplete": r"last\.pt lacks optimiser: copy .*best\.pt",
    }
    spoilt = path.read_bytes()
    with pytest.raises(CheckpointError, match=reason[spoil]):
        fit(tmp_path, 20)
    assert path.read_bytes() == spoilt


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"last\.pt could not be written .*No space left.*free some disk space"):
        fit(tmp_path / "full")
    assert load_run_file(tmp_path / "full/last.pt")["progress"]["step"] == 20
    monkeypatch.undo()
    assert same(fit(tmp_path / "full")[0], fit(tmp_path / "whole")[0])


def test_a_disk_that_is_full_for_the_log_says_so_and_the_run_goes_on(tmp_path, monkeypatch) -> None:
    real = RunLog.add

    def full(log, name, step, values):
        if step == 40:
            with (tmp_path / "full/log.csv").open("a") as file:
                file.write("40,0.")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(log, name, step, values)

    monkeypatch.setattr(RunLog, "add", full)
    with pytest.raises(RunError, match="the disk is full: free some space .* last checkpoint is intact"):
        fit(tmp_path / "full", 60)
    assert load_run_file(tmp_path / "full/last.pt")["progress"]["step"] == 30
    monkeypatch.undo()
    assert same(fit(tmp_path / "full", 60)[0], fit(tmp_path / "whole", 60)[0])
    assert without_time(tmp_path / "full/log.csv") == without_time(tmp_path / "whole/log.csv")


def test_a_disk_that_is_full_for_tensorboard_says_so(tmp_path, monkeypatch) -> None:
    def full(writer) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.close", full)
    with pytest.raises(RunError, match="the disk is full: free some space .* last checkpoint is intact"):
        fit(tmp_path, 20, tensorboard=True)
    assert load_run_file(tmp_path / "last.pt")["progress"]["step"] == 20


def test_the_best_weights_are_kept(tmp_path) -> None:
    _, progress = fit(tmp_path, 30, scores=scores_of(0.1, 0.5, 0.4, 0.5), validate_every=10)
    assert progress == Progress(step=30, validated=30, best_score=0.5, best_step=10)
    best = load_run_file(tmp_path / "best.pt")
    assert best["progress"]["step"] == 10
    assert not torch.equal(best["model"]["0.weight"], load_run_file(tmp_path / "last.pt")["model"]["0.weight"])
    assert [(row["step"], row["score"]) for row in read_log(tmp_path / "validation.csv")] == [
        (0, 0.1), (10, 0.5), (20, 0.4), (30, 0.5),
    ]  # fmt: skip


def test_patience(tmp_path) -> None:
    _, progress = fit(tmp_path, 100, scores=scores_of(0.1, 0.5, 0.4, 0.4), validate_every=10, patience=2)
    assert (progress.step, progress.best_step) == (30, 10)
    assert fit(tmp_path, 100, scores=scores_of(), validate_every=10, patience=2)[1] == progress


def test_a_run_stopped_before_a_validation_makes_up_for_it(tmp_path) -> None:
    stop = at(9, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        fit(tmp_path, 20, stop, scores=scores_of(0.1), validate_every=10)
    assert fit(tmp_path, 20, scores=scores_of(0.7, 0.2), validate_every=10)[1].best_step == 10


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights(tmp_path, wrong) -> None:
    message = rf"loss of step 10 is {wrong} \(episodes 10\).*last\.pt are as before\. Lower the learning rate"
    with pytest.raises(NotFiniteError, match=message) as raised:
        fit(tmp_path / "wrong", 30, at(10, lambda: wrong), save_every=1)
    assert isinstance(raised.value, FloatingPointError)
    assert load_run_file(tmp_path / "wrong/last.pt")["progress"]["step"] == 10
    assert same(fit(tmp_path / "wrong", 30)[0], fit(tmp_path / "whole", 30)[0])


def test_a_gradient_that_is_not_finite_stops_too(tmp_path) -> None:
    weight = nn.Parameter(torch.zeros(1))  # the square root has an infinite slope at 0
    learner = Learner(lambda _: {"loss": weight.sqrt().sum()}, [weight], {}, torch.optim.SGD([weight], 1.0))
    with pytest.raises(NotFiniteError, match="the gradient_norm of step 0 is (nan|inf)"):
        run_loop(cpu(), Run(tmp_path, Facts({}), 3), learner, one_by_one(3))
    assert weight.item() == 0


def full_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


FULL = {
    "gpu": full_gpu,
    "machine": lambda: torch.empty(2**60, dtype=torch.uint8),  # refused by torch itself
    "python": lambda: bytes(2**62),
}


@pytest.mark.parametrize("memory", FULL)
@pytest.mark.parametrize("where", ["loss", "validation", "optimiser"])
def test_full_memory_says_what_to_lower(tmp_path, memory, where) -> None:
    def scores():
        yield {"score": 0.1}
        FULL[memory]()

    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    steps = iter(range(30))
    optimiser.step = lambda: at(12, FULL[memory])(next(steps))
    options = {
        "loss": {"before_loss": at(12, FULL[memory])},
        "validation": {"scores": scores(), "validate_every": 10},
        "optimiser": {"optimiser": optimiser},
    }[where]
    with pytest.raises(RunError, match=r"Raise accumulate .* lower batch_size, shots .*last checkpoint is intact") as e:
        fit(tmp_path, 30, **options)
    assert str(e.value).count("there is not enough memory") == 1
    assert load_run_file(tmp_path / "last.pt")["progress"]["step"] == 10


def test_a_signal_during_a_validation_leaves_after_it(tmp_path) -> None:
    def scores():
        yield {"score": 0.1}
        signal.raise_signal(signal.SIGTERM)
        yield {"score": 0.2}

    with pytest.raises(SystemExit):
        fit(tmp_path, 30, scores=scores(), validate_every=10, save_every=100)
    progress = load_run_file(tmp_path / "last.pt")["progress"]
    assert (progress["step"], progress["validated"]) == (10, 10)


def test_the_time_of_a_continued_run_goes_on(tmp_path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, 40, at(24, lambda: signal.raise_signal(signal.SIGTERM)))
    path = tmp_path / "last.pt"
    saved = load_run_file(path)
    save_run(path, {**saved, "progress": {**saved["progress"], "seconds": 1000.0}})
    fit(tmp_path, 40)
    assert read_log(tmp_path / "log.csv")[-1]["seconds"] >= 1000


def test_accumulated_parts_are_one_step(tmp_path) -> None:
    weight = nn.Parameter(torch.zeros(2))
    seen = []

    def losses(batch: int) -> dict[str, torch.Tensor]:
        seen.append(batch)
        return {"loss": (weight * torch.tensor([batch, 1.0])).sum()}

    learner = Learner(losses, [weight], {"w": weight}, torch.optim.SGD([weight], 0.0))
    run_loop(cpu(), Run(tmp_path, Facts({}), steps=2, accumulate=3), learner, one_by_one(6))
    assert seen == list(range(6))
    (row,) = read_log(tmp_path / "log.csv")
    # gradients (1, 1) and (4, 1): means over the parts; the norm is the mean of both steps'
    assert row["gradient_norm"] == pytest.approx((2**0.5 + 17**0.5) / 2, rel=1e-4)


def test_clipping(tmp_path) -> None:
    free, _ = fit(tmp_path / "free", 1)
    clipped, _ = fit(tmp_path / "clipped", 1, clip=1e-9)
    start, _ = fit(tmp_path / "start", 1, schedule=lambda step, steps: 0.0)
    moved = [(model[0].weight - start[0].weight).abs().max().item() for model in (free, clipped)]
    assert moved[0] == pytest.approx(1e-2, rel=0.01) and 0 < moved[1] < 2e-3


def test_rates_of_ones_own(tmp_path) -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weight], "lr": rate} for weight, rate in zip(weights, (1.0, 0.1), strict=True)]
    learner = Learner(
        lambda _: {"loss": weights[0].sum() + weights[1].sum()}, weights, {}, torch.optim.SGD(groups),
        schedule=lambda step, steps: 1.0 - step / steps,
    )  # fmt: skip
    run_loop(cpu(), Run(tmp_path, Facts({}), steps=2), learner, one_by_one(2))
    assert [weight.item() for weight in weights] == pytest.approx([-1.5, -0.15])


def test_every_random_state_is_saved_and_restored() -> None:
    seeds.seed_all(3, 1)
    np.random.standard_normal()  # leaves half a pair behind, which belongs to the state
    states = seeds.random_states()
    drawn = [(random.random(), np.random.standard_normal(), torch.rand(1).item()) for _ in range(2)]
    seeds.restore_random_states(states)
    assert drawn == [(random.random(), np.random.standard_normal(), torch.rand(1).item()) for _ in range(2)]
    seeds.seed_all(3, 2)
    assert torch.rand(1).item() != drawn[0][2]


def test_tensorboard_gets_the_same_numbers(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path, 40, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("log/loss")
    rows = read_log(tmp_path / "log.csv")
    assert [event.step for event in events] == [20, 40]
    assert [event.value for event in events] == pytest.approx([row["loss"] for row in rows], rel=1e-4)


def test_tensorboard_names_the_extra_that_it_needs(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError, match=r"pip install \"fss-lab\[tracking\]\", or --no-tensorboard"):
        fit(tmp_path, 20, tensorboard=True)
    assert fit(tmp_path, 20)[1].step == 20


def test_half_a_row_of_a_killed_process_is_dropped(tmp_path) -> None:
    fit(tmp_path, 20)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("1")  # of step 140
    fit(tmp_path, 20)
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [20]


def test_nothing_is_drawn_where_there_is_no_terminal(tmp_path, capfd) -> None:
    fit(tmp_path)
    captured = capfd.readouterr()
    assert "step" not in captured.out + captured.err
