"""Evaluations that take long: spread over processes or machines of one kind, interrupted and resumed, with one result.

The unit is a batch of episodes, the same ones in whatever process solves it, with a fixed number of threads, because
sums in another order could round a pixel to the other side. Batch b belongs to shard b mod n. Every process writes the
integer counts of its batches into a file of its own in the run's directory, counts/JOB.shard1of2.json, together with
what was evaluated how, which is compared before anything is added. To that belongs the kind of machine (version of
PyTorch, instructions of the processor or name of the graphics card), for another one rounds in its own way.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from fss_lab import __version__
from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.fingerprint import environment, hash_tensors
from fss_lab.datasets.protocols import benchmark
from fss_lab.episode import Episodes
from fss_lab.errors import InputError, RunError, out_of_memory
from fss_lab.evaluation.scoring import (
    Scores,
    check_shared_encoders,
    identity_episodes,
    identity_models,
    score_batch,
    weights_digest,
)
from fss_lab.files import write_atomically
from fss_lab.method import FSSAM
from fss_lab.metrics import SegmentationScore
from fss_lab.models.provenance import origins

Facts = dict[str, Any]
Batches = dict[int, dict[str, list[list[int]]]]  # by batch and model: the rows of SegmentationScore.counts


@dataclass(frozen=True)
class Job:
    """One list of episodes and the models that solve it, both made anew in every process.

    name: a file name. episodes, models: functions without arguments that can be pickled, such as a
    `functools.partial` of a function of a module. The models share their frozen encoders.
    """

    name: str
    episodes: Callable[[], Episodes]
    models: Callable[[], Mapping[str, FSSAM]]


def grid_jobs(
    folds: Sequence[int],
    shots: Sequence[int],
    seeds: Sequence[int],
    models: Callable[[int], Mapping[str, FSSAM]],
    episodes: Callable[[int, int, int], Episodes],
) -> list[Job]:
    """A job for each fold, number of shots and seed. models: of a fold; episodes: of a fold, shots and a seed; both
    are functions of a module (or a `functools.partial` of one)."""
    return [
        Job(f"fold{fold}_{k}shot_seed{seed}", partial(episodes, fold, k, seed), partial(models, fold))
        for fold in folds
        for k in shots
        for seed in seeds
    ]


def identity_jobs(folds: Sequence[int], seeds: Sequence[int], episodes: int) -> list[Job]:
    """The paper's motivation on Pictograms: `fss_lab.evaluation.scoring.identity_models` on `identity_episodes`."""
    return [
        Job(
            f"{identity}_fold{fold}_seed{seed}",
            partial(identity_episodes, identity, fold, seed, episodes),
            partial(identity_models, identity),
        )
        for fold in folds
        for seed in seeds
        for identity in ("same", "other")
    ]


@dataclass(frozen=True)
class Settings:
    """How a run computes. batch_size and threads (per process) can change the rounding and are part of the result.

    device: of the models. save_every: batches between two writes. cache_bytes: memory of each process for frozen
    features of images seen before, 0 for none; cache_directory: where the processes share them on disk. precision: of
    the frozen encoders, see `FSSAM`; None: as the models have it.
    Raises InputError for numbers below 1 (cache_bytes: below 0), and for a device that torch does not know or lacks.
    """

    batch_size: int = 8
    threads: int = 1
    device: str = "cpu"
    save_every: int = 5
    cache_bytes: int = 0
    cache_directory: Path | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if min(self.batch_size, self.threads, self.save_every) < 1 or self.cache_bytes < 0:
            raise InputError(f"batch_size, threads and save_every must be at least 1, cache_bytes 0, got {self}")
        try:
            kind = torch.device(self.device).type
        except RuntimeError as error:
            raise InputError(f"there is no device {self.device!r}; expected cpu, cuda, cuda:1, ...") from error
        if kind == "cuda" and (torch.device(self.device).index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"torch finds {torch.cuda.device_count()} CUDA devices here, and no {self.device}; choose device "
                '"cpu", or see `fss-lab doctor`'
            )

    def prepared(self, model: FSSAM) -> FSSAM:
        """The same networks with encoders of this precision."""
        if self.precision is not None:
            model = model.variant()
            model.precision = self.precision
        return model

    @property
    def cached(self) -> bool:
        """Whether there is a cache."""
        return bool(self.cache_bytes or self.cache_directory)

    def cache(self) -> FeatureCache | None:
        """A new cache of this size, or None."""
        if self.cached:
            return FeatureCache(self.cache_bytes, self.cache_directory)
        return None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """With `threads` threads, and afterwards with as many as before. Full memory ends it as a RunError that says
        what to do."""
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
    shard: tuple[int, int] | None = None,
    progress: bool = False,
) -> list[Result]:
    """Do the jobs, or what is left of them, and return all results in order.

    directory: of the run, to go on there after an interruption; None: a temporary one. workers: processes; more than
    one are spawned, so a script that asks for them needs its `if __name__ == "__main__":`. shard: (i, n) does only part
    i of n, 1 <= i <= n, e.g. on one of n machines that share the directory; the list returned is empty while other
    parts are missing, and whoever finishes last gets it.
    However the work is spread, the counts are the same. (With a cache a graphics card encodes image by image, which
    rounds in another way; so there counts made with one are not added to counts made without.)

    Raises InputError for a directory that holds counts of another evaluation (other weights, options, episodes, ...),
    a shard outside 1..n, without a directory or with workers, or jobs of the same name; RunError if a worker
    process dies or memory is full.
    """
    settings = settings or Settings()
    if len({job.name for job in jobs}) < len(jobs):
        raise InputError(f"every job needs a name of its own, got {[job.name for job in jobs]}")
    if shard is not None and (workers > 1 or not 1 <= shard[0] <= shard[1]):
        raise InputError(f"shard must be (i, n) with 1 <= i <= n and without workers, got {shard}, {workers} workers")
    if shard is not None and directory is None:
        raise InputError("a shard needs the directory that all shards share, got directory=None")
    with ExitStack() as stack:
        where = Path(directory if directory is not None else stack.enter_context(tempfile.TemporaryDirectory()))
        known = {job.name: facts(job, settings) for job in jobs}
        # also refuses counts of another evaluation before any work is done
        done = {job.name: set(_read(where, job, known[job.name])) for job in jobs}
        plan = _Plan(jobs, where, settings, known, done)
        if workers == 1:
            _work(plan, *(shard or (1, 1)), progress)
        else:
            _spawn(plan, workers, progress)
        results = []
        for job in jobs:
            own = known[job.name]
            batches = _read(where, job, own)
            if len(batches) < _batches(own["episodes"], settings):
                return []
            results.append(Result(job.name, own, _scores(batches, own["models"], own["classes"])))
        return results


def facts(job: Job, settings: Settings) -> Facts:
    """All that decides a job's numbers: episodes and their hash, models and their weights, settings and versions.

    Raises InputError as `check_shared_encoders`.
    """
    episodes, models = job.episodes(), job.models()
    check_shared_encoders(models)
    listed = getattr(episodes, "list", None)
    if listed is not None:
        told = {key: value for key, value in asdict(listed).items() if key != "episodes"}
        names = {str(c): episodes.images.class_name(c) for c in episodes.classes}  # type: ignore[attr-defined]
        data = {**told, "protocol": str(benchmark(listed.protocol)), "list": listed.digest, "class_names": names}
    else:  # a data set that makes its episodes: what it is made from
        kinds = (str, int, float, tuple, type(None))
        made = {key: value for key, value in vars(episodes).items() if isinstance(value, kinds)}
        data = {**made, "protocol": "fresh scenes (each episode has images of its own; IoU at the label's own size; "
                "several shots: fused by the model)", "images": type(episodes).__name__}  # fmt: skip
    weights: dict[tuple[int, int], str] = {}  # variants share their networks
    described = {}
    for name, model in models.items():
        key = (id(model.sam2), id(model.features))
        if key not in weights:
            weights[key] = weights_digest(model)
        described[name] = {"weights": weights[key], **asdict(model.options)}
    first = settings.prepared(next(iter(models.values())))
    kind = torch.device(settings.device).type
    precision = str(first.sam2.mean.dtype).removeprefix("torch.")
    if first.precision != precision:
        precision += f", encoders {first.precision}"
    told_elsewhere = {"torch", "device", "threads"}
    machine = {k: v for k, v in environment(torch.device(settings.device)).items() if k not in told_elsewhere}
    found = {
        **data,
        "classes": episodes.classes,
        "episodes": len(episodes),
        "pixels": _pixels(episodes),
        "models": described,
        "networks": origins(first),
        "batch_size": settings.batch_size,
        "threads": settings.threads,
        "device": kind,  # the card's name is in "machine"
        "precision": precision,
        "chunk": first.chunk or (1 if settings.cached or kind == "cpu" else "batch"),  # as `FSSAM` encodes
        "machine": machine,
        "fss_lab": __version__,
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(found))  # as it will be read back: lists, no tuples


def _pixels(episodes: Episodes, number: int = 2) -> str:
    """Twelve digits of a hash of the first episodes' images and masks: it changes when the same names show others."""
    found: dict[str, torch.Tensor] = {}
    for index in range(min(number, len(episodes))):
        found |= {f"{index} {k}": v for k, v in vars(episodes[index]).items() if isinstance(v, torch.Tensor)}
    return hash_tensors("", found)[:12]


@dataclass(frozen=True)
class _Plan:
    """What is to be done, and by job what it is (facts) and which batches were done before."""

    jobs: Sequence[Job]
    directory: Path
    settings: Settings
    facts: Mapping[str, Facts]
    done: Mapping[str, set[int]]


def _work(plan: _Plan, part: int, parts: int, progress: bool = False) -> None:
    """Do part `part` of `parts` of every job, but for the batches that were done before."""
    settings = plan.settings
    cache = settings.cache()
    with settings.computing():
        for job in plan.jobs:
            own = plan.facts[job.name]
            mine = range(part - 1, _batches(own["episodes"], settings), parts)
            todo = [batch for batch in mine if batch not in plan.done[job.name]]
            if todo:
                path = plan.directory / "counts" / f"{job.name}.shard{part}of{parts}.json"
                _work_on(job, path, settings, own, todo, cache, progress)


def _work_on(
    job: Job,
    path: Path,
    settings: Settings,
    own: Facts,
    todo: Sequence[int],
    cache: FeatureCache | None,
    progress: bool,
) -> None:
    episodes = job.episodes()
    models = {name: settings.prepared(model).to(settings.device) for name, model in job.models().items()}
    new = _read_file(path)["batches"] if path.exists() else {}
    with tqdm(total=len(todo), desc=job.name, unit="batch", disable=None if progress else True) as bar:
        for batch in todo:
            _leave_with_parent()
            first = batch * settings.batch_size
            scores = {name: SegmentationScore(episodes.classes) for name in models}
            indices = range(first, min(first + settings.batch_size, len(episodes)))
            score_batch(models, episodes, indices, scores, cache)
            new[str(batch)] = {name: score.counts.tolist() for name, score in scores.items()}
            if len(new) % settings.save_every == 0 or batch == todo[-1]:
                write_atomically(path, json.dumps({"facts": own, "batches": new}).encode())
            bar.update()


def _leave_with_parent() -> None:
    """End a worker whose run was killed: it would work on, and write beside the run that goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)


def _spawn(plan: _Plan, workers: int, progress: bool) -> None:
    """The same in `workers` processes, which start anew on every platform ("spawn")."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_work, args=(plan, part, workers, progress and part == 1))
        for part in range(1, workers + 1)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:  # after a Ctrl-C too
        for process in processes:
            if process.is_alive():
                process.terminate()
    failed = [f"{i} (exit code {p.exitcode})" for i, p in enumerate(processes, 1) if p.exitcode]
    if failed:
        raise RunError(
            f"of {workers} worker processes these failed: {', '.join(failed)}; their message is above, a negative code "
            "is the signal that ended them (-9: often too little memory, use fewer workers). What was finished is kept "
            "if the run has a directory: start it again to go on"
        )


def _batches(episodes: int, settings: Settings) -> int:
    return -(-episodes // settings.batch_size)


def _read(directory: Path, job: Job, own: Facts) -> Batches:
    """The batches that any process has finished. Raises InputError if they are of another evaluation."""
    done: Batches = {}
    for path in sorted((directory / "counts").glob(f"{job.name}.shard*of*.json")):
        batches = read_checked(path, own, "batches")
        done.update({int(batch): rows for batch, rows in batches.items()})
    return done


def read_checked(path: Path, own: Facts, key: str) -> dict[str, Any]:
    """What a file of an earlier run holds under `key`. Raises InputError if it is damaged or of another evaluation."""
    content = _read_file(path, key)
    changes = _differences(content["facts"], own)
    if changes:
        raise InputError(
            f"{path} holds counts of another evaluation: {'; '.join(changes)}. Choose another directory, or remove "
            "this one to start again"
        )
    return content[key]


def _read_file(path: Path, key: str = "batches") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["facts"], dict) or not isinstance(content[key], dict):
            raise InputError(f"facts and {key} expected")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, its part is then done again") from error
    return content


def _differences(there: Facts, here: Facts) -> list[str]:
    """What two evaluations differ in, in words."""
    if "models" in there and set(there["models"]) != set(here["models"]):
        return [f"models {list(there['models'])}, not {list(here['models'])}"]
    found = [
        f"{key} {there.get(key)!r}, not {value!r}"
        for key, value in here.items()
        if key not in ("models", "networks") and there.get(key) != value  # files may move: their digests count
    ]
    for name, model in here["models"].items():
        other = there["models"][name]
        found += [
            f"{key} of {name!r} {other.get(key)!r}, not {value!r}" for key, value in model.items() if
            other.get(key) != value
        ]  # fmt: skip
    return found


def _scores(batches: Batches, models: Mapping[str, Any], classes: Sequence[int]) -> Scores:
    rows = {name: [row for batch in sorted(batches) for row in batches[batch][name]] for name in models}
    return {name: SegmentationScore(classes, np.array(counts)) for name, counts in rows.items()}
