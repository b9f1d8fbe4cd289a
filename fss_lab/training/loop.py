"""The training loop, for whatever has parameters and a loss: FSSAM on a fold, and the toy backbones."""

from __future__ import annotations

import math
import time
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm.auto import tqdm

from fss_lab.errors import NotFiniteError
from fss_lab.training.checkpoints import resume, save
from fss_lab.training.devices import average_gradients, mean_of_processes
from fss_lab.training.failures import explained_failures
from fss_lab.training.log import RunLog
from fss_lab.training.run import LOG_EVERY, Batches, Learner, Losses, Progress, Run, Validation
from fss_lab.training.seeds import seed_all
from fss_lab.training.signals import StopRequest

Parts = list[tuple[list[int], Any]]  # of a step in this process: numbers of the episodes, and their batch


def run_loop(
    fabric: Fabric, run: Run, learner: Learner, batches: Batches, validation: Validation | None = None
) -> Progress:
    """Minimise the mean loss of every step's batches, together with the other launched processes.

    A step's data and dropout depend on nothing but (seed, step, process). So a run that is started again in its
    directory resumes from `last.pt` as if nothing had happened: bit for bit with as many threads, the same torch and
    the same kind of processor, otherwise up to rounding. `best.pt` is the checkpoint with the best score; `log.csv`
    holds means over 20 steps, `validation.csv` the scores.

    Args:
        batches: first step -> `run.accumulate` batches for every step from there on.

    Raises:
        NotFiniteError: a loss or gradient is not finite; it has not reached the weights.
        RunError: the directory is another run's or not shared by the processes, memory or the disk of the log is
            full, or a process that prepares data died.
        CheckpointError, FileError: a checkpoint cannot be read or written.
        KeyboardInterrupt, SystemExit: after Ctrl-C, or with status 143 after SIGTERM: the step or validation is saved.
    """
    progress, main = resume(fabric, run, learner), fabric.is_global_zero
    start = time.monotonic() - progress.seconds
    parts = (part for part in batches(progress.step))  # a generator: closing it ends the loader's workers
    hidden = None if main else True  # None: where there is no terminal
    bar = tqdm(total=run.steps, initial=progress.step, unit="step", disable=hidden)
    # Explained twice: torch may report a dead worker just while the inner one begins to look at another error.
    with (
        StopRequest() as stop, bar, explained_failures(), explained_failures(), closing(parts),
        RunLog(run.directory, progress, tensorboard=run.tensorboard, main=main) as log,
    ):  # fmt: skip
        while True:  # a validation or a step
            if validation is not None and validation.due(progress, run.steps):
                scores = validation.scores()
                progress.add_validation(next(iter(scores.values())))
                progress.seconds = time.monotonic() - start
                log.add("validation", progress.step, scores)
                if progress.best_step == progress.step:
                    save(fabric, run, learner, progress, "best.pt")
                interrupted = stop.anywhere(fabric)
            elif progress.step == run.steps or (validation is not None and validation.exhausted(progress)):
                return progress
            else:
                row, interrupted = _step(fabric, run, learner, progress.step, list(islice(parts, run.accumulate)), stop)
                progress.add_step(row)
                progress.seconds = time.monotonic() - start
                bar.update()
                if progress.step % LOG_EVERY == 0 or progress.step == run.steps:
                    row = progress.take_means()
                    bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()})
                    log.add("log", progress.step, row | {"learning_rate": learner.rate, "seconds": progress.seconds})
            if interrupted or progress.step % run.save_every == 0 or progress.step in (progress.validated, run.steps):
                save(fabric, run, learner, progress, "last.pt")
            if interrupted:
                bar.close()
                stop.leave(main, f"step {progress.step} of {run.steps} is saved in {run.directory}")


def _step(
    fabric: Fabric, run: Run, learner: Learner, step: int, parts: Parts, stop: StopRequest
) -> tuple[dict[str, float], bool]:
    """Take one optimiser step; the losses' means over all processes, and whether any of them should stop."""
    losses = _gradients(fabric, run, learner, step, parts)
    average_gradients(fabric, learner.parameters)
    norm = nn.utils.clip_grad_norm_(learner.parameters, learner.clip)
    # one message between the processes
    message = [*losses.values(), norm, torch.tensor(stop.signal, device=fabric.device)]
    *means, signal = mean_of_processes(fabric, torch.stack([value.double() for value in message])).tolist()
    row = dict(zip([*losses, "gradient_norm"], means, strict=True))
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(row[name]):
            raise NotFiniteError(
                f"the {name} of step {step} is {row[name]} (episodes {_episodes(fabric, parts)}). The weights and "
                f"{run.directory / 'last.pt'} are as before. Lower the learning rate, or look at these episodes"
            )
    learner.update(step, run.steps)
    return row, signal > 0


def _gradients(fabric: Fabric, run: Run, learner: Learner, step: int, parts: Parts) -> Losses:
    """Add up the gradients of a step's parts in this process; the mean losses."""
    means: Losses = {}
    for number, (_, batch) in enumerate(parts):
        seed_all(run.seed, step, fabric.global_rank, number)
        with fabric.autocast():  # never open across steps: its cache would hold on to old weights
            losses = learner.losses(batch)
        fabric.backward(losses["loss"] / len(parts))
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach().double() / len(parts)
    return means


def _episodes(fabric: Fabric, parts: Parts) -> str:
    """The numbers of a step's episodes in all processes, which must call this together."""
    numbers = torch.tensor([number for numbers, _ in parts for number in numbers], device=fabric.device)
    gathered = fabric.all_gather(numbers)
    assert isinstance(gathered, Tensor)
    return ", ".join(map(str, gathered.flatten().tolist()))
