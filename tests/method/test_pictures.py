"""Masks as files and pictures."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fss_lab.errors import FileError, InputError
from fss_lab.figures.style import PREDICTION, Picture
from fss_lab.images import load_mask
from fss_lab.images.masks import voc_colours
from fss_lab.method.pictures import COLOURS, tinted
from fss_lab.method.records import LabelMap, Prediction

SIZES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)


def prediction(mask: np.ndarray, image: torch.Tensor | None = None) -> Prediction:
    tensor = torch.from_numpy(mask)
    photo = torch.full((3, *mask.shape), 100, dtype=torch.uint8) if image is None else image
    return Prediction(tensor, torch.where(tensor, 4.0, -4.0), photo, 0.9, {})


def label_map(labels: np.ndarray, names: tuple[str, ...]) -> LabelMap:
    return LabelMap(torch.from_numpy(labels), {n: prediction(labels == i) for i, n in enumerate(names, start=1)})


@given(arrays.arrays(bool, SIZES))
def test_a_mask_is_saved_black_and_white_and_read_back(tmp_path_factory, mask: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "deep" / "mask.png"  # the folder is made
    prediction(mask).save(path)
    with Image.open(path) as image:
        assert image.mode == "L" and image.size == mask.shape[::-1] and set(np.unique(image)) <= {0, 255}
    assert np.array_equal(load_mask(path).numpy(), mask)


@given(arrays.arrays(np.uint8, SIZES, elements=st.integers(0, 254)))
def test_labels_are_saved_as_indices_of_vocs_palette(tmp_path_factory, labels: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.png"
    label_map(labels, tuple(map(str, range(254)))).save(path)
    with Image.open(path) as image:
        assert image.mode == "P" and np.array_equal(np.array(image), labels)
        assert np.array_equal(np.array(image.convert("RGB")), voc_colours()[labels])
    number = int(labels.max())
    if number:
        assert np.array_equal(load_mask(path, foreground=number).numpy(), labels == number)


@pytest.mark.parametrize("name", ["mask.jpg", "mask", "mask.PNG.gif", "mask.tif"])
def test_only_png_keeps_every_pixel(tmp_path: Path, name: str) -> None:
    for record in (prediction(np.eye(4, dtype=bool)), label_map(np.eye(4, dtype=np.uint8), ("dog",))):
        with pytest.raises(InputError, match=r"a mask is saved as \.png"):
            record.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    prediction(np.eye(4, dtype=bool)).save(tmp_path / "mask.PNG")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "mask.png"
    prediction(np.zeros((4, 4), bool)).save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FileError, match=r"mask\.png could not be written .*free some disk space"):
        prediction(np.eye(4, dtype=bool)).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@given(arrays.arrays(np.uint8, SIZES, elements=st.integers(0, 9)), st.sampled_from([torch.uint8, torch.float32]))
def test_an_overlay_tints_the_classes_and_nothing_else(labels: np.ndarray, dtype: torch.dtype) -> None:
    photo = torch.full((3, *labels.shape), 100, dtype=dtype)
    picture = np.array(tinted(photo, labels))
    assert picture.shape == (*labels.shape, 3) and picture.dtype == np.uint8
    assert photo.eq(100).all()  # the photo itself is not drawn on
    near = np.zeros(labels.shape, bool)  # within the outline and its rim: two pixels around a border
    for down in range(-2, 3):
        for right in range(-2, 3):
            rows, columns = np.indices(labels.shape)
            rows, columns = rows + down, columns + right
            inside = (rows >= 0) & (rows < labels.shape[0]) & (columns >= 0) & (columns < labels.shape[1])
            near |= inside & (labels[rows.clip(0, labels.shape[0] - 1), columns.clip(0, labels.shape[1] - 1)] != labels)
    assert (picture[~near & (labels == 0)] == 100).all()
    for number in set(np.unique(labels)) - {0}:
        colour = np.array([int(COLOURS[(number - 1) % 7][i : i + 2], 16) for i in (1, 3, 5)])
        assert (picture[~near & (labels == number)] == np.round((300 + 2 * colour) / 5)).all()


def test_a_border_has_the_colour_of_its_class_within_a_white_rim() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    picture = np.array(prediction(mask).overlay())
    colour = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    assert picture[20, 9].tolist() == picture[20, 10].tolist() == colour
    assert picture[20, 8].tolist() == picture[20, 11].tolist() == [255, 255, 255]
    assert picture[20, 7].tolist() == [100, 100, 100]
    assert COLOURS[0] == PREDICTION  # one colour language; the constant spares importing matplotlib


@pytest.mark.parametrize("shape", [(60, 90), (90, 30), (1, 300)])
def test_figures_show_photo_and_answer(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[: shape[0] // 2 + 1, : shape[1] // 3] = True
    figure = prediction(mask).figure()
    assert isinstance(figure, Picture) and len(figure.axes) == 2
    assert "foreground, score 0.90" in figure.alt
    assert figure.png().startswith(b"\x89PNG")
    labels = label_map(mask.astype(np.uint8) * 2, ("dog", "cat")).figure()
    assert [text.get_text() for text in labels.legends[0].get_texts()] == ["dog", "cat"]
    assert "dog 0% (score 0.90), cat" in labels.alt


@pytest.mark.slow
def test_the_method_is_loaded_without_matplotlib() -> None:
    code = "import sys, fss_lab.method.segmenting; print('matplotlib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "False", ended.stderr
