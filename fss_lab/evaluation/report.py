"""Results of evaluation runs as JSON, CSV, Markdown and a figure; the protocol stands beside every number."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fss_lab.errors import InputError
from fss_lab.evaluation.facts import Facts
from fss_lab.evaluation.jobs import Result
from fss_lab.evaluation.scoring import Scores
from fss_lab.evaluation.tables import difference, grid, table
from fss_lab.figures.results import results_figure
from fss_lab.files import write_atomically
from fss_lab.metrics import METRICS, bootstrap_interval, merge_scores, paired_bootstrap
from fss_lab.toyworld.pictograms import CLASS_NAMES

COLUMNS = (
    "protocol", "images", "fold", "split", "shots", "seed", "episodes", "variant", "metric", "value", "low", "high",
    "weights", "options", "list", "device", "precision", "threads", "batch_size", "fss_lab", "torch",
)  # fmt: skip


def write_results(
    results: Sequence[Result],
    directory: str | Path,
    title: str = "Evaluation",
    steps: Sequence[str] = (),
    files: Mapping[str, str | Path] | None = None,
) -> str:
    """Write results.json, .csv, .md and .png and summary.csv into `directory`; returns the Markdown.

    directory: a FILE.md gets the Markdown alone. steps, files: see `markdown`.
    Nothing in them tells how the run was spread or how long it took: the same evaluation gives the same bytes, if
    `files` are named alike.
    """
    directory = Path(directory)
    text = markdown(results, title, steps, files)
    if directory.suffix == ".md":
        write_atomically(directory, (text + "\n").encode())
        return text
    contents = {
        "results.json": (json.dumps([as_json(result) for result in results], indent=1) + "\n").encode(),
        "results.csv": as_csv(results).encode(),
        "summary.csv": summary(results).encode(),
        "results.md": (text + "\n").encode(),
        "results.png": results_figure(by_shots(results), title=f"{title}, {_brief(results)}").png(),
    }
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return text


def by_shots(results: Sequence[Result]) -> dict[int, Scores]:
    """For each number of shots the score of each variant over all folds and seeds."""
    return {shots: _pooled([r for r in results if r.facts["shots"] == shots]) for shots in _values(results, "shots")}


def markdown(
    results: Sequence[Result],
    title: str = "Evaluation",
    steps: Sequence[str] = (),
    files: Mapping[str, str | Path] | None = None,
) -> str:
    """Tables for each number of shots: all folds, by fold and, with several, by seed; then what was evaluated how.

    steps: variants of which each adds something to the one before (those that were not evaluated are passed over);
    their differences, paired by episode, are listed. files: weights that were given instead of the shipped ones, by
    name.

    Raises:
        InputError: no results, or results of different protocols or images, which must not stand in one table.
    """
    if not results:
        raise InputError("there are no results to write")
    for key in ("protocol", "images", "split"):
        values = _values(results, key)
        if len({_without_count(value) for value in values}) > 1:
            raise InputError(f"results of different {key} are not comparable: {values}")
    lines = [f"# {title}", "", about(results)]
    for shots, scores in by_shots(results).items():
        part = [result for result in results if result.facts["shots"] == shots]
        lines += ["", f"## {shots}-shot, {_brief(results)}", "", table(scores)]
        folds, seeds = _values(part, "fold"), _values(part, "seed")
        if len(folds) > 1:
            heads = ["variant", *(f"fold {fold}" for fold in folds)]
            rows = {name: [_percent(value) for value in values] for name, values in _by(part, "fold", folds).items()}
            lines += ["", "mIoU by fold:", "", *grid(heads, rows)]
        if len(seeds) > 1:
            heads = ["variant", *(f"seed {seed}" for seed in seeds), "mean ± sd"]
            rows = {name: [*map(_percent, values), spread(values)] for name, values in _by(part, "seed", seeds).items()}
            note = "the table above adds up the pixels of all seeds; a seed's mean is over the classes it shows"
            lines += ["", f"mIoU by episode seed ({note}):", "", *grid(heads, rows)]
        added = list(pairwise(name for name in steps if name in scores))
        if added:
            lines += ["", "What each step adds, in points of mIoU on the same episodes:", ""]
        lines += [f"- {better} over {worse}: {difference(scores[better], scores[worse])}" for worse, better in added]
    return "\n".join([*lines, "", "## What was evaluated", "", *_provenance(results, files or {})])


def about(results: Sequence[Result]) -> str:
    """One paragraph: protocol, images, folds, shots, seeds, episodes, machine-independent settings."""
    facts = results[0].facts
    listed = {key: ", ".join(map(str, _values(results, key))) for key in ("fold", "shots", "seed", "episodes")}
    images = "; ".join(_values(results, "images"))
    return (
        f"Protocol {facts['protocol']}. Images: {images}; {facts['split']} classes of folds {listed['fold']}; "
        f"shots: {listed['shots']}; episode seeds: {listed['seed']}; episodes for each of these: {listed['episodes']}. "
        f"{facts['device']}, {facts['precision']}, batches of {facts['batch_size']}, {facts['threads']} thread(s) per "
        "process. Pixels of 255 left out; mIoU: intersections and unions summed by class, mean over classes; brackets: "
        "95 % bootstrap intervals over episodes within each class; folds and seeds are pooled." + _gaps(results)
    )


def _gaps(results: Sequence[Result]) -> str:
    """A sentence about classes that no episode of any seed shows, if there are some: they have no score."""
    gaps = []
    for fold, shots in dict.fromkeys((result.facts["fold"], result.facts["shots"]) for result in results):
        part = [r for r in results if (r.facts["fold"], r.facts["shots"]) == (fold, shots)]
        tested, classes = next(iter(_pooled(part).values())).class_ids, part[0].facts["classes"]
        if len(tested) < len(classes):
            gaps.append(f"{len(tested)} of {len(classes)} classes of fold {fold} ({shots}-shot)")
    if not gaps:
        return ""
    return f" **The episodes show only {', '.join(gaps)}: mIoU is the mean over these. Draw more episodes.**"


def as_json(result: Result) -> dict[str, Any]:
    """A result's facts and scores (fractions in 0..1, intervals as estimate, low, high) as plain lists and dicts."""
    scores = {
        name: {
            **{metric: list(bootstrap_interval(score, metric)) for metric in METRICS},
            "iou_per_class": {_class_name(result.facts, c): iou for c, iou in score.iou_per_class.items()},
        }
        for name, score in result.scores.items()
    }
    return {"name": result.name, **result.facts, "scores": scores}


def as_csv(results: Sequence[Result]) -> str:
    """One line for each number, in fractions, with all that is needed to know what it means (`COLUMNS`)."""
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for result in results:
        for name, score in result.scores.items():
            options = dict(result.facts["models"][name])
            row = {**result.facts, "variant": name, "weights": options.pop("weights"), "options": json.dumps(options)}
            for metric in METRICS:
                value, low, high = bootstrap_interval(score, metric)
                writer.writerow({**row, "metric": metric, "value": value, "low": low, "high": high})
            for class_id, iou in score.iou_per_class.items():
                writer.writerow({**row, "metric": f"iou {_class_name(result.facts, class_id)}", "value": iou})
    return file.getvalue()


def summary(results: Sequence[Result]) -> str:
    """mIoU of every variant for each number of shots, by fold and over "all", and for all folds the difference to the
    variant before it (`over`) on the same episodes: CSV of fractions with 95 % intervals. episodes: of a fold and seed.

    `figures.results.shipped_results` reads that of the shipped weights, fss_lab/weights/results.csv.
    """
    lines = ["shots,fold,episodes,variant,over,miou,low,high"]
    for shots, pooled in by_shots(results).items():
        part = [result for result in results if result.facts["shots"] == shots]
        folds = {fold: _pooled([r for r in part if r.facts["fold"] == fold]) for fold in _values(part, "fold")}
        rows = [(fold, name, "", bootstrap_interval(s)) for fold, scores in folds.items() for name, s in scores.items()]
        rows += [("all", name, "", bootstrap_interval(score)) for name, score in pooled.items()]
        pairs = [(other, one) for other, one in pairwise(pooled) if len(pooled[one]) == len(pooled[other])]
        rows += [("all", one, other, paired_bootstrap(pooled[one], pooled[other])) for other, one in pairs]
        for fold, name, over, interval in rows:
            numbers = ",".join(f"{value:.6f}" for value in interval)
            lines.append(f'{shots},{fold},{part[0].facts["episodes"]},"{name}","{over}",{numbers}')
    return "\n".join(lines) + "\n"


def _provenance(results: Sequence[Result], files: Mapping[str, str | Path]) -> list[str]:
    facts = results[0].facts
    given = "".join(f" Weights given for {name}: `{path}`." for name, path in files.items())
    versions = f"fss_lab {facts['fss_lab']}, torch {facts['torch']}."
    lines = [f"{versions}{given} Weights as the first digits of their SHA-256:", ""]
    for result in results:
        weights: dict[str, list[str]] = {}
        for name, model in result.facts["models"].items():
            weights.setdefault(model["weights"], []).append(name)
        digests = "; ".join(f"`{digest}` {', '.join(names)}" for digest, names in weights.items())
        episodes = f"episode list `{result.facts['list'][:12]}`" if "list" in result.facts else "fresh episodes"
        which = f"fold {result.facts['fold']}, {result.facts['shots']}-shot, seed {result.facts['seed']}"
        lines.append(f"- {which}: {episodes}; {digests}")
    return lines


def _by(results: Sequence[Result], key: str, values: Sequence[Any]) -> dict[str, list[float | None]]:
    """mIoU in percent of every variant for each value of a fact; None where it was not evaluated."""
    columns = [_pooled([r for r in results if r.facts[key] == value]) for value in values]
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [100 * column[name].miou if name in column else None for column in columns] for name in names}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation of those that there are."""
    known = [value for value in values if value is not None]
    return f"{mean(known):.1f} ± {stdev(known):.1f}" if len(known) > 1 else "–"


def _pooled(results: Sequence[Result]) -> Scores:
    names = dict.fromkeys(name for result in results for name in result.scores)
    return {name: merge_scores(r.scores[name] for r in results if name in r.scores) for name in names}


def _values(results: Sequence[Result], key: str) -> list[Any]:
    return list(dict.fromkeys(result.facts[key] for result in results))


def _without_count(text: str) -> str:
    """The name of a data set without how many of its images the fold has, see `LabelledPhotos.name`."""
    return re.sub(r", \d+ images.*", "", text)


def _brief(results: Sequence[Result]) -> str:
    return f"protocol {results[0].facts['protocol'].split(' (')[0]}"


def _class_name(facts: Facts, class_id: int) -> str:
    if "class_names" not in facts:  # of photographs they stand in the facts
        return CLASS_NAMES[class_id]
    return facts["class_names"].get(str(class_id), str(class_id))
