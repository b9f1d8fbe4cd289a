"""What keeps the toy's mIoU where it is: python benchmarks/errors.py [--folds 0 2] [--episodes 100]

Looks at base-class episodes alone, so that novel ones stay untouched: what FSSAM's masks cover besides the target; how
far the prior tells the target from other objects, on Pictograms and on random classes that pre-training never saw; and
what FSSAM would make of a prior that is right about the objects. Tests never run this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.cache import FeatureCache
from fss_lab.datasets.pictograms import CLASS_NAMES, Pictograms, as_episode
from fss_lab.datasets.random_classes import RandomScenes
from fss_lab.datasets.scenes import IGNORE, Scene
from fss_lab.episode import Episode, collate
from fss_lab.figures.prediction import iou
from fss_lab.method import FSSAM
from fss_lab.models import load_model

THRESHOLDS = (0.3, 0.4, 0.5, 0.6)


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


def pictograms(fold: int, count: int, seed: int) -> list[Case]:
    """Base-class episodes of a fold."""
    drawn = map(Pictograms(fold, "base", 1, seed, episodes=count).scenes, range(count))
    return [Case(as_episode(scenes, class_id, CLASS_NAMES[class_id]), scenes[0]) for class_id, scenes in drawn]


def random_classes(count: int, seed: int) -> list[Case]:
    """Episodes of random classes that are not in the corpus of pre-training."""
    corpus, rng = RandomScenes(classes=200, seed=777), np.random.default_rng(seed)  # pre-training took seed 0
    cases = []
    for _ in range(count):
        target = int(rng.integers(200))
        others = [c for c in range(200) if c != target]
        scenes = []
        for _ in range(2):
            extra = rng.choice(others, int(rng.integers(1, 4)), replace=False).tolist()
            scenes.append(corpus.scene(rng, rng.permutation([*extra, target]).tolist()))
        if all(scene.area(target) for scene in scenes):
            cases.append(Case(as_episode(scenes, target, f"random {target}"), scenes[0]))
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


def print_coverage(cases: list[Case], masks: Tensor) -> None:
    print("What FSSAM's masks cover, in percent of the target's area\n")
    print("| a target of | IoU | target | other objects | background |\n|---|---|---|---|---|")
    order = np.argsort([int(case.area("target").sum()) for case in cases])
    small, middle, large = np.array_split(order, 3)
    for name, part in (("all sizes", order), ("small", small), ("middle", middle), ("large", large)):
        cells = [np.mean([iou(masks[i], cases[i].episode.query_mask) for i in part])]
        for which in ("target", "others", "background"):
            covered = [(masks[i] & cases[i].area(which)).sum() / cases[i].area("target").sum() for i in part]
            cells.append(np.mean([float(x) for x in covered]))
        print(f"| {name} | {' | '.join(f'{100 * x:.0f}' for x in cells)} |")


def print_telling_apart(sets: dict[str, tuple[list[Case], Tensor]]) -> None:
    print(
        "\nOf the targets / of the other objects, those whose mean discriminative prior is above a threshold, percent\n"
    )
    print(f"| scenes | {' | '.join(map(str, THRESHOLDS))} |\n|---|{'---|' * len(THRESHOLDS)}")
    for name, (cases, priors) in sets.items():
        means: dict[bool, list[float]] = {True: [], False: []}
        for case, prior in zip(cases, priors, strict=True):
            for wanted, pixels in case.objects():
                means[wanted].append(float(prior[pixels].mean()))
        found, wrong = (np.array(means[wanted]) for wanted in (True, False))
        cells = [f"{100 * np.mean(found > t):.0f} / {100 * np.mean(wrong > t):.0f}" for t in THRESHOLDS]
        print(f"| {name} | {' | '.join(cells)} |")


def print_made_up_priors(model: FSSAM, cases: list[Case]) -> None:
    print(
        "\nIoU with a prior that is right about the objects: its value on the target (rows), on all others (columns)\n"
    )
    levels = (0.0, 0.3, 0.4, 0.5, 0.6)
    print(f"| | {' | '.join(map(str, levels))} |\n|---|{'---|' * len(levels)}")
    cache = FeatureCache()
    for target in (1.0, 0.7):
        cells = []
        for others in levels:
            masks = predict(model, cases, cache, right_about_objects(target, others))[0]
            cells.append(np.mean([iou(mask, case.episode.query_mask) for mask, case in zip(masks, cases, strict=True)]))
        print(f"| {target} | {' | '.join(f'{100 * x:.0f}' for x in cells)} |")


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
    first, new = arguments.folds[0], random_classes(len(together), arguments.seed)
    new_priors = predict(models[first], new)[1]
    print_telling_apart({"Pictograms": (together, priors), "random classes, not pre-trained on": (new, new_priors)})
    print_made_up_priors(models[first], cases[first])


if __name__ == "__main__":
    main()
