from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fss_lab.errors import ImageError
from fss_lab.images import load_image, load_mask

ORIENTATION = 0x0112  # EXIF tag


def rgb(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def channel_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


# images


def test_path_pil_array_and_tensor_give_the_same(tmp_path: Path) -> None:
    array = rgb()
    image = Image.fromarray(array)
    path = saved(image, tmp_path / "a.png")
    expected = channel_first(array)
    for source in (path, str(path), image, array, array.astype(np.int64), array.astype(np.float32), expected):
        loaded = load_image(source)
        assert loaded.dtype == torch.uint8 and loaded.is_contiguous()
        assert torch.equal(loaded, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_tensor_types(dtype: torch.dtype) -> None:
    expected = channel_first(rgb())
    assert torch.equal(load_image(expected.to(dtype).float().to(dtype)), expected)


def test_the_result_shares_no_memory_with_the_source() -> None:
    tensor, array = channel_first(rgb()), rgb()
    load_image(tensor).zero_()
    load_image(array).zero_()
    assert torch.equal(tensor, channel_first(rgb())) and np.array_equal(array, rgb())
    mask = torch.ones(2, 2, dtype=torch.uint8)
    load_mask(mask).zero_()
    assert mask.all()


def test_floats_are_rounded() -> None:
    assert load_image(np.array([[0.4, 254.6]])).tolist() == [[[0, 255]]] * 3


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = rgb()[..., 0]
    expected = torch.from_numpy(grey).expand(3, -1, -1)
    path = saved(Image.fromarray(grey), tmp_path / "grey.png")
    for source in (path, grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        assert torch.equal(load_image(source), expected)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = rgb()[..., 0] > 127
    expected = torch.from_numpy(bits).expand(3, -1, -1).to(torch.uint8) * 255
    path = saved(Image.fromarray(bits), tmp_path / "bits.png")
    assert torch.equal(load_image(path), expected)
    assert torch.equal(load_image(bits), expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 257, 32768, 65535, 128, 129]], dtype=np.uint16)
    path = saved(Image.fromarray(deep), tmp_path / f"deep.{suffix}")
    for source in (path, deep, torch.from_numpy(deep)):
        assert load_image(source).tolist() == [[[0, 1, 128, 255, 0, 1]]] * 3


def test_32_bit_files_are_read_when_they_lie_in_0_to_255(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[0, 7, 255]], dtype=np.int32)), tmp_path / "int.tiff")
    assert load_image(path).tolist() == [[[0, 7, 255]]] * 3
    path = saved(Image.fromarray(np.array([[0, 1e4]], dtype=np.float32)), tmp_path / "float.tiff")
    with pytest.raises(ImageError, match=r"float.tiff must lie in 0..255, got values from 0 to 10000"):
        load_image(path)


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colours = load_image(saved(image, tmp_path / "palette.png"))
    assert colours[:, 0].T.tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    expected = [[10, 20, 30], [255, 255, 255], [127, 127, 127]]
    path = saved(Image.fromarray(rgba), tmp_path / "rgba.png")
    for source in (path, rgba, channel_first(rgba)):
        assert load_image(source)[:, 0].T.tolist() == expected
    grey_alpha = Image.fromarray(np.array([[[9, 255], [9, 0]]], dtype=np.uint8))
    assert grey_alpha.mode == "LA"
    assert load_image(saved(grey_alpha, tmp_path / "la.png"))[0].tolist() == [[9, 255]]


def test_a_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    path = saved(image, tmp_path / "transparent.png", transparency=0)
    assert load_image(path)[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_cmyk(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = load_image(saved(image, tmp_path / "cmyk.jpg", quality=95)).float().mean(dim=(1, 2))
    assert (red - torch.tensor([255.0, 0.0, 0.0])).abs().max() < 8


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: np.rot90(a)[::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, -1)[::-1]),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: Any) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    array = rgb()
    path = saved(Image.fromarray(array), tmp_path / "photo.png", exif=exif)
    assert torch.equal(load_image(path), channel_first(turn(array)))
    with Image.open(path) as image:
        assert torch.equal(load_image(image), channel_first(turn(array)))
    mask = (array[..., 0] > 127).astype(np.uint8)
    path = saved(Image.fromarray(mask), tmp_path / "mask.png", exif=exif)
    assert np.array_equal(load_mask(path).numpy(), turn(mask))


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    path = saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (load_image(path) == 10).all()


@pytest.mark.parametrize("load", [load_image, load_mask])
def test_bad_paths(tmp_path: Path, load: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist .* check the spelling"):
        load(tmp_path / "nowhere.png")
    with pytest.raises(IsADirectoryError, match="is a directory, expected an image file"):
        load(tmp_path)
    empty = tmp_path / "empty.png"
    empty.touch()
    with pytest.raises(ImageError, match=r"empty\.png is empty \(0 bytes\)"):
        load(empty)
    text = tmp_path / "notes.jpg"
    text.write_text("not an image")
    with pytest.raises(ImageError, match=r"notes\.jpg cannot be read as an image .* save it as PNG"):
        load(text)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "bmp", "gif", "webp"])
def test_a_truncated_file_is_an_error_wherever_it_was_cut(tmp_path: Path, suffix: str) -> None:
    whole = saved(Image.fromarray(rgb(40, 40)), tmp_path / f"whole.{suffix}").read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in np.linspace(1, len(whole) * 0.9, 25).astype(int):
        cut.write_bytes(whole[:length])
        with pytest.raises(ImageError, match=f"cut.{suffix} cannot be read"):
            load_image(cut)


def test_a_truncated_pil_image_is_an_error() -> None:
    buffer = io.BytesIO()
    Image.fromarray(rgb(40, 40)).save(buffer, "PNG")
    image = Image.open(io.BytesIO(buffer.getvalue()[:300]))
    with pytest.raises(ImageError, match=r"a PIL image \(RGB, 40x40\) cannot be read"):
        load_image(image)


def test_a_decompression_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("L", (100, 100)), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="bomb"):
        load_image(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((2, 2, 3), 0.5), "multiply by 255"),
        (torch.full((3, 2, 2), 1.0), "multiply by 255"),
        (np.full((2, 2), 256), "got values from 256 to 256"),
        (np.full((2, 2), -1), "got values from -1"),
        (np.full((2, 2), np.nan), "nan"),
        (np.zeros((3, 8, 9), np.uint8), "channels come last in arrays"),
        (torch.zeros(8, 9, 3), "first in tensors"),
        (torch.zeros(2, 3, 8, 9), "one image at a time"),
        (np.zeros((0, 4, 3), np.uint8), "is no image"),
        (np.zeros((4, 4), complex), "complex128"),
    ],
)
def test_arrays_that_are_no_image(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(source)


@pytest.mark.parametrize("load", [load_image, load_mask])
@pytest.mark.parametrize("source", [None, 3, b"bytes", [], [Image.new("L", (2, 2))]])
def test_other_sources_are_refused(load: Any, source: Any) -> None:
    with pytest.raises(TypeError, match="expected a path, a PIL image, a numpy array or a tensor"):
        load(source)


# masks


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
        ([0, 255, 0], [0, 1, 0]),  # a binary image: white is foreground
        ([255, 255, 255], [1, 1, 1]),
        ([0, 1, 255], [0, 1, 255]),  # VOC style: 255 is ignored
        ([1, 255, 255], [1, 255, 255]),
    ],
)
def test_what_mask_values_mean(tmp_path: Path, values: list[int], expected: list[int]) -> None:
    array = np.array([values], dtype=np.uint8)
    palette = Image.fromarray(array).convert("P")
    palette.putdata(values)
    sources = {
        "grey file": saved(Image.fromarray(array), tmp_path / "grey.png"),
        "palette file": saved(palette, tmp_path / "palette.png"),
        "equal channels": saved(Image.fromarray(array).convert("RGB"), tmp_path / "rgb.png"),
        "opaque": Image.fromarray(array).convert("RGBA"),
        "array": array,
        "array with a channel": array[..., None],
        "floats": array.astype(np.float64),
        "integers": array.astype(np.int64),
        "tensor": torch.from_numpy(array),
        "tensor with a channel": torch.from_numpy(array)[None],
        "bfloat16": torch.from_numpy(array).bfloat16(),
    }
    for name, source in sources.items():
        mask = load_mask(source)
        assert mask.dtype == torch.uint8, name
        assert mask.tolist() == [expected], name


def test_flipped_and_transposed_arrays() -> None:
    array = rgb()
    assert torch.equal(load_image(array[::-1]), channel_first(array[::-1]))
    mask = (array[..., 0] > 127).astype(np.uint8)
    for view in (mask[::-1], mask[:, ::-1], mask.T):
        loaded = load_mask(view)
        assert loaded.is_contiguous() and np.array_equal(loaded.numpy(), view)


def test_bool_and_one_bit_masks(tmp_path: Path) -> None:
    bits = np.array([[True, False]])
    for source in (bits, torch.from_numpy(bits), saved(Image.fromarray(bits), tmp_path / "bits.png")):
        assert load_mask(source).tolist() == [[1, 0]]


def test_16_bit_white_is_foreground(tmp_path: Path) -> None:
    deep = np.array([[0, 65535]], dtype=np.uint16)
    assert load_mask(saved(Image.fromarray(deep), tmp_path / "deep.png")).tolist() == [[0, 1]]


def test_foreground_picks_a_class_of_a_label_map() -> None:
    labels = np.array([[0, 1, 15, 255]], dtype=np.uint8)
    assert load_mask(labels, foreground=15).tolist() == [[0, 0, 1, 255]]
    assert load_mask(labels, foreground=0).tolist() == [[1, 0, 0, 255]]
    assert load_mask(labels, foreground=255).tolist() == [[0, 0, 0, 1]]
    assert load_mask(labels, foreground=7).tolist() == [[0, 0, 0, 255]]
    assert load_mask(np.array([[0, 255]]), foreground=1).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.array([[0, 3, 15]]), r"values 0, 3, 15 \(3 in all\).*load_mask\(\.\.\., foreground=3\)"),
        (np.arange(40).reshape(5, 8), r"8, 9, \.\.\. \(40 in all\)"),
        (np.array([[0.0, 0.3, 1.0]]), "0, 0.3, 1 .*threshold it"),
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[-1, 0, 1]]), "-1, 0, 1"),
        (np.array([[[0, 1, 0]]]), "colours.*Are photo and mask swapped"),
        (np.array([[[255, 255, 255, 0]]]), "transparency"),
        (np.zeros((0, 3)), "is no mask"),
        (np.zeros((2, 5, 5)), "is no mask"),
        (torch.zeros(1, 1, 5, 5), "one mask at a time"),
        (np.array([["a"]]), "bool or numbers"),
    ],
)
def test_masks_that_cannot_be_understood(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_mask(source)


def test_a_mask_saved_as_jpeg_is_refused_with_the_remedy(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[5:20, 7:23] = 255
    path = saved(Image.fromarray(mask), tmp_path / "mask.jpg", quality=60)
    with pytest.raises(
        ImageError, match=r"mask\.jpg is a mask with the values .* JPEG, threshold it.* --threshold 127"
    ):
        load_mask(path)
