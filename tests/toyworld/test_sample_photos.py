"""Stand-ins for photographs and for PASCAL: files that the readers of real data take as they are."""

import numpy as np
import pytest
from PIL import Image

from fss_lab.datasets.folder import Folder
from fss_lab.datasets.pascal import Pascal5i
from fss_lab.images import load_image
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms
from fss_lab.toyworld.sample_photos import rough_outline, write_sample_pascal, write_sample_photos
from fss_lab.widgets.painter import draw_mask, polygon


def test_photos_are_a_folder_of_two_novel_classes(tmp_path):
    folder = Folder(write_sample_photos(tmp_path / "photos", fold=2, seed=1, count=3))
    assert set(folder.photos) == set(CLASS_NAMES[11:13])
    assert [len(photos) for photos in folder.photos.values()] == [3, 3]
    assert folder.check() == []
    sizes = {tuple(load_image(photo.image).shape) for photos in folder.photos.values() for photo in photos}
    assert sizes == {(3, 360, 480), (3, 480, 360), (3, 400, 400)}


def test_photos_are_the_same_again_and_others_with_another_seed(tmp_path):
    first, again = (write_sample_photos(tmp_path / name, count=1) for name in "ab")
    other = write_sample_photos(tmp_path / "c", seed=1, count=1)
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert len(files) == 4
    assert all((first / path).read_bytes() == (again / path).read_bytes() for path in files)
    assert any((first / path).read_bytes() != (other / path).read_bytes() for path in files)


def test_photos_refuse(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_sample_photos(tmp_path, count=0)
    with pytest.raises(ValueError, match="fold"):
        write_sample_photos(tmp_path, fold=4)


def test_pascal_tree_is_read_as_pascal(tmp_path):
    images = Pascal5i(write_sample_pascal(tmp_path / "voc", fold=1, seed=3, count=12), fold=1)
    assert images.classes == (5, 6, 7, 8, 9) and 0 < len(images) <= 12
    name = images.names[0]
    world = Pictograms(1, "novel", seed=3)
    scene = world.scenes(int(name.rpartition("_")[2]))[1][0]
    assert np.array_equal(images.label(name).numpy(), world.labels(scene))
    assert images.image(name).shape == (3, 256, 256)


def test_rough_outline_keeps_to_the_object():
    mask = np.zeros((60, 80), np.uint8)
    mask[10:50, 20:60] = 1
    corners = rough_outline(mask, 8)
    assert len(corners) == 8 and all(20 <= x <= 59 and 10 <= y <= 49 for x, y in corners)
    drawn = draw_mask(mask.shape, [polygon(corners)])
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.85
    with pytest.raises(ValueError, match="3 corners"):
        rough_outline(mask, 2)
    with pytest.raises(ValueError, match="0 pixels"):
        rough_outline(np.zeros((4, 4)))


def test_masks_are_black_and_white(tmp_path):
    root = write_sample_photos(tmp_path, count=1)
    values = {value for path in root.rglob("*.png") for value in np.unique(np.asarray(Image.open(path)))}
    assert values == {0, 255}
