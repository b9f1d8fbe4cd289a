"""Pictograms: PASCAL-5i in miniature, rendered on the fly, the same on every machine.

20 named classes in 4 folds of 5. A class is a drawing with free proportions and parts; an identity is one draw of
them with colours and texture that say nothing of the class. Every scene shows the target class among others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fss_lab.datasets.folds import FOLDS, SPLITS, classes_of
from fss_lab.episode import IGNORE, Episode, Numbered, Subset, as_episode
from fss_lab.errors import InputError
from fss_lab.toyworld.drawings import CLASSES, draw
from fss_lab.toyworld.scenes import (
    Identity,
    Rng,
    Scene,
    clip_poses,
    draw_background,
    draw_radius,
    dress,
    render,
    scatter,
)

CLASS_NAMES = tuple(CLASSES)
NOVEL = tuple(tuple(range(5 * fold, 5 * fold + 5)) for fold in range(FOLDS))
TARGET_RADII = (0.18, 0.42)  # of the image's size; PASCAL's objects are about as large
DISTRACTOR_RADII = (0.12, 0.32)
TEXTURED = 0.4  # of all objects; the others are plain


def fold_classes(fold: int, split: str) -> tuple[int, ...]:
    """Class ids 0..19 of a fold's novel classes (5 fold .. 5 fold + 4) or of its base classes (all others).

    Raises InputError for another fold or split.
    """
    return classes_of(NOVEL, fold, split)


class Pictograms(Numbered):
    """Episodes of the toy world: `dataset[i]` is always the same `Episode`, on every machine and in any order.

    As in PASCAL-5i, an image counts for a class that covers at least 2 h w = 512 of its pixels, images of base
    classes never show a novel class, and images of novel classes may show any other class beside the target.

    fold: 0..3, which five classes are novel. split: "base" (train on these) or "novel" (test on these).
    shots: supports per episode, at least 1. seed: chooses the episodes. episodes: length of the data set.
    size: height and width of the images in pixels.
    identity: "other": each object is an individual of its own, as in few-shot segmentation; "same": the supports show
        the very individual of the query, as in a video. The query is the same in both.
    targets: objects of the target class in a scene; None: mostly 1, now and then 2 or 3.

    Raises InputError for a value outside these.
    """

    def __init__(
        self,
        fold: int,
        split: str = "novel",
        shots: int = 1,
        seed: int = 0,
        *,
        episodes: int = 1000,
        size: int = 256,
        identity: str = "other",
        targets: int | None = None,
    ) -> None:
        self.classes = fold_classes(fold, split)
        if not isinstance(shots, int) or shots < 1:
            raise InputError(f"shots must be an integer of at least 1, got {shots!r}")
        if identity not in ("other", "same"):
            raise InputError(f'identity must be "other" or "same", got {identity!r}')
        if targets is not None and targets not in range(1, 4):
            raise InputError(f"targets must be None, 1, 2 or 3, got {targets!r}")
        if size < 64:
            raise InputError(f"size must be at least 64 pixels, got {size!r}")
        self.fold, self.split, self.shots, self.seed = fold, split, shots, seed
        self.episodes, self.size, self.identity, self.targets = episodes, size, identity, targets
        self.distractors = self.classes if split == "base" else tuple(range(len(CLASS_NAMES)))

    def __len__(self) -> int:
        return self.episodes

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`. Raises IndexError outside 0 .. len - 1."""
        class_id, scenes = self.scenes(index)
        return scene_episode(scenes, class_id, CLASS_NAMES[class_id])

    def balanced(self, per_class: int) -> Subset:
        """The first `per_class` episodes of every class, in the order of their numbers.

        For short lists: drawn freely, they leave classes out. Raises InputError for fewer than one, or where the data
        set has fewer of a class.
        """
        numbers: dict[int, list[int]] = {class_id: [] for class_id in self.classes}
        for index in range(len(self)):
            numbers[self.class_of(index)].append(index)
            if all(len(chosen) >= per_class >= 1 for chosen in numbers.values()):
                return Subset(self, sorted(i for chosen in numbers.values() for i in chosen[:per_class]))
        fewest = min(map(len, numbers.values()))
        raise InputError(f"per_class must be 1 to {fewest} in these {len(self)} episodes, got {per_class!r}")

    def class_of(self, index: int) -> int:
        """The class of episode `index`, without drawing it."""
        key = [self.seed, self.fold, SPLITS.index(self.split), index]
        return self.classes[int(np.random.default_rng(key).integers(len(self.classes)))]

    def scenes(self, index: int) -> tuple[int, list[Scene]]:
        """The class of episode `index` and its scenes: the query's, then the supports'."""
        self.check_number(index)
        key, class_id = [self.seed, self.fold, SPLITS.index(self.split), index], self.class_of(index)
        query, individual = self._scene(np.random.default_rng([*key, 0]), class_id)
        keep = individual if self.identity == "same" else None
        supports = [
            self._scene(np.random.default_rng([*key, shot]), class_id, keep)[0] for shot in range(1, self.shots + 1)
        ]
        return class_id, [query, *supports]

    def distractor(self, index: int) -> Tensor | None:
        """The largest object of another class in the query of episode `index`, (H, W) bool; None if none is visible."""
        class_id, (query, *_) = self.scenes(index)
        instances = torch.from_numpy(query.instances)
        others = [instances == n for n, other in enumerate(query.class_ids, start=1) if other != class_id]
        return max(filter(torch.any, others), key=torch.sum, default=None)

    def labels(self, scene: Scene) -> np.ndarray:
        """(H, W) uint8 label map as in VOC: 0 = background, class id + 1, 255 = border ring."""
        return scene.labels(ring=IGNORE).astype(np.uint8)

    def clip(self, index: int, frames: int = 8) -> tuple[Tensor, Tensor]:
        """A clip of the query's kind of scene: the same identities moving through `frames` frames.

        Returns images (T, 3, H, W) uint8 and instances (T, H, W) uint8 (0 = background, 1 = the target, …, 255 = ring).
        """
        rng = np.random.default_rng([self.seed, self.fold, SPLITS.index(self.split), index, 2**20])
        identities = self._cast(rng, self.classes[int(rng.integers(len(self.classes)))], 1, None)
        radii = [draw_radius(rng, self.size, *DISTRACTOR_RADII) for _ in identities]
        background = draw_background(rng, self.size)
        paths = [clip_poses(rng, pose, frames, self.size) for pose in scatter(rng, self.size, radii)]
        scenes = [render(background, identities, list(poses), rng) for poses in zip(*paths, strict=True)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(np.stack([scene.instances for scene in scenes]))

    def _scene(self, rng: Rng, class_id: int, individual: Identity | None = None) -> tuple[Scene, Identity]:
        """A scene with the class in it, large enough to count, and the target identity that it shows first."""
        least_area = 2 * (self.size // 16) ** 2
        while True:
            count = self.targets or int(rng.choice([1, 1, 1, 1, 1, 1, 1, 2, 2, 3]))
            identities = self._cast(rng, class_id, count, individual)
            targets = [identity for identity in identities if identity.class_id == class_id]
            order = [identities[i] for i in rng.permutation(len(identities))]  # who stands before whom
            sizes = [TARGET_RADII if identity.class_id == class_id else DISTRACTOR_RADII for identity in order]
            radii = [draw_radius(rng, self.size, *size) for size in sizes]
            poses = scatter(rng, self.size, radii)
            scene = render(draw_background(rng, self.size), order, poses, rng)
            if scene.area(class_id) >= least_area:
                return scene, targets[0]

    def _cast(self, rng: Rng, class_id: int, count: int, individual: Identity | None) -> list[Identity]:
        """`count` targets (or the individual, that many times) and 1 to 3 distractors of other classes."""
        others = [c for c in self.distractors if c != class_id]
        extra = rng.choice(others, int(rng.integers(1, 4)), replace=False)
        chosen = [class_id] * count + [int(c) for c in extra]
        cast = [dress(rng, c, draw(CLASS_NAMES[c], rng), TEXTURED) for c in chosen]
        return cast if individual is None else [individual] * count + cast[count:]


def scene_episode(scenes: Sequence[Scene], class_id: int, class_name: str) -> Episode:
    """The episode of scenes of one size that all show the class: the query's, then the supports'."""
    views = [(image_of(scene), torch.from_numpy(scene.mask(class_id))) for scene in scenes]
    return as_episode(views, class_id, class_name)


def image_of(scene: Scene) -> Tensor:
    """RGB, (3, H, W) uint8."""
    return torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
