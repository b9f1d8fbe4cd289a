"""COCO-20i on label maps of a few pixels: classes, both schemes of folds, and which images count."""

from pathlib import Path

import numpy as np
import pytest
from helpers.photo_trees import HEIGHT, WIDTH, half, label_map, photo

from fss_lab.cli import commands as cli
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.check import check
from fss_lab.datasets.coco import CATEGORIES, CLASS_NAMES, NOVEL, Coco20i, Coco20iPanet
from fss_lab.datasets.protocols import BENCHMARKS, draw_episodes
from fss_lab.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    """Image n of either part shows class n (and image 1 a pixel of class 2 too), two images a class."""
    for part in ("train", "val"):
        for number in range(1, 11):
            labels = half((number + 1) // 2)
            labels[-1, -1] = 2 if number == 1 else 0
            name = f"COCO_{part}2014_{number:012d}"
            label_map(tmp_path / "labels" / f"{part}2014" / f"{name}.png", labels)
            photo(tmp_path / f"{part}2014" / f"{name}.jpg", labels)
    return tmp_path


def test_the_classes_are_cocos_80_without_the_gaps_of_its_numbers() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == len(CATEGORIES) == 80
    by_number = {number: CLASS_NAMES[class_id] for number, class_id in CATEGORIES.items()}
    known = {1: "person", 11: "fire hydrant", 13: "stop sign", 25: "giraffe", 27: "backpack", 44: "bottle",
             46: "wine glass", 65: "bed", 67: "dining table", 70: "toilet", 72: "tv", 82: "refrigerator", 84: "book",
             90: "toothbrush"}  # fmt: skip
    assert {number: by_number[number] for number in known} == known
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & set(by_number)


def test_folds_take_every_fourth_class_or_blocks_of_twenty() -> None:
    for scheme in ("fwb", "panet"):
        assert sorted(c for fold in NOVEL[scheme] for c in fold) == list(range(80))
    assert all((c + 1 - 1) % 4 == fold for fold in range(4) for c in NOVEL["fwb"][fold])  # by contiguous ids 1..80
    assert NOVEL["panet"][1] == tuple(range(20, 40))
    assert [CLASS_NAMES[c] for c in NOVEL["fwb"][0][:3]] == ["person", "airplane", "boat"]


def test_images_of_a_fold(root) -> None:
    novel = Coco20i(root, 0)
    assert [int(name[-3:]) for name in novel.names] == [1, 2, 9, 10]  # classes 1 and 5
    assert novel.class_uniform and len(novel.classes) == 20
    base = Coco20i(root, 1, "base")
    assert [int(name[-3:]) for name in base.names] == [2, 5, 6, 7, 8, 9, 10]  # 1 shows a pixel of class 2
    assert base.names[0] == "COCO_train2014_000000000002" and base.name == "COCO-20i (fwb) train, 7 images"
    assert Coco20iPanet(root, 0).name == "COCO-20i (panet) val, 10 images"
    assert open_photos("coco-panet", root, 0, "novel").name == "COCO-20i (panet) val, 10 images"
    assert novel.image(novel.names[0]).shape == (3, HEIGHT, WIDTH)


def test_a_class_without_images_is_named_when_episodes_are_drawn(root) -> None:
    with pytest.raises(ValueError, match="1-shot episodes need 2 images of every class.*0 of 'boat'"):
        draw_episodes(BENCHMARKS["hsnet"], Coco20i(root, 0), 1, 4)


def test_the_published_counts_are_those_of_the_benchmark() -> None:
    assert [fold.test_images for fold in DATASETS["coco"].published] == [26052, 15305, 13138, 12640]
    assert [fold.training_images for fold in DATASETS["coco"].published] == [21917, 41809, 43045, 44614]


def test_check_finds_coco_and_compares_what_was_published(root, capsys) -> None:
    assert cli.main(["data", "check", "--labels-only", "--root", str(root)]) == 1
    printed = capsys.readouterr().out
    assert "COCO-20i, folds of every fourth class: 20 label maps" in printed
    assert "| 1 | 7 | 7 | 2 | 2 0 0 " in printed
    assert "fold 1: training images 7, published 41809" in printed and "pairs" not in printed.split("wrong:")[1]
    assert "unpublished choice" in printed
    (root / "val2014" / "COCO_val2014_000000000003.jpg").unlink()
    assert any("COCO_val2014_000000000003.jpg is missing" in what for what in check("coco", root).wrong)


def test_a_root_below_or_without_coco(root, tmp_path_factory) -> None:
    above = tmp_path_factory.mktemp("data")
    root.rename(above / "coco")
    assert len(Coco20i(above, 0)) == 4
    with pytest.raises(DataError, match="holds no COCO 2014: expected annotations or labels"):
        Coco20i(above / "coco" / "train2014", 0)
    for path in (above / "coco" / "labels" / "val2014").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val2014 holds no label map; run `fss-lab data prepare coco"):
        Coco20i(above, 0)


def test_a_root_without_any_data_set_is_one_line(tmp_path, capsys) -> None:
    for action in ("prepare", "check"):
        assert cli.main(["data", action, "--root", str(tmp_path)]) == 1
        message = capsys.readouterr().err
        assert (
            f"{tmp_path} holds no PASCAL VOC 2012" in message
            and "holds no COCO 2014" in message
            and message.count("\n") == 1
        )


def test_labels_beyond_80_are_bad(root) -> None:
    label_map(root / "labels" / "val2014" / "COCO_val2014_000000000001.png", np.full((HEIGHT, WIDTH), 81, np.uint8))
    with pytest.raises(DataError, match=r"COCO_val2014_000000000001\.png holds the labels \[81\]; expected 0\.\.80"):
        Coco20i(root, 0)
