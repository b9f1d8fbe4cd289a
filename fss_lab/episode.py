"""Episodes: the unit of few-shot segmentation. One query, K labelled supports, one class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from fss_lab.errors import InputError

IGNORE = 255


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def check_images(name: str, images: Tensor, dims: int) -> Tensor:
    """Check RGB images of shape (..., 3, H, W) in 0..255 with `dims` dimensions; return them unchanged.

    Raises TypeError for a wrong type or dtype, InputError for a wrong shape or range.
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(images).__name__}; "
            "fss_lab.images.load_image reads paths, PIL images and arrays"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"{name} must be uint8 or floating point with values 0..255, got {images.dtype}")
    if images.ndim != dims or images.shape[-3] != 3 or 0 in images.shape:
        expected = {3: "(3, H, W)", 4: "(K, 3, H, W)", 5: "(B, K, 3, H, W)"}[dims]
        raise InputError(f"{name} must be RGB of shape {expected}, none of them 0, got {_shape(images)}")
    if images.is_floating_point():
        low, high = images.amin().item(), images.amax().item()
        if not (low >= 0 and high <= 255):  # written so that NaN fails too
            raise InputError(f"{name} must lie in 0..255, got values from {low:g} to {high:g}")
        if 0 < high <= 1:
            raise InputError(
                f"{name} must lie in 0..255, but its largest value is {high:g}: multiply by 255 if it is 0..1"
            )
    return images


def check_masks(name: str, masks: Tensor, dims: int) -> Tensor:
    """Check masks of 0, 1 and 255 (ignore) with `dims` dimensions; return them as uint8.

    Raises TypeError for a wrong type or dtype, InputError for a wrong shape or other values.
    """
    if not isinstance(masks, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(masks).__name__}; "
            "fss_lab.images.load_mask reads paths, PIL images and arrays"
        )
    if masks.is_floating_point() or masks.is_complex():
        raise TypeError(f"{name} must be bool or integer with values 0, 1 and 255, got {masks.dtype}")
    if masks.ndim != dims or 0 in masks.shape:
        expected = {2: "(H, W)", 3: "(K, H, W)", 4: "(B, K, H, W)"}[dims]
        raise InputError(f"{name} must have shape {expected}, none of them 0, got {_shape(masks)}")
    if masks.dtype == torch.bool:
        return masks.to(torch.uint8)
    wrong = (masks != 0) & (masks != 1) & (masks != IGNORE)
    if wrong.any():
        values = masks[wrong].unique().tolist()
        raise InputError(
            f"{name} may hold 0 (background), 1 (foreground) and 255 (ignore), got also {values[:10]}; "
            "make it binary for the class of the episode first, e.g. mask == class_id"
        )
    return masks.to(torch.uint8)


def check_support(name: str, image: Tensor, mask: Tensor) -> None:
    """Check a support image (3, H, W) and its mask (H, W) of 0, 1, 255. name: of the support, for messages.

    Raises InputError, which names the support, for unequal sizes and for a mask without foreground.
    """
    if image.shape[-2:] != mask.shape:
        raise InputError(
            f"{name}: the image has {image.shape[-1]} x {image.shape[-2]} pixels and its mask "
            f"{mask.shape[1]} x {mask.shape[0]}; give the mask of this image at the same size"
        )
    if not (mask == 1).any():
        raise InputError(
            f"{name}: the mask has no foreground pixel (value 1; 255 is ignored); mark the object of the class"
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """One few-shot task: segment `class_name` in the query, given K supports with masks.

    Images are uint8 or float RGB in 0..255; masks are 0, 1 or 255 (ignore) and stored as uint8. Query and
    supports share one size, K is at least 1. Construction raises TypeError or InputError for anything else.
    """

    query_image: Tensor  # 3, H, W
    query_mask: Tensor  # H, W
    support_images: Tensor  # K, 3, H, W
    support_masks: Tensor  # K, H, W
    class_id: int
    class_name: str

    def __post_init__(self) -> None:
        check_images("query_image", self.query_image, dims=3)
        check_images("support_images", self.support_images, dims=4)
        # a frozen dataclass can still be normalised while it is being built
        object.__setattr__(self, "query_mask", check_masks("query_mask", self.query_mask, dims=2))
        object.__setattr__(self, "support_masks", check_masks("support_masks", self.support_masks, dims=3))
        if isinstance(self.class_id, bool) or not isinstance(self.class_id, int):
            raise TypeError(f"class_id must be an int, got {self.class_id!r}")
        if not isinstance(self.class_name, str):
            raise TypeError(f"class_name must be a str, got {self.class_name!r}")
        if len(self.support_images) != len(self.support_masks):
            raise InputError(
                f"every support image needs one mask, got {len(self.support_images)} images "
                f"and {len(self.support_masks)} masks"
            )
        sizes = {name: _shape(getattr(self, name))[-2:] for name in _TENSORS}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sizes.items())
            raise InputError(f"images and masks of an episode must share one height x width, got {listed}")

    def __repr__(self) -> str:
        height, width = _shape(self.query_mask)
        return f"Episode({self.class_name!r}, {self.shots} shots, {height} x {width})"

    @property
    def shots(self) -> int:
        """K, the number of supports."""
        return len(self.support_images)


_TENSORS = ("query_image", "query_mask", "support_images", "support_masks")


def class_mask(label: Tensor, class_id: int) -> Tensor:
    """The mask (H, W) uint8 of a class in a label map (H, W) of 0 = background, class id + 1 and 255 = ignore."""
    return (label == class_id + 1).to(torch.uint8).masked_fill(label == IGNORE, IGNORE)


def as_episode(views: Sequence[tuple[Tensor, Tensor]], class_id: int, class_name: str) -> Episode:
    """The episode of images (3, H, W) with their masks (H, W): the query's, then the supports'.

    Raises TypeError or InputError as `Episode`.
    """
    images, masks = zip(*views, strict=True)
    return Episode(images[0], masks[0], torch.stack(images[1:]), torch.stack(masks[1:]), class_id, class_name)


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """B episodes with the same number of shots and the same size, stacked by `collate`."""

    query_images: Tensor  # B, 3, H, W
    query_masks: Tensor  # B, H, W
    support_images: Tensor  # B, K, 3, H, W
    support_masks: Tensor  # B, K, H, W
    class_ids: Tensor  # B
    class_names: list[str]

    def __len__(self) -> int:
        return len(self.query_images)

    @property
    def shots(self) -> int:
        """K, the number of supports of every episode."""
        return self.support_images.shape[1]

    def to(self, device: torch.device | str) -> EpisodeBatch:
        """The same batch with all tensors on `device`."""
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return EpisodeBatch(**moved)


def collate(episodes: Sequence[Episode]) -> EpisodeBatch:
    """Stack episodes into an `EpisodeBatch`; a ready `collate_fn` for a DataLoader.

    Raises InputError for an empty list and for episodes of different shots, size or image dtype.
    """
    if len(episodes) == 0:
        raise InputError("collate needs at least one episode, got an empty list")
    equal = {
        "number of shots": [str(episode.shots) for episode in episodes],
        "height x width": ["{}x{}".format(*_shape(episode.query_mask)) for episode in episodes],
        "image dtype": [f"{episode.query_image.dtype}/{episode.support_images.dtype}" for episode in episodes],
    }
    for what, values in equal.items():
        if len(set(values)) > 1:
            raise InputError(
                f"episodes of one batch must have the same {what}, got {', '.join(values)}; "
                "resize or convert them first, or use batches of one"
            )
    stacked = {name.rstrip("s") + "s": torch.stack([getattr(one, name) for one in episodes]) for name in _TENSORS}
    class_ids = torch.tensor([episode.class_id for episode in episodes])
    return EpisodeBatch(**stacked, class_ids=class_ids, class_names=[episode.class_name for episode in episodes])


class Episodes(Protocol):
    """A data set of episodes, such as `Pictograms` or `ListedEpisodes`; the latter brings a protocol of its own."""

    classes: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Episode: ...


class Numbered:
    """What data sets of episodes share: numbers from 0 on, by which they are walked through."""

    def __iter__(self: Episodes) -> Iterator[Episode]:
        return (self[index] for index in range(len(self)))

    def check_number(self: Episodes, index: int) -> None:
        """Raises IndexError outside 0 .. len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} is outside 0 .. {len(self) - 1}")


class Subset(Numbered):
    """Some episodes of a data set, by their numbers. The protocol of a `ListedEpisodes` is not taken along."""

    def __init__(self, episodes: Episodes, numbers: Sequence[int]) -> None:
        self.episodes, self.numbers, self.classes = episodes, numbers, episodes.classes

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Episode:
        return self.episodes[self.numbers[index]]
