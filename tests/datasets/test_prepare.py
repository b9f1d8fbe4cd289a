"""Label maps from SBD's .mat files and from COCO's instances: values, overlaps, and sources that are bad."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_trees import HEIGHT, WIDTH, annotation, coco_tree, half, instances, mat, voc_and_sbd
from PIL import Image

from fss_lab.cli import commands as cli
from fss_lab.datasets import label_maps as painting
from fss_lab.datasets.coco import CATEGORIES
from fss_lab.datasets.coco import prepare as prepare_coco
from fss_lab.datasets.pascal import prepare as prepare_pascal
from fss_lab.errors import DataError, MissingPackageError
from fss_lab.images.masks import voc_colours


def labels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


# ---- PASCAL


@pytest.fixture
def voc(tmp_path) -> Path:
    voc_and_sbd(tmp_path)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "train_noval.txt").rename(tmp_path / "downloads" / "train_noval.txt")
    return tmp_path


def test_vocs_maps_are_kept_and_sbds_added(voc) -> None:
    (done,) = prepare_pascal(voc, workers=1)
    assert (done.made, done.there, done.skipped) == (100, 0, ())
    folder = voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug"
    assert done.folder == folder and len(list(folder.iterdir())) == 100
    original = folder.parent / "SegmentationClass" / "2008_07both.png"
    assert (folder / "2008_07both.png").read_bytes() == original.read_bytes()  # SBD says background
    added = half(7)
    assert np.array_equal(labels(folder / "2008_07b.png"), np.where(added == 255, 0, added))
    with Image.open(folder / "2008_07b.png") as image:
        assert image.mode == "P" and image.getpalette() == voc_colours().ravel().tolist()
    assert len((folder.parent / "train_noval.txt").read_text().split()) == 20


def test_what_was_made_is_not_made_again_and_what_is_missing_is(voc) -> None:
    folder = prepare_pascal(voc, workers=1)[0].folder
    (folder / "2008_03b.png").unlink()
    (folder / "2008_04a.png").write_bytes(b"")  # as after a power cut
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (done,) = prepare_pascal(voc, workers=1)
    assert (done.made, done.there) == (2, 98)
    made = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert made == {"2008_04a.png"} and all(path.stat().st_size for path in folder.iterdir())


@pytest.mark.processes
def test_processes_make_the_same(voc) -> None:
    alone = {path.name: path.read_bytes() for path in prepare_pascal(voc, workers=1)[0].folder.iterdir()}
    for name in alone:
        (voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / name).unlink()
    together = {path.name: path.read_bytes() for path in prepare_pascal(voc, workers=2)[0].folder.iterdir()}
    assert together == alone


@pytest.mark.parametrize("failing", ["save", "rename"])
def test_a_map_that_cannot_be_written_leaves_nothing(voc, monkeypatch, failing) -> None:
    where, name = {"save": (Image.Image, "save"), "rename": (painting.os, "replace")}[failing]
    usual = getattr(where, name)

    def full(source: object, target: Path, **options: object) -> None:
        if ".png" in target.name:
            raise OSError(28, "No space left on device")
        usual(source, target, **options)

    monkeypatch.setattr(where, name, full)
    with pytest.raises(DataError, match=r"SegmentationClassAug could not be written .*No space left.*goes on"):
        prepare_pascal(voc, workers=1)
    assert not list((voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug").glob(".*"))


def test_files_that_macos_adds_are_no_maps(voc) -> None:
    (voc / "benchmark_RELEASE" / "dataset" / "cls" / "._2008_05b.mat").write_bytes(b"x")
    assert prepare_pascal(voc, workers=1)[0].made == 100


def test_bad_mat_files_are_named_and_skipped_on_demand(voc, capsys) -> None:
    cls = voc / "benchmark_RELEASE" / "dataset" / "cls"
    (cls / "2008_05b.mat").write_bytes((cls / "2008_05b.mat").read_bytes()[:150])
    mat(cls / "2008_06b.mat", np.full((4, 4), 300))
    with pytest.raises(DataError) as refused:
        prepare_pascal(voc, workers=1)
    text = str(refused.value)
    assert "98 label maps made: 2 bad file(s)" in text and "2008_05b.mat could not be made into a label map" in text
    assert "2008_06b.mat" in text and "expected labels of 0..20 and 255" in text and "--skip-bad" in text
    folder = voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug"
    assert len(list(folder.iterdir())) == 98  # the others, and nothing half-written
    assert cli.main(["data", "prepare", "pascal", "--skip-bad", "--root", str(voc)]) == 0
    printed = capsys.readouterr().out
    assert "0 label maps made, 98 were there" in printed and f"skipped: {cls / '2008_05b.mat'}" in printed


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("benchmark_RELEASE", "holds no label maps; run `fss-lab data get sbd"),
        ("VOCdevkit/VOC2012/SegmentationClass", "holds no label maps; run `fss-lab data get voc"),
        ("downloads", r"train_noval\.txt is missing; run `fss-lab data get sbd"),
        ("VOCdevkit", "holds no PASCAL VOC 2012"),
    ],
)
def test_missing_sources_say_how_to_get_them(voc, gone, reason) -> None:
    (voc / gone).rename(voc / "elsewhere")
    with pytest.raises(DataError, match=reason):
        prepare_pascal(voc, workers=1)


# ---- COCO

SIZE = {"height": HEIGHT, "width": WIDTH}
PERSON, CAR, DOG = 1, 3, 18


@pytest.fixture
def coco(tmp_path) -> Path:
    """One image a part: a person on the left half, then a small car within, then a large dog on top of both."""
    for part in ("train", "val"):
        image = {"id": 7, "file_name": f"COCO_{part}2014_000000000007.jpg", **SIZE}
        boxes = [(PERSON, [0, 0, 36, 64]), (CAR, [4, 4, 10, 10]), (DOG, [10, 0, 50, 64])]
        empty = {"id": 8, "file_name": f"COCO_{part}2014_000000000008.jpg", **SIZE}
        instances(tmp_path, part, [image, empty], [annotation(7, category, box) for category, box in boxes])
    return tmp_path


def test_the_later_instance_wins_or_the_smaller(coco, tmp_path_factory) -> None:
    prepare_coco(coco, workers=1)
    painted = labels(coco / "labels" / "train2014" / "COCO_train2014_000000000007.png")
    person, car, dog = (CATEGORIES[n] + 1 for n in (PERSON, CAR, DOG))
    assert (painted[8, 2], painted[8, 6], painted[8, 12], painted[8, 70]) == (person, car, dog, 0)
    with pytest.raises(DataError, match="painted with --overlap last, not smaller; delete that folder"):
        prepare_coco(coco, rule="smaller", workers=1)
    (coco / "labels" / "rule.json").write_text("{")
    with pytest.raises(DataError, match=r"rule\.json is damaged; delete .*labels to paint"):
        prepare_coco(coco, workers=1)
    for path in sorted((coco / "labels").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    prepare_coco(coco, rule="smaller", workers=1)
    painted = labels(coco / "labels" / "train2014" / "COCO_train2014_000000000007.png")
    assert (painted[8, 2], painted[8, 6], painted[8, 12], painted[8, 20], painted[8, 70]) == (
        person,
        car,
        car,
        person,
        0,
    )
    assert painted[8, 50] == dog


def test_images_without_instances_have_a_map_too(coco) -> None:
    done = prepare_coco(coco, workers=1)
    assert [(each.made, each.there) for each in done] == [(2, 0), (2, 0)]
    assert not labels(coco / "labels" / "val2014" / "COCO_val2014_000000000008.png").any()
    assert [(each.made, each.there) for each in prepare_coco(coco, workers=1)] == [(0, 2), (0, 2)]


def test_polygons_and_run_lengths_are_painted_alike(tmp_path) -> None:
    coco_tree(tmp_path, each=2)
    prepare_coco(tmp_path, workers=1)
    for class_id in range(80):
        one, other = (
            labels(tmp_path / "labels" / "val2014" / f"COCO_val2014_{2 * class_id + n:012d}.png") for n in (1, 2)
        )
        assert np.array_equal(one, other) and (one[:, : WIDTH // 2] == class_id + 1).all() and not one[:, 36:].any()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text, content: text[: len(text) // 2], "JSONDecodeError"),
        (lambda text, content: "[]", "TypeError"),
        (lambda text, content: content["images"].pop(0), "annotation 1 is of an image or category that is not listed"),
        (lambda text, content: content["categories"][0].update(name="human"), "category 1 is 'human'"),
        (lambda text, content: content["annotations"][0].pop("segmentation"), "annotation 1 lacks its segmentation"),
        (lambda text, content: content["images"][0].pop("height"), "KeyError: 'height'"),
    ],
)
def test_broken_annotations_name_the_file(coco, spoil, reason) -> None:
    path = coco / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    found = spoil(path.read_text(), content)
    path.write_text(found if isinstance(found, str) else json.dumps(content))
    with pytest.raises(DataError, match=rf"instances_train2014\.json is no file of COCO's instances .*{reason}"):
        prepare_coco(coco, workers=1)


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        ([[1, 1, 5, 5]], "polygon of fewer than three points"),
        ([], "polygon of fewer than three points"),
        ({"size": [10, 10], "counts": [40, 60]}, r"for \[10, 10\] pixels"),
        ({"size": [HEIGHT, WIDTH]}, "KeyError: 'counts'"),
        ("?", "Error"),
    ],
)
def test_an_outline_that_cannot_be_painted_names_the_image(coco, outline, reason) -> None:
    path = coco / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = outline
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"COCO_train2014_000000000007\.png could not be made.*{reason}"):
        prepare_coco(coco, workers=1)
    done = prepare_coco(coco, workers=1, skip_bad=True)
    assert len(done[0].skipped) == 1 and done[1].skipped == ()


def test_without_annotations_or_with_another_rule(tmp_path, coco) -> None:
    with pytest.raises(ValueError, match="rule must be one of"):
        prepare_coco(coco, rule="first")
    (coco / "annotations" / "instances_val2014.json").unlink()
    with pytest.raises(DataError, match=r"instances_val2014\.json is missing; run `fss-lab data get coco`"):
        prepare_coco(coco, workers=1)


def test_without_scipy_or_pycocotools_the_message_says_what_to_install(voc, coco, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingPackageError, match=r'needs scipy.*: pip install "fss-lab\[real\]"'):
        prepare_pascal(voc, workers=1)
    with pytest.raises(MissingPackageError, match=r'needs pycocotools.*: pip install "fss-lab\[real\]"'):
        prepare_coco(coco, workers=1)
