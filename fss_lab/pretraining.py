"""How the toy backbones were made: SAM 2 in miniature on same-identity clips, the features across identities.

Both learn from randomly composed classes only (`fss_lab.datasets.random_classes`), never from a Pictogram.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.toy import FEATURE_INPUT, IMAGE_SIZE, ToyFeatures, build_toy_sam2
from fss_lab.checkpoints import save_safetensors
from fss_lab.datasets.random_classes import RandomScenes
from fss_lab.datasets.scenes import IGNORE, Scene
from fss_lab.method.prompts import cosine_map, discriminative_prior, min_max, prototype
from fss_lab.training import Losses, cosine, run_loop


def pretrain_sam2(directory: Path, *, steps: int = 1450, clips: int = 8, seed: int = 0) -> Sam2Backbone:
    """Train SAM 2 in miniature on its own task: shown an object in one frame, segment the same one in another.

    Each step renders `clips` clips of two frames; in every clip two objects are followed in both directions.
    """
    torch.manual_seed(seed)
    backbone = build_toy_sam2().train()
    corpus = RandomScenes(classes=1000, size=IMAGE_SIZE)

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        pairs = [corpus.clip(rng, 2, int(rng.integers(2, 5)), jump=bool(rng.random() < 0.75)) for _ in range(clips)]
        return sam2_losses(backbone, pairs)

    _run(backbone, losses, directory, steps, 8e-4, seed)
    _save(directory, backbone.model, corpus, steps, seed)
    return backbone.eval()


def sam2_losses(backbone: Sam2Backbone, pairs: list[list[Scene]]) -> Losses:
    """Dice + 5 BCE of the best of the three masks, the IoU and visibility heads, and an auxiliary match of features."""
    clips = len(pairs)
    frames = [first for first, _ in pairs] + [second for _, second in pairs]
    images = torch.from_numpy(np.stack([scene.image for scene in frames])).permute(0, 3, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        features = backbone.encode(images)
    features = features.to(torch.float32)
    # Four tasks a clip: objects 1 and 2, first frame to second and back.
    one, two = torch.arange(clips), torch.arange(clips) + clips
    source, target = torch.cat([one, one, two, two]), torch.cat([two, two, one, one])
    objects = torch.tensor([1, 2, 1, 2]).repeat_interleave(clips)
    instances = torch.from_numpy(np.stack([scene.instances for scene in frames])).long()
    # In the last of every 16 tasks the memory is of another clip: the object is not there.
    absent = torch.arange(len(source)) % 16 == 15
    source = torch.where(absent, (source + 1) % clips + source // clips * clips, source)
    shown = (instances[source] == objects[:, None, None]).float()[:, None]
    wanted = (instances[target] == objects[:, None, None]).float()[:, None]
    known = (instances[target] != IGNORE).float()[:, None]

    memory = backbone.remember(features[source], shown)
    tokens = backbone.memory_tokens([(memory.memory, memory.position)], [memory.pointer])
    query = features[target]
    decoded = backbone.decode(backbone.attend(query, tokens), query)

    size = decoded.masks.shape[-1]
    truth, weight = F.adaptive_avg_pool2d(wanted, size), F.adaptive_avg_pool2d(known, size)
    visible = (truth.amax(dim=(1, 2, 3)) > 0) & ~absent
    per_mask = dice(decoded.masks, truth, weight) + 5 * bce(decoded.masks, truth, weight)  # tasks, 3
    best = per_mask.argmin(dim=1)
    mask_loss = (per_mask.amin(dim=1) + 0.2 * per_mask.mean(dim=1))[visible].mean()
    actual = iou(decoded.masks.detach(), truth, weight)
    iou_loss = F.l1_loss(decoded.ious[visible], actual[visible])
    score_loss = F.binary_cross_entropy_with_logits(decoded.object_score[:, 0], visible.float())
    match_loss = _match_loss(features.top[source], shown, query.top, truth, visible)
    return {
        "loss": mask_loss + iou_loss + 0.2 * score_loss + match_loss,
        "iou": actual[visible, best[visible]].mean(),
        "mask": mask_loss,
        "match": match_loss,
        "score": score_loss,
    }


def pretrain_features(directory: Path, *, steps: int = 6000, classes_a_step: int = 12, seed: int = 0) -> ToyFeatures:
    """Train the dense features: patches of one class agree across identities, and the prior is right at 0.5.

    Each step renders two scenes of each of `classes_a_step` classes (at least 2), with distractors of the others.
    """
    torch.manual_seed(seed)
    corpus = RandomScenes(classes=600, size=FEATURE_INPUT)
    model = ToyFeatures()
    # A direction for the background and for every class; only needed while training.
    directions = nn.Embedding(len(corpus.classes) + 1, model.project.out_channels)
    nn.init.normal_(directions.weight, std=0.05)
    trained = nn.ModuleDict({"features": model, "directions": directions})

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([seed, step])
        chosen = [int(c) for c in rng.choice(len(corpus.classes), classes_a_step, replace=False)]
        scenes = []
        for target in chosen * 2:
            others = [c for c in chosen if c != target]
            extra = [int(c) for c in rng.choice(others, int(rng.integers(1, min(4, classes_a_step))), replace=False)]
            scenes.append(corpus.scene(rng, [*extra, target]))
        return feature_losses(model, directions, scenes, chosen)

    _run(trained, losses, directory, steps, 1.5e-3, seed)
    _save(directory, model, corpus, steps, seed)
    return model.eval()


def feature_losses(model: ToyFeatures, directions: nn.Embedding, scenes: list[Scene], chosen: list[int]) -> Losses:
    """Both priors against the query's mask, and the class of every object and patch among those of the corpus.

    scenes: first and second half hold class `chosen[i]` in their i-th scene; each half is the other's support.
    """
    count = len(chosen)
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([scene.mask(chosen[i % count]) for i, scene in enumerate(scenes)]))
    with torch.autocast("cpu", torch.bfloat16):
        features = model(images.contiguous(memory_format=torch.channels_last))
    features = features.float()  # 2n, c, 32, 32
    size = features.shape[-1]
    truth = F.adaptive_avg_pool2d((masks == 1).float()[:, None], size)
    weight = F.adaptive_avg_pool2d((masks != IGNORE).float()[:, None], size)
    swap = torch.cat([torch.arange(count, 2 * count), torch.arange(count)])
    prior = min_max(cosine_map(features, prototype(features, truth)[swap]))
    unlike = min_max(cosine_map(features, prototype(features, 1 - truth)[swap]))
    discriminative = discriminative_prior(prior, unlike)
    # SAM 2's memory encoder takes a prior for a mask with its edge at 0.5: so the losses put the edge there.
    prior_loss = bce(12 * (prior - 0.5), truth, weight).mean() + dice(12 * (prior - 0.5), truth, weight).mean()
    discriminative_loss = bce(12 * (discriminative - 0.5), truth, weight).mean()

    numbers = torch.from_numpy(np.stack([scene.labels(ring=-1) for scene in scenes]))[:, 2::4, 2::4]
    counted = (numbers > 0) | ((numbers == 0) & (torch.rand(numbers.shape) < 0.1))  # most patches are background
    patches = features.permute(0, 2, 3, 1)[counted]
    # Patches of one class in one scene, averaged: the object as a whole.
    key = numbers[counted] + 10_000 * counted.nonzero()[:, 0]
    groups, group = key.unique(return_inverse=True)
    objects = torch.zeros(len(groups), patches.shape[1]).index_add(0, group, patches)
    towards = F.normalize(directions.weight, dim=1).T
    patch_loss = F.cross_entropy(16 * F.normalize(patches, dim=1) @ towards, numbers[counted])
    object_loss = F.cross_entropy(16 * F.normalize(objects, dim=1) @ towards, groups % 10_000)
    return {
        "loss": prior_loss + discriminative_loss + object_loss + 0.5 * patch_loss,
        "prior_iou": iou(prior.detach() - 0.5, truth, weight).mean(),
        "discriminative_iou": iou(discriminative.detach() - 0.5, truth, weight).mean(),
        "prior": prior_loss,
        "object": object_loss,
        "patch": patch_loss,
    }


def _run(
    model: nn.Module,
    losses: Callable[[int], Losses],
    directory: Path,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    run_loop(
        model, model.parameters(), losses, directory,
        steps=steps, learning_rate=learning_rate, schedule=cosine, weight_decay=0.02, clip=1.0, seed=seed,
    )  # fmt: skip


def _save(directory: Path, model: nn.Module, corpus: RandomScenes, steps: int, seed: int) -> None:
    """Write `weights.safetensors`: half precision for everything but counters."""
    state = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    facts = {"classes": len(corpus.classes), "steps": steps, "seed": seed}
    save_safetensors(directory / "weights.safetensors", state, {name: str(value) for name, value in facts.items()})


def dice(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Soft Dice loss of each map: logits (B, M, h, w) against truth (B, 1, h, w) in 0..1 -> (B, M)."""
    p = logits.sigmoid() * weight
    overlap = (p * truth).sum(dim=(2, 3))
    return 1 - (2 * overlap + 1) / ((p**2).sum(dim=(2, 3)) + (truth**2 * weight).sum(dim=(2, 3)) + 1)


def bce(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy of each map, averaged over known pixels -> (B, M)."""
    each = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    return (each * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp(min=1)


def iou(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """IoU of each map thresholded at 0 -> (B, M)."""
    predicted, actual = (logits > 0) & (weight > 0.5), (truth > 0.5) & (weight > 0.5)
    both = (predicted & actual).sum(dim=(2, 3))
    return both / (predicted | actual).sum(dim=(2, 3)).clamp(min=1)


def _match_loss(support: Tensor, shown: Tensor, query: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """The object's prototype must find it among the query's image features; carries learning over the first plateau."""
    size = query.shape[-1]
    similarity = cosine_map(query, prototype(support, F.adaptive_avg_pool2d(shown, size)))
    target = F.adaptive_avg_pool2d(truth, size)
    return (
        F.binary_cross_entropy_with_logits(10 * (similarity - 0.4), target, reduction="none")
        .mean(dim=(1, 2, 3))[visible]
        .mean()
    )
