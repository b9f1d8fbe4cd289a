"""Tables and files of results, from counts made by hand."""

import csv
import io

import numpy as np
import pytest

from fss_lab.evaluation.jobs import Result
from fss_lab.evaluation.report import as_csv, as_json, by_shots, markdown, write_results
from fss_lab.evaluation.tables import table
from fss_lab.figures.results import attention_figure, results_figure, rounds_figure
from fss_lab.metrics import METRICS, Metric, SegmentationScore
from fss_lab.toyworld.pictograms import CLASS_NAMES

CLASSES = {0: (0, 1), 1: (5, 6)}


def result(fold: int, shots: int = 1, seed: int = 0, hit: int = 50, **facts: object) -> Result:
    """Two classes; each episode has a union of 100 pixels, `hit` of them right."""
    counts = np.array([[c, hit, 100, 40, 150 - hit] for c in CLASSES[fold]])
    told = {
        "protocol": "fssam (rules)", "images": "Pictograms", "split": "novel", "fold": fold, "shots": shots,
        "seed": seed, "episodes": 2, "list": "ab" * 32, "device": "cpu", "precision": "float32", "threads": 1,
        "batch_size": 8, "classes": CLASSES[fold],
        "fss_lab": "1", "torch": "2", "models": {"model": {"weights": "0123456789ab", "rounds": 3}},
    }  # fmt: skip
    scores = {"model": SegmentationScore(CLASSES[fold], counts)}
    return Result(f"fold{fold}_{shots}shot_seed{seed}", {**told, **facts}, scores)


def test_folds_and_seeds_are_pooled_and_also_shown_one_by_one() -> None:
    results = [result(0, hit=50), result(1, hit=30), result(0, seed=7, hit=70), result(1, seed=7, hit=50)]
    (score,) = by_shots(results)[1].values()
    assert len(score) == 8 and score.miou == pytest.approx(0.5)
    lines = markdown(results, "Title").splitlines()
    assert (
        lines[0] == "# Title" and "Protocol fssam (rules). Images: Pictograms; novel classes of folds 0, 1" in lines[2]
    )
    assert "| model   | 60.0   | 40.0   |" in lines  # by fold
    assert "| model   | 40.0   | 60.0   | 50.0 ± 14.1 |" in lines  # by seed
    assert "- fold 1, 1-shot, seed 7: episode list `abababababab`; `0123456789ab` model" in lines


def test_folds_of_photographs_have_other_numbers_of_images() -> None:
    names = "PASCAL-5i val, 364 images", "PASCAL-5i val, 445 images (1 bad file(s) left out)"
    text = markdown([result(0, hit=50, images=names[0]), result(1, hit=30, images=names[1])])
    assert (
        f"Images: {names[0]}; {names[1]}; novel classes of folds 0, 1" in text
        and "| model   | 50.0   | 30.0   |" in text
    )
    with pytest.raises(ValueError, match="results of different images are not comparable"):
        markdown([result(0, images=names[0]), result(1, images="COCO-20i val2014, 364 images")])


def test_shots_have_tables_of_their_own_and_protocols_never_share_one() -> None:
    text = markdown([result(0), result(0, shots=5, hit=90)])
    assert text.index("## 1-shot, protocol fssam") < text.index("| 50.0 [") < text.index("## 5-shot, protocol fssam")
    assert "by fold" not in text and "by episode seed" not in text
    with pytest.raises(ValueError, match="results of different protocol are not comparable"):
        markdown([result(0), result(1, protocol="hsnet (rules)")])
    with pytest.raises(ValueError, match="no results"):
        markdown([])


def test_what_was_not_evaluated_is_a_dash_under_its_own_heading() -> None:
    results = [result(0, hit=50), result(1, hit=30, seed=7)]
    results[1].scores["added"] = results[1].scores["model"]
    lines = markdown(results).splitlines()
    assert lines.count("| added   | –      | 30.0   |") == 1  # by fold
    assert "| added   | –      | 30.0   | –           |" in lines  # by seed: one alone has no deviation


def test_mean_and_deviation_are_rounded_last() -> None:
    hits = ((0, 5004), (1, 5005))  # 50.04 and 50.05
    results = [result(0, seed=seed) for seed, _ in hits]
    for each, (_, hit) in zip(results, hits, strict=True):
        each.scores["model"] = SegmentationScore((0,), np.array([[0, hit, 10000, 80, 100]]))
    assert "| model   | 50.0   | 50.0   | 50.0 ± 0.0 |" in markdown(results)  # of 50.0 and 50.1 it were 50.0 ± 0.1


def test_classes_that_no_episode_shows_are_named() -> None:
    results = [result(0), result(1), result(1, seed=7)]
    results[1].scores["model"] = SegmentationScore((5,), results[1].scores["model"].counts[:1])
    assert "The episodes show only" not in markdown(results)  # seed 7 shows both
    results[2].scores["model"] = SegmentationScore((5,), results[2].scores["model"].counts[:1])
    assert "**The episodes show only 1 of 2 classes of fold 1 (1-shot): mIoU is the mean over" in markdown(results)


def test_the_summary_has_folds_the_whole_and_paired_differences(tmp_path) -> None:
    results = [result(0, hit=50), result(1, hit=30)]
    for one, hit in zip(results, (60, 50), strict=True):
        one.scores["more, of it"] = result(one.facts["fold"], hit=hit).scores["model"]
        one.facts["models"]["more, of it"] = one.facts["models"]["model"]
    write_results(results, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "summary.csv").read_text())))
    values = {(row["fold"], row["variant"], row["over"]): row["miou"] for row in rows}
    assert values == {
        ("0", "model", ""): "0.500000", ("0", "more, of it", ""): "0.600000",
        ("1", "model", ""): "0.300000", ("1", "more, of it", ""): "0.500000",
        ("all", "model", ""): "0.400000", ("all", "more, of it", ""): "0.550000",
        ("all", "more, of it", "model"): "0.150000",
    }  # fmt: skip
    assert {(row["shots"], row["episodes"]) for row in rows} == {("1", "2")}


def test_weights_that_were_given_are_named(tmp_path) -> None:
    write_results([result(0)], tmp_path, files={"fssam": "runs/mine.safetensors"})
    assert "Weights given for fssam: `runs/mine.safetensors`." in (tmp_path / "results.md").read_text()


def test_steps_are_compared_with_the_one_before() -> None:
    results = [result(0, hit=50)]
    for name, hit in (("one", 30), ("two", 70)):
        results[0].scores[name] = result(0, hit=hit).scores["model"]
    text = markdown(results, steps=("one", "not evaluated", "two", "model"))
    assert (
        "points of mIoU on the same episodes:\n\n- two over one: +40.0 [+40.0, +40.0]\n- model over two: -20.0 ["
        in text
    )
    assert "What each step adds" not in markdown(results)


def test_every_line_of_the_csv_stands_for_itself() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([result(1, hit=30)]))))
    assert [(row["metric"], float(row["value"])) for row in rows[:1]] == [("miou", 0.3)]
    assert [row["metric"] for row in rows] == [*METRICS, f"iou {CLASS_NAMES[5]}", f"iou {CLASS_NAMES[6]}"]
    for row in rows:
        assert (
            row["protocol"] == "fssam (rules)"
            and row["weights"] == "0123456789ab"
            and row["options"] == '{"rounds": 3}'
        )
        assert (row["fold"], row["shots"], row["seed"], row["episodes"], row["device"]) == ("1", "1", "0", "2", "cpu")


def test_json_holds_intervals_and_classes() -> None:
    content = as_json(result(0))
    assert content["scores"]["model"]["miou"] == [0.5, 0.5, 0.5]
    assert list(content["scores"]["model"]["iou_per_class"].values()) == [0.5, 0.5] and content["shots"] == 1
    named = as_json(result(0, images="photos", class_names={"0": "cat"}))["scores"]["model"]["iou_per_class"]
    assert list(named) == ["cat", "1"]
    assert list(as_json(result(0, images="LookAlikes"))["scores"]["model"]["iou_per_class"]) == list(CLASS_NAMES[:2])


def test_figures_tell_their_numbers_in_words() -> None:
    scores = {1: {"support": result(0).scores["model"]}, 5: {"support": result(0, hit=90).scores["model"]}}
    assert results_figure(scores, title="Title").alt == "Title; mIoU in percent: support 1-shot 50, support 5-shot 90."
    intervals = {"v1": [(0.3, 0.2, 0.4), (0.4, 0.3, 0.5)]}
    assert "measure by round, from 0: v1: 0.300, 0.400" in rounds_figure(intervals, "Title", "measure").alt
    picture = attention_figure({"off": [(0.2, 0.1, 0.3), (0.2, 0.1, 0.3)]}, "Title")
    assert "off: 20.0, 20.0" in picture.alt and picture.png().startswith(b"\x89PNG")
    for figure in (results_figure, rounds_figure, attention_figure):
        with pytest.raises(ValueError, match="draw"):
            figure({}, title="Title")


def test_table_is_markdown_in_percent() -> None:
    score = SegmentationScore([0], np.array([[0, 50, 100, 80, 100], [0, 50, 100, 80, 100]]))
    lines = table({"half": score}).splitlines()
    assert lines[2].startswith("| half    | 50.0 [50.0, 50.0]") and "65.0 [65.0, 65.0]" in lines[2]
    assert len({line.count("|") for line in lines}) == 1


def test_tables_files_and_figures_follow_the_registry_of_metrics(monkeypatch) -> None:
    foreground = Metric("F-IoU", lambda sums: sums.sum(axis=-2)[..., 0] / sums.sum(axis=-2)[..., 1])
    monkeypatch.setitem(METRICS, "f_iou", foreground)
    scores = result(0, hit=30).scores
    assert "| F-IoU [95 %]      |" in table(scores) and scores["model"].value("f_iou") == 0.3
    assert as_json(result(0, hit=30))["scores"]["model"]["f_iou"] == [0.3, 0.3, 0.3]
    assert "f_iou" in [row["metric"] for row in csv.DictReader(io.StringIO(as_csv([result(0)])))]
    assert results_figure(scores, metric="f_iou").alt == "Scores; F-IoU in percent: model 30."
