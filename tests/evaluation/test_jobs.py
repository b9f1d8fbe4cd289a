"""Spread, interrupted and resumed evaluations give the result of an uninterrupted one."""

import json
import os
import tempfile
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_images import Threshold, TinyImages
from hypothesis import given, settings
from hypothesis import strategies as st

from fss_lab import load_model
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.errors import RunError
from fss_lab.evaluation import jobs as jobs_module
from fss_lab.evaluation.jobs import Job, Settings, facts, grid_jobs, run
from fss_lab.evaluation.report import write_results
from fss_lab.toyworld.pictograms import Pictograms

SETTINGS = Settings(batch_size=2, save_every=1)


class Brighter(TinyImages):
    """The same names, other pixels."""

    def image(self, name: str) -> torch.Tensor:
        return super().image(name) + 1


def tiny_episodes(fold: int, shots: int, seed: int, count: int = 9, images: type = TinyImages) -> ListedEpisodes:
    images = images()
    return ListedEpisodes(draw_episodes(BENCHMARKS["fssam"], images, shots, count, seed), images)


def tiny_models(fold: int, level: float = 0.0, crash: str = "") -> dict[str, torch.nn.Module]:
    """crash: a file; while it is not there, a process creates it at its second batch and dies."""
    return {"plain": Crashing(level, crash), "high": Threshold(2.0, rounds=1)}


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


def tiny_jobs(count: int = 9, images: type = TinyImages, **models: object) -> list[Job]:
    episodes = partial(tiny_episodes, count=count, images=images)
    return grid_jobs([1], [1], [5, 6], partial(tiny_models, **models), episodes)


def counts(results) -> dict:
    return {(r.name, name): score.counts.tolist() for r in results for name, score in r.scores.items()}


@cache
def once() -> dict:
    """What one process counts without interruption."""
    return counts(run(tiny_jobs(), settings=SETTINGS))


def test_one_process_counts_every_episode_in_order() -> None:
    assert {key[0] for key in once()} == {"fold1_1shot_seed5", "fold1_1shot_seed6"}
    drawn = tiny_episodes(1, 1, 5).list.episodes
    rows = once()["fold1_1shot_seed5", "plain"]
    assert [row[0] for row in rows] == [e.class_id for e in drawn]
    assert all(row[1] + row[4] == 30 for row in rows)  # 36 pixels, 6 of them ignored
    assert len({tuple(row[1:]) for row in rows}) > 1


@settings(max_examples=15)
@given(data=st.data(), parts=st.integers(1, 5))
def test_shards_in_any_order_and_number_give_the_same_counts(data: st.DataObject, parts: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        order = data.draw(st.permutations(range(1, parts + 1)))
        for part in order[:-1]:
            assert run(tiny_jobs(), directory, SETTINGS, shard=(part, parts)) == []
        assert counts(run(tiny_jobs(), directory, SETTINGS, shard=(order[-1], parts))) == once()
        # whoever asks later, however the rest would be split, only reads
        assert counts(run(tiny_jobs(), directory, SETTINGS)) == once()


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
    for name in ("results.json", "results.csv", "results.md", "results.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def toy() -> dict[str, torch.nn.Module]:
    return {"": load_model("toy", fold=1)}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("jobs", "how"),
    [
        (tiny_jobs(), SETTINGS),
        ([Job("toy", partial(Pictograms, 1, episodes=3, size=64), toy)], Settings(batch_size=1, save_every=1)),
    ],
    ids=["tiny", "toy"],
)
def test_workers_share_the_batches_and_count_the_same(tmp_path, jobs: list[Job], how: Settings) -> None:
    together = run(jobs, tmp_path, how, workers=2)
    for job in jobs:
        number = -(-together[0].facts["episodes"] // how.batch_size)
        for part in (1, 2):
            content = json.loads((tmp_path / "counts" / f"{job.name}.shard{part}of2.json").read_text())
            assert list(map(int, content["batches"])) == list(range(part - 1, number, 2)) != []
    alone = counts(run(jobs, settings=how))
    assert counts(together) == alone
    assert all(len({tuple(row) for row in rows}) > 1 for rows in alone.values())


@pytest.mark.processes
def test_workers_that_die_lose_little_and_the_next_run_goes_on(tmp_path) -> None:
    jobs = tiny_jobs(crash=str(tmp_path / "crashed"))
    with pytest.raises(RunError, match=r"of 2 worker processes these failed: [12] \(exit code 7\)"):
        run(jobs, tmp_path, SETTINGS, workers=2)
    assert list((tmp_path / "counts").glob("*.json"))
    assert counts(run(jobs, tmp_path, SETTINGS)) == once()


def test_a_worker_whose_run_was_killed_does_not_work_on(tmp_path, monkeypatch) -> None:
    killed = SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr("multiprocessing.parent_process", lambda: killed)
    with pytest.raises(SystemExit):
        run(tiny_jobs(), tmp_path, SETTINGS)
    assert not list(tmp_path.rglob("*.json"))


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
    monkeypatch.setattr(jobs_module, "environment", lambda device: {"capability": "abacus"})
    with pytest.raises(ValueError, match="machine {.*}, not {'capability': 'abacus'}"):
        run(tiny_jobs(), tmp_path, SETTINGS)


def test_other_models_and_damaged_counts_are_refused(tmp_path) -> None:
    run(tiny_jobs(), tmp_path, SETTINGS)
    other = [Job(job.name, job.episodes, partial(only, job.models)) for job in tiny_jobs()]
    with pytest.raises(ValueError, match=r"models \['plain', 'high'\], not \['plain'\]"):
        run(other, tmp_path, SETTINGS)
    path = next((tmp_path / "counts").glob("*seed5*"))
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match="is damaged .* remove it"):
        run(tiny_jobs(), tmp_path, SETTINGS)
    path.unlink()
    assert counts(run(tiny_jobs(), tmp_path, SETTINGS)) == once()


def only(models):
    return {"plain": models()["plain"]}


def test_full_memory_says_what_to_lower(monkeypatch) -> None:
    def full(*arguments) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(jobs_module, "score_batch", full)
    with pytest.raises(RunError, match="not enough memory: lower batch_size, the cache or the number of workers"):
        run(tiny_jobs(), settings=SETTINGS)


def test_the_precision_of_the_encoders_may_be_chosen() -> None:
    job = Job("toy", partial(Pictograms, 1, episodes=1), toy)
    lower, usual = (run([job], settings=Settings(precision=precision)) for precision in ("bfloat16", None))
    assert lower[0].facts["precision"] == "float32, encoders bfloat16" and usual[0].facts["precision"] == "float32"
    assert counts(lower) != counts(usual) and lower[0].facts["models"] == usual[0].facts["models"]


def test_bad_arguments_say_what_was_expected(monkeypatch) -> None:
    for shard in ((0, 2), (3, 2)):
        with pytest.raises(ValueError, match="shard must be"):
            run(tiny_jobs(), settings=SETTINGS, shard=shard)
    with pytest.raises(ValueError, match="a shard needs the directory that all shards share"):
        run(tiny_jobs(), settings=SETTINGS, shard=(1, 2))
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
    assert Settings(device="cuda").device == "cuda"
    with pytest.raises(ValueError, match="finds 1 CUDA devices here, and no cuda:1; choose"):
        Settings(device="cuda:1")


def test_facts_tell_all_that_decides_the_numbers() -> None:
    told = facts(tiny_jobs()[0], SETTINGS)
    assert told["list"] == tiny_episodes(1, 1, 5).list.digest and told["protocol"].startswith("fssam (")
    assert (
        told["models"]["high"]["rounds"] == 1
        and told["models"]["plain"]["weights"] != told["models"]["high"]["weights"]
    )
    chosen = {
        "images": "tiny",
        "chunk": 1,
        "fold": 1,
        "shots": 1,
        "seed": 5,
        "episodes": 9,
        "device": "cpu",
        "precision": "float32",
    }
    assert chosen.items() <= told.items()
    assert json.loads(json.dumps(told)) == told


def test_threads_are_set_for_the_run_and_put_back(monkeypatch) -> None:
    seen, before = [], torch.get_num_threads()
    real = jobs_module.score_batch

    def spy(*arguments: object) -> None:
        seen.append(torch.get_num_threads())
        real(*arguments)

    monkeypatch.setattr(jobs_module, "score_batch", spy)
    run(tiny_jobs()[:1], settings=Settings(threads=2))
    assert set(seen) == {2} and torch.get_num_threads() == before
