"""Pictures and masks that are written in every way come back as they were, or are refused; never as something else."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fss_lab.errors import ImageError, InputError
from fss_lab.images import as_list, load_image, load_mask, orientation_doubt, reduced
from fss_lab.images.masks import voc_colours

ORIENTATION = 0x0112
UNTURNED = {  # how the pixels are stored under an EXIF orientation, from how they are shown
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
QUICK = settings(max_examples=150, deadline=None)


def shapes(kind: Any = bool, channels: tuple[int, ...] = ()) -> Any:
    return SIZES.flatmap(lambda size: arrays(kind, (*size, *channels)))


def reopened(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def palette_image(indices: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8)).convert("P")
    table = [0] * 768
    for index, colour in colours.items():
        table[3 * index : 3 * index + 3] = colour
    image.putpalette(table)
    return image


BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@QUICK
@given(shapes(), st.sampled_from(["png", "gif", "bmp", "tiff"]), st.permutations(range(4)), st.integers(0, 3))
def test_a_black_and_white_palette_is_read_by_colour(
    mask: np.ndarray, kind: str, order: list[int], unused: int
) -> None:
    """In whatever order the palette is, and whatever else it holds."""
    black, white = order[:2]
    colours = {black: BLACK, white: WHITE, **{index: (9 * index, 200, 3) for index in order[2 : 2 + unused]}}
    image = reopened(palette_image(np.where(mask, white, black), colours), kind)
    assert np.array_equal(load_mask(image).numpy(), mask)
    indices, grey = np.array(image), np.array(image.convert("L"))  # GIF is saved with another order
    for foreground in (0, 1, 2, 3, 7, 255):
        try:
            selected = load_mask(image, foreground=foreground).numpy() == 1
        except ImageError as error:
            assert "two ways, by index or by colour" in str(error)
            assert ((indices == foreground) != (grey == foreground)).any() or foreground == 7
            continue
        readings = [selected_by == foreground for selected_by in (indices, grey) if foreground in selected_by]
        assert all(np.array_equal(selected, reading) for reading in readings) if readings else not selected.any()


@QUICK
@given(shapes(), st.sampled_from(["quantize", "optimised"]), st.sampled_from(["png", "gif"]))
def test_palettes_that_programs_make(mask: np.ndarray, how: str, kind: str) -> None:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    image = grey.convert("RGB").quantize(2) if how == "quantize" else grey.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(load_mask(reopened(image, kind, optimize=True)).numpy(), mask)


@QUICK
@given(shapes(np.uint8), st.sampled_from(["P", "RGB"]), st.integers(0, 255))
def test_vocs_colours_are_read_by_index(labels: np.ndarray, mode: str, foreground: int) -> None:
    image = Image.fromarray(labels).convert("P")
    image.putpalette(voc_colours().ravel().tolist())
    image = reopened(image.convert(mode) if mode == "RGB" else image, "png")
    colours = voc_colours()[labels]
    if mode == "RGB" and (colours == colours[..., :1]).all():
        return  # grey, and read as grey
    mask = load_mask(image, foreground=foreground).numpy()
    expected = np.where(labels == foreground, 1, np.where(labels == 255, 255, 0))
    assert np.array_equal(mask, expected)


def test_vocs_colours_are_the_published_ones() -> None:
    assert voc_colours()[[0, 1, 2, 3, 8, 15, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [192, 128, 128], [224, 224, 192],
    ]  # fmt: skip


@QUICK
@given(shapes(), st.tuples(*[st.integers(0, 255)] * 3), st.tuples(*[st.integers(0, 255)] * 3))
def test_other_palettes_are_read_if_index_and_colour_agree(mask: np.ndarray, first: tuple, second: tuple) -> None:
    image = palette_image(mask, {0: first, 1: second})
    used = [colour for colour, there in ((first, not mask.all()), (second, mask.any())) if there]
    try:
        result = load_mask(image).numpy()
    except ImageError as error:
        assert "by index or by colour" in str(error)
        assert used != [BLACK, WHITE] and used != [WHITE, BLACK]
        return
    if used[0] == WHITE:
        assert np.array_equal(result, ~mask if len(used) == 2 else np.ones_like(mask))
    elif first == BLACK or set(used) <= {BLACK, WHITE}:
        assert np.array_equal(result, mask if set(used) != {BLACK} else np.zeros_like(mask))
    else:
        raise AssertionError(f"{used} was read, though nothing says what it means")


def test_both_readings_of_a_palette_are_named() -> None:
    image = palette_image(np.array([[0, 1, 1]]), {0: (200, 0, 0), 1: (0, 0, 0)})
    with pytest.raises(
        ImageError, match=r"0 = \(200, 0, 0\), 1 = \(0, 0, 0\).*by index 2 of 3 pixels.*by colour nothing"
    ):
        load_mask(image)
    dark = palette_image(np.array([[0, 1, 1]]), {0: (250, 250, 250), 1: (3, 3, 3)})
    with pytest.raises(ImageError, match="by index 2 of 3 pixels are foreground"):
        load_mask(dark)
    assert load_mask(dark, threshold=127).tolist() == [[1, 0, 0]]
    assert load_mask(image, foreground=0).tolist() == [[1, 0, 0]]
    with pytest.raises(ImageError, match="no threshold"):
        load_mask(image, threshold=127)
    with pytest.raises(InputError, match="not both"):
        load_mask(image, threshold=127, foreground=1)


@QUICK
@given(shapes(), st.sampled_from(["L", "LA", "P", "RGB", "RGBA"]), st.integers(0, 255))
def test_transparent_masks_are_refused_and_opaque_ones_read(mask: np.ndarray, mode: str, alpha: int) -> None:
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    if mode in ("LA", "RGBA"):
        image = grey.convert(mode)
        image.putalpha(Image.fromarray(np.where(mask, 255, alpha).astype(np.uint8)))
        image, clear = reopened(image, "png"), alpha != 255 and not mask.all()
    else:
        key: Any = {"L": 0, "P": 0, "RGB": BLACK}[mode]
        image = palette_image(mask, {0: BLACK, 1: WHITE}) if mode == "P" else grey.convert(mode)
        image, clear = reopened(image, "png", transparency=key), not mask.all()
    if clear:
        with pytest.raises(ImageError, match="transparency"):
            load_mask(image)
    else:
        assert np.array_equal(load_mask(image).numpy(), mask)


@QUICK
@given(
    shapes(),
    st.sampled_from([np.bool_, np.uint8, np.uint16, ">u2", np.int16, np.int32, np.int64, np.float16, np.float32]),
    st.sampled_from([1, 255, 65535]),
    st.sampled_from(["HW", "HW1", "HW3", "tensor", "1HW", "flipped", "fortran", "npy"]),
)
def test_mask_arrays_of_every_layout_and_type(
    tmp_path_factory: Any, mask: np.ndarray, kind: Any, white: int, layout: str
) -> None:
    largest = {"b": 1, "f": 65535 if kind != np.float16 else 2048}.get(np.dtype(kind).kind) or np.iinfo(kind).max
    white = white if white <= largest else 1
    array = (mask * white).astype(kind)
    source: Any = {
        "HW": lambda: array, "HW1": lambda: array[..., None], "HW3": lambda: np.stack([array] * 3, -1),
        "tensor": lambda: torch.from_numpy(array.astype(np.dtype(kind).newbyteorder("="))),
        "1HW": lambda: torch.from_numpy(array.astype(np.dtype(kind).newbyteorder("=")))[None],
        "flipped": lambda: array[::-1, ::-1].copy()[::-1, ::-1], "fortran": lambda: np.asfortranarray(array),
        "npy": lambda: array,
    }[layout]()  # fmt: skip
    if layout == "npy":
        path = tmp_path_factory.mktemp("npy") / "mask.npy"
        np.save(path, array)
        source = path
    (single,) = as_list(source, dims=2)
    assert np.array_equal(load_mask(single).numpy(), mask)


@QUICK
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 400))
def test_specks_of_1_in_a_white_mask_are_refused(ones: int, whites: int, zeros: int) -> None:
    values = np.array([[1] * ones + [255] * whites + [0] * zeros], np.uint8)
    if ones < 0.05 * whites:
        with pytest.raises(ImageError, match=rf"{whites} pixels of 255 and only {ones} of 1.*foreground=255"):
            load_mask(values)
    else:
        assert np.array_equal(load_mask(values).numpy(), values)
    assert (load_mask(values, foreground=255).numpy() == 1).sum() == whites


@QUICK
@given(shapes(np.uint8, (3,)), st.sampled_from(range(1, 9)), st.sampled_from(["png", "tiff", "webp"]))
def test_turned_photos_and_masks(picture: np.ndarray, orientation: int, kind: str) -> None:
    stored = np.ascontiguousarray(UNTURNED[orientation](picture))
    options = {"lossless": True} if kind == "webp" else {}
    image, fresh = (reopened(Image.fromarray(stored), kind, exif=exif(orientation), **options) for _ in range(2))
    assert np.array_equal(load_image(image).permute(1, 2, 0).numpy(), picture)
    height, width = picture.shape[:2]
    mask = Image.new("L", (width, height))
    doubt = orientation != 1 and (orientation < 5 or height == width)
    assert bool(orientation_doubt(fresh, mask)) == doubt
    assert not orientation_doubt(fresh, reopened(mask, "png", exif=exif(orientation)))
    assert not orientation_doubt(fresh, np.zeros((height, width))) and not orientation_doubt(picture, mask)


@QUICK
@given(
    shapes(np.uint8, (3,)),
    st.sampled_from(["uint8", "uint16", ">u2", "int32", "int64", "uint32", "float16", "float32", "float64"]),
    st.sampled_from([1 / 255, 1.2 / 255, 1, 257, 16, 4, 4095 / 255]),
    st.sampled_from(["HWC", "CHW tensor", "grey", "npy"]),
)
def test_image_arrays_of_every_type_and_range(
    tmp_path_factory: Any, picture: np.ndarray, kind: str, gain: float, layout: str
) -> None:
    """`gain` times an 8-bit picture is that picture, or refused, and read with the range."""
    if layout == "grey":
        picture = picture[..., :1]
    values = picture.astype(np.float64) * gain
    dtype = np.dtype(kind)
    if dtype.kind in "iu" and (gain < 1 or values.max() > np.iinfo(dtype).max) or dtype == np.float16 and gain > 200:
        return
    array = (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)
    source: Any = array[..., 0] if layout == "grey" else array
    if layout == "npy":
        source = tmp_path_factory.mktemp("npy") / "image.npy"
        np.save(source, array)
    elif layout == "CHW tensor":
        source = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1).astype(dtype.newbyteorder("="))))
    expected = np.broadcast_to(picture, (*picture.shape[:2], 3))

    def same(result: torch.Tensor) -> bool:
        return bool((np.abs(result.permute(1, 2, 0).numpy().astype(int) - expected) <= (0 if gain >= 1 else 1)).all())

    assert same(load_image(source, range=(0, 255 * gain)))
    deep = dtype.kind == "u" and dtype.itemsize == 2
    try:
        result = load_image(source)
    except ImageError as error:
        assert "range=(0, " in str(error)
        if deep:
            assert array.max() < 2**15
        else:
            assert array.max() > 255 or dtype.kind == "f"
        return
    # read as 0..65535 or 0..255: right with this gain, and else only where the numbers cannot tell that it is another
    assert same(result) if gain == (257 if deep else 1) else array.max() >= 2**15 if deep else array.max() <= 255
    if not deep and gain < 1:
        assert not array.any()


@pytest.mark.parametrize("top", [1.0001, 1.05, 1.4, 3.0, 12.0])
def test_floats_a_little_above_1_are_refused(top: float) -> None:
    values = np.linspace(0, top, 300, dtype=np.float32).reshape(10, 30)
    with pytest.raises(ImageError, match=r"as of an image in 0\.\.1: multiply by 255.*range=\(0, 1\)"):
        load_image(values)
    values = np.full((40, 40), 0.5)
    values[0, :5] = 90.0  # a lamp in an HDR picture
    with pytest.raises(ImageError, match="multiply by 255"):
        load_image(values)
    assert load_image(values, range=(0, 1)).unique().tolist() == [128, 255]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize(("top", "advice"), [(255, 255), (900, 1023), (4095, 4095), (9000, 10000), (20000, 20000)])
def test_files_of_16_bits_that_do_not_fill_their_range(suffix: str, top: int, advice: int) -> None:
    image = reopened(Image.fromarray(np.array([[0, top]], np.uint16)), suffix)
    with pytest.raises(ImageError, match=rf"16-bit numbers up to {top}, .*range=\(0, {advice}\)"):
        load_image(image)
    assert load_image(image, range=(0, top))[0].tolist() == [[0, 255]]


def deep_colour(values: np.ndarray) -> Image.Image:
    """A PNG of 16 bits a channel, which Pillow reads but does not write. values: (H, W, 3) uint16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return Image.open(io.BytesIO(png))


def test_16_bit_colour_that_pillow_would_turn_black() -> None:
    full = np.array([[[0, 65535, 30000]]], np.uint16)
    assert load_image(deep_colour(full))[:, 0, 0].tolist() == [0, 255, 117]
    for values in (full // 16, full // 257):
        with pytest.raises(ImageError, match="colour image of 16 bits, of which Pillow reads the upper 8"):
            load_image(deep_colour(values))
    for white in (1, 255, 65535):
        with pytest.raises(ImageError, match="mask of 16 bits a colour"):
            load_mask(deep_colour(np.full((2, 2, 3), white, np.uint16)))


def test_a_key_colour_of_16_bits_is_white() -> None:
    image = reopened(Image.fromarray(np.array([[7, 65535, 0]], np.uint16)), "png", transparency=7)
    assert load_image(image)[0].tolist() == [[255, 255, 0]]


@pytest.mark.parametrize("bounds", [(1, 0), (0, 0), (0, float("nan")), (0, 1, 2)])
def test_a_range_that_is_none(bounds: Any) -> None:
    with pytest.raises(InputError, match="black, white"):
        load_image(np.zeros((2, 2)), range=bounds)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGB", "L", "I;16", "1"])
def test_masks_of_other_colour_modes(mode: str) -> None:
    mask = np.array([[True, False], [False, False]])
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    image = Image.fromarray(mask.astype(np.uint16) * 65535) if mode == "I;16" else grey.convert(mode)
    assert np.array_equal(load_mask(reopened(image, "tiff")).numpy(), mask)


def test_a_soft_mask_is_cut_where_one_says() -> None:
    soft = np.array([[0.0, 0.4, 0.6, 1.0]])
    assert load_mask(soft, threshold=0.5).tolist() == [[0, 0, 1, 1]]
    jpeg = reopened(Image.fromarray(np.kron(np.eye(2), np.ones((16, 16))).astype(np.uint8) * 255), "jpeg", quality=50)
    assert load_mask(jpeg, threshold=127).float().mean() == 0.5


def test_a_large_photo_is_averaged_and_others_are_not_touched() -> None:
    noise = torch.randint(0, 256, (3, 1200, 1600), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = reduced(noise, 256)
    assert small.shape == (3, 512, 512) and small.dtype == torch.uint8
    assert small.float().std() < 0.5 * noise.float().std() and abs(small.float().mean() - noise.float().mean()) < 1
    assert reduced(noise[:, :100], 256).shape == (3, 100, 512)
    for height, width in ((768, 768), (480, 640), (10, 10)):
        picture = noise[:, :height, :width]
        assert reduced(picture, 256) is picture
    x = torch.arange(1600).float().div(1600).mul(255).to(torch.uint8).expand(3, 1200, 1600)
    assert (
        reduced(x, 256).float() - torch.arange(512).add(0.5).div(512).mul(255)
    ).abs().max() < 2  # nothing is shifted


def test_what_was_saved_in_place_of_an_image_is_named(tmp_path: Any) -> None:
    for name, content, message in (
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer.*git lfs pull"),
        ("a.jpg", b"<!DOCTYPE html>", "a web page"),
        ("a.heic", b"\0\0\0\x18ftypheic", "pillow-heif"),
        ("a.json", b"{}", "no image; .*load_mask reads it"),
        ("a.npy", b"\x93NUMPY", "cannot be read as an array"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name}.*{message}"):
            load_image(tmp_path / name)
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read as an array"):
        load_mask(tmp_path / "object.npy")


def test_several_masks_and_one_with_channels_are_told_apart() -> None:
    arrays_and_counts = ((np.zeros((30, 20, 1)), 1), (np.zeros((30, 20, 3)), 1), (np.zeros((5, 30, 20)), 5))
    for array, count in (*arrays_and_counts, (torch.zeros(2, 30, 20), 2)):
        assert len(as_list(array, dims=2)) == count
