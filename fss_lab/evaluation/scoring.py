"""Evaluate variants of FSSAM side by side on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.fingerprint import hash_tensors
from fss_lab.datasets.protocols import BENCHMARKS
from fss_lab.episode import EpisodeBatch, Episodes, collate
from fss_lab.errors import InputError
from fss_lab.method import FSSAM
from fss_lab.method.prompts import Priors, resize
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import map_tensors
from fss_lab.metrics import SegmentationScore

Scores = dict[str, SegmentationScore]


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
    the shots, IoU at the label's own size. Pixels of 255 are left out, and so are classes that no episode shows
    (`SegmentationScore.of_tested`). cache: a `FeatureCache` for the encoders.

    Raises:
        InputError: no models, or models whose image encoder or feature extractor differ.
    """
    check_shared_encoders(models)
    scores = {name: SegmentationScore(episodes.classes) for name in models}
    with tqdm(total=len(episodes), desc="episodes", disable=None if progress else True) as bar:
        for start in range(0, len(episodes), batch_size):
            indices = range(start, min(start + batch_size, len(episodes)))
            score_batch(models, episodes, indices, scores, cache)
            bar.update(len(indices))
    return {name: score.of_tested() for name, score in scores.items()}


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
    guess = any(model.options.guesses for model in models.values())
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


def check_shared_encoders(models: Mapping[str, FSSAM]) -> None:
    """Refuse models whose encoders see an image in another way.

    Raises:
        InputError: such models, or none.
    """
    if not models:
        raise InputError("there is no model to evaluate")
    first, *others = models
    for name in others:
        if not _share_encoders(models[first], models[name]):
            raise InputError(f"{name!r} has other frozen encoders than {first!r}; evaluate it on its own")


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
