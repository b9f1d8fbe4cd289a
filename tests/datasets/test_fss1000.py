"""FSS-1000 in miniature: six classes of three photographs, lists beside them, masks with soft edges."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.fss1000 import Fss1000
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.datasets.training_episodes import TrainingEpisodes
from fss_lab.errors import DataError, InputError

CLASSES = {"trn": ["abacus", "ab_wheel"], "val": ["zucchini"], "test": ["pencil", "apple", "bus"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, names in CLASSES.items():
        (tmp_path / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            (tmp_path / name).mkdir()
            for number in (1, 2, 10):
                grey = np.zeros((30, 40), np.uint8)
                grey[:, 10], grey[:, 11], grey[:, 12 : 12 + number] = 127, 128, 255
                Image.fromarray(np.stack([grey] * 3, 2)).save(tmp_path / name / f"{number}.png")
                Image.fromarray(np.stack([grey // 2 + 40] * 3, 2)).save(tmp_path / name / f"{number}.jpg")
    return tmp_path


def test_the_lists_say_which_classes_are_asked_for(root: Path) -> None:
    test = open_photos("fss1000", root, 0, "novel")
    assert test.names == tuple(f"{name}/{number}" for name in CLASSES["test"] for number in (1, 2, 10))
    assert [test.class_name(c) for c in test.classes] == CLASSES["test"] and test.classes == (3, 4, 5)
    assert test.name == "FSS-1000 test, 3 classes, 9 images" and test.counts_for("apple/10") == (4,)
    assert Fss1000(root, 0, "base").classes == (0, 1) and Fss1000(root, 0, "base", part="val").classes == (2,)
    above = root.rename(root.parent / "fss1000").parent
    assert len(Fss1000(above)) == 9 and DATASETS["fss1000"].folds == 1


def test_masks_are_cut_at_128(root: Path) -> None:
    images = Fss1000(root)
    label = images.label("apple/2")
    assert label.shape == (30, 40) and label.unique().tolist() == [0, 5]
    assert label[0].nonzero().flatten().tolist() == [11, 12, 13]
    assert images.image("apple/2").shape == (3, 30, 40)


def test_no_class_has_the_label_of_ignored_pixels(root: Path) -> None:
    many = [f"class{number}" for number in range(300)]
    (root / "trn.txt").write_text("\n".join(many))
    images = Fss1000(root)
    assert images.classes == (302, 303, 304) and 254 not in images._class_names
    assert images.label("bus/1").unique().tolist() == [0, 305]


def test_episodes_walk_through_the_photographs(root: Path) -> None:
    images = Fss1000(root)
    episodes = ListedEpisodes(draw_episodes(BENCHMARKS["hsnet"], images, 2, 9), images, 32)
    assert [drawn.query for drawn in episodes.list.episodes] == list(images.names)
    assert all(episode.query_mask.unique().tolist() == [0, 1] for episode in episodes)
    training = TrainingEpisodes(Fss1000(root, split="base"), 1, 0, episodes=6, size=32)
    assert {episode.class_name for episode in training} == set(CLASSES["trn"])
    assert torch.equal(training[3].query_image, training[3].query_image)


def test_what_is_missing_or_bad_is_named(root: Path) -> None:
    with pytest.raises(InputError, match="FSS-1000 has no folds, only 0, got 2"):
        Fss1000(root, 2)
    for wrong in ({"split": "test"}, {"part": "test"}, {"protocol": "own"}):
        with pytest.raises(InputError):
            Fss1000(root, **wrong)
    (root / "bus" / "1.png").write_bytes(b"?")
    with pytest.raises(DataError, match=r"1\.png or its photograph cannot be used"):
        Fss1000(root).label("bus/1")
    Image.new("L", (3, 3)).save(root / "bus" / "2.png")
    with pytest.raises(DataError, match=r"2\.png is 3 x 3 pixels, its photograph 40 x 30"):
        Fss1000(root).label("bus/2")
    kept = Fss1000(root, skip_bad=True)
    assert kept.skipped == ("bus/1", "bus/2") and kept.name.endswith("7 images (2 bad file(s) left out)")
    (root / "val.txt").write_text("pencil\n")
    with pytest.raises(DataError, match="name the class pencil: training would see the test"):
        Fss1000(root)
    (root / "val.txt").write_text("gone\n")
    with pytest.raises(DataError, match="gone holds no photograph"):
        Fss1000(root, split="base", part="val")
    (root / "val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt is missing"):
        Fss1000(root)
    with pytest.raises(DataError, match="holds no FSS-1000: expected test.txt, abacus in it or in fss1000"):
        Fss1000(root / "bus")
