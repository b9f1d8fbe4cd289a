"""Spread, interrupted and resumed evaluations give the result of an uninterrupted one."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers.tiny_images import Threshold, TinyImages

from fss_lab import load_model
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.errors import RunError
from fss_lab.evaluation import facts as facts_module
from fss_lab.evaluation import jobs as jobs_module
from fss_lab.evaluation.facts import facts_of
from fss_lab.evaluation.jobs import Job, Settings, grid_jobs, run
from fss_lab.evaluation.report import write_results
from fss_lab.toyworld.pictograms import Pictograms

SETTINGS = Settings(batch_size=2, save_every=1)


class Brighter(TinyImages):
    """The same names, other pixels."""

    def image(self, name: str) -> torch.Tensor:
        return super().image(name) + 1


def tiny_episodes(shots: int, seed: int, count: int = 9, images: type = TinyImages) -> ListedEpisodes:
    images = images()
    return ListedEpisodes(draw_episodes(BENCHMARKS["fssam"], images, shots, count, seed), images)


@dataclass(frozen=True, eq=False)
class TinyWorld:
    """crash: a file; while it is not there, a process creates it at its second batch and dies."""

    count: int = 9
    images: type = TinyImages
    level: float = 0.0
    crash: str = ""
    names: tuple[str, ...] = ("plain", "high")

    def models(self, fold: int) -> dict[str, torch.nn.Module]:
        models = {"plain": Crashing(self.level, self.crash), "high": Threshold(2.0, rounds=1)}
        return {name: models[name] for name in self.names}

    def episodes(self, fold: int, shots: int, seed: int) -> ListedEpisodes:
        return tiny_episodes(shots, seed, self.count, self.images)


@dataclass(frozen=True)
class SmallToy:
    """A few scenes, solved by the toy model."""

    number: int = 3
    size: int = 64

    def models(self, fold: int) -> dict[str, torch.nn.Module]:
        return {"": load_model("toy", fold=fold)}

    def episodes(self, fold: int, shots: int, seed: int) -> Pictograms:
        return Pictograms(fold, episodes=self.number, size=self.size)


class Crashing(Threshold):
    def __init__(self, level: float, crash: str) -> None:
        super().__init__(level)
        self.crash, self.batches = crash, 0

    def predict(self, encoded):
        self.batches += 1
        if self.crash and self.batches == 2 and not os.path.exists(self.crash):
            Path(self.crash).touch()
            os._exit(7)
        return super().predict(encoded)


def tiny_jobs(**changes: object) -> list[Job]:
    return grid_jobs([1], [1], [5, 6], TinyWorld(**changes))


def counts(results) -> dict:
    return {(r.name, name): score.counts.tolist() for r in results for name, score in r.scores.items()}


@cache
def once() -> dict:
    """What one process counts without interruption."""
    return counts(run(tiny_jobs(), settings=SETTINGS))


def test_one_process_counts_every_episode_in_order() -> None:
    assert {key[0] for key in once()} == {"fold1_1shot_seed5", "fold1_1shot_seed6"}
    drawn = tiny_episodes(1, 5).list.episodes
    rows = once()["fold1_1shot_seed5", "plain"]
    assert [row[0] for row in rows] == [e.class_id for e in drawn]
    assert all(row[1] + row[4] == 30 for row in rows)  # 36 pixels, 6 of them ignored
    assert len({tuple(row[1:]) for row in rows}) > 1


def test_what_is_there_is_read_and_not_done_again(tmp_path, monkeypatch) -> None:
    assert counts(run(tiny_jobs(), tmp_path, SETTINGS)) == once()
    path = tmp_path / "counts" / "fold1_1shot_seed6.json"
    content = json.loads(path.read_text())
    assert list(map(int, content["batches"])) == list(range(5))
    del content["batches"]["2"]
    path.write_text(json.dumps(content))
    batches, score = [], jobs_module.score_batch
    monkeypatch.setattr(jobs_module, "score_batch", lambda *a: batches.append(list(a[2])) or score(*a))
    assert counts(run(tiny_jobs(), tmp_path, SETTINGS)) == once()
    assert batches == [[4, 5]]


def test_the_models_of_a_fold_are_made_once_for_all_its_jobs(monkeypatch) -> None:
    folds, models = [], TinyWorld.models
    monkeypatch.setattr(TinyWorld, "models", lambda world, fold: folds.append(fold) or models(world, fold))
    run(grid_jobs([0, 1], [1], [5, 6], TinyWorld()), settings=SETTINGS)
    assert folds == [0, 1]


@pytest.mark.parametrize("stop", [1, 3, 4, 8])
def test_a_run_resumed_after_an_interruption_equals_an_uninterrupted_one(tmp_path, monkeypatch, stop: int) -> None:
    calls = []

    def interrupted(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        real(*arguments)

    real = jobs_module.score_batch
    monkeypatch.setattr(jobs_module, "score_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_jobs(), tmp_path / "a", SETTINGS)
    resumed = run(tiny_jobs(), tmp_path / "a", SETTINGS)
    assert len(calls) == 2 * 5 + 1  # two jobs of five batches; only the interrupted one was begun twice
    write_results(resumed, tmp_path / "a")
    write_results(run(tiny_jobs(), tmp_path / "b", SETTINGS), tmp_path / "b")
    for name in ("results.json", "results.csv", "results.md", "results.png", "summary.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("jobs", "how"),
    [(tiny_jobs(), SETTINGS), ([Job("toy", SmallToy(), 1)], Settings(batch_size=1, save_every=1))],
    ids=["tiny", "toy"],
)
def test_workers_share_the_batches_and_count_the_same(tmp_path, jobs: list[Job], how: Settings) -> None:
    together = run(jobs, tmp_path, how, workers=2)
    alone = counts(run(jobs, settings=how))
    assert counts(together) == alone == counts(run(jobs, tmp_path, how))
    assert all(len({tuple(row) for row in rows}) > 1 for rows in alone.values())


@pytest.mark.processes
def test_workers_that_die_lose_little_and_the_next_run_goes_on(tmp_path) -> None:
    jobs = tiny_jobs(crash=str(tmp_path / "crashed"))
    with pytest.raises(RunError, match="one of 2 worker processes has died"):
        run(jobs, tmp_path, SETTINGS, workers=2)
    assert list((tmp_path / "counts").glob("*.json"))
    assert counts(run(jobs, tmp_path, SETTINGS)) == once()


PARENT = """
import multiprocessing, os, time
from fss_lab.evaluation import jobs

def work():
    jobs._begin_worker([], jobs.Settings())
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""


@pytest.mark.processes
def test_a_worker_whose_run_was_killed_ends(tmp_path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert int(parent.stdout.readline()) != parent.pid
    parent.kill()
    assert parent.communicate(timeout=60)[0] == ""  # the worker has closed the pipe


@pytest.mark.parametrize(
    ("jobs", "how", "message"),
    [
        (tiny_jobs(level=1.0), SETTINGS, "weights of 'plain' '[0-9a-f]{12}', not '[0-9a-f]{12}'"),
        (tiny_jobs(count=8), SETTINGS, "list '[0-9a-f]{64}', not '[0-9a-f]{64}'; episodes 9, not 8"),
        (tiny_jobs(images=Brighter), SETTINGS, "pixels '[0-9a-f]{12}', not '[0-9a-f]{12}'\\. Choose"),
        (tiny_jobs(), Settings(batch_size=3), "batch_size 2, not 3"),
        (tiny_jobs(), Settings(batch_size=2, threads=2), "threads 1, not 2"),
    ],
)
def test_counts_of_another_evaluation_are_refused(tmp_path, jobs, how, message: str) -> None:
    run(tiny_jobs(), tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=f"holds counts of another evaluation: .*{message}"):
        run(jobs, tmp_path, how)


def test_counts_of_another_kind_of_machine_are_refused(tmp_path, monkeypatch) -> None:
    run(tiny_jobs(), tmp_path, SETTINGS)
    monkeypatch.setattr(facts_module, "environment", lambda device: {"capability": "abacus"})
    with pytest.raises(ValueError, match="machine {.*}, not {'capability': 'abacus'}"):
        run(tiny_jobs(), tmp_path, SETTINGS)


def test_other_models_and_damaged_counts_are_refused(tmp_path) -> None:
    run(tiny_jobs(), tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"models \['plain', 'high'\], not \['plain'\]"):
        run(tiny_jobs(names=("plain",)), tmp_path, SETTINGS)
    path = next((tmp_path / "counts").glob("*seed5*"))
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match="is damaged .* remove it"):
        run(tiny_jobs(), tmp_path, SETTINGS)
    path.unlink()
    assert counts(run(tiny_jobs(), tmp_path, SETTINGS)) == once()


def test_full_memory_says_what_to_lower(monkeypatch) -> None:
    def full(*arguments) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(jobs_module, "score_batch", full)
    with pytest.raises(RunError, match="not enough memory: lower batch_size, the cache or the number of workers"):
        run(tiny_jobs(), settings=SETTINGS)


def test_the_precision_of_the_encoders_may_be_chosen() -> None:
    job = Job("toy", SmallToy(1, 256), 1)
    lower, usual = (run([job], settings=Settings(precision=precision)) for precision in ("bfloat16", None))
    assert lower[0].facts["precision"] == "float32, encoders bfloat16" and usual[0].facts["precision"] == "float32"
    assert counts(lower) != counts(usual) and lower[0].facts["models"] == usual[0].facts["models"]


def test_bad_arguments_say_what_was_expected(monkeypatch) -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        run([*tiny_jobs(), *tiny_jobs()], settings=SETTINGS)
    with pytest.raises(ValueError, match="must be at least 1"):
        Settings(threads=0)
    with pytest.raises(ValueError, match="there is no device 'gpu'; expected cpu, cuda"):
        Settings(device="gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="finds 0 CUDA devices here, and no cuda; choose"):
        Settings(device="cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="finds 1 CUDA devices here, and no cuda:1; choose"):
        Settings(device="cuda:1")
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, device: empty(*size, device="meta"))
    assert Settings(device="cuda").device == "cuda"
    monkeypatch.undo()
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match=r"torch cannot use the device mps here \(.+\); choose device"):
            Settings(device="mps")


def test_facts_tell_all_that_decides_the_numbers() -> None:
    job = tiny_jobs()[0]
    facts = facts_of(job.episodes(), job.models(), SETTINGS)
    assert facts["list"] == tiny_episodes(1, 5).list.digest and facts["protocol"].startswith("fssam (")
    models = facts["models"]
    assert models["high"]["rounds"] == 1 and models["plain"]["weights"] != models["high"]["weights"]
    chosen = {
        "images": "tiny", "chunk": 1, "fold": 1, "shots": 1, "seed": 5, "episodes": 9, "device": "cpu",
        "precision": "float32",
    }  # fmt: skip
    assert chosen.items() <= facts.items()
    assert json.loads(json.dumps(facts)) == facts


def test_threads_are_set_for_the_run_and_put_back(monkeypatch) -> None:
    seen, before = [], torch.get_num_threads()
    real = jobs_module.score_batch

    def spy(*arguments: object) -> None:
        seen.append(torch.get_num_threads())
        real(*arguments)

    monkeypatch.setattr(jobs_module, "score_batch", spy)
    run(tiny_jobs()[:1], settings=Settings(threads=2))
    assert set(seen) == {2} and torch.get_num_threads() == before
