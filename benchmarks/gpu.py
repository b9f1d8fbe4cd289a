"""What a card does with FSSAM, within a given time: python benchmarks/gpu.py --minutes 9 --output runs/gpu

Needs no download (random weights, but for the toy world's) and no other argument. The stages run in the order of their
importance, each in a process of its own with a time limit: one that fails or hangs takes nothing from those before it.
A stage writes OUTPUT/STAGE.json after every measurement; OUTPUT/report.md is written again after every stage. The time
that is left trains the toy's backbones as `recipes/` do, but for longer; the next call with this OUTPUT continues that.

`--device cpu --small` rehearses all of it with the toy model. Tests do so for single stages.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import speed as pieces
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fss_lab import FSSAM, Pictograms, __version__, load_model
from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import EpisodeBatch, collate
from fss_lab.evaluation.scoring import evaluate
from fss_lab.files import write_atomically
from fss_lab.training.log import read_log

ROOT = Path(__file__).resolve().parents[1]
SMALL, LARGE = "sam2-small+dinov2-base", "sam2-large+dinov2-large"
PRECISIONS = ("float32", "bfloat16")
GRACE = 15.0  # seconds in which a stage that was asked to stop may save its work
TOY_STEPS = {"sam2": 4 * 2400, "features": 4 * 6200}  # four times those of the shipped weights


@dataclass(frozen=True)
class Trial:
    """What every stage is given."""

    output: Path
    device: torch.device
    small: bool

    @property
    def batches(self) -> tuple[int, ...]:
        return (1, 2) if self.small else (1, 8, 32)

    @property
    def rounds(self) -> tuple[int, int]:
        """To warm up, and to measure."""
        return (0, 1) if self.small else (2, 5)

    def model(self, name: str) -> FSSAM:
        return pieces.build("toy" if self.small else name).to(self.device)

    def autocast(self, precision: str) -> AbstractContextManager[Any]:
        """A new context for each call: what one keeps of the weights must not outlive their change."""
        return torch.autocast(self.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()

    def memory(self, restart: bool = False) -> dict[str, float]:
        """The card's peak memory since the last restart."""
        if self.device.type != "cuda":
            return {}
        if restart:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return {"peak GiB": torch.cuda.max_memory_allocated() / 2**30}


Row = dict[str, Any]
Stage = Callable[[Trial], Iterator[Row]]


# -- the stages: each yields its rows one by one --


def tests(trial: Trial) -> Iterator[Row]:
    """The tests that need a card."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    rooms = [str(ROOT / "tests" / room) for room in ("backbones", "training", "recipes")]
    done = subprocess.run([*command, *rooms], capture_output=True, text=True, cwd=ROOT)
    (trial.output / "tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    yield {"result": (done.stdout.strip().splitlines() or ["no output"])[-1], "status": done.returncode}


def equality(trial: Trial) -> Iterator[Row]:
    """The masks of the shipped toy model on the card against those on the CPU in float32."""
    for shots in (1, 2) if trial.small else (1, 5):
        episodes = Pictograms(0, shots=shots, episodes=1 if trial.small else 16)
        batch = collate([episodes[index] for index in range(len(episodes))])
        expected = _logits(load_model("toy"), batch, None)
        for precision, cached in itertools.product(("float32", "float32 without TF32", "bfloat16"), (False, True)):
            model = load_model("toy").to(trial.device)
            model.precision = precision.split()[0]
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "float32"):
                logits = _logits(model, batch, FeatureCache() if cached else None)
            differ = ((logits > 0) != (expected > 0)).float().mean().item()
            row = {"shots": shots, "encoders": precision, "cache": cached, "pixels that differ": differ}
            yield {**row, "largest difference of logits": (logits - expected).abs().max().item()}


def _logits(model: FSSAM, batch: EpisodeBatch, cache: FeatureCache | None) -> Tensor:
    with torch.inference_mode():
        return model.predict(model.encode(batch, cache)).logits.float().cpu()


def speed(trial: Trial, name: str) -> Iterator[Row]:
    """Cold episodes by batch and precision, queries with a remembered support, a fold with its cache on the card."""
    model = trial.model(name)
    fold = pieces.Fold(*((3, 2) if trial.small else (200, 73)), model.sam2.image_size)
    rates = {precision: pieces.matmul_rate(trial.device, getattr(torch, precision)) for precision in PRECISIONS}
    for size in trial.batches:
        for precision in reversed(PRECISIONS):
            batch = _batch(fold, size).to(trial.device)
            encoders = pieces.stock_encoders(model, torch.cat([batch.query_images, batch.support_images.flatten(0, 1)]))
            trial.memory(restart=True)
            times = _measured(trial, precision, {"encoders": encoders, "episodes": lambda batch=batch: model(batch)})
            memory = trial.memory()
            flops = pieces.count_flops(encoders)
            yield {
                "model": name, "what": f"cold, batch {size}", "precision": precision,
                "episodes/s": size / times["episodes"],
                "over the encoders alone": times["episodes"] / times["encoders"],
                "encoders, share of the matrix rate": flops / times["encoders"] / rates[precision], **memory,
            }  # fmt: skip
    support = model.remember(list(fold[0].support_images), list(fold[0].support_masks))
    for precision in reversed(PRECISIONS):
        tasks = {"remembered": lambda: model.segment(fold[0].query_image, support)}
        rate = 1 / _measured(trial, precision, tasks)["remembered"]
        yield {"model": name, "what": "support remembered", "precision": precision, "episodes/s": rate}
    for place in dict.fromkeys(("cpu", trial.device.type)):
        cache = FeatureCache(device=place)
        task = partial(evaluate, {"": model}, fold, batch_size=trial.batches[1], cache=cache)
        rate = len(fold) / pieces.seconds(task, trial.device)
        what = f"fold over {len(fold.images)} images, cache on {place}"
        yield {"model": name, "what": what, "precision": "float32", "episodes/s": rate}


def training(trial: Trial, name: str) -> Iterator[Row]:
    """Training steps by batch and precision, and with the frozen features in a cache on the card."""
    model = trial.model(name).train()
    fold = pieces.Fold(max(trial.batches), 2 * max(trial.batches), model.sam2.image_size)
    for size in trial.batches:
        batch = _batch(fold, size)
        for precision in reversed(PRECISIONS):
            for cache in (None, FeatureCache(device=trial.device)):
                trial.memory(restart=True)
                features = "encoded" if cache is None else "cached"
                row = {"model": name, "batch": size, "precision": precision, "features": features}
                try:
                    times = _measured(trial, precision, {"step": pieces.training_step(model, batch, cache)}, grad=True)
                except torch.OutOfMemoryError:
                    yield {**row, "steps/s": "out of memory"}
                else:
                    yield {**row, "steps/s": 1 / times["step"], **trial.memory()}


def kernels(trial: Trial) -> Iterator[Row]:
    """The ten kernels (on a CPU: operators) in which a batch of cold episodes and a training step spend their time."""
    model = trial.model(SMALL)
    batch = _batch(pieces.Fold(8, 16, model.sam2.image_size), trial.batches[1])
    step = pieces.training_step(trial.model(SMALL).train(), batch, None)
    on_card = trial.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    for what, task in {"cold episodes": torch.inference_mode()(lambda: model(batch)), "training step": step}.items():
        _measured(trial, "bfloat16", {what: task}, grad=what == "training step")  # warms up
        with profile(activities=activities) as profiler, trial.autocast("bfloat16"):
            task()
        clock = "self_device_time_total" if on_card else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event: getattr(event, clock), reverse=True)
        total = sum(getattr(event, clock) for event in events)
        for event in events[:10]:
            spent = getattr(event, clock)
            row = {"kernel": event.key[:90], "calls": event.count, "ms": spent / 1e3, "share": spent / total}
            yield {"what": what, **row}


def compiled(trial: Trial) -> Iterator[Row]:
    """torch.compile of both encoders, without and with CUDA graphs (mode reduce-overhead)."""
    modes = ("default",) if trial.small else ("not compiled", "default", "reduce-overhead")
    for mode in modes:
        model = trial.model(SMALL)
        if mode != "not compiled":
            model.sam2.model.image_encoder.compile(mode=mode)
            getattr(model.features, "model", model.features).compile(mode=mode)
        for size in trial.batches[:2]:
            batch = _batch(pieces.Fold(size, 2 * size, model.sam2.image_size), size)
            start = time.perf_counter()
            times = _measured(trial, "bfloat16", {"episodes": lambda batch=batch, model=model: model(batch)})
            row = {"compile": mode, "batch": size, "episodes/s": size / times["episodes"]}
            yield {**row, "seconds with the compilation": time.perf_counter() - start}


def _batch(fold: pieces.Fold, size: int) -> EpisodeBatch:
    return collate([fold[index] for index in range(size)])


def _measured(
    trial: Trial, precision: str, tasks: dict[str, Callable[[], object]], grad: bool = False
) -> dict[str, float]:
    """Median seconds of each task."""

    def lower(task: Callable[[], object]) -> Callable[[int], None]:
        def run(_: int) -> None:
            with trial.autocast(precision), torch.inference_mode(not grad):
                task()

        return run

    times = pieces.in_turns({name: lower(task) for name, task in tasks.items()}, sum(trial.rounds), trial.device)
    return {name: pieces.median(values[trial.rounds[0] :]) for name, values in times.items()}


STAGES: dict[str, tuple[Stage, float]] = {
    "tests": (tests, 60),
    "equality": (equality, 45),
    "speed": (lambda trial: speed(trial, SMALL), 80),
    "training": (lambda trial: training(trial, SMALL), 70),
    "kernels": (kernels, 40),
    "compiled": (compiled, 100),
    "speed_large": (lambda trial: speed(trial, LARGE), 70),
    "training_large": (lambda trial: training(trial, LARGE), 60),
}
"""Name -> rows, and the most seconds it may take where --minutes is 9."""


# -- the conductor --


def run_stage(name: str, trial: Trial) -> list[Row]:
    """Run one stage in this process, and write its rows as they come."""
    rows = []
    for row in STAGES[name][0](trial):
        rows.append(row)
        write_atomically(trial.output / f"{name}.json", json.dumps(rows, indent=1).encode())
        print(name, *(f"{key}={_short(value)}" for key, value in row.items()), flush=True)
    return rows


def run_limited(commands: Sequence[list[str]], seconds: float, log: Path) -> str:
    """Run commands side by side for so many seconds at most; ask what still runs to stop, then end it. How it went."""
    with log.open("a", encoding="utf-8") as file:
        options: dict[str, Any] = {"stdout": file, "stderr": file, "cwd": ROOT, "start_new_session": True}
        started = [subprocess.Popen(command, **options) for command in commands]
        in_time = _wait(started, seconds)
        for number in (signal.SIGTERM, 9):
            for process in started:
                if process.poll() is None and hasattr(os, "killpg"):
                    os.killpg(process.pid, number)  # with what it has started
                elif process.poll() is None:  # Windows
                    process.terminate()
            _wait(started, GRACE)
    failed = any(process.returncode for process in started)
    return "stopped at its limit" if not in_time else "failed" if failed else "done"


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> bool:
    """Whether all of them end within so many seconds."""
    end = time.monotonic() + seconds
    while (running := any(process.poll() is None for process in processes)) and time.monotonic() < end:
        time.sleep(0.1)
    return not running


def conduct(trial: Trial, minutes: float) -> None:
    """All stages in order, then the training, within so many minutes."""
    end = time.monotonic() + 60 * minutes - 2 * GRACE  # torch's import has passed, the last stage must still save
    log, outcomes = trial.output / "log.txt", {}
    for name in STAGES:  # of an earlier call
        (trial.output / f"{name}.json").unlink(missing_ok=True)
    common = ["--output", str(trial.output), "--device", trial.device.type, *(["--small"] if trial.small else [])]
    for name, (_, limit) in STAGES.items():
        left = end - time.monotonic() - GRACE
        outcomes[name] = "no time left"
        if left > 0:
            command = [sys.executable, str(Path(__file__).resolve()), "--stage", name, *common]
            outcomes[name] = run_limited([command], min(left, limit * minutes / 9), log)
        write_atomically(trial.output / "report.md", report(trial, outcomes).encode())
        print(f"{name}: {outcomes[name]}", flush=True)
    recipe = [sys.executable, "-m", "recipes.pretrain"]
    commands = [
        [*recipe, name, "--output", str(trial.output / name), "--steps", str(steps), "--accelerator", trial.device.type]
        for name, steps in TOY_STEPS.items()
    ]
    left = end - time.monotonic()
    outcomes["toy training"] = run_limited(commands, left, log) if left > 0 else "no time left"
    write_atomically(trial.output / "report.md", report(trial, outcomes).encode())
    print(f"toy training: {outcomes['toy training']}; see {trial.output / 'report.md'}")


def report(trial: Trial, outcomes: dict[str, str]) -> str:
    """Every stage's rows as tables."""
    name = torch.cuda.get_device_name() if trial.device.type == "cuda" else pieces.processor()
    versions = f"fss_lab {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    lines = ["# FSSAM on a card", "", f"{name}, {versions}, random weights but for the toy's."]
    if trial.small:
        lines += ["", "A rehearsal: every model is the toy."]
    for stage, outcome in outcomes.items():
        lines += ["", f"## {stage}: {outcome}"]
        path = trial.output / f"{stage}.json"
        if path.exists():
            lines += ["", *table(json.loads(path.read_text(encoding="utf-8")))]
    for network in TOY_STEPS:
        if (trial.output / network / "log.csv").exists():
            last = read_log(trial.output / network / "log.csv")[-1]
            lines += ["", f"{network}: " + ", ".join(f"{key} {_short(value)}" for key, value in last.items())]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """Rows, which may lack some of the columns, as lines of Markdown."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return lines + [f"| {' | '.join(_short(row.get(column, '')) for column in columns)} |" for row in rows]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it (default 9)")
    parser.add_argument("--output", type=Path, required=True, help="directory of tables, logs and checkpoints")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to rehearse")
    parser.add_argument("--small", action="store_true", help="the toy model and few rounds: to rehearse")
    parser.add_argument("--stage", choices=tuple(STAGES), help="this stage alone, without a limit")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    trial = Trial(arguments.output.resolve(), torch.device(arguments.device), arguments.small)
    if arguments.stage:
        run_stage(arguments.stage, trial)
    else:
        conduct(trial, arguments.minutes)


if __name__ == "__main__":
    main()
