"""Episodes to train on, from the photographs of base classes: in a new order and new views each time round."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from fss_lab.datasets.augmentation import Augmentation, stretch
from fss_lab.datasets.folds import SPLITS
from fss_lab.datasets.protocols import Drawn, ImageSet, class_members, draw_supports
from fss_lab.episode import Episode, Numbered, as_episode, class_mask


class TrainingEpisodes(Numbered):
    """Training data as a data set: `dataset[i]` is always the same `Episode`, in any process and any order.

    Every image is a query once an epoch, in an order of that epoch, with a random one of the classes it counts for;
    the supports are other images of that class.

    images: of base classes. shots: supports per episode. seed: chooses orders, classes, supports and views. episodes:
    length of the data set. size: of the square images that come out. augmentation: makes the views; None: images are
    stretched as in evaluation.
    Raises InputError for fewer than 1 shot, and for a class with fewer than shots + 1 images.
    """

    def __init__(
        self,
        images: ImageSet,
        shots: int,
        seed: int,
        *,
        episodes: int,
        size: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.images, self.shots, self.seed, self.episodes, self.size = images, shots, seed, episodes, size
        self.augmentation, self.classes = augmentation, images.classes
        self.names = tuple(images.names)
        self.members = class_members(images, shots)
        self._order: tuple[int, np.ndarray] = -1, np.arange(0)  # of one epoch

    def __len__(self) -> int:
        return self.episodes

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`. Raises IndexError outside 0 .. len - 1, and as the images do for bad files."""
        drawn = self.drawn(index)
        views = [self._view(name, drawn.class_id, index, place) for place, name in
                 enumerate((drawn.query, *drawn.supports))]  # fmt: skip
        return as_episode(views, drawn.class_id, self.images.class_name(drawn.class_id))

    def drawn(self, index: int) -> Drawn:
        """The names of episode `index`. Raises IndexError outside 0 .. len - 1."""
        self.check_number(index)
        epoch, place = divmod(index, len(self.names))
        if self._order[0] != epoch:
            self._order = epoch, self._rng(1, epoch).permutation(len(self.names))
        query, rng = self.names[self._order[1][place]], self._rng(2, index)
        classes = self.images.counts_for(query)
        class_id = classes[int(rng.integers(len(classes)))]
        return Drawn(query, draw_supports(rng, self.members[class_id], query, self.shots), class_id)

    def _view(self, name: str, class_id: int, index: int, place: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images.image(name), class_mask(self.images.label(name), class_id)
        if self.augmentation is None:
            return stretch(image, mask, self.size)
        return self.augmentation(image, mask, self._rng(3, index, place))

    def _rng(self, *key: int) -> np.random.Generator:
        """A generator for one purpose (1: order, 2: names, 3: views) of this data set."""
        return np.random.default_rng([self.seed, self.images.fold, SPLITS.index(self.images.split), *key])
