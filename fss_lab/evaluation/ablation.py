"""Ablations: what each part of FSSAM adds, and whether IMR and SCMA do what the paper says of them.

Each function takes models and episodes and can be called from a notebook; `ablate` does all of it for many folds,
shots and seeds, and writes the tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import Episodes, Subset, collate
from fss_lab.errors import InputError
from fss_lab.evaluation.jobs import Job, Result, Settings, read_checked, run
from fss_lab.evaluation.report import about, by_shots, write_results
from fss_lab.evaluation.scoring import FULL, table, toy_models
from fss_lab.figures.results import attention_figure, rounds_figure
from fss_lab.files import write_atomically
from fss_lab.method import FSSAM
from fss_lab.method.options import CHOICES, Options
from fss_lab.method.prompts import resize
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import Trace
from fss_lab.metrics import Interval, mean_interval, paired_bootstrap

KINDS, MODES = CHOICES["refinement"], CHOICES["calibration"]
ROUNDS = 5
BEFORE = "corrected, before its bias"
BACKGROUND = ("edge", "clear")  # what counts as background: edge cells in part, or cells clear of the object alone

PARTS: dict[str, dict[str, Any]] = {
    "PPG": {"rounds": 0, "calibration": "off"},
    "PPG + IMR": {"calibration": "off"},
    "PPG + SCMA": {"rounds": 0},
    FULL: {},
}
"""What is switched on; each is FSSAM with these other options."""
IMR = {f"IMR {kind}, {r} rounds": {"refinement": kind, "rounds": r} for kind in KINDS for r in range(ROUNDS + 1)}
SCMA = {f"SCMA {mode}": {"calibration": mode} for mode in MODES}
PRIORS = {f"prior: {prior}": {"prior": prior} for prior in ("foreground", "discriminative", "truth")}
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "Parts": PARTS, "Rounds of refinement (IMR)": IMR, "Calibration (SCMA)": SCMA, "Prior (PPG)": PRIORS,
}  # fmt: skip


def suite(
    fold: int, weights: Mapping[str, str] | None = None, source: Callable[..., dict[str, FSSAM]] = toy_models
) -> dict[str, FSSAM]:
    """Every variant of a fold once, by the first name it has in `GROUPS`, after the support-memory baselines.

    weights: of runs of yours by name, see `scoring.toy_models`; those other than "fssam" and "baseline",
    e.g. with other trainable sets, are added as the full method. A path may hold "{fold}".
    source: where they come from, see `scoring.toy_variants`. Raises InputError for one without a trained
    FSSAM.
    """
    models = source(fold, weights)
    if FULL not in models:
        raise InputError("there is nothing trained to take apart; name the weights of your run with --weights")
    full = models.pop(FULL)
    added = {name: models.pop(name) for name in list(models) if name.startswith("trained: ")}
    variants: dict[Options, str] = {}
    for group in GROUPS.values():
        for name, changes in group.items():
            variants.setdefault(_settled(full.options, changes), name)
    return models | {name: full.variant(**asdict(options)) for options, name in variants.items()} | added


def prior_soft_iou(
    model: FSSAM, episodes: Episodes, rounds: int = ROUNDS, batch_size: int = 8, progress: bool = False
) -> np.ndarray:
    """How well the prior fits the query's true mask before refinement and after each round (Sec. IMR): (N, rounds + 1).

    Soft IoU = sum of minima / sum of maxima, at the memory grid: the prior as IMR has it there, the true mask as the
    share of each cell that the object covers (ignored pixels count as background). In 0..1.
    """
    found = [_soft_ious(model, features, rounds) for features in _extracted(model, episodes, batch_size, progress)]
    return np.concatenate(found)


def soft_iou(one: Tensor, other: Tensor) -> Tensor:
    """Sum of minima over sum of maxima of maps (..., h, w) in 0..1; 0 where both are empty. Returns (...)."""
    return torch.minimum(one, other).sum((-2, -1)) / torch.maximum(one, other).sum((-2, -1)).clamp(min=1e-7)


def background_attention(
    models: Mapping[str, FSSAM], episodes: Episodes, batch_size: int = 8, progress: bool = False
) -> dict[str, np.ndarray]:
    """How much attention the query's object gives to background in its memory (Sec. SCMA): (N, layers, 2, 2).

    For each model the attention mass before SCMA's bias and with it, mean over the heads, in 0..1; a mass is the mean
    over the query cells, each by the share of it that the object covers. Then, as in `BACKGROUND`, for two meanings of
    background: every memory cell by the share that the object does not cover, or only cells that hold nothing of it.
    The models share their frozen encoders. Raises InputError for a model without a pseudo memory.
    """
    first = next(iter(models.values()))
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for features in _extracted(first, episodes, batch_size, progress):
        for name, model in models.items():
            found[name].append(_masses(model, features))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def background_mass(attention: Tensor, covered: Tensor, background: Tensor) -> Tensor:
    """Attention (B, heads, N, N) of the object's cells on background: coverage of the queries and share of the keys
    that is background, (B, N) in 0..1 -> (B,)."""
    each = torch.einsum("bhqk,bk->bq", attention, background) / attention.shape[1]  # per query cell
    return (each * covered).sum(1) / covered.sum(1).clamp(min=1e-7)


@dataclass(frozen=True)
class Measurement:
    """What IMR does to the prior and SCMA to the attention, with 95 % bootstrap intervals over the episodes.

    soft_iou: by variant of IMR, for rounds 0, 1, ...; gain: its rise over round 0, for rounds 1, 2, ... (paired).
    attention: by mode of SCMA, for each layer and last their mean; change: relative, likewise (paired). Both for each
    meaning of background in `BACKGROUND`.
    With several shots compare "corrected" with what it was before its bias: unlike "off" it reads the mean of the
    supports, so that all of the query memory gets more attention.
    """

    episodes: int
    soft_iou: dict[str, list[Interval]]
    gain: dict[str, list[Interval]]
    attention: dict[str, dict[str, list[Interval]]]
    change: dict[str, dict[str, list[Interval]]]


def measure_each(
    model: FSSAM,
    episodes: Episodes,
    rounds: int = ROUNDS,
    batch_size: int = 8,
    cache: FeatureCache | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """`prior_soft_iou` and `background_attention` of every variant of a model, by name: "v1" and "v2" (N, rounds + 1),
    modes of SCMA (N, layers + 1, 2); the last of the layers is their mean, then come the two meanings of background."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*KINDS, BEFORE, *MODES)}
    for features in _extracted(model, episodes, batch_size, progress, cache):
        for kind in KINDS:
            found[kind].append(_soft_ious(model.variant(refinement=kind), features, rounds))
        for mode in MODES:
            masses = _masses(model.variant(calibration=mode), features)
            masses = np.concatenate([masses, masses.mean(axis=1, keepdims=True)], axis=1)  # B, layers + 1, 2, 2
            found[mode].append(masses[:, :, 1])
            if mode == "corrected":
                found[BEFORE].append(masses[:, :, 0])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def summarise(parts: Sequence[Mapping[str, np.ndarray]]) -> Measurement:
    """Pool what `measure_each` gave for several models or sets of episodes."""
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    iou = {kind: pooled.pop(kind).T for kind in KINDS}  # rounds, N
    masses = {word: {mode: each[..., i].T for mode, each in pooled.items()} for i, word in enumerate(BACKGROUND)}
    return Measurement(
        episodes=iou["v1"].shape[1],
        soft_iou={kind: [mean_interval(row) for row in rows] for kind, rows in iou.items()},
        gain={kind: [mean_interval(row, rows[0]) for row in rows[1:]] for kind, rows in iou.items()},
        attention={
            word: {mode: [mean_interval(row) for row in rows] for mode, rows in own.items()}  # layers, N
            for word, own in masses.items()
        },
        change={
            word: {
                f"{mode} against {other}": [
                    mean_interval(row, base, relative=True) for row, base in zip(own[mode], own[other], strict=True)
                ]
                for mode, other in (("corrected", "off"), ("corrected", BEFORE), ("as_published", "off"))
            }
            for word, own in masses.items()
        },
    )


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
    """Run jobs whose models are those of `suite`, measure, and write all into `directory`; goes on with what is there.

    measured: episodes of each job for `measure_each`, from the first on; None: all, 0: none (nor of several shots
    under the protocol hsnet, where a vote answers and not the model that would be measured). It runs in this process,
    computes as `settings` say, and goes on job by job.
    files: weights that were given instead of the shipped ones, as `markdown` takes them.
    Files written: results.{json,csv,md,png}; ablation.{json,md}, the tables by group with paired differences; with
    measurements, prior_K_shot.png and attention_K_shot.png. Returns the text of ablation.md. Raises as `run`, and
    InputError for `measured` below 0.
    """
    if measured is not None and measured < 0:
        raise InputError(f"measured must be at least 0, or None for all episodes, got {measured}")
    directory, settings = Path(directory), settings or Settings()
    results = run(jobs, directory, settings, workers=workers, progress=progress)
    write_results(results, directory, "Ablation: all variants", files=files)
    lines = ["# Ablation", "", about(results)]
    content: dict[str, Any] = {"about": about(results), "jobs": [result.facts for result in results], "shots": {}}
    for shots, scores in by_shots(results).items():
        own: dict[str, Any] = {"differences": {}}
        content["shots"][str(shots)] = own
        for group, names in _grouped(results).items():
            chosen = {shown: scores[name] for shown, name in names.items()}
            lines += ["", f"## {shots}-shot: {group}", "", table(chosen), "", f"Differences to {FULL}, in points:", ""]
            for shown, score in chosen.items():
                if score is scores[FULL]:
                    continue
                difference = paired_bootstrap(score, scores[FULL])
                own["differences"].setdefault(group, {})[shown] = difference
                lines.append(f"- {shown}: {_points(difference, sign=True)}")
        if shots > 1 and results[0].facts["protocol"].startswith("hsnet"):
            lines += ["", "What IMR and SCMA do is not measured: here a vote over one-shot masks answers."]
        elif measured != 0:
            found = summarise([
                _measured_job(job, result, directory, settings, measured, progress)
                for job, result in zip(jobs, results, strict=True)
                if result.facts["shots"] == shots
            ])  # fmt: skip
            own["measurement"] = vars(found)
            lines += ["", f"## {shots}-shot: what IMR and SCMA do", "", *measurement_lines(found)]
            title = f"{shots}-shot, {found.episodes} episodes"
            picture = rounds_figure(found.soft_iou, f"The prior, {title}")
            write_atomically(directory / f"prior_{shots}_shot.png", picture.png())
            picture = attention_figure(found.attention["edge"], f"Attention on background, {title}")
            write_atomically(directory / f"attention_{shots}_shot.png", picture.png())
    text = "\n".join(lines)
    write_atomically(directory / "ablation.md", (text + "\n").encode())
    write_atomically(directory / "ablation.json", (json.dumps(content, indent=1) + "\n").encode())
    return text


def measurement_lines(found: Measurement) -> list[str]:
    """The tables as Markdown."""
    heads = [str(number) for number in range(len(found.soft_iou["v1"]))]
    lines = [f"Soft IoU of the prior with the true mask at the memory grid, {found.episodes} episodes:", ""]
    lines += [f"| IMR | {' | '.join(f'{head} rounds' for head in heads)} |", "|" + "---|" * (len(heads) + 1)]
    for kind, values in found.soft_iou.items():
        lines.append(f"| {kind} | {' | '.join(_fraction(value) for value in values)} |")
        gains = [_fraction(value, sign=True) for value in found.gain[kind]]
        lines.append(f"| {kind}, rise over 0 rounds | {' | '.join(['', *gains])} |")
    layers = len(found.attention["edge"]["off"]) - 1
    heads = [*(f"layer {layer + 1}" for layer in range(layers)), "mean"]
    counted = (
        "in percent of all; cells on the object's edge count by the share that it does not cover",
        "in percent of all, counting only memory cells that hold nothing of the object",
    )
    for word, how in zip(BACKGROUND, counted, strict=True):
        lines += ["", f"Attention that the query's object gives to background in the pseudo query memory, {how}:"]
        lines += ["", f"| SCMA | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
        for mode, values in found.attention[word].items():
            lines.append(f"| {mode} | {' | '.join(_points(value) for value in values)} |")
        for what, values in found.change[word].items():
            lines.append(f"| {what} | {' | '.join(f'{_points(value, sign=True)} %' for value in values)} |")
    return lines


def _measured_job(
    job: Job, result: Result, directory: Path, settings: Settings, number: int | None, progress: bool
) -> dict[str, np.ndarray]:
    """`measure_each` of the first episodes of a job, read from the directory or computed and kept there."""
    episodes = job.episodes()
    number = len(episodes) if number is None else min(number, len(episodes))
    path = directory / "measured" / f"{job.name}.first{number}.json"
    facts = {**result.facts, "background": list(BACKGROUND)}
    if not path.exists():
        with settings.computing():
            model, part = settings.prepared(job.models()[FULL]).to(settings.device), Subset(episodes, range(number))
            found = measure_each(model, part, batch_size=settings.batch_size, cache=settings.cache(), progress=progress)
        arrays = {name: values.tolist() for name, values in found.items()}
        write_atomically(path, json.dumps({"facts": facts, "arrays": arrays}).encode())
    return {name: np.array(values) for name, values in read_checked(path, facts, "arrays").items()}


def _settled(options: Options, changes: Mapping[str, Any]) -> Options:
    """The options with changes, written in one way: without rounds it does not matter how they would refine."""
    changed = replace(options, **changes)
    return changed if changed.rounds else replace(changed, refinement="v1")


def _grouped(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """For each group the name of a row, and the name under which that variant was evaluated."""
    options = {
        name: Options(**{key: value for key, value in model.items() if key != "weights"})
        for name, model in results[0].facts["models"].items()
    }
    added = {name: name for name in options if name.startswith("trained: ")}
    baselines = {name: name for name, own in options.items() if own.memory == "support" and name not in added}
    evaluated = {own: name for name, own in options.items() if name not in {**added, **baselines}}
    groups = {
        group: {name: evaluated[_settled(options[FULL], changes)] for name, changes in variants.items()}
        for group, variants in GROUPS.items()
    }
    groups["Parts"] = {**baselines, **groups["Parts"]}
    return {**groups, "Trained parameters": {**added, FULL: FULL}} if added else groups


def _extracted(
    model: FSSAM, episodes: Episodes, size: int, progress: bool, cache: FeatureCache | None = None
) -> Iterator[EpisodeFeatures]:
    """The episodes in batches, as the frozen networks see them."""
    with tqdm(total=len(episodes), desc="measured", disable=None if progress else True) as bar:
        for start in range(0, len(episodes), size):
            indices = range(start, min(start + size, len(episodes)))
            yield model.extract(collate([episodes[index] for index in indices]), cache=cache)
            bar.update(len(indices))


@torch.inference_mode()
def _soft_ious(model: FSSAM, features: EpisodeFeatures, rounds: int) -> np.ndarray:
    """(B, rounds + 1), see `prior_soft_iou`."""
    trace, truth = _trace(model.variant(rounds=rounds), features)
    assert trace.pseudo_prior is not None
    prior = resize(trace.pseudo_prior, truth.shape[-2:])  # B, 1, h, w
    priors = torch.cat([prior, *(done.prior for done in trace.rounds)], dim=1)
    return soft_iou(priors, truth).double().cpu().numpy()


@torch.inference_mode()
def _masses(model: FSSAM, features: EpisodeFeatures) -> np.ndarray:
    """(B, layers, 2, 2), see `background_attention`: before SCMA's bias and with it, for each of `BACKGROUND`."""
    trace, truth = _trace(model, features)
    covered = truth.flatten(1)
    masses = [
        background_mass(weights[..., layer.columns.query], covered, background)
        for layer in trace.layers
        for weights in (layer.attention_before, layer.attention)
        for background in (1 - covered, (covered == 0).to(covered.dtype))
    ]
    return torch.stack(masses, dim=1).unflatten(1, (-1, 2, 2)).double().cpu().numpy()


def _trace(model: FSSAM, features: EpisodeFeatures) -> tuple[Trace, Tensor]:
    """The traced forward pass, and how much of each cell of the memory grid the query's object covers, (B, 1, h, w)."""
    trace = model.predict(model.encode(features), trace=True).trace
    if trace is None or trace.pseudo_prior is None or features.query_masks is None:
        raise InputError('this needs a pseudo memory and the true masks; use memory="pseudo" and whole episodes')
    height, width = trace.support_masks_refine.shape[-2:]
    return trace, F.adaptive_avg_pool2d(features.query_masks, (height, width))


def _points(value: Interval, sign: bool = False) -> str:
    form = "+.1f" if sign else ".1f"
    return f"{100 * value.estimate:{form}} [{100 * value.low:{form}}, {100 * value.high:{form}}]"


def _fraction(value: Interval, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{value.estimate:{form}} [{value.low:{form}}, {value.high:{form}}]"
