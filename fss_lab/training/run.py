"""What a run consists of: its settings, what learns, its validations, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fss_lab.models.provenance import Facts
from fss_lab.training.optimisers import Schedule, poly

Losses = dict[str, Tensor]  # by name; "loss" is minimised, the others are only logged
Batches = Callable[[int], Iterator[tuple[list[int], Any]]]  # first step -> (numbers of the episodes, batch)
LOG_EVERY = 20  # steps


@dataclass(frozen=True)
class Run:
    """One run of `run_loop`; a directory that holds it already resumes it."""

    directory: Path
    facts: Facts  # the description in `run.yaml` and the checkpoints
    steps: int
    seed: int = 0  # chooses each step's random numbers, together with the step and the process
    accumulate: int = 1  # batches of a step in each process
    save_every: int = 100  # steps
    tensorboard: bool = False


@dataclass
class Learner:
    """What learns, and how."""

    losses: Callable[[Any], Losses]  # of a batch
    parameters: Sequence[nn.Parameter]  # those with gradients
    state: Mapping[str, Tensor]  # what changes, by name, as it is in the model on its device; a checkpoint holds it
    optimiser: torch.optim.Optimizer  # of the parameters, with the full learning rates
    schedule: Schedule = poly
    clip: float = math.inf  # largest norm of a step's gradient

    def __post_init__(self) -> None:
        self._full_rates = [group["lr"] for group in self.optimiser.param_groups]  # a checkpoint holds reduced ones

    @property
    def rate(self) -> float:
        """The learning rate of the last step, of the first group of parameters."""
        return float(self.optimiser.param_groups[0]["lr"])

    def update(self, step: int, steps: int) -> None:
        """Take an optimiser step at the schedule's rates, and drop the gradients."""
        for group, full_rate in zip(self.optimiser.param_groups, self._full_rates, strict=True):
            group["lr"] = full_rate * self.schedule(step, steps)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0  # optimiser steps done, and so the place in the run's episodes
    validated: int = -1  # step of the last validation
    best_score: float = -math.inf
    best_step: int = -1  # of the validation with the best score
    sums: dict[str, float] = field(default_factory=dict)  # of the losses since the last row of the log
    seconds: float = field(default=0.0, compare=False)  # of running, without interruptions

    def add_step(self, row: Mapping[str, float]) -> None:
        """Count a step with these losses."""
        self.step += 1
        for name, value in row.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def add_validation(self, score: float) -> None:
        """Count a validation of the current weights."""
        self.validated = self.step
        if score > self.best_score:
            self.best_score, self.best_step = score, self.step

    def take_means(self) -> dict[str, float]:
        """The mean losses since the last row of the log; the next row starts from nothing."""
        count = (self.step - 1) % LOG_EVERY + 1
        means = {name: value / count for name, value in self.sums.items()}
        self.sums.clear()
        return means


@dataclass(frozen=True)
class Validation:
    """Scores of the current weights before step 0, every `every` steps, and at the end."""

    scores: Callable[[], dict[str, float]]  # the first one decides which weights are best
    every: int
    patience: int = 0  # validations without a better one after which the run ends; 0: never

    def due(self, progress: Progress, steps: int) -> bool:
        return progress.validated < progress.step and (progress.step % self.every == 0 or progress.step == steps)

    def exhausted(self, progress: Progress) -> bool:
        return 0 < self.patience * self.every <= progress.step - progress.best_step
