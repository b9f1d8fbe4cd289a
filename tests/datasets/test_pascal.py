"""PASCAL-5i on label maps of a few pixels: which images count, which are dropped, and what bad data say."""

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.photo_trees import HEIGHT, WIDTH, half, label_map, photo, voc_lists
from PIL import Image

from fss_lab.cli import commands as cli
from fss_lab.datasets import index as scanning
from fss_lab.datasets.catalogue import DATASETS
from fss_lab.datasets.check import check
from fss_lab.datasets.labelled import LEAST_AREA
from fss_lab.datasets.pascal import CLASS_NAMES, Pascal5i, image_lists
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.errors import DataError


def area(pixels: int, label: int, rest: int = 0) -> np.ndarray:
    """A label map with so many pixels of a label, and the rest of another."""
    labels = np.full(HEIGHT * WIDTH, rest, np.uint8)
    labels[:pixels] = label
    return labels.reshape(HEIGHT, WIDTH)


MAPS = {
    "t_enough": area(LEAST_AREA, 6),  # bus, novel in fold 1
    "t_small": area(LEAST_AREA - 1, 6),
    "t_both": area(LEAST_AREA, 6, rest=7),
    "t_novel_pixel": area(LEAST_AREA, 6),
    "s_person": area(3000, 15, rest=255),
    "v_bird": area(3000, 3),
    "v_bird_small": area(100, 3, rest=6),
    "v_two": area(LEAST_AREA, 1, rest=2),
    "v_bus": area(3000, 6, rest=255),
}
MAPS["t_novel_pixel"][-1, -1] = 1  # one pixel of an aeroplane


@pytest.fixture
def root(tmp_path) -> Path:
    for name, labels in MAPS.items():
        label_map(tmp_path / "SegmentationClassAug" / f"{name}.png", labels)
        photo(tmp_path / "JPEGImages" / f"{name}.jpg", labels)
    train = [name for name in MAPS if name.startswith("t_")]
    voc_lists(tmp_path, train, [n for n in MAPS if n.startswith("v_")], noval=["s_person", "t_small"])
    return tmp_path


def test_an_image_counts_from_2048_pixels_on_and_is_dropped_from_the_first_novel_one_on(root) -> None:
    base = Pascal5i(root, 0, "base")
    assert base.names == ("t_enough", "t_both", "s_person")  # VOC's list, then what SBD's adds
    assert [base.counts_for(name) for name in base.names] == [(5,), (5, 6), (14,)]
    novel = Pascal5i(root, 0)
    assert novel.names == ("v_bird", "v_two") and novel.classes == (0, 1, 2, 3, 4)
    assert [novel.counts_for(name) for name in novel.names] == [(2,), (0, 1)]
    assert Pascal5i(root, 1).names == ("v_bird_small", "v_bus")
    assert Pascal5i(root, 1, "base").names == ("s_person",)


def test_the_hsnet_protocol_keeps_images_with_novel_classes(root) -> None:
    kept = Pascal5i(root, 0, "base", protocol="hsnet")
    assert kept.names == ("t_enough", "t_both", "t_novel_pixel", "s_person")


def test_base_classes_to_validate_on_come_from_images_of_neither_training_nor_test(root) -> None:
    held_out = Pascal5i(root, 0, "base", part="val")
    assert held_out.names == ("v_bus",)
    assert not set(held_out.names) & {*Pascal5i(root, 0).names, *Pascal5i(root, 0, "base").names}
    with pytest.raises(ValueError, match='part must be "train" or "val", got \'test\''):
        Pascal5i(root, 0, part="test")


def test_images_labels_and_names(root) -> None:
    novel = Pascal5i(root, 0)
    assert novel.image("v_two").shape == (3, HEIGHT, WIDTH) and novel.image("v_two").dtype == torch.uint8
    assert torch.equal(novel.label("v_two"), torch.from_numpy(MAPS["v_two"]))
    assert [novel.class_name(c) for c in novel.classes] == ["aeroplane", "bicycle", "bird", "boat", "bottle"]
    assert CLASS_NAMES[15:] == ("potted plant", "sheep", "sofa", "train", "tv/monitor")
    assert novel.name == "PASCAL-5i val, 2 images" and not novel.class_uniform


def test_the_root_may_be_above_and_train_noval_beside_vocs_lists(root, tmp_path_factory) -> None:
    above = tmp_path_factory.mktemp("data")
    (above / "VOCdevkit").mkdir()
    root.rename(above / "VOCdevkit" / "VOC2012")
    voc = above / "VOCdevkit" / "VOC2012"
    (voc / "train_noval.txt").rename(voc / "ImageSets" / "Segmentation" / "train_noval.txt")
    assert Pascal5i(above, 0, "base").names == ("t_enough", "t_both", "s_person")


def test_lists_that_are_missing_empty_or_overlap_are_refused(root, tmp_path_factory) -> None:
    (root / "train_noval.txt").write_text("s_person\nv_two\n")
    with pytest.raises(DataError, match=r"train_noval\.txt or .*names images of val\.txt, such as v_two"):
        image_lists(root)
    (root / "train_noval.txt").write_text("s_person\ns_person\n")
    with pytest.raises(DataError, match=r"train_noval\.txt names s_person more than once"):
        image_lists(root)
    (root / "train_noval.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train_noval\.txt names no image"):
        image_lists(root)
    (root / "train_noval.txt").unlink()
    with pytest.raises(DataError, match=r"train_noval\.txt is missing; it comes with the data set"):
        image_lists(root)
    with pytest.raises(DataError, match="holds no PASCAL VOC 2012: expected SegmentationClassAug"):
        Pascal5i(tmp_path_factory.mktemp("empty"), 0)


@pytest.mark.parametrize("wrong", [{"fold": 4}, {"split": "test"}, {"protocol": "pfenet"}])
def test_other_folds_splits_and_protocols_are_refused(root, wrong) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        Pascal5i(root, **{"fold": 0, "split": "base", **wrong})


# ---- the table


TABLE = """
| fold | training images | (image, class) pairs | test images | images per novel class |
|---|---|---|---|---|
| 0 | 4208 | 5749 | 364 | 81 63 89 61 71 |
| 1 | 3726 | 4706 | 445 | 70 100 118 110 69 |
| 2 | 2752 | 3044 | 592 | 73 125 76 74 386 |
| 3 | 4510 | 5832 | 336 | 63 53 90 82 69 |
"""


def shown_in_training() -> Iterator[tuple[int, ...]]:
    """Labels of the images of a training set that has the published numbers, in all folds at once."""
    only = {0: 1000, 1: 1054, 2: 2028, 3: 698}  # images that show classes of one fold alone; so many of them show two
    for fold, two in {0: 0, 1: 73, 2: 761, 3: 219}.items():
        first = 5 * fold + 1
        yield from ((first + n % 5, *([first + (n + 1) % 5] if n < two else [])) for n in range(only[fold]))
    yield from (
        (6 + n % 5, 11 + n % 5, *([11 + (n + 1) % 5] if n < 60 else [])) for n in range(428)
    )  # of folds 1 and 2
    yield from [()] * 5


def shown_in_test() -> Iterator[tuple[int, ...]]:
    for fold, counts in enumerate(DATASETS["pascal"].published):
        left = dict(zip(range(5 * fold + 1, 5 * fold + 6), counts.images_per_novel_class, strict=True))
        for _ in range(sum(left.values()) - counts.test_images):  # so many images show two classes
            pair = tuple(sorted(left, key=lambda label: -left[label])[:2])
            yield pair
            left |= {label: left[label] - 1 for label in pair}
        yield from ((label,) for label, images in left.items() for _ in range(images))


@pytest.mark.slow
def test_the_table_comes_out_exactly_from_label_maps_alone(tmp_path, monkeypatch, capsys) -> None:
    """Seven thousand maps that show as many classes in as many images as the real ones."""

    @cache
    def content(shown: tuple[int, ...]) -> bytes:
        labels = np.full(3 * LEAST_AREA, 255, np.uint8)
        for place, label in enumerate(shown):
            labels[place * LEAST_AREA : (place + 1) * LEAST_AREA] = label
        label_map(tmp_path / "one.png", labels.reshape(64, -1))
        return (tmp_path / "one.png").read_bytes()

    (tmp_path / "SegmentationClassAug").mkdir()
    names: dict[str, list[str]] = {"train": [], "val": []}
    for part, images in {"train": shown_in_training(), "val": shown_in_test()}.items():
        for number, shown in enumerate(images):
            names[part].append(f"{part}_{number:05d}")
            (tmp_path / "SegmentationClassAug" / f"{names[part][-1]}.png").write_bytes(content(shown))
    voc_lists(tmp_path, names["train"][:1464], names["val"], noval=names["train"][1000:])
    command = ["data", "check", "--labels-only", "--root", str(tmp_path)]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert TABLE in printed and "Everything is as published." in printed
    monkeypatch.setattr(scanning, "look_at_label", lambda path: pytest.fail(f"opened {path} again"))
    assert cli.main(command) == 0 and capsys.readouterr().out == printed


def test_check_prints_the_table_from_label_maps_alone(root, capsys) -> None:
    for path in (root / "JPEGImages").iterdir():
        path.unlink()
    assert cli.main(["data", "check", "--labels-only", "--root", str(root)]) == 1
    printed = capsys.readouterr().out
    assert f"PASCAL-5i: 9 label maps in {root}" in printed
    assert "| fold | training images | (image, class) pairs | test images | images per novel class |" in printed
    assert "| 0 | 3 | 4 | 2 | 1 1 1 0 0 |" in printed
    assert "- fold 0: training images 3, published 4208" in printed
    assert "- fold 0: images per novel class 1 1 1 0 0, published 81 63 89 61 71" in printed
    assert "- fold 0: no test image counts for 'boat'; its label maps or images are missing" in printed


def test_a_table_without_differences_says_so(root, monkeypatch, capsys) -> None:
    found = check("pascal", root, labels_only=True)
    monkeypatch.setitem(DATASETS, "pascal", replace(DATASETS["pascal"], published=found.folds))
    monkeypatch.setattr("fss_lab.datasets.check._empty_classes", lambda *_: [])
    assert cli.main(["data", "check", "pascal", "--root", str(root)]) == 0
    assert "Everything is as published." in capsys.readouterr().out


def test_a_map_is_looked_at_once_and_again_when_it_has_changed(root, monkeypatch) -> None:
    check("pascal", root, labels_only=True)
    looked = []
    usual = scanning.look_at_label
    monkeypatch.setattr(scanning, "look_at_label", lambda path: looked.append(path.stem) or usual(path))
    before = check("pascal", root, labels_only=True)
    assert looked == []
    label_map(root / "SegmentationClassAug" / "v_bird.png", area(10, 3))
    after = check("pascal", root, labels_only=True)
    assert looked == ["v_bird"]
    assert (before.folds[0].test_images, after.folds[0].test_images) == (2, 1)
    (root / "SegmentationClassAug.index.json").write_text("{ broken")
    assert check("pascal", root, labels_only=True) == after and len(looked) == 10


def test_a_bad_file_is_looked_at_again(root, monkeypatch) -> None:
    def unreadable(path: Path) -> None:
        raise OSError("Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(scanning, "look_at_label", unreadable)
        assert len(check("pascal", root, labels_only=True).wrong) >= 9
    assert not any("Input/output" in each for each in check("pascal", root, labels_only=True).wrong)


def test_an_index_that_cannot_be_written_is_a_warning(root, monkeypatch) -> None:
    def refused(path: Path, content: bytes) -> None:
        raise scanning.FileError(f"{path} could not be written")

    monkeypatch.setattr(scanning, "write_atomically", refused)
    with pytest.warns(UserWarning, match="looked at again next time: .*index.json could not be written"):
        assert check("pascal", root, labels_only=True).seen == 9


# ---- bad data

BAD = {
    "missing map": (
        lambda r: (r / "SegmentationClassAug" / "v_two.png").unlink(),
        r"v_two\.png is missing; delete it if it is there, and run `fss-lab data prepare`",
    ),
    "other values": (
        lambda r: label_map(r / "SegmentationClassAug" / "v_two.png", area(9, 77)),
        r"v_two\.png holds the labels \[77\]; expected 0\.\.20 and 255",
    ),
    "a photo as map": (
        lambda r: (r / "SegmentationClassAug" / "v_two.png").write_bytes((r / "JPEGImages" / "v_two.jpg").read_bytes()),
        r"v_two\.png cannot be used \(pixels of kind RGB; expected one label",
    ),
    "cut map": (lambda r: cut(r / "SegmentationClassAug" / "v_two.png"), r"v_two\.png cannot be used"),
    "missing photo": (lambda r: (r / "JPEGImages" / "v_two.jpg").unlink(), r"v_two\.jpg is missing; unpack it again"),
    "cut photo": (lambda r: cut(r / "JPEGImages" / "v_two.jpg"), r"v_two\.jpg cannot be used \(.*truncated"),
    "turned photo": (lambda r: turn(r / "JPEGImages" / "v_two.jpg"), rf"v_two\.jpg is {WIDTH} x {HEIGHT} pixels, but"),
    "other size": (
        lambda r: photo(r / "JPEGImages" / "v_two.jpg", half(1)[:50]),
        rf"v_two\.jpg is 50 x {WIDTH} pixels, but its label map {HEIGHT} x {WIDTH}",
    ),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turn(path: Path) -> None:
    """Say in the EXIF data that the photograph has to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_by_the_check_and_left_out_on_demand(root, capsys, kind) -> None:
    spoil, reason = BAD[kind]
    spoil(root)
    assert any(re.search(reason, line) for line in check("pascal", root).wrong)
    with pytest.warns(UserWarning, match=f"skipped .*{reason}"):
        images = Pascal5i(root, 0, skip_bad=True)
    assert images.names == ("v_bird",)
    assert images.name == "PASCAL-5i val, 1 images (1 bad file(s) left out)"
    cli.main(["data", "check", "--skip-bad", "--root", str(root)])
    printed = capsys.readouterr().out
    assert "Skipped 1 bad file(s):" in printed and re.search(reason, printed.split("thing(s) wrong")[0])
    assert "| 0 | 3 | 4 | 1 | 0 0 1 0 0 |" in printed
    if kind in ("missing photo", "cut photo", "other size", "turned photo"):
        whole = Pascal5i(root, 0)  # photographs are looked at when they are needed
        with pytest.raises((ValueError, FileNotFoundError), match=r"v_two\.jpg"):
            whole.image("v_two")
    else:
        with pytest.raises(DataError, match=rf"1 bad file\(s\): .*{reason}.*--skip-bad"):
            Pascal5i(root, 0)


def test_good_data_are_not_skipped(root) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pascal5i(root, 0, skip_bad=True).skipped == ()


def test_a_fold_without_images_and_a_class_with_too_few_say_so(root) -> None:
    with pytest.raises(DataError, match="no image counts for the novel classes of fold 3; see `fss-lab data check`"):
        Pascal5i(root, 3)
    with pytest.raises(ValueError, match="1-shot episodes need 2 images of every class, but PASCAL-5i val, 2 images"):
        draw_episodes(BENCHMARKS["fssam"], Pascal5i(root, 0), 1, 5)


def test_episodes_keep_ignored_pixels_and_the_size_of_the_label(tmp_path) -> None:
    names = [f"{label}_{n}" for label in range(1, 6) for n in range(2)]
    for name in names:
        labels = half(int(name[0]), right=20)
        label_map(tmp_path / "SegmentationClassAug" / f"{name}.png", labels)
        photo(tmp_path / "JPEGImages" / f"{name}.jpg", labels)
    voc_lists(tmp_path, ["none"], names, noval=["neither"])
    images = Pascal5i(tmp_path, 0)
    episodes = ListedEpisodes(draw_episodes(BENCHMARKS["fssam"], images, 1, 12), images, size=32)
    episode, target = episodes[3], episodes.target(3)
    assert episode.query_image.shape == (3, 32, 32) and target.shape == (HEIGHT, WIDTH)
    assert target.unique().tolist() == [0, 1, 255] and target[0, WIDTH // 2] == 255
    assert (target == 1).sum() == HEIGHT * WIDTH // 2
    assert episodes.list.episodes[3].query == names[3]


def test_the_index_is_json_that_says_what_a_map_holds(root) -> None:
    check("pascal", root, labels_only=True)
    content = json.loads((root / "SegmentationClassAug.index.json").read_text())
    _, entry = content["files"]["v_two"]
    assert entry == {"size": [HEIGHT, WIDTH], "areas": {"1": 2048, "2": HEIGHT * WIDTH - 2048}}
