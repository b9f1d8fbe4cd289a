"""Evaluations that take long: spread over processes, interrupted and resumed, with one result.

The unit is a batch of episodes, the same ones in whatever process solves it, with a fixed number of threads, because
sums in another order could round a pixel to the other side. The integer counts of a job's batches are kept in the run's
directory, counts/JOB.json, together with what was evaluated how, which is compared before anything is added. To that
belongs the kind of machine (version of PyTorch, instructions of the processor or name of the graphics card), for
another one rounds in its own way.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.datasets.folds import FOLDS
from fss_lab.episode import Episodes
from fss_lab.errors import InputError, RunError, out_of_memory
from fss_lab.evaluation.facts import Facts, facts_of, read_checked
from fss_lab.evaluation.options import ComputeOptions
from fss_lab.evaluation.scoring import Scores, score_batch
from fss_lab.evaluation.worlds import Identity
from fss_lab.files import write_atomically
from fss_lab.method import FSSAM
from fss_lab.metrics import SegmentationScore
from fss_lab.models.load import usable_device

Counts = dict[str, list[list[int]]]  # by model: the rows of SegmentationScore.counts
Task = tuple[str, int]  # a job's name and a batch of it


class Source(Hashable, Protocol):
    """What a job needs of a world, see `fss_lab.evaluation.worlds`: plain values that can be pickled and hashed."""

    def models(self, fold: int) -> dict[str, FSSAM]:
        """They share their frozen encoders."""

    def episodes(self, fold: int, shots: int, seed: int) -> Episodes: ...


@dataclass(frozen=True)
class Job:
    """One list of episodes and the models that solve it, as plain values. name: a file name."""

    name: str
    world: Source
    fold: int
    shots: int = 1
    seed: int = 0

    def models(self) -> dict[str, FSSAM]:
        """Loaded once a process for all jobs of the fold, so they must not be changed."""
        return _models(self.world, self.fold)

    def episodes(self) -> Episodes:
        """Made or opened anew."""
        return self.world.episodes(self.fold, self.shots, self.seed)


@lru_cache(maxsize=FOLDS)
def _models(world: Source, fold: int) -> dict[str, FSSAM]:
    return world.models(fold)


def grid_jobs(folds: Sequence[int], shots: Sequence[int], seeds: Sequence[int], world: Source) -> list[Job]:
    """A job for each fold, number of shots and seed."""
    return [Job(f"fold{f}_{k}shot_seed{s}", world, f, k, s) for f in folds for k in shots for s in seeds]


def identity_jobs(folds: Sequence[int], seeds: Sequence[int], episodes: int) -> list[Job]:
    """The paper's motivation on Pictograms, see `Identity`."""
    worlds = {identity: Identity(identity, episodes) for identity in ("same", "other")}
    return [Job(f"{i}_fold{f}_seed{s}", world, f, 1, s) for f in folds for s in seeds for i, world in worlds.items()]


@dataclass(frozen=True, kw_only=True)
class Settings(ComputeOptions):
    """How a run computes, see `ComputeOptions`. save_every: batches between two writes.

    Raises:
        InputError: numbers below 1 (cache_megabytes: below 0), or a device that torch does not know or lacks.
    """

    save_every: int = 5

    def __post_init__(self) -> None:
        if min(self.batch_size, self.threads, self.save_every) < 1 or self.cache_megabytes < 0:
            raise InputError(f"batch_size, threads and save_every must be at least 1, cache_megabytes 0, got {self}")
        usable_device(self.device)

    def prepared(self, model: FSSAM) -> FSSAM:
        """The same networks with encoders of this precision."""
        if self.precision is not None:
            model = model.variant()
            model.precision = self.precision
        return model

    def cache(self) -> FeatureCache | None:
        """A new cache of this size, or None."""
        return FeatureCache(self.cache_megabytes * 10**6, self.cache_directory) if self.cached else None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """With `threads` threads, and afterwards with as many as before.

        Raises:
            RunError: memory is full; it says what to do.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise RunError(
                "there is not enough memory: lower batch_size, the cache or the number of workers. What was finished "
                "is kept if the run has a directory: start it again to go on, or with another batch_size in another "
                f"directory. ({type(error).__name__}: {error})"
            ) from error
        finally:
            torch.set_num_threads(before)


@dataclass(frozen=True)
class Result:
    """What was evaluated how (`facts`) and each model's score."""

    name: str
    facts: Facts
    scores: Scores


def run(
    jobs: Sequence[Job],
    directory: str | Path | None = None,
    settings: Settings | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> list[Result]:
    """Do the jobs, or what is left of them, and return all results in order.

    directory: of the run, to go on there after an interruption; None: nothing is kept. Runs of other jobs may share it
    at the same time. workers: processes; more than one are spawned, so a script that asks for them needs its
    `if __name__ == "__main__":`.
    However the work is spread, the counts are the same. (With a cache a graphics card encodes image by image, which
    rounds in another way; so there counts made with one are not added to counts made without.)

    Raises:
        InputError: a directory that holds counts of another evaluation (other weights, options, episodes, ...), or jobs
            of the same name.
        RunError: a worker process has died, or memory is full.
    """
    settings = settings or Settings()
    if len({job.name for job in jobs}) < len(jobs):
        raise InputError(f"every job needs a name of its own, got {[job.name for job in jobs]}")
    facts = {job.name: facts_of(job.episodes(), job.models(), settings) for job in jobs}
    files = {name: None if directory is None else Path(directory) / "counts" / f"{name}.json" for name in facts}
    # also refuses counts of another evaluation before any work is done
    done = {name: _read(path, facts[name]) for name, path in files.items()}
    numbers = {name: -(-about["episodes"] // settings.batch_size) for name, about in facts.items()}
    tasks = [(name, batch) for name in facts for batch in range(numbers[name]) if batch not in done[name]]
    solved = _solve_here(jobs, settings, tasks) if workers == 1 else _spawn(jobs, settings, tasks, workers)
    with closing(solved), tqdm(total=len(tasks), unit="batch", disable=None if progress else True) as bar:
        for (name, batch), counts in solved:
            done[name][batch] = counts
            complete, path = len(done[name]) == numbers[name], files[name]
            if path is not None and (complete or len(done[name]) % settings.save_every == 0):
                write_atomically(path, json.dumps({"facts": facts[name], "batches": done[name]}).encode())
            bar.set_description(name)
            bar.update()
    return [Result(name, about, _scores(done[name], about)) for name, about in facts.items()]


class _Solver:
    """Solves batches of the jobs; the episodes and models of the last job are kept ready."""

    def __init__(self, jobs: Sequence[Job], settings: Settings) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.settings, self.cache = settings, settings.cache()
        self.ready: tuple[str, Episodes, dict[str, FSSAM]] | None = None

    def __call__(self, task: Task) -> Counts:
        name, batch = task
        if self.ready is None or self.ready[0] != name:
            job, settings = self.jobs[name], self.settings
            models = {key: settings.prepared(model).to(settings.device) for key, model in job.models().items()}
            self.ready = name, job.episodes(), models
        _, episodes, models = self.ready
        first = batch * self.settings.batch_size
        scores = {key: SegmentationScore(episodes.classes) for key in models}
        indices = range(first, min(first + self.settings.batch_size, len(episodes)))
        score_batch(models, episodes, indices, scores, self.cache)
        return {key: score.counts.tolist() for key, score in scores.items()}


def _solve_here(
    jobs: Sequence[Job], settings: Settings, tasks: Iterable[Task]
) -> Generator[tuple[Task, Counts], None, None]:
    solver = _Solver(jobs, settings)
    with settings.computing():
        for task in tasks:
            yield task, solver(task)


def _spawn(
    jobs: Sequence[Job], settings: Settings, tasks: Sequence[Task], workers: int
) -> Generator[tuple[Task, Counts], None, None]:
    """The same in `workers` processes, which start anew on every platform ("spawn"), as the batches are done."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks) or 1), context, _begin_worker, (jobs, settings))
    try:
        futures = {pool.submit(_solve_in_worker, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise RunError(
            f"one of {workers} worker processes has died; if there is no message above, there was probably too little "
            "memory: use fewer workers. What was finished is kept if the run has a directory: start it again to go on"
        ) from error
    finally:  # after a Ctrl-C too, which the workers leave to this process
        pool.shutdown(cancel_futures=True)


_solver: _Solver | None = None  # of a worker process


def _begin_worker(jobs: Sequence[Job], settings: Settings) -> None:
    global _solver
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _solver = _Solver(jobs, settings)


def _leave_with_parent() -> None:
    """End a worker whose run was killed: it would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _solve_in_worker(task: Task) -> Counts:
    assert _solver is not None
    with _solver.settings.computing():
        return _solver(task)


def _read(path: Path | None, facts: Facts) -> dict[int, Counts]:
    """The batches that an earlier run has finished."""
    if path is None or not path.exists():
        return {}
    return {int(batch): counts for batch, counts in read_checked(path, facts, "batches").items()}


def _scores(batches: Mapping[int, Counts], facts: Facts) -> Scores:
    rows = {name: [row for batch in sorted(batches) for row in batches[batch][name]] for name in facts["models"]}
    return {name: SegmentationScore(facts["classes"], np.array(counts)).of_tested() for name, counts in rows.items()}
