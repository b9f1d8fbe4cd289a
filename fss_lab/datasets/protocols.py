"""Test episodes drawn once, written down, and used again: by the two protocols of the literature, on any image set.

An *image set* is an ordered list of labelled images. A *protocol* says which of them are queried, with which class and
supports, and how the answer is scored. Drawing gives an `EpisodeList`: names only, with a hash, the same on every
machine. `ListedEpisodes` turns list and images into `Episode`s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import Tensor

from fss_lab.datasets.augmentation import stretch
from fss_lab.datasets.folds import SPLITS
from fss_lab.episode import Episode, Numbered, as_episode, class_mask
from fss_lab.errors import InputError
from fss_lab.files import write_atomically

FORMAT = 1  # of a saved list
T = TypeVar("T")


class ImageSet(Protocol):
    """What drawing and scoring need to know of a data set; images are read only when an episode needs them.

    name: what it is, in words, for headings and to recognise it. names: of its images, in the order of its list.
    classes: those episodes are drawn from (in "novel", the fold's own).
    class_uniform: True where the hsnet protocol draws the class first (COCO), False where it walks through pairs
        of image and class (PASCAL).
    """

    name: str
    fold: int
    split: str
    classes: tuple[int, ...]
    class_uniform: bool

    @property
    def names(self) -> Sequence[str]: ...

    def counts_for(self, name: str) -> tuple[int, ...]:
        """The `classes` that this image counts for (they cover enough of it), ascending."""

    def image(self, name: str) -> Tensor:
        """RGB, (3, H, W) uint8."""

    def label(self, name: str) -> Tensor:
        """(H, W) uint8: 0 = background, class id + 1, 255 = ignore."""

    def class_name(self, class_id: int) -> str: ...


class Counted:
    """What image sets share that look once which classes an image counts for, `_counts`, in the order of their list."""

    _counts: dict[str, tuple[int, ...]]

    @property
    def facts(self) -> dict[str, Any]:
        """What else decides the episodes, in plain values, for the facts of a run."""
        return {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, in the order of their list."""
        return tuple(self._counts)

    def __len__(self) -> int:
        """Number of images."""
        return len(self._counts)

    def counts_for(self, name: str) -> tuple[int, ...]:
        """The classes of the split that this image counts for."""
        return self._counts[name]


MANY = 1000  # images, as many as a usual list has episodes


@dataclass(frozen=True)
class Benchmark:
    """One of the protocols; numbers from one are not comparable with the other's. The rules are those of the
    literature, the random numbers are our own (the published programs draw while they load, from a global generator).

    queries: "images" in their order, wrapping, each with a class at random among those it counts for (more than `MANY`
        in a seeded order, or a usual list would ask about the first of COCO's images only); or "pairs" of
        image and class in their order, wrapping (a class-uniform image set: class at random, then image).
    resolution: where IoU is counted, "label" (the label map's own size) or "square" (the model's input; the label is
        stretched by nearest neighbour).
    training_images: those that show a novel class are left out ("drop"), or stay with it as background ("keep").
    shots: K supports are "fused" by the model, or "vote": K one-shot answers are added up, and a pixel is foreground
        where it has at least half of the votes of the pixel with most (HSNet's rule).
    """

    name: str
    seed: int
    queries: str
    resolution: str
    training_images: str
    shots: str

    def __str__(self) -> str:
        order = {
            "images": f"images in order, over {MANY:,} in a seeded one; a random class of each",
            "pairs": "(image, class) pairs in order",
        }
        size = {"label": "the label's own size", "square": "the model's square"}
        return (
            f"{self.name} (queries: {order[self.queries]}; IoU at {size[self.resolution]}; "
            f"several shots: {'fused by the model' if self.shots == 'fused' else 'vote over one-shot masks'})"
        )


BENCHMARKS = {
    "fssam": Benchmark("fssam", 321, "images", "label", "drop", "fused"),
    "hsnet": Benchmark("hsnet", 0, "pairs", "square", "keep", "vote"),
}
"""By name: the protocol of PFENet, BAM and FSSAM, and that of HSNet, Matcher and GF-SAM."""


def benchmark(name: str) -> Benchmark:
    """A protocol by name. Raises InputError for an unknown one."""
    if name not in BENCHMARKS:
        raise InputError(f"protocol must be one of {', '.join(BENCHMARKS)}, got {name!r}")
    return BENCHMARKS[name]


# ---- drawing


@dataclass(frozen=True)
class Drawn:
    """One episode by name: segment `class_id` in the image `query`, given the images `supports`."""

    query: str
    supports: tuple[str, ...]
    class_id: int


@dataclass(frozen=True)
class EpisodeList:
    """The episodes of one evaluation and all that chose them. protocol: a name in `BENCHMARKS`."""

    protocol: str
    images: str
    fold: int
    split: str
    shots: int
    seed: int
    episodes: tuple[Drawn, ...]

    def __len__(self) -> int:
        return len(self.episodes)

    @property
    def digest(self) -> str:
        """SHA-256 over the content in one canonical form (keys sorted, no spaces, ASCII)."""
        return hashlib.sha256(_canonical(asdict(self)).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the list and its hash as JSON, in one step. Raises FileError where the file cannot be written."""
        rows = ",\n".join(f"  {_canonical([e.query, list(e.supports), e.class_id])}" for e in self.episodes)
        head = {key: value for key, value in asdict(self).items() if key != "episodes"}
        lines = [f'"{key}": {json.dumps(value)},' for key, value in {"format": FORMAT, **head}.items()]
        text = "\n".join(["{", *lines, f'"sha256": "{self.digest}",', f'"episodes": [\n{rows}\n]', "}", ""])
        write_atomically(path, text.encode())

    @staticmethod
    def load(path: str | Path) -> EpisodeList:
        """Read a saved list. Raises InputError for a file that is no such list or whose content was changed."""
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise InputError("another format")
            digest = content.pop("sha256")
            drawn = tuple(Drawn(query, tuple(names), class_id) for query, names, class_id in content.pop("episodes"))
            listed = EpisodeList(**content, episodes=drawn)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is no episode list of this version ({type(error).__name__}: {error}); draw it again"
            ) from error
        if listed.digest != digest:
            raise InputError(
                f"{path} was changed after it was written: its content has the hash {listed.digest[:12]}, the file "
                f"says {str(digest)[:12]}. Restore the file, or remove it and draw the episodes again"
            )
        return listed


def draw_episodes(
    protocol: Benchmark, images: ImageSet, shots: int, count: int, seed: int | None = None
) -> EpisodeList:
    """Draw `count` episodes with `shots` supports each; seed None: the protocol's own.

    Episode i has a generator of its own, so more episodes continue a shorter list, and more shots continue the supports
    of fewer. Supports are other images than the query and do not repeat within an episode.
    Raises InputError for fewer than 1 shot or episode, and for a class with fewer than shots + 1 images.
    """
    if shots < 1 or count < 1:
        raise InputError(f"shots and count must be at least 1, got {shots} and {count}")
    seed = protocol.seed if seed is None else seed
    members = class_members(images, shots)
    counts = {name: images.counts_for(name) for name in images.names}
    queries = [name for name, classes in counts.items() if classes]
    pairs = [(name, c) for name, classes in counts.items() for c in classes]
    if len(queries) > MANY:
        rng = np.random.Generator(np.random.PCG64([seed, images.fold, SPLITS.index(images.split)]))
        queries = [queries[i] for i in np.argsort(rng.random(len(queries)), kind="stable")]
    drawn = []
    for index in range(count):
        rng = np.random.Generator(np.random.PCG64([seed, images.fold, SPLITS.index(images.split), index]))
        if protocol.queries == "images":
            query = queries[index % len(queries)]
            class_id = _choose(rng, counts[query])
        elif images.class_uniform:
            class_id = _choose(rng, images.classes)
            query = _choose(rng, members[class_id])
        else:
            query, class_id = pairs[index % len(pairs)]
        drawn.append(Drawn(query, draw_supports(rng, members[class_id], query, shots), class_id))
    return EpisodeList(protocol.name, images.name, images.fold, images.split, shots, seed, tuple(drawn))


def class_members(images: ImageSet, shots: int) -> dict[int, list[str]]:
    """The images that count for each class, in their order. Raises InputError for fewer than 1 shot, and for a class
    with fewer than shots + 1 images."""
    if shots < 1:
        raise InputError(f"shots must be at least 1, got {shots}")
    members: dict[int, list[str]] = {class_id: [] for class_id in images.classes}
    for name in images.names:
        for class_id in images.counts_for(name):
            members[class_id].append(name)
    for class_id, names in members.items():
        if len(names) < shots + 1:
            raise InputError(
                f"{shots}-shot episodes need {shots + 1} images of every class, but {images.name} has {len(names)} of "
                f"{images.class_name(class_id)!r}; use fewer shots or more images"
            )
    return members


def draw_supports(rng: np.random.Generator, members: Sequence[str], query: str, shots: int) -> tuple[str, ...]:
    """`shots` different images of a class, none of them the query."""
    others = [name for name in members if name != query]
    supports = []
    for _ in range(shots):
        supports.append(_choose(rng, others))
        others.remove(supports[-1])
    return tuple(supports)


def load_or_draw(
    path: str | Path, protocol: Benchmark, images: ImageSet, shots: int, count: int, seed: int | None = None
) -> EpisodeList:
    """The list saved at `path`, or one drawn now and saved there.

    Raises InputError for a damaged or changed list, one of another kind than asked for, or too few images of a class;
    FileError where it cannot be saved.
    """
    path = Path(path)
    if not path.exists():
        draw_episodes(protocol, images, shots, count, seed).save(path)
    listed = EpisodeList.load(path)
    wanted = {
        "protocol": protocol.name, "images": images.name, "fold": images.fold, "split": images.split,
        "shots": shots, "seed": protocol.seed if seed is None else seed,
    }  # fmt: skip
    wrong = [f"{key} {getattr(listed, key)!r}, not {value!r}" for key, value in wanted.items() if
             getattr(listed, key) != value]  # fmt: skip
    if len(listed) != count:
        wrong.append(f"{len(listed)} episodes, not {count}")
    if wrong:
        raise InputError(
            f"{path} holds other episodes than asked for: {'; '.join(wrong)}. Choose another directory, or delete it"
        )
    return listed


# ---- images


class ListedEpisodes(Numbered):
    """The `Episode`s of a list, read from its images: a data set like `Pictograms`.

    size: None, if all images have one size; else images (bilinear) and masks (nearest) are stretched to size x size
    pixels, and only `target` keeps the query's own size.
    Raises InputError for images that the list was not drawn from.
    """

    def __init__(self, episodes: EpisodeList, images: ImageSet, size: int | None = None) -> None:
        if (episodes.images, episodes.fold, episodes.split) != (images.name, images.fold, images.split):
            raise InputError(
                f"the list was drawn from {episodes.images}, fold {episodes.fold}, {episodes.split}; "
                f"got {images.name}, fold {images.fold}, {images.split}"
            )
        self.list, self.images, self.size = episodes, images, size
        self.protocol, self.classes = benchmark(episodes.protocol), images.classes
        unknown = {name for e in episodes.episodes for name in (e.query, *e.supports)} - set(images.names)
        if unknown:
            raise InputError(f"{images.name} lacks images of the list: {', '.join(sorted(unknown)[:5])}")

    def __len__(self) -> int:
        return len(self.list)

    def __getitem__(self, index: int) -> Episode:
        """Episode number `index`. Raises IndexError outside 0 .. len - 1."""
        drawn = self._drawn(index)
        views = [self._view(name, drawn.class_id) for name in (drawn.query, *drawn.supports)]
        return as_episode(views, drawn.class_id, self.images.class_name(drawn.class_id))

    def target(self, index: int) -> Tensor:
        """The query's mask at its label's own size: (H, W) uint8 of 0, 1 and 255."""
        drawn = self._drawn(index)
        return class_mask(self.images.label(drawn.query), drawn.class_id)

    def _drawn(self, index: int) -> Drawn:
        self.check_number(index)
        return self.list.episodes[index]

    def _view(self, name: str, class_id: int) -> tuple[Tensor, Tensor]:
        image, mask = self.images.image(name), class_mask(self.images.label(name), class_id)
        return (image, mask) if self.size is None else stretch(image, mask, self.size)


def _choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of them, by a single integer, which is the same on every platform."""
    return options[int(rng.integers(len(options)))]


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
