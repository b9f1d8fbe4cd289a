"""The toy world as a fixed set of images, so that the protocols run on it as on PASCAL-5i."""

from __future__ import annotations

import torch
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms, image_of


class PictogramImages:
    """The toy world as an `ImageSet`: image i is the query of `Pictograms(fold, split, seed=seed)[i]`, all labelled.

    An image counts for every class that covers at least 2 h w = 512 of its 65,536 pixels, not only for the one it was
    made for. Rendered scenes are kept (0.26 MB each). Raises InputError for another fold or split, or no images.
    """

    class_uniform = False

    def __init__(self, fold: int, split: str = "novel", images: int = 400, seed: int = 0) -> None:
        if images < 1:
            raise InputError(f"images must be at least 1, got {images!r}")
        self.world = Pictograms(fold, split, seed=seed, episodes=images)
        self.world.shots = 0  # only the queries are rendered
        self.fold, self.split, self.classes = fold, split, self.world.classes
        self.name = f"Pictograms ({images} fixed images, seed {seed})"
        self.names = tuple(f"{split}{fold}_{index:06d}" for index in range(images))
        self._scenes: dict[str, tuple[Tensor, Tensor]] = {}

    def counts_for(self, name: str) -> tuple[int, ...]:
        """The classes of the split that cover at least 2 h w pixels of this image."""
        areas = torch.bincount(self.label(name).flatten(), minlength=256)
        least = 2 * (self.world.size // 16) ** 2
        return tuple(c for c in self.classes if areas[c + 1] >= least)

    def image(self, name: str) -> Tensor:
        """RGB, (3, 256, 256) uint8. Raises KeyError for an unknown name."""
        return self._scene(name)[0]

    def label(self, name: str) -> Tensor:
        """(256, 256) uint8: 0 = background, class id + 1, 255 = border ring. Raises KeyError for an unknown name."""
        return self._scene(name)[1]

    def class_name(self, class_id: int) -> str:
        """What a class shows."""
        return CLASS_NAMES[class_id]

    def _scene(self, name: str) -> tuple[Tensor, Tensor]:
        if name not in self._scenes:
            index = int(name.rpartition("_")[2])
            if index >= len(self.names) or self.names[index] != name:
                raise KeyError(f"there is no image {name!r} in {self.name}")
            scene = self.world.scenes(index)[1][0]
            self._scenes[name] = image_of(scene), torch.from_numpy(self.world.labels(scene))
        return self._scenes[name]
