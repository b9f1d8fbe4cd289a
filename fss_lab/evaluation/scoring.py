"""Evaluate variants of FSSAM side by side on the same episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.checkpoints import load_into, load_metadata, load_state
from fss_lab.backbones.fingerprint import hash_tensors
from fss_lab.datasets.folds import FOLDS
from fss_lab.datasets.protocols import BENCHMARKS, ImageSet, ListedEpisodes, benchmark, draw_episodes, load_or_draw
from fss_lab.episode import EpisodeBatch, Episodes, collate
from fss_lab.errors import CheckpointError, InputError
from fss_lab.method import FSSAM
from fss_lab.method.options import Options, options_of
from fss_lab.method.prompts import Priors, resize
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import map_tensors
from fss_lab.metrics import SegmentationScore, bootstrap_interval, merge_scores
from fss_lab.models.load import load_model
from fss_lab.models.provenance import check_frozen
from fss_lab.toyworld.look_alikes import LookAlikes
from fss_lab.toyworld.pictogram_images import PictogramImages
from fss_lab.toyworld.pictograms import Pictograms

Scores = dict[str, SegmentationScore]
FULL = "PPG + IMR + SCMA (FSSAM)"
STEPS: tuple[str, ...] = ("support memory, fine-tuned", "PPG", "PPG + IMR", FULL)
"""The rows of `toy_variants` of which each adds one part to the row before."""


def evaluate(
    models: Mapping[str, FSSAM],
    episodes: Episodes,
    *,
    batch_size: int = 8,
    progress: bool = False,
    cache: FeatureCache | None = None,
) -> Scores:
    """Score every model on every episode; the frozen encoders, which the models must share, run once per image.

    By the protocol of `episodes` (see `fss_lab.datasets.protocols.Benchmark`), for others as "fssam": the model fuses
    the shots, IoU at the label's own size. Pixels of 255 are left out. cache: a `FeatureCache` for the encoders.
    Raises InputError for no models, or for models whose image encoder or feature extractor differ.
    """
    check_shared_encoders(models)
    scores = {name: SegmentationScore(episodes.classes) for name in models}
    with tqdm(total=len(episodes), desc="episodes", disable=None if progress else True) as bar:
        for start in range(0, len(episodes), batch_size):
            indices = range(start, min(start + batch_size, len(episodes)))
            score_batch(models, episodes, indices, scores, cache)
            bar.update(len(indices))
    return scores


def score_batch(
    models: Mapping[str, FSSAM],
    episodes: Episodes,
    indices: Sequence[int],
    scores: Scores,
    cache: FeatureCache | None = None,
) -> None:
    """Let every model solve the episodes `indices` as one batch, and add them to its score."""
    protocol = getattr(episodes, "protocol", BENCHMARKS["fssam"])
    batch = collate([episodes[index] for index in indices])
    first = next(iter(models.values()))
    guess = any(model.options.remembers_query for model in models.values())
    features = first.extract(batch, cache, priors=guess)
    targets = _targets(episodes, batch, indices, protocol.resolution, features.support_masks.shape[-1])
    for name, model in models.items():
        voters = [features]
        if protocol.shots == "vote":
            voters = [one_shot(features, shot) for shot in range(batch.shots)]
        with torch.inference_mode():
            answers = [model.predict(model.encode(voter)).logits.float().cpu() for voter in voters]
        for row, (target, class_id) in enumerate(zip(targets, batch.class_ids.tolist(), strict=True)):
            masks = [resize(logits[row, None, None], target.shape)[0, 0] > 0 for logits in answers]
            scores[name].update(vote(torch.stack(masks)), target, class_id)


def vote(masks: Tensor) -> Tensor:
    """One mask of K: the pixels with at least half as many votes as the pixel with most. (K, H, W) bool -> (H, W).

    So two of five may be enough, where no pixel has more than four. One mask is returned as it is.
    """
    votes = masks.sum(0)
    return (2 * votes >= votes.max()) & (votes > 0)


def one_shot(features: EpisodeFeatures, shot: int) -> EpisodeFeatures:
    """The same episodes with one of their supports only, and with the priors that it alone gives."""

    def keep(x: Tensor) -> Tensor:
        return x[:, shot : shot + 1]

    priors = features.priors
    if priors is not None:
        foreground, discriminative = keep(priors.foreground_similarity), keep(priors.discriminative_per_shot)
        background = keep(priors.background_similarity)
        priors = Priors(foreground, background, discriminative, foreground, discriminative)
    support, masks = map_tensors(keep, features.support), keep(features.support_masks)
    return replace(features, support=support, support_masks=masks, priors=priors)


def weights_digest(model: nn.Module) -> str:
    """Twelve hexadecimal digits of a SHA-256 over the names, types, shapes and values of all weights."""
    return hash_tensors("", model.state_dict())[:12]


# ---- the toy world


def load_weights(path: str | Path, fold: int, **options: Any) -> FSSAM:
    """The toy model with weights of a training run of yours instead of the shipped ones.

    path: a weight file with any part of the toy SAM 2, such as a run's weights.safetensors or best.pt; the rest stays
    as it was when that run began. "{fold}" in it stands for `fold`. options: see `fss_lab.method.Options`; by default
    those of the run.
    Raises CheckpointError for a file that is unreadable or holds other weights, InputError for one of another model, of
    a run that began from random weights, or of another fold, whose base classes are novel here, RunError for one that
    was trained with other frozen networks.
    """
    path = Path(str(path).replace("{fold}", str(fold)))
    trained, facts = load_state(path), load_metadata(path)
    run = json.loads(facts.get("config", "{}"))
    if run.get("model", "toy") != "toy":
        raise InputError(f"{path} was trained for {run['model']}, but the toy world is for the toy model")
    check_begun_from_weights(run, path)
    if facts.get("fold", str(fold)) != str(fold):
        raise InputError(
            f"{path} was trained on fold {facts['fold']}, so it has seen the novel classes of fold {fold}; choose "
            f'--folds {facts["fold"]}, or give one file for each fold with "{{fold}}" in the path'
        )
    model = load_model("toy", fold=fold, weights=run.get("weights", "pretrained")).variant(**options_of(run) | options)
    return put_weights(model, trained, run, path)


def check_begun_from_weights(run: Mapping[str, Any], path: Path) -> None:
    """Raise InputError for a run that began from random weights, which nothing can give back. run: its settings."""
    if run.get("weights") == "random":
        raise InputError(f"{path} was trained from random weights, which are for trials of training alone")


def put_weights(model: FSSAM, trained: Mapping[str, Tensor], run: Mapping[str, Any], path: Path) -> FSSAM:
    """Load what a training run wrote into its SAM 2; what it did not train stays. run: its settings; path: its file.

    Raises CheckpointError for weights that the model lacks, RunError if the run had other frozen networks.
    """
    own = model.sam2.model.state_dict()
    unknown = sorted(set(trained) - set(own))
    if unknown:
        raise CheckpointError(f"{path} holds weights that this SAM 2 does not have: {', '.join(unknown[:5])}")
    load_into(model.sam2.model, own | trained, source=path)
    check_frozen(run, model, trained, path)
    return model


def toy_models(fold: int, weights: Mapping[str, str] | None = None) -> dict[str, FSSAM]:
    """FSSAM under the name `FULL`, and the two support-memory baselines; all share their frozen encoders.

    weights: paths of own weights under the names "fssam" and "baseline", see `load_weights`. With only the first of
    them there is no fine-tuned baseline, for the shipped one was not trained beside it. Other names are added, with the
    options of their runs. Raises as `load_weights`, and InputError for a baseline in the place of FSSAM.
    """
    own = dict(weights or {})
    models = {"support memory, not fine-tuned": load_model("toy", weights="pretrained", memory="support")}
    if "baseline" in own:
        models["support memory, fine-tuned"] = load_weights(own.pop("baseline"), fold, memory="support")
    elif "fssam" not in own:
        models["support memory, fine-tuned"] = load_model("toy", fold=fold, weights="baseline")
    if "fssam" in own:
        trained = load_weights(path := own.pop("fssam"), fold)
        if trained.options.memory != "pseudo":
            raise InputError(f"{path} was trained with memory='support'; give it as baseline={path}")
        models[FULL] = trained.variant(**asdict(Options()))
    else:
        models[FULL] = load_model("toy", fold=fold)
    return models | {f"trained: {name}": load_weights(path, fold) for name, path in own.items()}


def toy_episodes(
    fold: int,
    shots: int,
    seed: int,
    number: int,
    protocol: str | None = None,
    images: int = 400,
    lists: str | Path | None = None,
    look_alikes: bool = False,
) -> Episodes:
    """Novel-class episodes of Pictograms: with scenes of their own (protocol None), or drawn by a protocol from a fixed
    set of images. lists: a directory; the list is taken from there, or drawn and saved there. look_alikes: scenes with
    misleading distractors, see `LookAlikes`; raises InputError with a protocol."""
    if look_alikes and protocol is not None:
        raise InputError(f"look-alikes are fresh scenes; protocol {protocol} needs a fixed set of images")
    if look_alikes:
        return LookAlikes(fold, shots, seed, episodes=number)
    if protocol is None:
        return Pictograms(fold, "novel", shots, seed, episodes=number)
    return listed_episodes(protocol, _images(fold, images), shots, seed, number, lists)


def listed_episodes(
    protocol: str,
    images: ImageSet,
    shots: int,
    seed: int,
    number: int,
    lists: str | Path | None = None,
    size: int | None = None,
) -> ListedEpisodes:
    """Episodes drawn by a protocol. lists: a directory; the list is taken from there, or drawn and saved there. size:
    see `ListedEpisodes`."""
    rules = benchmark(protocol)
    if lists is None:
        return ListedEpisodes(draw_episodes(rules, images, shots, number, seed), images, size)
    path = Path(lists) / f"{protocol}_fold{images.fold}_{shots}shot_seed{seed}.json"
    return ListedEpisodes(load_or_draw(path, rules, images, shots, number, seed), images, size)


def toy_variants(
    fold: int, weights: Mapping[str, str] | None = None, source: Callable[..., dict[str, FSSAM]] = toy_models
) -> dict[str, FSSAM]:
    """From the paper's starting point to its method, on a fold; all share their frozen encoders.

    weights: see `toy_models`. source: where the models come from, called as `toy_models`; e.g. a `functools.partial` of
    `fss_lab.evaluation.photographs.real_models`. Where nothing is fine-tuned, parts are not switched off either.
    """
    models = source(fold, weights)
    if FULL not in models:
        return models
    fssam = models.pop(FULL)
    return {
        **{name: model for name, model in models.items() if not name.startswith("trained: ")},
        "PPG": fssam.variant(rounds=0, calibration="off"),
        "PPG + IMR": fssam.variant(calibration="off"),
        FULL: fssam,
        "true query mask (upper bound)": fssam.variant(prior="truth"),
        **{name: model for name, model in models.items() if name.startswith("trained: ")},
    }


def evaluate_toy(
    folds: Sequence[int] = range(FOLDS), shots: int = 1, episodes: int = 300, seed: int = 0, progress: bool = False
) -> Scores:
    """`toy_variants` on the novel classes of the folds, `episodes` a fold; the folds' scores are merged.

    mIoU over all classes of several folds is the mean of the folds' mIoUs, for each has five classes.
    """
    merged: Scores = {}
    for fold in folds:
        novel = Pictograms(fold, "novel", shots, seed, episodes=episodes)
        for name, score in evaluate(toy_variants(fold), novel, progress=progress).items():
            merged[name] = merge_scores([merged[name], score] if name in merged else [score])
    return merged


def identity_models(identity: str) -> dict[str, FSSAM]:
    """The toy SAM 2, never trained on Pictograms, with a support as its only memory, under a name for `identity`."""
    shown = "the same" if identity == "same" else "another"
    return {f"memory shows {shown} identity": load_model("toy", weights="pretrained", memory="support")}


def identity_episodes(identity: str, fold: int, seed: int, number: int) -> Pictograms:
    """The paper's motivation: the support shows the query's own individual ("same"), or another one of its class
    ("other"); the queries are the same."""
    return Pictograms(fold, "novel", 1, seed, episodes=number, identity=identity, targets=1)


def table(scores: Scores) -> str:
    """The scores as a Markdown table in percent, with 95 % bootstrap intervals over episodes."""
    width = max(map(len, ["variant", *scores]))
    lines = [
        f"| {'variant':<{width}} | mIoU [95 %]        | FB-IoU [95 %]      |",
        f"|{'-' * (width + 2)}|{'-' * 20}|{'-' * 20}|",
    ]
    for name, score in scores.items():
        cells = []
        for metric in ("miou", "fb_iou"):
            estimate, low, high = (100 * value for value in bootstrap_interval(score, metric))
            cells.append(f"{f'{estimate:.1f} [{low:.1f}, {high:.1f}]':<18}")
        lines.append(f"| {name:<{width}} | {' | '.join(cells)} |")
    return "\n".join(lines)


def check_shared_encoders(models: Mapping[str, FSSAM]) -> None:
    """Raises InputError for no models, or for models whose encoders see an image in another way."""
    if not models:
        raise InputError("there is no model to evaluate")
    first = next(iter(models.values()))
    for name, model in models.items():
        if not _share_encoders(first, model):
            raise InputError(f"{name!r} has other frozen encoders than {next(iter(models))!r}; evaluate it on its own")


@lru_cache(maxsize=1)
def _images(fold: int, images: int) -> PictogramImages:
    """The fold's fixed images, kept for the next number of shots or seed."""
    return PictogramImages(fold, "novel", images)


def _targets(
    episodes: Episodes, batch: EpisodeBatch, indices: Sequence[int], resolution: str, size: int
) -> list[Tensor]:
    """The true query masks where the protocol counts: at the label's own size, or stretched to the model's square."""
    if resolution == "label":
        target = getattr(episodes, "target", None)
        return list(batch.query_masks) if target is None else [target(index) for index in indices]
    masks = batch.query_masks.unsqueeze(1).float()
    return list(F.interpolate(masks, (size, size), mode="nearest").squeeze(1).to(torch.uint8))


def _share_encoders(one: FSSAM, other: FSSAM) -> bool:
    """Whether `extract` gives the same for both; all behind it may differ."""
    first, second = _encoder_tensors(one), _encoder_tensors(other)
    return (
        (one.sam2.image_size, one.precision) == (other.sam2.image_size, other.precision)
        and [(x.shape, x.dtype) for x in first] == [(x.shape, x.dtype) for x in second]
        and all(map(torch.equal, first, second))
    )


def _encoder_tensors(model: FSSAM) -> list[Tensor]:
    networks = [*model.sam2.encoder_modules(), *([] if model.features is None else [model.features])]
    tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
    return [model.sam2.mean, model.sam2.std, *tensors]
