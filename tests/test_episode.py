from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch

from fss_lab.episode import Episode, collate


def parts(shots: int = 2, height: int = 6, width: int = 8, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator, dtype=torch.uint8)

    return {
        "query_image": draw(256, 3, height, width),
        "query_mask": draw(2, height, width),
        "support_images": draw(256, shots, 3, height, width),
        "support_masks": draw(2, shots, height, width),
        "class_id": seed,
        "class_name": f"class {seed}",
    }


def test_a_valid_episode_keeps_its_tensors() -> None:
    given = parts()
    episode = Episode(**given)
    assert episode.shots == 2
    for name, value in given.items():
        stored = getattr(episode, name)
        assert torch.equal(stored, value) if isinstance(value, torch.Tensor) else stored == value
    with pytest.raises(FrozenInstanceError):
        episode.class_id = 3  # type: ignore[misc]


def test_masks_of_other_integer_types_become_uint8() -> None:
    given = parts()
    ignored = given["query_mask"].long()
    ignored[0] = 255
    episode = Episode(**{**given, "query_mask": ignored, "support_masks": given["support_masks"].bool()})
    assert episode.query_mask.dtype == episode.support_masks.dtype == torch.uint8
    assert torch.equal(episode.query_mask.long(), ignored)
    assert torch.equal(episode.support_masks, given["support_masks"])


def test_float_images_are_kept_as_they_are() -> None:
    given = parts()
    image = given["query_image"] + 0.25
    image.clamp_(max=255)
    assert torch.equal(Episode(**{**given, "query_image": image}).query_image, image)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("query_image", [[1]], TypeError, "torch.Tensor, got list"),
        ("query_image", torch.zeros(3, 6, 8, dtype=torch.int64), TypeError, "int64"),
        ("query_image", torch.zeros(1, 6, 8), ValueError, r"\(3, H, W\), none of them 0, got \(1, 6, 8\)"),
        ("query_image", torch.zeros(6, 8, 3), ValueError, "got"),
        ("query_image", torch.zeros(3, 5, 8), ValueError, "query_image 5x8"),
        ("query_image", torch.full((3, 6, 8), 256.0), ValueError, "0..255, got values from 256"),
        ("query_image", torch.full((3, 6, 8), -1.0), ValueError, "from -1"),
        ("query_image", torch.full((3, 6, 8), float("nan")), ValueError, "nan"),
        ("query_image", torch.full((3, 6, 8), 0.5), ValueError, "multiply by 255"),
        ("support_images", torch.zeros(0, 3, 6, 8), ValueError, "none of them 0"),
        ("support_images", torch.zeros(3, 6, 8), ValueError, r"\(K, 3, H, W\)"),
        ("support_images", torch.zeros(3, 3, 6, 8), ValueError, "3 images and 2 masks"),
        ("support_masks", torch.zeros(6, 8, dtype=torch.uint8), ValueError, r"\(K, H, W\)"),
        ("support_masks", torch.zeros(2, 6, 8), TypeError, "bool or integer"),
        ("support_masks", torch.full((2, 6, 8), 7, dtype=torch.uint8), ValueError, r"got also \[7\]"),
        ("support_masks", torch.zeros(2, 8, 6, dtype=torch.uint8), ValueError, "support_masks 8x6"),
        ("query_mask", torch.full((6, 8), -1), ValueError, r"got also \[-1\]"),
        ("query_mask", None, TypeError, "NoneType"),
        ("class_id", "fish", TypeError, "class_id must be an int"),
        ("class_id", True, TypeError, "class_id must be an int"),
        ("class_name", 3, TypeError, "class_name must be a str"),
    ],
)
def test_bad_parts_are_refused(name: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Episode(**{**parts(), name: value})


def test_collate_stacks_in_order() -> None:
    episodes = [Episode(**parts(seed=seed)) for seed in range(3)]
    batch = collate(episodes)
    assert len(batch) == 3 and batch.shots == 2
    assert batch.query_images.shape == (3, 3, 6, 8)
    assert batch.query_masks.shape == (3, 6, 8)
    assert batch.support_images.shape == (3, 2, 3, 6, 8)
    assert batch.support_masks.shape == (3, 2, 6, 8)
    assert batch.class_ids.tolist() == [0, 1, 2]
    assert batch.class_names == ["class 0", "class 1", "class 2"]
    assert torch.equal(batch.support_images[1], episodes[1].support_images)


def test_a_batch_moves_to_a_device_as_a_whole() -> None:
    batch = collate([Episode(**parts())]).to("meta")
    tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 5 and all(tensor.device.type == "meta" for tensor in tensors)
    assert batch.class_names == ["class 0"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (parts(shots=1), "number of shots, got 2, 1"),
        (parts(width=9), "height x width, got 6x8, 6x9"),
        ({**parts(), "query_image": torch.full((3, 6, 8), 9.0)}, "image dtype"),
    ],
)
def test_collate_refuses_episodes_that_do_not_stack(other: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate([Episode(**parts()), Episode(**other)])


def test_collate_refuses_an_empty_list() -> None:
    with pytest.raises(ValueError, match="empty list"):
        collate([])


def test_collate_serves_a_data_loader() -> None:
    loader = torch.utils.data.DataLoader(
        [Episode(**parts(seed=seed)) for seed in range(4)],  # type: ignore[arg-type]
        batch_size=2,
        collate_fn=collate,
    )
    assert [batch.class_ids.tolist() for batch in loader] == [[0, 1], [2, 3]]
