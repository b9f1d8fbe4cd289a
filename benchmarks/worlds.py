"""When does it matter? Search for a toy world in which IMR, or the bias of SCMA, moves the mask. Tests never run this.

    python benchmarks/worlds.py search --episodes 50 --output runs/worlds    # on base classes
    python benchmarks/worlds.py novel --worlds "as it is" "priors of 8 x 8 cells" --output runs/worlds    # once

A world is Pictograms with one thing made harder before SAM 2 sees the prior: noisy dense features, a coarse prior, a
wound (part of the object missing from P_d), or blobs of background that P_d, or both priors, take for the object. Each
prints what IMR adds (three rounds against none, without calibration) and what the bias of SCMA adds (against the same
model without the bias, with and without IMR), in points of mIoU with paired 95 % intervals. The weights are the shipped
ones, trained in the world as it is. Every result is kept in --output; what is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import EpisodeBatch
from fss_lab.evaluation.scoring import Scores, evaluate
from fss_lab.files import write_atomically
from fss_lab.method.prompts import Priors
from fss_lab.method.records import EpisodeFeatures
from fss_lab.metrics import SegmentationScore, merge_scores, paired_bootstrap

Change = Callable[[Priors, Tensor, torch.Generator], Priors]  # priors, the true mask (1, 1, S, S), dice
BASE_SEED, NOVEL_SEED = 41, 43

VARIANTS = {
    "PPG": {"rounds": 0, "calibration": "off"},
    "PPG + IMR": {"calibration": "off"},
    "PPG, shots averaged": {"rounds": 0, "calibration": "averaged"},
    "PPG + SCMA": {"rounds": 0},
    "PPG + IMR, shots averaged": {"calibration": "averaged"},
    "PPG + IMR + SCMA": {},
}
EFFECTS = {
    "IMR": ("PPG + IMR", "PPG"),
    "bias without IMR": ("PPG + SCMA", "PPG, shots averaged"),
    "bias after IMR": ("PPG + IMR + SCMA", "PPG + IMR, shots averaged"),
}


def blob(size: int, dice: torch.Generator, spots: int = 3) -> Tensor:
    """(1, 1, size, size) in 0..1: soft discs with a radius of 8 to 16 percent of the image at random places."""
    places = torch.linspace(0, 1, size)
    x, y, radius = torch.rand(3, spots, 1, 1, generator=dice)
    distance = ((places[None, None] - x) ** 2 + (places[None, :, None] - y) ** 2).sqrt() / (0.08 + 0.08 * radius)
    return (1.5 - distance).clamp(0, 1).amax(0)[None, None]


def coarse(prior: Tensor, cells: int) -> Tensor:
    return F.interpolate(F.adaptive_avg_pool2d(prior, cells), prior.shape[-2:], mode="bilinear", align_corners=True)


def blobs(priors: Priors, truth: Tensor, dice: torch.Generator, both: bool) -> Priors:
    extra = blob(truth.shape[-1], dice) * (1 - truth)
    changed = replace(priors, discriminative=torch.maximum(priors.discriminative, extra))
    return replace(changed, foreground=torch.maximum(priors.foreground, extra)) if both else changed


def wound(priors: Priors, truth: Tensor, dice: torch.Generator, true_foreground: bool) -> Priors:
    """P_d loses one side of the object, cut through its middle at a random angle."""
    rows, columns = torch.nonzero(truth[0, 0], as_tuple=True)
    if not len(rows):
        return priors
    angle = 2 * torch.pi * torch.rand(1, generator=dice)
    grid = torch.arange(truth.shape[-1], dtype=torch.float32)
    side = (grid[:, None] - rows.float().mean()) * angle.sin() + (grid - columns.float().mean()) * angle.cos() > 0
    cut = replace(priors, discriminative=priors.discriminative * ~(side & truth.bool()))
    return replace(cut, foreground=truth) if true_foreground else cut


@dataclass(frozen=True)
class World:
    """change: what is done to the priors; noise: length of a random vector that is added to each dense feature, whose
    own length is 1 in each pyramid; shots: supports."""

    change: Change | None = None
    noise: float = 0.0
    shots: int = 1


WORLDS = {
    "as it is": World(),
    "5 shots": World(shots=5),
    "10 shots": World(shots=10),
    "features with noise of half their length": World(noise=0.5),
    "features with noise of their length": World(noise=1.0),
    "features with noise of twice their length": World(noise=2.0),
    "5 shots, noise of their length": World(noise=1.0, shots=5),
    "priors of 8 x 8 cells": World(
        lambda priors, truth, dice: replace(
            priors, discriminative=coarse(priors.discriminative, 8), foreground=coarse(priors.foreground, 8)
        )
    ),
    "blobs in P_d": World(partial(blobs, both=False)),
    "blobs in both priors": World(partial(blobs, both=True)),
    "5 shots, blobs in both priors": World(partial(blobs, both=True), shots=5),
    "wound in P_d": World(partial(wound, true_foreground=False)),
    "wound in P_d, true P_fg": World(partial(wound, true_foreground=True)),
}


class Noisy(nn.Module):
    """Dense features with noise that depends on the image alone."""

    def __init__(self, features: nn.Module, length: float) -> None:
        super().__init__()
        self.features, self.length = features, length

    def forward(self, images: Tensor) -> Tensor:
        """As the features themselves: (B, 3, H, W) -> (B, c, h, w)."""
        clean = self.features(images)
        dice = [torch.Generator().manual_seed(int(image.sum(dtype=torch.float64))) for image in images]
        noise = torch.stack([torch.randn(clean.shape[1:], generator=generator) for generator in dice])
        return clean + self.length * noise / (clean.shape[1] / 2) ** 0.5  # two pyramids


class InWorld(FSSAM):
    """FSSAM whose priors come from a world; the change depends on the query image alone."""

    change: Change | None = None

    def extract(
        self, batch: EpisodeBatch, cache: FeatureCache | None = None, *, priors: bool = True
    ) -> EpisodeFeatures:
        """As `FSSAM.extract`."""
        features = super().extract(batch, cache, priors=priors)
        if self.change is None or features.priors is None:
            return features
        assert features.query_masks is not None
        rows = []
        for row, image in enumerate(batch.query_images):
            dice = torch.Generator().manual_seed(int(image.sum(dtype=torch.float64)))
            one = features[row : row + 1]
            rows.append(self.change(one.priors, one.query_masks, dice))
        joined = {name: torch.cat([getattr(prior, name) for prior in rows]) for name in vars(rows[0])}
        return replace(features, priors=Priors(**joined))


def model_in(world: World, fold: int) -> InWorld:
    toy = load_model("toy", fold=fold)
    assert toy.features is not None
    model = InWorld(toy.sam2, Noisy(toy.features, world.noise) if world.noise else toy.features)
    model.change = world.change
    return model


def kept(path: Path, compute: Callable[[], Scores], classes: tuple[int, ...]) -> Scores:
    """The scores in a file, computed and written first if it is not there."""
    if not path.exists():
        counts = {name: score.counts.tolist() for name, score in compute().items()}
        write_atomically(path, json.dumps(counts).encode())
    stored = json.loads(path.read_text())
    return {name: SegmentationScore(classes, np.array(counts)) for name, counts in stored.items()}


def score(world: World, fold: int, split: str, episodes: int) -> Scores:
    model = model_in(world, fold)
    data = Pictograms(fold, split, world.shots, BASE_SEED if split == "base" else NOVEL_SEED, episodes=episodes)
    return evaluate({name: model.variant(**changes) for name, changes in VARIANTS.items()}, data)


def row(name: str, folds: list[Scores]) -> str:
    """Of the table: mIoU of every effect's two variants, and the difference."""
    pooled = {variant: merge_scores(scores[variant] for scores in folds).of_tested() for variant in VARIANTS}
    cells = [name]
    for more, less in EFFECTS.values():
        gain, low, high = (100 * value for value in paired_bootstrap(pooled[more], pooled[less]))
        levels = f"{100 * pooled[less].miou:.1f} → {100 * pooled[more].miou:.1f}"
        cells.append(f"{levels} ({gain:+.1f} [{low:+.1f}, {high:+.1f}])")
    return f"| {' | '.join(cells)} |"


def table(arguments: argparse.Namespace, split: str) -> None:
    seed = BASE_SEED if split == "base" else NOVEL_SEED
    print(
        f"{split} classes, folds {arguments.folds}, {arguments.episodes} episodes a fold, seed {seed}, shipped weights"
    )
    print(f"\n| world | {' | '.join(EFFECTS)} |\n|---|{'---|' * len(EFFECTS)}", flush=True)
    for name in arguments.worlds:
        scores = []
        for fold in arguments.folds:
            path = arguments.output / f"{split}_{arguments.episodes}_{name.replace(' ', '_')}_{fold}.json"
            compute = partial(score, WORLDS[name], fold, split, arguments.episodes)
            scores.append(kept(path, compute, Pictograms(fold, split).classes))
        print(row(name, scores), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("search", "novel"), help="on base, or on novel classes")
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=list(WORLDS), metavar="NAME")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3], help="folds (default: all four)")
    parser.add_argument("--episodes", type=int, default=100, help="episodes a fold (default 100)")
    parser.add_argument("--output", type=Path, required=True, help="folder for all results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    table(arguments, "novel" if arguments.step == "novel" else "base")


if __name__ == "__main__":
    main()
