"""The training loop, for whatever has parameters and a loss: FSSAM on a fold, and the toy backbones."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from tqdm.auto import tqdm

from fss_lab.backbones.checkpoints import load_metadata, load_run_file, load_tensors, save_run
from fss_lab.episode import EpisodeBatch
from fss_lab.errors import NotFiniteError, RunError
from fss_lab.files import remove_leftovers, write_atomically
from fss_lab.training.devices import (
    RunLog,
    StopRequest,
    average_gradients,
    explained_failures,
    mean_of_processes,
    precision_of,
    random_states,
    restore_random_states,
    seed_all,
)
from fss_lab.training.facts import check_same_run, read_facts, to_yaml

Losses = dict[str, Tensor]  # by name; "loss" is minimised, the others are only logged
Batches = Callable[[int], Iterator[tuple[list[int], Any]]]  # first step -> (numbers of the episodes, batch)
LOG_EVERY = 20  # steps


def cosine(step: int, steps: int) -> float:
    """Learning-rate factor: 50 steps of warm-up, then half a cosine down to 0."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))


def poly(step: int, steps: int) -> float:
    """Learning-rate factor (1 - step / steps)^0.9, the paper's."""
    return (1 - step / steps) ** 0.9


Schedule = Callable[[int, int], float]
SCHEDULES: dict[str, Schedule] = {"poly": poly, "cosine": cosine}


@dataclass
class Progress:
    """How far a run is. step: optimiser steps done, and so the place in its episodes. validated: the step of the last
    validation. best_score, best_step: of the best one. sums: losses since the last row of the log. seconds: how long
    it has run, without interruptions."""

    step: int = 0
    validated: int = -1
    best_score: float = -math.inf
    best_step: int = -1
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


def run_loop(
    fabric: Fabric,
    compute_losses: Callable[[Any], Losses],
    parameters: Iterable[nn.Parameter],
    state: Mapping[str, Tensor],
    batches: Batches,
    directory: Path,
    *,
    facts: Mapping[str, Any],
    steps: int,
    optimiser: torch.optim.Optimizer,
    schedule: Schedule = poly,
    clip: float = math.inf,
    seed: int = 0,
    accumulate: int = 1,
    save_every: int = 100,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int = 0,
    patience: int = 0,
    tensorboard: bool = False,
) -> Progress:
    """Minimise the mean loss of every step's batch, together with the other launched processes.

    compute_losses: batch -> losses. state: the tensors that learn, by name, as they lie in the model on
    `fabric.device`; they are saved and restored. batches: first step -> `accumulate` batches for every step. facts: a
    description of the run, for `run.yaml` and the checkpoints. schedule: gives the factor on the optimiser's rates.
    validate: the scores of the current weights, the first decides which are best; before step 0, every `validate_every`
    steps and at the end.

    A step's data and dropout depend on nothing but (seed, step, process), so a run that is started again in the same
    `directory` goes on from `last.pt` as if nothing had happened: bit for bit with as many threads, the same torch
    and the same kind of processor, else but for rounding. `best.pt` is the checkpoint with the best score; `log.csv`
    holds means over 20 steps, `validation.csv` the scores. Ctrl-C and SIGTERM end the run after the current step or
    validation, saved, as KeyboardInterrupt and as SystemExit with status 143.

    Raises NotFiniteError when a loss or gradient is not finite, before it reaches the weights, and writes
    `not_finite*.pt` to reproduce it; RunError for a directory of another run or one that the processes do not share,
    when memory is full, or when a process that prepares data has died; CheckpointError for a checkpoint that cannot be
    read or written.
    """
    parameters = list(parameters)
    rates = [group["lr"] for group in optimiser.param_groups]
    progress = _resume(fabric, directory, facts, state, optimiser)

    if progress.step == steps:
        fabric.print(f"{directory} is complete")
    elif progress.step or progress.validated >= 0:
        fabric.print(f"going on with {directory} after step {progress.step} of {steps}")
    started = time.monotonic() - progress.seconds

    def save(name: str) -> None:
        progress.seconds = time.monotonic() - started
        if fabric.is_global_zero:
            content = {**_described(fabric, facts, state), "progress": asdict(progress)}
            save_run(directory / name, {**content, "optimiser": optimiser.state_dict(), "random": random_states()})
        fabric.barrier()

    def leave() -> NoReturn:
        bar.close()
        stop.leave(main, f"step {progress.step} of {steps} is saved in {directory}")

    main = fabric.is_global_zero
    source = (part for part in batches(progress.step))  # a generator: once closed, it lets go of the loader's workers
    bar = tqdm(total=steps, initial=progress.step, unit="step", disable=None if main else True)  # None: on a terminal
    # Explained twice: torch may tell of a dead worker just while the inner one begins to look at another error.
    with (
        StopRequest() as stop, bar, explained_failures(), explained_failures(), closing(source),
        RunLog(directory, progress.step, progress.validated, tensorboard=tensorboard) if main else nullcontext() as log,
    ):  # fmt: skip
        while True:
            step = progress.step
            due = validate_every and (step % validate_every == 0 or step == steps)
            if validate is not None and due and progress.validated < step:
                scores = validate()
                progress.validated = step
                if log is not None:
                    log.add("validation", step, scores)
                score = next(iter(scores.values()))
                if score > progress.best_score:
                    progress.best_score, progress.best_step = score, step
                    save("best.pt")
                save("last.pt")
                if stop.anywhere(fabric):
                    leave()
            if step == steps or (patience and step - progress.best_step >= patience * validate_every):
                return progress
            parts = list(islice(source, accumulate))
            values = _gradients(fabric, compute_losses, parts, seed, step)
            average_gradients(fabric, parameters)
            norm = nn.utils.clip_grad_norm_(parameters, clip)
            # one message: the mean losses, and whether any process was asked to stop
            told = [*values.values(), norm, torch.tensor(stop.signal, device=fabric.device)]
            *numbers, asked = mean_of_processes(fabric, torch.stack([value.double() for value in told])).tolist()
            row = dict(zip([*values, "gradient_norm"], numbers, strict=True))
            if not all(math.isfinite(row[name]) for name in ("loss", "gradient_norm")):
                _stop_not_finite(fabric, directory, facts, state, parts, seed, step, row)
            for group, full_rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = full_rate * schedule(step, steps)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step = progress.step = step + 1
            bar.update()
            for name, value in row.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            if step % LOG_EVERY == 0 or step == steps:
                count = (step - 1) % LOG_EVERY + 1
                row = {name: value / count for name, value in progress.sums.items()}
                bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
                rate, seconds = optimiser.param_groups[0]["lr"], time.monotonic() - started
                if log is not None:
                    log.add("log", step, {**row, "learning_rate": rate, "seconds": seconds})
                progress.sums.clear()
            if step % save_every == 0 or step == steps or asked:
                save("last.pt")
            if asked:
                leave()


def _gradients(
    fabric: Fabric, compute_losses: Callable[[Any], Losses], parts: list[tuple[list[int], Any]], seed: int, step: int
) -> Losses:
    """Add up the gradients of a step's parts in this process; the mean losses."""
    means: Losses = {}
    for number, (_, batch) in enumerate(parts):
        seed_all(seed, step, fabric.global_rank, number)
        with fabric.autocast():  # never open across steps: its cache would hold on to old weights
            losses = compute_losses(batch)
        fabric.backward(losses["loss"] / len(parts))
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach().double() / len(parts)
    return means


def _resume(
    fabric: Fabric,
    directory: Path,
    facts: Mapping[str, Any],
    state: Mapping[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> Progress:
    """Load `last.pt` into state and optimiser if there is one that belongs to these facts; write `run.yaml`."""
    path = directory / "last.pt"
    progress = Progress()
    if not path.exists():
        _check_replaced(fabric, directory, facts)
    else:
        saved = load_run_file(
            path,
            keys=("facts", "progress", "model", "optimiser", "random"),
            advice=f"copy {directory / 'best.pt'}, if there is one, over it, or use another directory for a new run",
        )
        check_same_run(saved["facts"], facts, path)
        progress = Progress(**saved["progress"])
        load_tensors(state, saved["model"], source=path)
        optimiser.load_state_dict(saved["optimiser"])
        restore_random_states(saved["random"])  # every step seeds them anew; for code between steps
    gathered = fabric.all_gather(torch.tensor(progress.step, device=fabric.device))
    assert isinstance(gathered, Tensor)
    if gathered.unique().numel() > 1:
        raise RunError(
            f"the processes would go on from different steps: {gathered.tolist()}. {directory} must be on a file "
            "system that all machines share"
        )
    if fabric.is_global_zero:
        remove_leftovers(directory)
        write_atomically(directory / "run.yaml", to_yaml(facts).encode())
    return progress


def _check_replaced(fabric: Fabric, directory: Path, facts: Mapping[str, Any]) -> None:
    """Raise RunError if other files than `last.pt`, which is not there, are of another run: they will be replaced."""
    learnt = [path for path in (directory / "best.pt", directory / "weights.safetensors") if path.exists()]
    for path in learnt:
        config = load_metadata(path).get("config")  # pre-training writes none
        source = path if config else directory / "run.yaml"
        check_same_run(json.loads(config) if config else read_facts(source), facts, source)
    if learnt:
        fabric.print(f"{directory} has no last.pt: beginning at step 0, {learnt[0].name} will be replaced")


def _stop_not_finite(
    fabric: Fabric,
    directory: Path,
    facts: Mapping[str, Any],
    state: Mapping[str, Tensor],
    parts: list[tuple[list[int], Any]],
    seed: int,
    step: int,
    row: dict[str, float],
) -> NoReturn:
    """Write down what this process did in the step, for `fss_lab.training.trainer.replay`, and raise NotFiniteError."""
    rank = fabric.global_rank
    saved = [
        {
            "episodes": numbers,
            "seed": [seed, step, rank, part],
            "batch": dict(vars(batch)) if isinstance(batch, EpisodeBatch) else None,
        }
        for part, (numbers, batch) in enumerate(parts)
    ]
    path = directory / ("not_finite.pt" if rank == 0 else f"not_finite_{rank}.pt")
    save_run(path, {**_described(fabric, facts, state), "step": step, "parts": saved})
    own = torch.tensor([number for numbers, _ in parts for number in numbers], device=fabric.device)
    everyone = fabric.all_gather(own)  # waits until every process has written
    assert isinstance(everyone, Tensor)
    what = "loss" if not math.isfinite(row["loss"]) else "gradient_norm"
    use = "reproduces the step (`fss-lab train --replay`)"
    if any(part["batch"] is None for part in saved):
        use = "holds the weights and the seeds of the step"
    if fabric.world_size > 1:
        use += ", as this process computed it; every process has written such a file, so look at each"
    raise NotFiniteError(
        f"the {what} of step {step} is {row[what]} (episodes {', '.join(map(str, everyone.flatten().tolist()))}). The "
        f"weights and {directory / 'last.pt'} are as before; {path} {use}. "
        "Lower the learning rate, or look at these episodes"
    )


def _described(fabric: Fabric, facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What both kinds of files hold: the run, what it computes with, and its weights."""
    model = {name: tensor.detach() for name, tensor in state.items()}
    return {"facts": dict(facts), "precision": precision_of(fabric), "model": model}
