"""Ablations: every part and variant of FSSAM on the same episodes, in tables by group, with what IMR and SCMA do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fss_lab.episode import Subset
from fss_lab.errors import InputError
from fss_lab.evaluation.facts import read_checked
from fss_lab.evaluation.jobs import Job, Result, Settings, run
from fss_lab.evaluation.measurement import BACKGROUND, FITS, Measurement, measure_each, summarise
from fss_lab.evaluation.report import about, by_shots, write_results
from fss_lab.evaluation.tables import fraction, grid, percent, table
from fss_lab.evaluation.variants import ADDED, FULL, GROUPS, settled
from fss_lab.figures.results import attention_figure, rounds_figure
from fss_lab.files import write_atomically
from fss_lab.method.options import Options
from fss_lab.metrics import paired_bootstrap

FIT_NAMES = {"soft": "Soft IoU of the prior", "cut": "IoU of the prior cut at ½"}


def ablate(
    jobs: Sequence[Job],
    directory: str | Path,
    settings: Settings | None = None,
    *,
    measured: int | None = None,
    workers: int = 1,
    progress: bool = False,
    files: Mapping[str, str | Path] | None = None,
) -> str:
    """Run jobs of worlds with the variants `suite`, measure, and write all to `directory`; goes on with what is there.

    measured: episodes of each job for `measure_each`, from the first on; None: all, 0: none (nor of several shots
    under the protocol hsnet, where a vote answers and not the model that would be measured). It runs in this process,
    computes as `settings` say, and goes on job by job.
    files: weights that were given instead of the shipped ones, as `markdown` takes them.
    Files written: results.{json,csv,md,png}; ablation.{json,md}, the tables by group with paired differences; with
    measurements, prior_K_shot.png and attention_K_shot.png. Returns the text of ablation.md.

    Raises:
        InputError: `measured` below 0, or a directory that holds counts of another evaluation.
        RunError: a worker process has died, or memory is full.
    """
    if measured is not None and measured < 0:
        raise InputError(f"measured must be at least 0, or None for all episodes, got {measured}")
    directory, settings = Path(directory), settings or Settings()
    results = run(jobs, directory, settings, workers=workers, progress=progress)
    write_results(results, directory, "Ablation: all variants", files=files)
    lines = ["# Ablation", "", about(results)]
    content: dict[str, Any] = {"about": about(results), "jobs": [result.facts for result in results], "shots": {}}
    for shots, scores in by_shots(results).items():
        section: dict[str, Any] = {"differences": {}}
        content["shots"][str(shots)] = section
        for group, names in _grouped(results).items():
            chosen = {row: scores[name] for row, name in names.items()}
            lines += ["", f"## {shots}-shot: {group}", "", table(chosen), "", f"Differences to {FULL}, in points:", ""]
            for row, score in chosen.items():
                if score is scores[FULL]:
                    continue
                difference = paired_bootstrap(score, scores[FULL])
                section["differences"].setdefault(group, {})[row] = difference
                lines.append(f"- {row}: {percent(difference, '+.1f')}")
        if shots > 1 and results[0].facts["protocol"].startswith("hsnet"):
            lines += ["", "What IMR and SCMA do is not measured: here a vote over one-shot masks answers."]
        elif measured != 0:
            measurement = summarise([
                _measured_job(job, result, directory, settings, measured, progress)
                for job, result in zip(jobs, results, strict=True)
                if result.facts["shots"] == shots
            ])  # fmt: skip
            section["measurement"] = vars(measurement)
            lines += ["", f"## {shots}-shot: what IMR and SCMA do", "", *measurement_lines(measurement)]
            title = f"{shots}-shot, {measurement.episodes} episodes"
            picture = rounds_figure(measurement.prior["cut"], f"The prior, {title}", FIT_NAMES["cut"])
            write_atomically(directory / f"prior_{shots}_shot.png", picture.png())
            picture = attention_figure(measurement.attention["edge"], f"Attention on background, {title}")
            write_atomically(directory / f"attention_{shots}_shot.png", picture.png())
    text = "\n".join(lines)
    write_atomically(directory / "ablation.md", (text + "\n").encode())
    write_atomically(directory / "ablation.json", (json.dumps(content, indent=1) + "\n").encode())
    return text


def measurement_lines(measurement: Measurement) -> list[str]:
    """The tables as Markdown."""
    lines: list[str] = []
    for word in FITS:
        rows: dict[str, list[str]] = {}
        for kind, values in measurement.prior[word].items():
            rows[kind] = [fraction(value) for value in values]
            rows[f"{kind}, rise over 0 rounds"] = ["", *(fraction(x, "+.3f") for x in measurement.gain[word][kind])]
        lines += [f"{FIT_NAMES[word]} with the true mask at the memory grid, {measurement.episodes} episodes:", ""]
        lines += [*grid(["IMR", *(f"{number} rounds" for number in range(len(values)))], rows), ""]
    layers = [f"layer {layer + 1}" for layer in range(len(measurement.attention["edge"]["off"]) - 1)]
    counted = (
        "in percent of all; cells on the object's edge count by the share that it does not cover",
        "in percent of all, counting only memory cells that hold nothing of the object",
    )
    for word, how in zip(BACKGROUND, counted, strict=True):
        rows = {mode: [percent(value) for value in values] for mode, values in measurement.attention[word].items()}
        for pair, values in measurement.change[word].items():
            rows[pair] = [f"{percent(value, '+.1f')} %" for value in values]
        lines += [f"Attention that the query's object gives to background in the pseudo query memory, {how}:", ""]
        lines += [*grid(["SCMA", *layers, "mean"], rows), ""]
    return lines[:-1]


def _measured_job(
    job: Job, result: Result, directory: Path, settings: Settings, number: int | None, progress: bool
) -> dict[str, np.ndarray]:
    """`measure_each` of the first episodes of a job, read from the directory or computed and kept there."""
    episodes = job.episodes()
    number = len(episodes) if number is None else min(number, len(episodes))
    path = directory / "measured" / f"{job.name}.first{number}.json"
    facts = {**result.facts, "fits": list(FITS), "background": list(BACKGROUND)}
    if not path.exists():
        with settings.computing():
            model, part = settings.prepared(job.models()[FULL]).to(settings.device), Subset(episodes, range(number))
            measures = measure_each(
                model, part, batch_size=settings.batch_size, cache=settings.cache(), progress=progress
            )
        arrays = {name: values.tolist() for name, values in measures.items()}
        write_atomically(path, json.dumps({"facts": facts, "arrays": arrays}).encode())
    return {name: np.array(values) for name, values in read_checked(path, facts, "arrays").items()}


def _grouped(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """For each group the name of a row, and the name under which that variant was evaluated."""
    options = {
        name: Options(**{key: value for key, value in model.items() if key != "weights"})
        for name, model in results[0].facts["models"].items()
    }
    added = {name: name for name in options if name.startswith(ADDED)}
    baselines = {name: name for name in options if options[name].memory == "support" and name not in added}
    evaluated = {options[name]: name for name in options if name not in {**added, **baselines}}
    groups = {
        group: {name: evaluated[settled(options[FULL], changes)] for name, changes in variants.items()}
        for group, variants in GROUPS.items()
    }
    groups["Parts"] = {**baselines, **groups["Parts"]}
    return {**groups, "Trained parameters": {**added, FULL: FULL}} if added else groups
