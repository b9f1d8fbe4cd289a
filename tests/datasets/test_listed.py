"""LVIS-92i and ISIC 2018 in miniature, in their own formats, and what `fss-lab data check` says of sets like these."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fss_lab.cli import commands as cli
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.isic import CLASS_NAMES, MASKS, PHOTOS, Isic2018
from fss_lab.datasets.lvis import Lvis92i
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.datasets.training_episodes import TrainingEpisodes
from fss_lab.errors import DataError, InputError
from fss_lab.evaluation.worlds import Photographs

SIDE = 40


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE + 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


# ---- LVIS


def annotations(part: str, numbers: dict[int, list[int]]) -> dict:
    """LVIS's format. numbers: the images (their ids) of each category; one instance each, of category 1 two."""
    images = sorted({number for of_class in numbers.values() for number in of_class})
    folder = {number: "train2017" if number % 2 else "val2017" for number in images}  # val has some of train2017
    instances = []
    for category, of_class in numbers.items():
        for number in of_class:
            for left in (2, 22) if category == 1 else (2 + category % 20,):
                corners = [left, 4, left + 9, 4, left + 9, 20, left, 20]
                instances.append({"id": len(instances) + 1, "image_id": number, "category_id": category, "area": 144,
                                  "segmentation": [corners], "bbox": [left, 4, 9, 16]})  # fmt: skip
    return {
        "images": [
            {"id": n, "coco_url": f"http://images.cocodataset.org/{folder[n]}/{n:012d}.jpg", "height": SIDE,
             "width": SIDE + 8, "not_exhaustive_category_ids": [], "neg_category_ids": []}
            for n in images
        ],
        "annotations": instances,
        "categories": [{"id": c, "name": f"thing_{c}", "frequency": "r"} for c in range(1, 301)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def lvis(tmp_path_factory) -> Path:
    """Twenty-two classes in val, one of which is in a single image; category 255 is among them."""
    root = tmp_path_factory.mktemp("data") / "lvis"
    root.mkdir()
    categories = [*range(1, 21), 255, 300]
    val = {category: [2 * place + 1, 2 * place + 2] for place, category in enumerate(categories)}
    val[300] = [1]  # too few
    val[2] = [*val[2], 1]  # image 1 shows categories 1 and 2
    train = {category: [100 + 3 * place, 101 + 3 * place] for place, category in enumerate(categories)}
    train[20] = [150]  # rare
    for part, numbers in (("val", val), ("train", train)):
        content = annotations(part, numbers)
        (root / f"lvis_v1_{part}.json").write_text(json.dumps(content))
        for image in content["images"]:
            picture(root / image["coco_url"].split(".org/")[1], image["id"])
    return root.parent


def test_lvis_has_ten_folds_of_every_tenth_class(lvis) -> None:
    sets = [open_photos("lvis", lvis, fold) for fold in range(10)]
    assert [images.classes for images in sets] == [
        (fold, fold + 10) for fold in range(10)
    ]  # the 21st class is nobody's
    assert DATASETS["lvis"].folds == 10 and sets[0].class_name(10) == "thing_11"
    assert sets[0].name == "LVIS-92i val, 2 classes, 4 images"
    with pytest.raises(InputError, match="fold must be one of 0, 1, .*, 9, got 10"):
        open_photos("lvis", lvis, 10)


def test_instances_of_a_class_are_one_object_and_hide_no_other(lvis) -> None:
    first, second = open_photos("lvis", lvis, 0), open_photos("lvis", lvis, 1)
    assert "thing_1/train2017/000000000001.jpg" in first.names and "thing_2/train2017/000000000001.jpg" in second.names
    label = first.label("thing_1/train2017/000000000001.jpg")
    assert label.shape == (SIDE, SIDE + 8) and label.unique().tolist() == [0, 1]
    assert label[10].nonzero().flatten().tolist() == [*range(2, 11), *range(22, 31)]
    other = second.label("thing_2/train2017/000000000001.jpg")
    assert other[10].nonzero().flatten().tolist() == list(range(4, 13)) and other.max() == 2


def test_base_classes_of_lvis_keep_out_novel_images_and_rare_classes(lvis) -> None:
    base = Lvis92i(lvis, 9, "base")  # novel: thing_10 and thing_20
    assert len(base.classes) == 18 and {"thing_10", "thing_20"}.isdisjoint(name.split("/")[0] for name in base.names)
    assert "thing_20" not in {Lvis92i(lvis, 0, "base").class_name(c) for c in Lvis92i(lvis, 0, "base").classes}
    kept = [Lvis92i(lvis, 1, "base", part="val", protocol=name).names for name in ("fssam", "hsnet")]
    assert "thing_1/train2017/000000000001.jpg" in kept[1] and "thing_1/train2017/000000000001.jpg" not in kept[0]
    episodes = TrainingEpisodes(base, 1, 0, episodes=4, size=32)
    assert all(episode.query_mask.unique().tolist() == [0, 1] for episode in episodes)


def test_label_255_means_ignore_so_no_class_has_it(tmp_path, lvis) -> None:
    content = annotations("val", {c: [2 * c, 2 * c + 1] for c in range(250, 260)})
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "lvis_v1_val.json").write_text(json.dumps(content))
    for image in content["images"]:
        picture(tmp_path / "coco" / image["coco_url"].split(".org/")[1], 0)
    images = Lvis92i(tmp_path, 5)
    assert images.classes == (255,) and images.class_name(255) == "thing_255"
    assert images.label(images.names[0]).max() == 256 and len(draw_episodes(BENCHMARKS["hsnet"], images, 1, 3)) == 3


def test_what_is_wrong_with_lvis_is_named(tmp_path, lvis) -> None:
    with pytest.raises(DataError, match=r"holds no LVIS-92i: expected lvis_v1_val\.json"):
        Lvis92i(tmp_path, 0)
    (tmp_path / "lvis_v1_val.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"lvis_v1_val\.json is missing or no file of LVIS's annotations \(KeyError"):
        Lvis92i(tmp_path, 0)
    content = annotations("val", {c: [2 * c, 2 * c + 1] for c in range(1, 11)})
    content["annotations"][0]["segmentation"] = [[1, 2]]
    (tmp_path / "lvis_v1_val.json").write_text(json.dumps(content))
    for image in content["images"]:
        picture(tmp_path / image["coco_url"].split(".org/")[1], 0)
    with pytest.raises(DataError, match="an instance of thing_1 in .* is damaged .*fewer than three points"):
        images = Lvis92i(tmp_path, 0)
        images.label("thing_1/val2017/000000000002.jpg")
    Image.new("RGB", (3, 3)).save(tmp_path / "train2017" / "000000000003.jpg")
    with pytest.raises(DataError, match=r"000000000003\.jpg is \(3, 3\) pixels, LVIS says \(48, 40\)"):
        images.label("thing_1/train2017/000000000003.jpg")
    with pytest.raises(InputError, match="2 images of every class"):
        draw_episodes(BENCHMARKS["fssam"], Lvis92i(tmp_path, 0, skip_bad=True), 1, 1)


# ---- ISIC


@pytest.fixture
def isic(tmp_path) -> Path:
    """Seven lesions, of which one has no class; one class of photographs lies in a folder of its own."""
    rows = []
    for number in range(7):
        name, class_name = f"ISIC_{number:07d}", CLASS_NAMES[number % 3]
        folder = tmp_path / PHOTOS / ("2" if class_name == "melanoma" else "")
        picture(folder / f"{name}.jpg", number)
        mask = np.zeros((SIDE, SIDE + 8), np.uint8)
        mask[5:20, 5 : 15 + number] = 255
        (tmp_path / MASKS).mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / MASKS / f"{name}_segmentation.png")
        rows += [f"{name},{class_name}"] if number < 6 else []
    (tmp_path / "class_id.csv").write_text("\n".join(["ID,Class", *rows, "ISIC_9999999,nevus\n"]))
    return tmp_path


def test_isic_has_three_novel_classes(isic) -> None:
    images = open_photos("isic", isic, 0)
    assert (
        images.names == tuple(f"ISIC_{n:07d}" for n in range(6))
        and images.name == "ISIC 2018 training, 3 classes, 6 images"
    )
    assert [images.class_name(c) for c in images.classes] == list(CLASS_NAMES)
    assert images.label("ISIC_0000004").unique().tolist() == [0, 2]
    assert images.image("ISIC_0000004").shape == (3, SIDE, SIDE + 8)
    episodes = ListedEpisodes(draw_episodes(BENCHMARKS["hsnet"], images, 1, 3), images, 32)
    assert all((episode.query_mask == 1).any() for episode in episodes)
    with pytest.raises(InputError, match="all classes of ISIC are novel"):
        open_photos("isic", isic, 0, "base")


def test_weights_of_any_data_set_are_scored_on_isic() -> None:
    run = {"model": "sam2-small+dinov2-base", "image_size": 512, "dataset": "pascal", "fold": 2}
    assert not {"dataset", "fold"} & Photographs(dataset="isic").conditions(0, run).keys()
    assert {"dataset", "fold"} <= Photographs(dataset="coco").conditions(0, run).keys()


def test_what_is_wrong_with_isic_is_named(isic, capsys) -> None:
    with pytest.raises(
        DataError, match="holds no ISIC 2018: expected ISIC2018_Task1_Training_GroundTruth, class_id.csv in"
    ):
        Isic2018(isic / PHOTOS)
    (isic / MASKS / "ISIC_0000001_segmentation.png").write_bytes(b"?")
    Image.new("L", (3, 3)).save(isic / MASKS / "ISIC_0000002_segmentation.png")
    assert Isic2018(isic, skip_bad=True).name == "ISIC 2018 training, 3 classes, 4 images (2 bad file(s) left out)"
    assert cli.main(["data", "check", "--root", str(isic)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"2 thing\(s\) wrong:\n- .*0001_segmentation\.png or its photograph cannot be used", printed)
    assert "ISIC_0000002_segmentation.png is 3 x 3 pixels, its photograph 48 x 40" in printed
    (isic / "class_id.csv").write_text("ID,Class\nISIC_0000000,wart\n")
    with pytest.raises(DataError, match=r"class_id\.csv is not the table of classes .*wart.*ISIC_0000000,nevus"):
        Isic2018(isic)


# ---- data check


def test_the_check_counts_each_set_and_says_what_is_published(lvis, isic, tmp_path, capsys) -> None:
    assert cli.main(["data", "check", "lvis", "--root", str(lvis)]) == 0
    printed = capsys.readouterr().out
    assert "LVIS-92i: " in printed and "| 1 | 34 | 34 | 5 | 3 2 |" in printed
    assert printed.endswith("Nothing is wrong. No counts are published.\n")
    assert cli.main(["data", "check", "isic", "--root", str(isic)]) == 0
    assert "| 0 | 0 | 0 | 6 | 2 2 2 |" in capsys.readouterr().out
    assert cli.main(["data", "check", "isic", "--labels-only", "--root", str(isic)]) == 1
    assert "--labels-only is for data sets with label maps" in capsys.readouterr().err
    for name in "abcde":
        for number in range(2):
            path = tmp_path / "mine" / name / f"{number}.jpg"
            picture(path, number)
            Image.fromarray(np.eye(SIDE, SIDE + 8, dtype=np.uint8) * 255).save(path.with_suffix(".png"))
    assert cli.main(["data", "check", "folder", "--root", str(tmp_path / "mine")]) == 0
    lines = re.findall(r"^(\d): \[(.*)\]$", capsys.readouterr().out, re.M)
    assert len(lines) == 4 and sorted(", ".join(names for _, names in lines).split(", ")) == list("abcde")
    (tmp_path / "folds.yaml").write_text("".join(f"{fold}: [{names}]\n" for fold, names in lines))
    drawn, written = (open_photos("folder", tmp_path / "mine", 0, folds=f) for f in (None, tmp_path / "folds.yaml"))
    assert drawn.facts == written.facts and torch.equal(drawn.label(drawn.names[0]), written.label(drawn.names[0]))
