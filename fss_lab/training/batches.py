"""The episodes of a run, step by step: the same whatever the number of processes and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from fss_lab.episode import Episode, EpisodeBatch, Episodes, collate
from fss_lab.errors import InputError, RunError
from fss_lab.training.signals import ignore_signals

Numbered = tuple[list[int], EpisodeBatch]  # numbers of the episodes in their data set, and the episodes


class EpisodeBatches:
    """Cuts a data set into steps: step s holds places s B .. s B + B - 1 of an endless list of episodes.

    The list goes through the data set in order, and then again and again in a new order. Every process gets its share
    of a step's batch in `accumulate` parts.

    Args:
        batch_size: B, episodes a step in all processes together.
        rank, processes: which of how many processes this is.
        workers: processes that prepare episodes ahead; the order does not depend on them.

    Raises:
        InputError: the data set is empty, or the batch cannot be divided evenly.
    """

    def __init__(
        self,
        data: Episodes,
        batch_size: int,
        steps: int,
        *,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        if len(data) == 0:
            raise InputError("the data set holds no episode to train on")
        if batch_size % (processes * accumulate):
            raise InputError(
                f"batch_size {batch_size} cannot be divided evenly by {processes} processes x {accumulate} accumulated "
                f"parts; choose a multiple of {processes * accumulate}"
            )
        self.data, self.batch_size, self.steps, self.accumulate = data, batch_size, steps, accumulate
        self.rank, self.processes, self.workers, self.seed = rank, processes, workers, seed
        self._order: tuple[int, np.ndarray] = 0, np.arange(0)  # of one turn round the data set

    def numbers(self, first: int) -> Iterator[list[int]]:
        """Numbers in the data set of this process's parts, from step `first` on."""
        size = self.batch_size // (self.processes * self.accumulate)
        for step in range(first, self.steps):
            for part in range(self.accumulate):
                start = step * self.batch_size + (part * self.processes + self.rank) * size
                yield [self._number(place) for place in range(start, start + size)]

    def __call__(self, first: int) -> Iterator[Numbered]:
        """The parts from step `first` on.

        Raises:
            RunError: an episode cannot be made; the message names it.
        """
        loader: Any = DataLoader(
            _Numbered(self.data),
            batch_sampler=list(self.numbers(first)),
            num_workers=self.workers,
            collate_fn=_collate,
            worker_init_fn=ignore_signals,
        )
        for part in loader:
            if isinstance(part, RunError):
                raise part
            yield part

    def _number(self, place: int) -> int:
        turn, place = divmod(place, len(self.data))
        if turn == 0:
            return place
        if self._order[0] != turn:
            self._order = turn, np.random.default_rng([self.seed, turn]).permutation(len(self.data))
        return int(self._order[1][place])


class _Numbered(Dataset[tuple[int, Episode | RunError]]):
    """The data set, with an error that says which episode failed: as a value, since raised in a worker it would arrive
    with the worker's traceback in its message."""

    def __init__(self, data: Episodes) -> None:
        self.data = data

    def __getitem__(self, number: int) -> tuple[int, Episode | RunError]:
        try:
            return number, self.data[number]
        except Exception as error:  # whatever a data set may raise
            return number, RunError(
                f"episode {number} could not be made: {type(error).__name__}: {error}. The last checkpoint is intact: "
                "repair the data and start the run again to continue it"
            )


def _collate(parts: list[tuple[int, Episode | RunError]]) -> Numbered | RunError:
    numbers, episodes = zip(*parts, strict=True)
    failures = [episode for episode in episodes if isinstance(episode, RunError)]
    return failures[0] if failures else (list(numbers), collate(episodes))
