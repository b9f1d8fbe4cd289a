"""How the toy backbones were made: SAM 2 in miniature on same-identity clips, the features across identities.

    python -m recipes.pretrain sam2 --output runs/sam2
    python -m recipes.pretrain features --output runs/features

Both learn from randomly composed classes only (`recipes.random_classes`), never from a Pictogram.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fss_lab.backbones.checkpoints import save_safetensors
from fss_lab.backbones.sam2 import Memory, Sam2Backbone
from fss_lab.backbones.toy import FEATURE_INPUT, IMAGE_SIZE, FeaturePyramid, ToyFeatures, build_toy_sam2, pack
from fss_lab.errors import UserError
from fss_lab.method.prompts import cosine_map, discriminative_prior, min_max, prototype
from fss_lab.toyworld.scenes import IGNORE, Scene, silhouette
from fss_lab.training.checkpoints import only_run_in
from fss_lab.training.devices import one_device
from fss_lab.training.facts import facts_of
from fss_lab.training.loop import run_loop
from fss_lab.training.run import Learner, Losses, Run
from fss_lab.training.signals import ignore_signals
from recipes.muon import MuonAdamW
from recipes.random_classes import RandomScenes

GUESS_SIZE = 32  # cells along each side of a damaged mask, as of a prior
SHAPE_SIZE = 16  # cells along each side of the silhouettes that the features learn to predict
T = TypeVar("T")


def _bfloat16_on_cuda(device: torch.device) -> torch.autocast:
    """Autocast on CUDA; nothing on a CPU, since many only emulate bfloat16, at several times the cost of float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def hold(step: int, steps: int) -> float:
    """Learning-rate factor: 50 steps of warm-up, 1, and over the last fifth of the steps linearly down to 0."""
    return min(1.0, (step + 1) / 50, 5 * (1 - step / steps))


def pretrain_sam2(
    directory: Path, *, steps: int = 2400, clips: int = 8, seed: int = 0, accelerator: str = "auto"
) -> Sam2Backbone:
    """Train SAM 2 in miniature on its own tasks: given an object in one frame, segment the same one in another; and
    given a damaged mask of it in the frame itself, repair the mask.

    Each step renders `clips` clips of two frames; in every clip two objects are followed in both directions, in half of
    these tasks with a damaged mask, instead of the other frame or beside it (`damage`).
    accelerator: cpu, cuda, or auto for CUDA where there is one.

    Raises:
        RunError: the directory is another run's or in use, a device is missing, memory or the disk is full.
        CheckpointError, FileError: a checkpoint cannot be read or written.
        NotFiniteError: a loss or gradient is not finite; it has not reached the weights.
    """
    torch.manual_seed(seed)
    backbone = build_toy_sam2().train()
    corpus = RandomScenes(classes=4000, size=IMAGE_SIZE)
    matrices = (m.weight for m in backbone.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    hidden = [weight for weight in matrices if weight.shape[1] > 3]  # not of the image, nor of one channel each
    _run(
        backbone, hidden, partial(_clips, corpus, clips, seed), lambda pairs: sam2_losses(backbone, pairs), directory,
        lambda: _save(directory, backbone.model.state_dict(), corpus, steps, seed),
        accelerator=accelerator, steps=steps, learning_rate=8e-4, seed=seed, clips=clips,
    )  # fmt: skip
    return backbone.eval()


def _clips(corpus: RandomScenes, count: int, seed: int, step: int) -> list[list[Scene]]:
    """The clips of a step, two frames each."""
    rng = np.random.default_rng([seed, step])
    return [corpus.clip(rng, 2, int(rng.integers(2, 5)), jump=bool(rng.random() < 0.75)) for _ in range(count)]


def sam2_losses(backbone: Sam2Backbone, pairs: list[list[Scene]]) -> Losses:
    """Dice + 5 BCE of the best of the three masks, the IoU and visibility heads, and an auxiliary match of features."""
    clips = len(pairs)
    frames = [first for first, _ in pairs] + [second for _, second in pairs]
    device = next(backbone.parameters()).device
    images = torch.from_numpy(np.stack([scene.image for scene in frames])).permute(0, 3, 1, 2).to(device)
    # Four tasks a clip: objects 1 and 2, first frame to second and back.
    one, two = torch.arange(clips), torch.arange(clips) + clips
    source, target = torch.cat([one, one, two, two]), torch.cat([two, two, one, one])
    objects = torch.tensor([1, 2, 1, 2]).repeat_interleave(clips)
    instances = torch.from_numpy(np.stack([scene.instances for scene in frames])).long()
    # In one of every 16 tasks the memory is of another clip: the object is not there.
    tasks = torch.arange(len(source))
    absent = tasks % 16 == 13
    source = torch.where(absent, (source + 1) % clips + source // clips * clips, source)
    source_masks = (instances[source] == objects[:, None, None]).float()[:, None].to(device)
    target_masks = (instances[target] == objects[:, None, None]).float()[:, None].to(device)
    known = (instances[target] != IGNORE).float()[:, None].to(device)
    others = (known - target_masks) * (instances[target] > 0).float()[:, None].to(device)
    damaged = damage(target_masks, others)
    # What is remembered: the other frame, in half of the tasks; the frame itself with a damaged mask; or both.
    kinds = [tasks[tasks % 4 < 2], tasks[tasks % 4 == 2], tasks[tasks % 4 == 3]]
    followed, mended, both = (kind.to(device) for kind in kinds)
    absent, source, target = absent.to(device), source.to(device), target.to(device)

    def before(chosen: Tensor) -> Memory:
        return backbone.remember(features[source[chosen]], source_masks[chosen])

    def guess(chosen: Tensor) -> Memory:
        return backbone.remember(features[target[chosen]], damaged[chosen])

    def attend(chosen: Tensor, *memories: Memory) -> Tensor:
        tokens = backbone.memory_tokens([(m.memory, m.position) for m in memories], [m.pointer for m in memories])
        return backbone.attend(features[target[chosen]], tokens)

    with _bfloat16_on_cuda(device):
        features = backbone.encode(images)
        attended = [
            attend(followed, before(followed)),
            attend(mended, guess(mended)),
            attend(both, before(both), guess(both)),
        ]
        order = torch.cat([followed, mended, both]).argsort()
        query = features[target]
        decoded = backbone.decode(torch.cat(attended)[order], query)

    size = decoded.masks.shape[-1]
    truth, weight = F.adaptive_avg_pool2d(target_masks, size), F.adaptive_avg_pool2d(known, size)
    visible = (truth.amax(dim=(1, 2, 3)) > 0) & ~absent
    per_mask = dice(decoded.masks, truth, weight) + 5 * bce(decoded.masks, truth, weight)  # tasks, 3
    best = per_mask.argmin(dim=1)
    mask_loss = (per_mask.amin(dim=1) + 0.2 * per_mask.mean(dim=1))[visible].mean()
    actual = iou(decoded.masks.detach(), truth, weight)
    iou_loss = F.l1_loss(decoded.ious[visible].float(), actual[visible])
    score_loss = F.binary_cross_entropy_with_logits(decoded.object_score[:, 0].float(), visible.float())
    match_loss = _match_loss(features.top.float()[source], source_masks, query.top.float(), truth, visible)
    reached = actual[torch.arange(len(best), device=device), best].where(visible, torch.nan)
    return {
        "loss": mask_loss + iou_loss + 0.2 * score_loss + match_loss,
        "iou": reached[followed].nanmean(),
        "mended_iou": reached[mended].nanmean(),
        "mask": mask_loss,
        "match": match_loss,
        "score": score_loss,
    }


def damage(masks: Tensor, others: Tensor) -> Tensor:
    """Masks as a guess would give them: coarse, uneven, too faint here and there, and spilling on to other objects.

    masks, others: (n, 1, H, W) in 0..1, the object and everything that is not background beside it.
    Returns (n, 1, H, W) in 0..1. Draws from torch's random state.
    """
    n, device = len(masks), masks.device

    def uneven(strength: float, cells: int) -> Tensor:
        rough = strength * torch.randn(n, 1, cells, cells, device=device)
        return F.interpolate(rough, (GUESS_SIZE, GUESS_SIZE), mode="bilinear", align_corners=False)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, device=device)

    level = between(0.4, 1.1)
    target, other = (F.adaptive_avg_pool2d(part, GUESS_SIZE) for part in (masks, others))
    guess = target * (level + uneven(0.25, 4)) + other * (level * between(0, 0.8) + uneven(0.2, 4)) + uneven(0.05, 8)
    guess = torch.lerp(guess, F.avg_pool2d(guess, 3, stride=1, padding=1), between(0, 1))
    return F.interpolate(guess.clamp(0, 1), masks.shape[-2:], mode="bilinear", align_corners=False)


class FeatureHeads(nn.Module):
    """What the features must tell while they learn, and nobody needs afterwards: which class, and what shape."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Embedding(classes + 1, channels)  # one for the background and one for every class
        nn.init.normal_(self.directions.weight, std=0.05)
        self.shape = nn.Sequential(nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, SHAPE_SIZE**2))

    def class_loss(self, features: Tensor, numbers: Tensor) -> Tensor:
        """features (n, c) against class numbers (n,), 0 = background."""
        return F.cross_entropy(16 * F.normalize(features) @ F.normalize(self.directions.weight).T, numbers)

    def shape_loss(self, features: Tensor, shapes: Tensor) -> Tensor:
        """features (n, c) against silhouettes (n, SHAPE_SIZE, SHAPE_SIZE) in 0..1."""
        return F.binary_cross_entropy_with_logits(self.shape(10 * F.normalize(features)), shapes.flatten(1))


def pretrain_features(
    directory: Path, *, steps: int = 6200, classes_a_step: int = 12, seed: int = 0, accelerator: str = "auto"
) -> ToyFeatures:
    """Train the dense features: patches of one class agree across identities, and the prior is right at 0.5.

    The pyramids learn side by side from the same scenes, each by itself. Each step renders two scenes of each of
    `classes_a_step` classes (at least 2), with distractors of the others. accelerator: see `pretrain_sam2`.

    Raises:
        RunError, CheckpointError, FileError, NotFiniteError: see `pretrain_sam2`.
    """
    torch.manual_seed(seed)
    corpus = RandomScenes(classes=4000, size=FEATURE_INPUT)
    model = ToyFeatures()
    pyramids = cast(Sequence[FeaturePyramid], model.pyramids)
    heads = [FeatureHeads(pyramid.project.out_channels, len(corpus.classes)) for pyramid in pyramids]

    def losses(pairs: tuple[list[Scene], list[int]]) -> Losses:
        rows = [feature_losses(p, h, *pairs) for p, h in zip(pyramids, heads, strict=True)]
        return {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}

    convolutions = ([m.weight for m in p.modules() if isinstance(m, nn.Conv2d)] for p in pyramids)
    hidden = [weight for weights in convolutions for weight in weights[1:-1]]
    _run(
        nn.ModuleDict({"features": model, "heads": nn.ModuleList(heads)}), hidden,
        partial(_class_pairs, corpus, classes_a_step, seed), losses, directory,
        lambda: _save(directory, pack(model.state_dict()), corpus, steps, seed),
        accelerator=accelerator, steps=steps, learning_rate=1.5e-3, seed=seed, classes_a_step=classes_a_step,
    )  # fmt: skip
    return model.eval()


def _class_pairs(corpus: RandomScenes, count: int, seed: int, step: int) -> tuple[list[Scene], list[int]]:
    """The scenes of a step, two of each of `count` classes (all firsts, then all seconds), and those classes."""
    rng = np.random.default_rng([seed, step])
    chosen = [int(c) for c in rng.choice(len(corpus.classes), count, replace=False)]
    scenes = []
    for target in chosen * 2:
        others = [c for c in chosen if c != target]
        extra = [int(c) for c in rng.choice(others, int(rng.integers(1, min(4, count))), replace=False)]
        scenes.append(corpus.scene(rng, [*extra, target]))
    return scenes, chosen


def feature_losses(pyramid: FeaturePyramid, heads: FeatureHeads, scenes: list[Scene], chosen: list[int]) -> Losses:
    """Both priors against the query's mask, and the class and shape of every object, predicted from its patches.

    scenes: first and second half hold class `chosen[i]` in their i-th scene; each half is the other's support.
    """
    count, device = len(chosen), pyramid.project.weight.device
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).to(device)
    masks = torch.from_numpy(np.stack([scene.mask(chosen[i % count]) for i, scene in enumerate(scenes)])).to(device)
    instances = torch.from_numpy(np.stack([scene.instances for scene in scenes])).to(device)
    with _bfloat16_on_cuda(device):
        features = pyramid(images.contiguous(memory_format=torch.channels_last))
    features = features.float()  # 2n, c, 32, 32
    size = features.shape[-1]
    truth = F.adaptive_avg_pool2d((masks == 1).float()[:, None], size)
    weight = F.adaptive_avg_pool2d((masks != IGNORE).float()[:, None], size)
    swap = torch.arange(2 * count, device=device).roll(count)
    prior = min_max(cosine_map(features, prototype(features, truth)[swap]))
    unlike = min_max(cosine_map(features, prototype(features, 1 - truth)[swap]))
    discriminative = discriminative_prior(prior, unlike)
    # SAM 2's memory encoder takes a prior for a mask with its edge at 0.5: so the losses put the edge there.
    objects = F.adaptive_avg_pool2d(((instances > 0) & (instances != IGNORE)).float()[:, None], size)
    balanced = _balance(truth, (objects - truth).clamp(min=0), (weight - objects).clamp(min=0))
    prior_loss = bce(12 * (prior - 0.5), truth, balanced).mean() + dice(12 * (prior - 0.5), truth, weight).mean()
    discriminative_loss = bce(12 * (discriminative - 0.5), truth, balanced).mean()

    patch_objects = instances[:, 2::4, 2::4]  # the object under the centre of every patch
    counted = ((patch_objects > 0) & (patch_objects != IGNORE)) | (
        (patch_objects == 0) & (torch.rand(patch_objects.shape, device=device) < 0.1)
    )  # most is background
    patches = features.permute(0, 2, 3, 1)[counted]
    # Patches of one object, averaged: the object as a whole. Its key: 256 * scene + instance number.
    keys, group = (patch_objects[counted] + 256 * counted.nonzero()[:, 0]).unique(return_inverse=True)
    wholes = torch.zeros(len(keys), patches.shape[1], device=device).index_add(0, group, patches)
    places = [divmod(key, 256) for key in keys.tolist()]
    classes = [scenes[i].class_ids[number - 1] + 1 if number else 0 for i, number in places]
    numbers = torch.tensor(classes, device=device)
    real = numbers > 0
    shapes = torch.zeros(len(keys), SHAPE_SIZE, SHAPE_SIZE, device=device)
    shapes[real] = torch.from_numpy(
        np.stack([silhouette(scenes[i].identities[number - 1], SHAPE_SIZE) for i, number in places if number])
    ).to(device)
    shapes = (shapes + shapes.flip(2)) / 2  # nothing in a scene tells whether an object is mirrored
    object_loss, shape_loss = heads.class_loss(wholes, numbers), heads.shape_loss(wholes[real], shapes[real])
    patches, group = patches[::3], group[::3]  # neighbours say much the same
    patch_loss = heads.class_loss(patches, numbers[group])
    shape_loss = shape_loss + heads.shape_loss(patches[real[group]], shapes[group[real[group]]])
    return {
        "loss": prior_loss + discriminative_loss + object_loss + 0.5 * patch_loss + 3 * shape_loss,
        "prior_iou": iou(prior.detach() - 0.5, truth, weight).mean(),
        "discriminative_iou": iou(discriminative.detach() - 0.5, truth, weight).mean(),
        "prior": prior_loss,
        "object": object_loss,
        "patch": patch_loss,
        "shape": shape_loss,
    }


def _balance(*regions: Tensor) -> Tensor:
    """Weights (B, 1, h, w) under which each region (B, 1, h, w), if it is there, counts as much as every other."""
    return torch.stack([region / (region.sum(dim=(2, 3), keepdim=True) + 4) for region in regions]).sum(dim=0)


def _run(
    model: nn.Module,
    hidden: Iterable[Tensor],
    make: Callable[[int], T],
    losses: Callable[[T], Losses],
    directory: Path,
    finish: Callable[[], None],
    *,
    accelerator: str,
    steps: int,
    learning_rate: float,
    seed: int,
    **settings: Any,
) -> None:
    """Train all of the model on one device. make: the data of a step, rendered ahead. finish: saves what was learnt."""
    fabric = one_device(accelerator)
    model.to(fabric.device)
    options = {"model": type(model).__name__, "steps": steps, "learning_rate": learning_rate, "seed": seed, **settings}
    learner = Learner(
        losses, list(model.parameters()), model.state_dict(), MuonAdamW(model, hidden, learning_rate=learning_rate),
        hold, clip=1.0,
    )  # fmt: skip

    def ahead(first: int) -> Any:
        data: Any = _Steps(make, steps)
        order = range(first, steps)
        return iter(
            DataLoader(data, None, sampler=order, num_workers=1, prefetch_factor=4, worker_init_fn=ignore_signals)
        )

    with only_run_in(directory, fabric):
        run_loop(fabric, Run(directory, facts_of(options), steps, seed), learner, ahead)
        finish()


class _Steps(Dataset[Any]):
    """What a run needs in each of its steps."""

    def __init__(self, make: Callable[[int], T], steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[list[int], Any]:
        return [step], self.make(step)


def _save(directory: Path, state: dict[str, Tensor], corpus: RandomScenes, steps: int, seed: int) -> None:
    """Write `weights.safetensors`: half precision for everything but whole numbers."""
    state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    facts = {"classes": len(corpus.classes), "steps": steps, "seed": seed}
    save_safetensors(directory / "weights.safetensors", state, {name: str(value) for name, value in facts.items()})


def dice(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Soft Dice loss of each map: logits (B, M, h, w) against truth (B, 1, h, w) in 0..1 -> (B, M)."""
    p = logits.sigmoid() * weight
    overlap = (p * truth).sum(dim=(2, 3))
    return 1 - (2 * overlap + 1) / ((p**2).sum(dim=(2, 3)) + (truth**2 * weight).sum(dim=(2, 3)) + 1)


def bce(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of each map, averaged with weights (B, 1, h, w) -> (B, M)."""
    losses = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    return (losses * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1e-3)


def iou(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """IoU of each map thresholded at 0 -> (B, M)."""
    predicted, actual = (logits > 0) & (weight > 0.5), (truth > 0.5) & (weight > 0.5)
    both = (predicted & actual).sum(dim=(2, 3))
    return both / (predicted | actual).sum(dim=(2, 3)).clamp(min=1)


def _match_loss(support: Tensor, source_masks: Tensor, query: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """The object's prototype must find it among the query's image features; carries learning over the first plateau."""
    size = query.shape[-1]
    similarity = cosine_map(query, prototype(support, F.adaptive_avg_pool2d(source_masks, size)))
    target = F.adaptive_avg_pool2d(truth, size)
    return (
        F.binary_cross_entropy_with_logits(10 * (similarity - 0.4), target, reduction="none")
        .mean(dim=(1, 2, 3))[visible]
        .mean()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of this module; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recipes.pretrain", description="Make a toy backbone from scratch.")
    parser.add_argument("network", choices=["sam2", "features"], help="which of the two toy backbones")
    parser.add_argument("--output", type=Path, required=True, help="directory of the log, checkpoint and weights")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: 2400 for sam2, 6200 for features)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the data and the first weights (default 0)")
    parser.add_argument(
        "--accelerator", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CUDA where there is one (default)"
    )
    arguments = parser.parse_args(argv)
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    run = pretrain_sam2 if arguments.network == "sam2" else pretrain_features
    try:
        run(arguments.output, seed=arguments.seed, accelerator=arguments.accelerator, **steps)
    except UserError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted; the same command resumes in {arguments.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
