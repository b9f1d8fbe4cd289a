"""`fss-lab evaluate`: its files, its text, and what it refuses."""

import csv
import json
import re

import pytest
from helpers.tiny_images import Threshold, TinyImages

from fss_lab.cli import commands as cli
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.errors import RunError
from fss_lab.evaluation import jobs
from fss_lab.evaluation.variants import FULL, PRIOR_ALONE, STEPS
from fss_lab.evaluation.worlds import ToyWorld
from fss_lab.metrics import METRICS


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command on tiny images, with stand-ins for the toy's variants."""

    def models(world, fold):
        return {name: Threshold(level) for name, level in zip(STEPS, (4.0, 3.0, 2.0, 1.0, 0.0), strict=True)}

    def episodes(world, fold, shots, seed):
        source, protocol = TinyImages(), BENCHMARKS[world.protocol or "fssam"]
        return ListedEpisodes(draw_episodes(protocol, source, shots, world.number, seed), source)

    monkeypatch.setattr(ToyWorld, "models", models)
    monkeypatch.setattr(ToyWorld, "episodes", episodes)


def test_evaluate_writes_all_results_into_a_directory_or_the_text_into_a_file(tiny, tmp_path, capsys) -> None:
    command = ["evaluate", "--protocol", "hsnet", "--images", "12", "--folds", "1", "--episodes", "9", "--output"]
    assert cli.main([*command, str(tmp_path / "all")]) == 0
    text = (tmp_path / "all" / "results.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out and "Protocol hsnet (queries: (image, class) pairs in order" in text
    assert (
        "What each step adds, in points of mIoU on the same episodes:\n\n"
        f"- {PRIOR_ALONE} over support memory, fine-tuned: " in text
    )
    assert f"- {FULL} over PPG + IMR: " in text
    (content,) = json.loads((tmp_path / "all" / "results.json").read_text())
    assert (content["shots"], content["seed"], content["fold"], len(content["list"])) == (1, 0, 1, 64)
    assert 0 < content["scores"][FULL]["miou"][0] <= 1
    with (tmp_path / "all" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(row["protocol"].startswith("hsnet") and len(row["weights"]) == 12 and row["list"] for row in rows)
    assert {row["metric"] for row in rows} == {*METRICS, "iou cat", "iou dog", "iou cow"}
    assert (tmp_path / "all" / "results.png").exists()

    assert cli.main([*command, str(tmp_path / "new" / "report.md")]) == 0
    assert (tmp_path / "new" / "report.md").read_text(encoding="utf-8") == text == capsys.readouterr().out
    assert cli.main(command[:-1]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("how", [[], ["--identity"], ["--output", "report.md"], ["--output", "directory"]])
def test_no_way_of_evaluating_ignores_how_to_compute(how: list[str], tmp_path, monkeypatch) -> None:
    seen = {}
    monkeypatch.chdir(tmp_path)

    def stopped(jobs, directory, settings, **rest):
        seen.update(rest, jobs=jobs, how=settings)
        raise RunError("seen")

    monkeypatch.setattr(jobs, "run", stopped)
    given = "--device meta --threads 3 --cache 7 --cache-directory kept --workers 4 --seeds 8 9 --folds 2 --episodes 5"
    assert cli.main(["evaluate", *how, *given.split()]) == 1
    settings = seen["how"]
    assert (settings.device, settings.threads, settings.cache_megabytes) == ("meta", 3, 7)
    assert str(settings.cache_directory) == "kept" and seen["workers"] == 4
    identities = ["same", "other"] if "--identity" in how else ["other"]
    made = [job.episodes() for job in seen["jobs"]]
    wanted = [(2, seed, 5, identity) for seed in (8, 9) for identity in identities]
    assert [(e.fold, e.seed, len(e), e.identity) for e in made] == wanted


def test_identity_on_the_toy(tmp_path, capsys) -> None:
    report = tmp_path / "report.md"
    assert cli.main(["evaluate", "--folds", "1", "--episodes", "2", "--identity", "--output", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    assert "| memory shows the same identity " in text and "| memory shows another identity " in text
    assert "What each step adds" not in text and text == capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--protocol", "pfenet"], ["--workers", "0"], ["--seed", "-1"], ["--cache", "-1"]])
def test_wrong_options_are_refused(wrong: list[str], capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", *wrong])
    assert wrong[1] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--identity", "--protocol", "fssam"], "--identity goes without"),
        (["--identity", "--shots", "5"], "--identity goes without"),
        (["--identity", "--weights", "a.safetensors"], "--identity goes without"),
        (["--images", "9"], "--images needs --protocol"),
        (["--folds", "4"], "fold must be one of 0, 1, 2, 3, got 4"),
        (["--folds", "folds.yaml"], "--folds takes one file, of --dataset folder"),
        (["--dataset", "pascal", "--folds", "folds.yaml"], "pascal has folds of its own"),
        (["--dataset", "folder"], "--dataset folder needs --data-root"),
        (["--weights", "a.safetensors", "fssam=b.safetensors"], "one file for each name .* got fssam, fssam"),
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: list[str], message: str, capsys) -> None:
    assert cli.main(["evaluate", "--episodes", "1", *wrong]) == 1
    assert re.search(f"fss-lab evaluate: error: .*{message}", capsys.readouterr().err)
