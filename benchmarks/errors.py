"""What keeps the toy's mIoU where it is: python benchmarks/errors.py [--folds 0 2] [--episodes 100]

Looks at base-class episodes alone, so that novel ones stay untouched: what FSSAM's masks cover besides the target; how
far the prior tells the target from other objects, on Pictograms and on random classes; what FSSAM would make of a
prior that is right about the objects; and why IMR and SCMA's bias change so little. Tests never run this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab import FSSAM, Episode, Pictograms, load_model
from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import collate
from fss_lab.figures.prediction import iou
from fss_lab.method.prompts import min_max, resize
from fss_lab.method.trace import Trace
from fss_lab.metrics import soft_iou
from fss_lab.toyworld.pictograms import CLASS_NAMES, scene_episode
from fss_lab.toyworld.scenes import IGNORE, Scene
from recipes.random_classes import RandomScenes

THRESHOLDS = (0.3, 0.4, 0.5, 0.6)
AREAS = ("target", "others", "background")


@dataclass(frozen=True)
class Case:
    """An episode with one support, and what stands where in its query."""

    episode: Episode
    scene: Scene

    def area(self, which: str) -> Tensor:
        """(H, W) bool: the pixels of the "target", of "others", or of the "background"; border rings left out."""
        target = self.episode.query_mask == 1
        instances = torch.from_numpy(self.scene.instances)
        thing = (instances > 0) & (instances != IGNORE)
        return {"target": target, "others": thing & ~target, "background": instances == 0}[which]

    def objects(self) -> Iterator[tuple[bool, Tensor]]:
        """Whether it is of the class asked for, and the pixels (H, W) of every object that can be seen."""
        for number, class_id in enumerate(self.scene.class_ids, start=1):
            pixels = torch.from_numpy(self.scene.instances == number)
            if pixels.sum() >= 200:
                yield class_id == self.episode.class_id, pixels

    def means(self, prior: Tensor) -> tuple[list[float], list[float]]:
        """The mean of a prior (H, W) on each target, and on each other object."""
        found: dict[bool, list[float]] = {True: [], False: []}
        for wanted, pixels in self.objects():
            found[wanted].append(float(prior[pixels].mean()))
        return found[True], found[False]


def pictograms(fold: int, count: int, seed: int) -> list[Case]:
    """Base-class episodes of a fold."""
    drawn = map(Pictograms(fold, "base", 1, seed, episodes=count).scenes, range(count))
    return [Case(scene_episode(scenes, class_id, CLASS_NAMES[class_id]), scenes[0]) for class_id, scenes in drawn]


def random_classes(corpus: RandomScenes, count: int, seed: int) -> list[Case]:
    """Episodes of a corpus of random classes."""
    rng, known = np.random.default_rng(seed), len(corpus.classes)
    cases = []
    for _ in range(count):
        target = int(rng.integers(known))
        others = [c for c in range(known) if c != target]
        scenes = []
        for _ in range(2):
            extra = rng.choice(others, int(rng.integers(1, 4)), replace=False).tolist()
            scenes.append(corpus.scene(rng, rng.permutation([*extra, target]).tolist()))
        if all(scene.area(target) for scene in scenes):
            cases.append(Case(scene_episode(scenes, target, f"random {target}"), scenes[0]))
    return cases


@torch.inference_mode()
def predict(
    model: FSSAM,
    cases: list[Case],
    cache: FeatureCache | None = None,
    change: Callable[[Case, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Predicted masks and discriminative priors, each (N, H, W). change: (case, prior) -> another prior for FSSAM."""
    masks, priors = [], []
    for start in range(0, len(cases), 8):
        part = cases[start : start + 8]
        encoded = model.encode(collate([case.episode for case in part]), cache)
        guess = encoded.priors
        assert guess is not None
        if change is not None:
            made_up = torch.stack([change(c, p) for c, p in zip(part, guess.discriminative, strict=True)])
            encoded = replace(encoded, priors=replace(guess, foreground=made_up, discriminative=made_up))
        masks.append(model.predict(encoded).logits > 0)
        priors.append(guess.discriminative[:, 0])
    return torch.cat(masks), torch.cat(priors)


def right_about_objects(target: float, others: float) -> Callable[[Case, Tensor], Tensor]:
    """A prior of `target` on the target and of `others` on all other objects, as coarse as the features'."""

    def change(case: Case, prior: Tensor) -> Tensor:
        sharp = target * case.area("target").float() + others * case.area("others").float()
        return F.interpolate(F.adaptive_avg_pool2d(sharp[None, None], 32), prior.shape[-2:], mode="bilinear")[0]

    return change


def mean_iou(cases: list[Case], masks: Tensor) -> float:
    """In percent, mean over episodes."""
    return 100 * float(np.mean([iou(mask, case.episode.query_mask) for mask, case in zip(masks, cases, strict=True)]))


def at_own_threshold(case: Case, prior: Tensor) -> Tensor:
    """The prior stretched so that 0.5 lies halfway between the least likely target and the likeliest other object."""
    targets, others = case.means(prior[0])
    if not targets or not others:
        return prior
    middle = min(max((min(targets) + max(others)) / 2, 0.05), 0.95)
    return torch.where(prior < middle, prior * 0.5 / middle, 0.5 + (prior - middle) * 0.5 / (1 - middle))


def evened_out(case: Case, prior: Tensor) -> Tensor:
    """The prior with the mean of each object on all of it, as if every patch knew what its object is."""
    prior = prior.clone()
    for _, pixels in case.objects():
        prior[:, pixels] = prior[:, pixels].mean()
    return prior


def print_coverage(cases: list[Case], masks: Tensor) -> None:
    print("What FSSAM's masks cover, in percent of the target's area\n")
    print("| a target of | IoU | target | other objects | background |\n|---|---|---|---|---|")
    order = np.argsort([int(case.area("target").sum()) for case in cases])
    small, middle, large = np.array_split(order, 3)
    for name, part in (("all sizes", order), ("small", small), ("middle", middle), ("large", large)):
        cells = [np.mean([iou(masks[i], cases[i].episode.query_mask) for i in part])]
        for which in AREAS:
            covered = [(masks[i] & cases[i].area(which)).sum() / cases[i].area("target").sum() for i in part]
            cells.append(np.mean([float(x) for x in covered]))
        print(f"| {name} | {' | '.join(f'{100 * x:.0f}' for x in cells)} |")


def print_telling_apart(sets: dict[str, tuple[list[Case], Tensor]]) -> None:
    print(
        "\nOf the targets / of the other objects, those whose mean discriminative prior is above a threshold; and the"
    )
    print("scenes in which every target has a higher one than every other object; percent\n")
    print(f"| scenes | {' | '.join(map(str, THRESHOLDS))} | all in order |\n|---|{'---|' * (len(THRESHOLDS) + 1)}")
    for name, (cases, priors) in sets.items():
        means = [case.means(prior) for case, prior in zip(cases, priors, strict=True)]
        ordered = [min(targets) > max(others) for targets, others in means if targets and others]
        found, wrong = (np.concatenate(each) for each in zip(*means, strict=True))
        cells = [f"{100 * np.mean(found > t):.0f} / {100 * np.mean(wrong > t):.0f}" for t in THRESHOLDS]
        print(f"| {name} | {' | '.join(cells)} | {100 * np.mean(ordered):.0f} |")


def print_mended_priors(models: dict[int, FSSAM], cases: dict[int, list[Case]]) -> None:
    """What one kind of error alone costs: the prior is put right in one way, and in no other."""
    changes: dict[str, Callable[[Case, Tensor], Tensor]] = {
        "as it is": lambda case, prior: prior,
        "each scene's own threshold moved to 0.5": at_own_threshold,
        "each object's mean on all of it": evened_out,
        "0 on other objects": lambda case, prior: prior * ~case.area("others"),
        "1 on the target": lambda case, prior: torch.maximum(prior, case.area("target").float()),
    }
    print("\nIoU with the discriminative prior put right in one way (and in the place of the foreground prior)\n")
    print("| prior | IoU |\n|---|---|")
    caches = {fold: FeatureCache() for fold in cases}
    for name, change in changes.items():
        each = [mean_iou(own, predict(models[fold], own, caches[fold], change)[0]) for fold, own in cases.items()]
        print(f"| {name} | {np.mean(each):.0f} |")


def print_made_up_priors(model: FSSAM, cases: list[Case]) -> None:
    print(
        "\nIoU with a prior that is right about the objects: its value on the target (rows), on all others (columns)\n"
    )
    levels = (0.0, 0.3, 0.4, 0.5, 0.6)
    print(f"| | {' | '.join(map(str, levels))} |\n|---|{'---|' * len(levels)}")
    cache = FeatureCache()
    for target in (1.0, 0.7):
        cells = [
            mean_iou(cases, predict(model, cases, cache, right_about_objects(target, others))[0]) for others in levels
        ]
        print(f"| {target} | {' | '.join(f'{x:.0f}' for x in cells)} |")


@torch.inference_mode()
def traced(models: dict[int, FSSAM], cases: dict[int, list[Case]]) -> Iterator[tuple[list[Case], Trace]]:
    """The cases in batches, each with the trace of FSSAM on it."""
    for fold, own in cases.items():
        for start in range(0, len(own), 8):
            part = own[start : start + 8]
            encoded = models[fold].encode(collate([case.episode for case in part]))
            trace = models[fold].predict(encoded, trace=True).trace
            assert trace is not None
            yield part, trace


def areas(part: list[Case], which: str) -> Tensor:
    """An area of each case, (B, 1, H, W) in {0, 1}."""
    return torch.stack([case.area(which).float() for case in part])[:, None]


def print_refinement(batches: Iterable[tuple[list[Case], Trace]]) -> None:
    """What IMR does to the prior at the memory grid."""
    found: dict[str, list[Tensor]] = {}
    for part, trace in batches:
        assert trace.pseudo_prior is not None
        height, width = trace.support_masks_refine.shape[-2:]
        cells = {name: F.adaptive_avg_pool2d(areas(part, name), (height, width)) for name in AREAS}
        truth = resize(areas(part, "target"), (height, width))
        rounds = {f"after round {number}": done.prior for number, done in enumerate(trace.rounds, start=1)}
        priors = {"before refinement": resize(trace.pseudo_prior, (height, width)), **rounds, "true mask": truth}
        for name, prior in priors.items():
            values = [soft_iou(prior, cells["target"]), soft_iou(prior, truth)]
            for share in cells.values():
                inside = (share > 0.9).float()  # no cell: not a number, left out below
                values.append((prior * inside).sum((-2, -1)) / inside.sum((-2, -1)))
            found.setdefault(name, []).append(torch.cat(values, dim=1))
    print(
        "\nThe prior at the memory grid: soft IoU with the share of each cell that the target covers, and with the true"
    )
    print("mask resized as a prior is; its mean on cells of the target, of other objects, and of the background\n")
    print(f"| prior | covered share | resized mask | {' | '.join(AREAS)} |\n|---|---|---|{'---|' * len(AREAS)}")
    for name, parts in found.items():
        print(f"| {name} | {' | '.join(f'{x:.2f}' for x in torch.cat(parts).nanmean(0).tolist())} |")


def print_unbiased(batches: Iterable[tuple[list[Case], Trace]]) -> None:
    """Where SCMA's bias, 10 min(0, a + c - 1), could act, and why it does not."""
    sums: dict[int, Tensor] = {}
    for part, trace in batches:
        height, width = trace.support_masks_attention.shape[-2:]
        covered = F.adaptive_avg_pool2d(areas(part, "target"), (height, width)).flatten(1)
        pairs = covered[:, None, :, None] * (covered == 0)[:, None, None]  # B, 1, N, N: object -> clear of it
        pairs = pairs / covered.sum(1)[:, None, None, None]  # every episode counts alike, as in the ablation
        for number, layer in enumerate(trace.layers, start=1):
            assert layer.calibration is not None
            columns = layer.columns.query
            weight = layer.attention_before[..., columns] * pairs
            confidence = min_max(layer.logits[..., columns], dim=(-1,))
            term = layer.calibration.flatten(-2).unsqueeze(-2).expand_as(confidence)
            unbiased = (layer.bias[..., columns] == 0).float()
            found = torch.stack([(weight * x).sum().double() for x in (1, unbiased, confidence, term)])
            sums[number] = sums.get(number, 0) + found
    print("\nOf the attention on background clear of the object: percent on keys without bias; the means of a and c\n")
    print("| layer | without bias | a | c |\n|---|---|---|---|")
    for number, found in sums.items():
        _, unbiased, confidence, term = found / found[0]
        print(f"| {number} | {100 * unbiased:.0f} | {confidence:.2f} | {term:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 2], help="folds (default 0 2)")
    parser.add_argument("--episodes", type=int, default=100, help="episodes a fold (default 100)")
    parser.add_argument("--seed", type=int, default=777, help="chooses the episodes (default 777)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of PyTorch (default 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"1-shot base-class episodes, {arguments.episodes} a fold, folds {arguments.folds}, seed {arguments.seed}\n")
    models = {fold: load_model("toy", fold=fold) for fold in arguments.folds}
    cases = {fold: pictograms(fold, arguments.episodes, arguments.seed) for fold in arguments.folds}
    found = [predict(models[fold], cases[fold]) for fold in arguments.folds]
    together = [case for fold in arguments.folds for case in cases[fold]]
    masks, priors = (torch.cat(parts) for parts in zip(*found, strict=True))
    print_coverage(together, masks)
    sets = {"Pictograms": (together, priors)}
    first = arguments.folds[0]
    # one pyramid was trained on the corpus of 4,000 classes with seed 0, the other on 500
    for name, corpus in (
        ("random classes, not pre-trained on", RandomScenes(classes=200, seed=777)),
        ("random classes of pre-training", RandomScenes(classes=4000)),
    ):
        new = random_classes(corpus, len(together), arguments.seed)
        sets[name] = (new, predict(models[first], new)[1])
    print_telling_apart(sets)
    print_mended_priors(models, cases)
    print_made_up_priors(models[first], cases[first])
    print_refinement(traced(models, cases))
    print_unbiased(traced(models, cases))  # again: all traces at once would take gigabytes


if __name__ == "__main__":
    main()
