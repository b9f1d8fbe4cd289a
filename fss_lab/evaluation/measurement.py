"""Whether IMR and SCMA do what the paper says of them: the prior after each round, the attention on background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import Episodes, collate
from fss_lab.errors import InputError
from fss_lab.evaluation.variants import ROUNDS
from fss_lab.method import FSSAM
from fss_lab.method.options import CHOICES
from fss_lab.method.prompts import resize
from fss_lab.method.records import EpisodeFeatures
from fss_lab.method.trace import Trace
from fss_lab.metrics import Interval, coverage, iou, mean_interval, soft_iou

REFINEMENTS, MODES = CHOICES["refinement"], CHOICES["calibration"]
BEFORE = "corrected, before its bias"
BACKGROUND = ("edge", "clear")  # what counts as background: edge cells in part, or cells clear of the object alone
FITS = ("soft", "cut")
"""How a prior is compared with the truth, see `prior_fit`; in the course, the tables and the figures alike."""


def prior_fit(priors: Tensor, masks: Tensor) -> Tensor:
    """How well priors (B, T, h, w) in 0..1 fit true masks (B, H, W) of 0, 1 and 255: (B, T, 2) in 0..1, as in `FITS`.

    soft: `soft_iou` of the prior as it is and the share of each cell that the object covers; 255 counts as background.
    cut: `iou` of the mask that the threshold ½ cuts out of the prior, resized to H x W; 255 is left out.
    """
    masks = masks.to(priors.device).unsqueeze(1)
    soft = soft_iou(priors, coverage(masks, priors.shape[-2:]))
    return torch.stack([soft, iou(resize(priors, masks.shape[-2:]) > 0.5, masks)], dim=-1)


def prior_fits(model: FSSAM, episodes: Episodes, rounds: int = ROUNDS, batch_size: int = 8) -> np.ndarray:
    """`prior_fit` before refinement and after each round, at the memory grid, where IMR works: (N, rounds + 1, 2)."""
    return np.concatenate([_fits(model, *part, rounds) for part in _extracted(model, episodes, batch_size)])


def prior_soft_iou(model: FSSAM, episodes: Episodes, rounds: int = ROUNDS, batch_size: int = 8) -> np.ndarray:
    """The soft IoU of `prior_fits`, (N, rounds + 1) in 0..1."""
    return prior_fits(model, episodes, rounds, batch_size)[..., 0]


def background_attention(models: Mapping[str, FSSAM], episodes: Episodes, batch_size: int = 8) -> dict[str, np.ndarray]:
    """How much attention the query's object gives to background in its memory (Sec. SCMA): (N, layers, 2, 2).

    For each model the attention mass before SCMA's bias and with it, mean over the heads, in 0..1; a mass is the mean
    over the query cells, each by the share of it that the object covers. Then, as in `BACKGROUND`, for two meanings of
    background: every memory cell by the share that the object does not cover, or only cells that hold nothing of it.
    The models share their frozen encoders.

    Raises:
        InputError: a model without a pseudo memory.
    """
    first = next(iter(models.values()))
    masses: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for features, _ in _extracted(first, episodes, batch_size):
        for name, model in models.items():
            masses[name].append(_masses(model, features))
    return {name: np.concatenate(parts) for name, parts in masses.items()}


def background_mass(attention: Tensor, covered: Tensor, background: Tensor) -> Tensor:
    """Attention (B, heads, N, N) of the object's cells on background: coverage of the queries and share of the keys
    that is background, (B, N) in 0..1 -> (B,)."""
    per_cell = torch.einsum("bhqk,bk->bq", attention, background) / attention.shape[1]  # of the query
    return (per_cell * covered).sum(1) / covered.sum(1).clamp(min=1e-7)


@dataclass(frozen=True)
class Measurement:
    """What IMR does to the prior and SCMA to the attention, with 95 % bootstrap intervals over the episodes.

    prior: how well it fits the truth, by variant of IMR, for rounds 0, 1, ...; gain: its rise over round 0, for rounds
    1, 2, ... (paired). Both for each of `FITS`.
    attention: by mode of SCMA, for each layer and last their mean; change: relative, likewise (paired). Both for each
    meaning of background in `BACKGROUND`.
    With several shots compare "corrected" with what it was before its bias: unlike "off" it reads the mean of the
    supports, so that all of the query memory gets more attention.
    """

    episodes: int
    prior: dict[str, dict[str, list[Interval]]]
    gain: dict[str, dict[str, list[Interval]]]
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
    """`prior_fits` and `background_attention` of every variant of a model, by name: "v1" and "v2" (N, rounds + 1, 2),
    modes of SCMA (N, layers + 1, 2); the last of the layers is their mean, then come the two meanings of background."""
    measures: dict[str, list[np.ndarray]] = {name: [] for name in (*REFINEMENTS, BEFORE, *MODES)}
    for features, labels in _extracted(model, episodes, batch_size, progress, cache):
        for kind in REFINEMENTS:
            measures[kind].append(_fits(model.variant(refinement=kind), features, labels, rounds))
        for mode in MODES:
            masses = _masses(model.variant(calibration=mode), features)
            masses = np.concatenate([masses, masses.mean(axis=1, keepdims=True)], axis=1)  # B, layers + 1, 2, 2
            measures[mode].append(masses[:, :, 1])
            if mode == "corrected":
                measures[BEFORE].append(masses[:, :, 0])
    return {name: np.concatenate(parts) for name, parts in measures.items()}


def summarise(parts: Sequence[Mapping[str, np.ndarray]]) -> Measurement:
    """Pool what `measure_each` gave for several models or sets of episodes."""
    pooled = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    refined = {kind: pooled.pop(kind) for kind in REFINEMENTS}  # N, rounds, 2
    fits = {word: {kind: values[..., i].T for kind, values in refined.items()} for i, word in enumerate(FITS)}
    masses = {word: {mode: values[..., i].T for mode, values in pooled.items()} for i, word in enumerate(BACKGROUND)}
    return Measurement(
        episodes=len(refined["v1"]),
        prior={
            word: {kind: [mean_interval(row) for row in rows] for kind, rows in kinds.items()}  # rounds, N
            for word, kinds in fits.items()
        },
        gain={
            word: {kind: [mean_interval(row, rows[0]) for row in rows[1:]] for kind, rows in kinds.items()}
            for word, kinds in fits.items()
        },
        attention={
            word: {mode: [mean_interval(row) for row in rows] for mode, rows in modes.items()}  # layers, N
            for word, modes in masses.items()
        },
        change={
            word: {
                f"{mode} against {other}": [
                    mean_interval(row, base, relative=True) for row, base in zip(modes[mode], modes[other], strict=True)
                ]
                for mode, other in (("corrected", "off"), ("corrected", BEFORE), ("as_published", "off"))
            }
            for word, modes in masses.items()
        },
    )


def _extracted(
    model: FSSAM, episodes: Episodes, size: int, progress: bool = False, cache: FeatureCache | None = None
) -> Iterator[tuple[EpisodeFeatures, Tensor]]:
    """The episodes in batches, as the frozen networks see them, and the queries' masks (B, H, W) of 0, 1 and 255."""
    with tqdm(total=len(episodes), desc="measured", disable=None if progress else True) as bar:
        for start in range(0, len(episodes), size):
            indices = range(start, min(start + size, len(episodes)))
            batch = collate([episodes[index] for index in indices])
            yield model.extract(batch, cache=cache), batch.query_masks
            bar.update(len(indices))


@torch.inference_mode()
def _fits(model: FSSAM, features: EpisodeFeatures, labels: Tensor, rounds: int) -> np.ndarray:
    """(B, rounds + 1, 2), see `prior_fits`."""
    trace, covered = _trace(model.variant(rounds=rounds), features)
    assert trace.pseudo_prior is not None
    prior = resize(trace.pseudo_prior, covered.shape[-2:])  # B, 1, h, w
    priors = torch.cat([prior, *(done.prior for done in trace.rounds)], dim=1)
    return prior_fit(priors, labels).double().cpu().numpy()


@torch.inference_mode()
def _masses(model: FSSAM, features: EpisodeFeatures) -> np.ndarray:
    """(B, layers, 2, 2), see `background_attention`: before SCMA's bias and with it, for each of `BACKGROUND`."""
    trace, covered = _trace(model, features)
    covered = covered.flatten(1)
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
    return trace, coverage(features.query_masks, trace.support_masks_refine.shape[-2:])
