"""fss-lab segment: what it writes, that it goes on where it was stopped, and what it says of bad input."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fss_lab import files, load_model
from fss_lab.cli import segment
from fss_lab.cli.commands import main
from fss_lab.images import load_mask
from fss_lab.toyworld.sample_photos import write_sample_photos


@pytest.fixture(scope="module")
def toy():
    return load_model("toy")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, mug and house, of three photos with masks each; their names 0, 1, 2."""
    return write_sample_photos(tmp_path_factory.mktemp("photos"), count=3)


@pytest.fixture
def queries(tmp_path, photos):
    """Four small photos in a folder with a sub-folder, a mask beside one of them, and a text."""
    root = tmp_path / "queries"
    (root / "more").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.JPG", "more/a.png", "more/ü, b.webp")):
        with Image.open(photos / ("mug", "house")[number % 2] / f"{number // 2 + 1}.jpg") as image:
            image.resize((40 + number, 30)).save(root / name)
    Image.new("L", (40, 30)).save(root / "a.png")
    (root / "notes.txt").write_text("no photo")
    return root


@pytest.fixture
def call(tmp_path, photos, toy, capsys, monkeypatch):
    """Calls the command with the toy, which is loaded once; gives status, stdout and stderr."""
    plain, load = ("toy", "auto"), segment._model
    monkeypatch.setattr(segment, "_model", lambda o: toy if (o.model, o.device) == plain else load(o))

    def call(*arguments, support=("house/0.jpg", "house/0.png"), output=None):
        given = ["--support", *(str(photos / name) for name in support)] if support else []
        place = ["--model", "toy", "--output", str(output or tmp_path / "out")]
        status = main(["segment", *given, *place, *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def written(folder):
    """Names of all files but the hidden."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(path.as_posix() for path in names if path.parts[0] != ".locks")


STEMS = ("a", "b", "more/a", "more/ü, b")
ALL = sorted([f"{stem}{end}" for stem in STEMS for end in (".png", "_overlay.jpg")])
TABLES = ["progress.jsonl", "scores.csv", "segments.json"]


def test_a_folder_of_photos(call, queries, tmp_path):
    status, out, err = call("--class-name", "house", "--min-score", "0", queries)
    assert status == 0 and not err and out == f"4 photos segmented into {tmp_path / 'out'}\n"
    assert written(tmp_path / "out") == sorted(ALL + TABLES)
    with Image.open(tmp_path / "out/more/a.png") as mask:
        assert mask.size == (42, 30) and mask.mode == "L" and set(np.unique(mask)) <= {0, 255}
    with Image.open(tmp_path / "out/more/a_overlay.jpg") as overlay:
        assert overlay.size == (42, 30) and overlay.mode == "RGB"
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").open(encoding="utf-8")))
    assert [row["photo"] for row in rows] == ["a.jpg", "b.JPG", "more/a.png", "more/ü, b.webp"]
    for row, stem in zip(rows, STEMS, strict=True):
        area = int((load_mask(tmp_path / "out" / f"{stem}.png") == 1).sum())
        assert row["class"] == "house" and row["present"] == "1" and int(row["pixels"]) == area
        assert 0 <= float(row["score"]) <= 1


def test_the_coco_file_is_what_pycocotools_reads(call, queries, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    assert call("--class-name", "house", "--min-score", "0", queries)[0] == 0
    segments = coco.COCO(tmp_path / "out/segments.json")
    assert [category["name"] for category in segments.loadCats(segments.getCatIds())] == ["house"]
    images = segments.loadImgs(segments.getImgIds())
    assert [image["file_name"] for image in images] == ["a.jpg", "b.JPG", "more/a.png", "more/ü, b.webp"]
    areas = 0
    for image, stem in zip(images, STEMS, strict=True):
        mask = load_mask(tmp_path / "out" / f"{stem}.png").numpy()
        annotations = segments.loadAnns(segments.getAnnIds(image["id"]))
        assert len(annotations) == mask.any()
        for annotation in annotations:
            assert (segments.annToMask(annotation) == mask).all() and annotation["area"] == mask.sum()
            ys, xs = mask.nonzero()
            assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            areas += 1
        again = load_mask(tmp_path / "out/segments.json", foreground="house", photo=queries / image["file_name"])
        assert (again.numpy() == mask).all()
    assert areas


def test_several_classes(call, photos, tmp_path):
    status, out, _ = call("--supports", photos, "--min-score", "0", photos / "mug/2.jpg", support=())
    assert status == 0
    with Image.open(tmp_path / "out/2.png") as labels:
        assert labels.mode == "P" and set(np.unique(labels)) <= {0, 1, 2}
        assert labels.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        areas = np.bincount(np.asarray(labels).ravel(), minlength=3)[1:]
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").open()))
    assert [(row["class"], int(row["pixels"])) for row in rows] == [("house", areas[0]), ("mug", areas[1])]
    names = [category["name"] for category in json.loads((tmp_path / "out/segments.json").read_text())["categories"]]
    assert names == ["house", "mug"]


def test_an_absent_class_gets_an_empty_mask_and_is_named(call, queries, tmp_path):
    status, out, _ = call("--min-score", "1", queries)
    assert status == 0
    assert "4 without object (score below 1.0), so their masks are empty: a.jpg, b.JPG, more/a.png" in out
    for stem in STEMS:
        assert not load_mask(tmp_path / "out" / f"{stem}.png").any()
    content = json.loads((tmp_path / "out/segments.json").read_text())
    assert len(content["images"]) == 4 and content["annotations"] == []
    assert {row["present"] for row in csv.DictReader((tmp_path / "out/scores.csv").open(encoding="utf-8"))} == {"0"}


@pytest.mark.parametrize(
    ("formats", "files"),
    [
        ("mask", ["a.png"]),
        ("overlay", ["a_overlay.jpg"]),
        ("coco,csv", ["scores.csv", "segments.json"]),
        ("csv", ["scores.csv"]),
    ],
)
def test_format_chooses(call, queries, tmp_path, formats, files):
    assert call("--format", formats, queries / "a.jpg")[0] == 0
    assert written(tmp_path / "out") == sorted([*files, "progress.jsonl"])


def test_patterns_are_expanded_where_the_shell_does_not(call, queries, tmp_path):
    assert call("--format", "mask", queries / "*.[jJ]*")[0] == 0
    assert call("--format", "mask", queries / "**/*.webp")[0] == 0  # a second call adds to the first
    assert written(tmp_path / "out") == ["a.png", "b.png", "progress.jsonl", "ü, b.png"]


def test_queries_after_the_support_or_before_it(photos, queries, tmp_path, capsys):
    support = ["--support", str(photos / "house/0.jpg"), str(photos / "house/0.png")]
    rest = ["--model", "toy", "--format", "mask", "--output"]
    for number, words in enumerate(([*rest, "{}", *support, "{q}"], ["{q}", *rest, "{}", *support])):
        output = tmp_path / f"out{number}"
        words = [word.format(output, q=queries / "a.jpg") if "{" in word else word for word in words]
        assert main(["segment", *words]) == 0 and (output / "a.png").exists()


# -- supports --


def test_a_stored_support_gives_the_same_masks(call, toy, photos, queries, tmp_path):
    path = tmp_path / "house.support.safetensors"
    toy.remember(photos / "house/0.jpg", photos / "house/0.png").save(path)
    assert call("--format", "mask", queries, output=tmp_path / "first")[0] == 0
    assert call("--format", "mask", "--support", path, queries, support=())[0] == 0
    for stem in STEMS:
        assert (tmp_path / "first" / f"{stem}.png").read_bytes() == (tmp_path / "out" / f"{stem}.png").read_bytes()
    status, _, err = call("--support", path, queries, output=tmp_path / "mixed")
    assert status == 1 and "stored supports" in err


def labelme(photo, path):
    """The middle of a photo, as LabelMe keeps it."""
    with Image.open(photo) as image:
        (w, h) = image.size
    corners = [[w / 4, h / 4], [3 * w / 4, h / 4], [3 * w / 4, 3 * h / 4]]
    shapes = [{"label": label, "points": corners, "shape_type": "polygon"} for label in ("house", "tree")]
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": h, "imageWidth": w}))


def test_the_mask_may_be_a_file_of_an_annotation_tool(call, photos, queries, tmp_path):
    labelme(photos / "house/0.jpg", tmp_path / "0.json")
    arguments = ["--support", photos / "house/0.jpg", tmp_path / "0.json", "--format", "mask", queries / "a.jpg"]
    status, _, err = call(*arguments, support=())
    assert status == 1 and "several classes: house, tree" in err and "Traceback" not in err
    assert call("--foreground", "tree", *arguments, support=())[0] == 0


def test_a_class_that_the_photo_lacks_and_an_empty_mask_are_named_with_their_files(call, photos, queries, tmp_path):
    with Image.open(photos / "house/0.jpg") as image:
        pictured = {"id": 1, "file_name": "0.jpg", "height": image.height, "width": image.width}
    names = [{"id": 1, "name": "zebra"}, {"id": 2, "name": "giraffe"}]
    marked = {"image_id": 1, "category_id": 2, "segmentation": [[1, 1, 20, 1, 20, 20]]}
    coco = {"images": [pictured], "categories": names, "annotations": [marked]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    support = ["--support", photos / "house/0.jpg", tmp_path / "coco.json"]
    status, _, err = call("--foreground", "zebra", *support, queries / "a.jpg", support=())
    assert status == 1 and "coco.json shows no 'zebra' in 0.jpg; it has giraffe there" in err
    with Image.open(photos / "house/0.jpg") as image:
        Image.new("L", image.size).save(tmp_path / "empty.png")
    support = ["--support", photos / "house/0.jpg", tmp_path / "empty.png"]
    status, _, err = call(*support, queries / "a.jpg", support=())
    assert status == 1 and re.search(r"support 1, .*0\.jpg with .*empty\.png: the mask has no foreground", err), err


def test_the_class_is_named_after_the_foreground(call, photos, queries, tmp_path):
    labelme(photos / "house/0.jpg", tmp_path / "0.json")
    support = ["--support", photos / "house/0.jpg", tmp_path / "0.json", "--format", "csv"]
    assert call("--foreground", "tree", *support, queries / "a.jpg", support=())[0] == 0
    assert ",tree," in (tmp_path / "out/scores.csv").read_text()


def test_a_file_of_a_run_is_answered_with_its_folder(call, queries, tmp_path):
    for name in ("run.yaml", "best.pt"):
        (tmp_path / name).write_text("")
    status, _, err = call("--model", tmp_path / "best.pt", queries)
    assert status == 1 and f"give the folder of the run: --model {tmp_path}" in err


def test_a_mask_after_a_stored_support_is_no_query(call, toy, photos, queries, tmp_path):
    path = tmp_path / "house.support.safetensors"
    path.write_bytes(b"")
    status, _, err = call("--support", path, photos / "house/0.png", support=())
    assert status == 1 and re.search(r"house\.support\.safetensors holds its masks .*0\.png looks", err)
    status, _, err = call("--support", path, "--support", photos / "house/0.jpg", photos / "house/0.png", queries)
    assert status == 1 and "is stored; give stored supports alone" in err
    status, _, err = call("--support", path, "--support", tmp_path / "house.safetensors", queries, support=())
    assert status == 1 and "share a name" in err


def test_a_grey_mask_is_cut(call, photos, queries, tmp_path):
    with Image.open(photos / "house/0.png") as mask:
        mask.convert("L").save(tmp_path / "mask.jpg", quality=50)
    arguments = ["--support", photos / "house/0.jpg", tmp_path / "mask.jpg", queries / "a.jpg"]
    status, _, err = call(*arguments, support=())
    assert status == 1 and "threshold" in err
    assert call("--threshold", "127", *arguments, support=())[0] == 0


@pytest.mark.parametrize(
    ("support", "arguments", "reason"),
    [
        ((), [], "give --support PHOTO MASK, or --supports FOLDER"),
        (("house/0.jpg", "house/0.png"), ["--supports", "x"], "one of the two"),
        (("house/0.jpg", "house/9.png"), [], "9.png does not exist"),
        (("house/0.jpg", "mug"), [], "mug is a directory"),
        (("house/0.jpg", "house/1.png"), [], "the same size|has .* pixels|differ"),
        ((), ["--supports", "nowhere"], "nowhere is no folder"),
        (("house/0.jpg", "house/0.png"), ["--device", "abacus"], "there is no device 'abacus'"),
        (("house/0.jpg", "house/0.png"), ["--min-score", "2"], "lies in 0..1"),
        (("house/0.jpg", "house/0.png"), ["--model", "sam9"], "no model 'sam9'"),
        (("house/0.jpg", "house/0.png"), ["--model", "sam2-smal+dinov2-base"], "did you mean 'sam2-small.dinov2-base'"),
        (("house/0.jpg", "house/0.png"), ["--model", "runs/lost"], "runs/lost does not exist .*folder of a run"),
        (("house/0.jpg", "house/0.png"), ["--model", "."], "no run.yaml; give the folder of one run"),
        (("house/0.png", "house/0.jpg"), [], "Are photo and mask swapped|threshold 127"),
    ],
)
def test_supports_and_options_that_cannot_be_used(call, queries, tmp_path, support, arguments, reason):
    status, _, err = call(*arguments, queries, support=support)
    assert status == 1 and re.search(reason, err) and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--support", "a.jpg"], ["--format", "mask,fish"], ["--min-score", "much"]])
def test_what_the_parser_refuses(words, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["segment", *words, "--output", "out"])
    assert refused.value.code == 2 and "usage: fss-lab segment" in capsys.readouterr().err


# -- queries that cannot be used --


def test_a_bad_photo_is_named_and_the_others_are_done(call, queries, tmp_path):
    (queries / "a.jpg").write_bytes((queries / "a.jpg").read_bytes()[:300])
    (queries / "b.JPG").unlink()
    (queries / "b.JPG").symlink_to("nowhere")
    (queries / "empty.jpg").touch()
    (queries / "photo.heic").write_bytes(b"no decoder")
    status, out, err = call(queries)
    assert status == 1 and "2 photos segmented" in out
    assert "fss-lab segment: 4 could not be read:" in err
    assert all(name in err for name in ("a.jpg", "b.JPG", "empty.jpg is empty", "photo.heic"))
    assert [name for name in written(tmp_path / "out") if name.startswith("a")] == []
    assert call(queries)[0] == 1  # again


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folders_without_permission(call, queries, tmp_path):
    (queries / "more").chmod(0)
    status, _, err = call(queries)
    (queries / "more").chmod(0o755)
    assert status == 1 and "Permission denied" in err
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    status, _, err = call(queries, output=locked / "out")
    assert status == 1 and str(locked) in err and "Traceback" not in err


def test_nothing_to_segment(call, queries, tmp_path):
    (tmp_path / "none").mkdir()
    for query, reason in (("none", "no photo in"), ("none/*.jpg", "nothing matches"), ("x.jpg", "does not exist")):
        status, _, err = call(tmp_path / query)
        assert status == 1 and reason in err and str(tmp_path / query) in err and err.count("\n") == 1
    assert "no QUERY; name photos" in call()[2]
    assert not (tmp_path / "out").exists()


def test_two_photos_of_one_name(call, queries, photos, tmp_path):
    status, _, err = call(queries / "a.jpg", queries / "more/a.png")
    assert status == 1 and f"{queries / 'a.jpg'} and {queries / 'more/a.png'} would both become a.png" in err
    assert not (tmp_path / "out").exists()
    assert call("--format", "mask", queries / "a.jpg", queries / "a.jpg", queries)[0] == 0  # one photo given thrice
    other = tmp_path / "a.jpg"
    other.write_bytes((queries / "b.JPG").read_bytes())
    status, _, err = call("--format", "mask", other)
    assert status == 1 and f"has the masks of {queries / 'a.jpg'}, whose name {other} has too" in err


def test_the_output_never_replaces_what_is_not_its_own(call, queries, tmp_path):
    before = {path: path.read_bytes() for path in queries.rglob("*") if path.is_file()}
    for output in (queries, tmp_path):
        for query in (queries, queries / "a.jpg"):
            status, _, err = call(query, output=output)
            assert status == 1 and "output folder" in err
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_text("of somebody")
    status, _, err = call(queries)
    assert status == 1 and f"{tmp_path / 'out/a.png'} exists already" in err
    assert (tmp_path / "out/a.png").read_text() == "of somebody" and written(tmp_path / "out") == ["a.png"]
    assert call("--overwrite", "--format", "mask", queries)[0] == 0
    (tmp_path / "file").touch()
    status, _, err = call(queries, output=tmp_path / "file")
    assert status == 1 and "is a file" in err
    assert {path: path.read_bytes() for path in queries.rglob("*") if path.is_file()} == before


def test_an_output_below_the_queries_is_no_query(call, queries):
    for count in ("4 photos segmented", "0 photos segmented"):
        status, out, _ = call(queries, output=queries / "masks")
        assert status == 0 and count in out
    status, out, _ = call(queries / "**/*.jpg", output=queries / "masks")
    assert status == 0 and "0 photos segmented" in out


def test_a_full_disk_is_one_line_and_nothing_is_half_written(call, queries, tmp_path, monkeypatch):
    written_before, sync = [], os.fsync

    def full(descriptor):
        written_before.append(descriptor)
        if len(written_before) == 4:  # the journal's first line, two pictures, and then
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    status, _, err = call(queries)
    assert status == 1 and "free some disk space" in err and err.count("\n") == 1
    assert written(tmp_path / "out") == ["a.png", "a_overlay.jpg", "progress.jsonl"]
    monkeypatch.undo()
    status, out, _ = call(queries)
    assert status == 0 and "3 photos segmented" in out and "1 were done before" in out


# -- going on --


def test_the_same_call_goes_on_and_a_changed_photo_is_done_again(call, queries, tmp_path):
    assert call(queries)[0] == 0
    tables = [(tmp_path / "out" / name).read_bytes() for name in TABLES[1:]]
    status, out, _ = call(queries)
    assert status == 0 and "0 photos segmented" in out and "4 were done before" in out
    assert [(tmp_path / "out" / name).read_bytes() for name in TABLES[1:]] == tables
    with Image.open(queries / "b.JPG") as image:
        image.resize((60, 50)).save(queries / "b.JPG")
    (tmp_path / "out/more/a.png").unlink()
    assert "2 photos segmented" in call(queries)[1]
    with Image.open(tmp_path / "out/b.png") as mask:
        assert mask.size == (60, 50)
    assert "4 photos segmented" in call("--overwrite", queries)[1]


def test_other_settings_are_refused(call, queries, photos, tmp_path):
    assert call(queries / "a.jpg")[0] == 0
    for change, support, reason in (
        (["--min-score", "0.1"], ("house/0.jpg", "house/0.png"), "smallest score: 0.5, now 0.1"),
        (["--format", "mask"], ("house/0.jpg", "house/0.png"), "formats: coco csv mask overlay, now mask"),
        ([], ("house/1.jpg", "house/1.png"), r"class object: 1 supports \(SHA-256 \w+\), now 1 supports"),
        (["--class-name", "hut"], ("house/0.jpg", "house/0.png"), "class hut: none, now 1 supports"),
    ):
        status, _, err = call(*change, queries, support=support)
        assert status == 1 and re.search(reason, err) and "--overwrite" in err, err
    (tmp_path / "out/progress.jsonl").write_text("notes of mine")
    status, _, err = call(queries)
    assert status == 1 and "cannot be read" in err


def test_random_weights_are_the_same_when_the_command_is_repeated(tmp_path):
    options = segment.SegmentOptions(output=tmp_path, model="toy", weights="random", device="cpu")
    first, second = (segment._model(options).sam2.model.state_dict() for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_in_the_middle_it_goes_on_to_the_same_files(queries, photos, tmp_path):
    for number in range(3):
        (queries / f"copy{number}.jpg").write_bytes((queries / "a.jpg").read_bytes())
    command = [sys.executable, "-m", "fss_lab", "segment", "--model", "toy", "--support"]
    command += [str(photos / "house/0.jpg"), str(photos / "house/0.png"), str(queries), "--output"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, killed], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(killed.glob("*.png"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for path in killed.rglob("*.png"):
        Image.open(path).load()  # whole
    with open(killed / "progress.jsonl", "ab") as journal:
        journal.write(b'{"stem": "b", "na')  # as a kill within a write leaves it
    (killed / f".a.png.{'0' * 32}.tmp").touch()
    resumed = subprocess.run([*command, killed], capture_output=True, text=True)
    assert resumed.returncode == 0 and "were done before" in resumed.stdout, resumed.stderr
    assert subprocess.run([*command, whole], capture_output=True).returncode == 0
    assert written(killed) == written(whole)
    for name in set(written(whole)) - {"progress.jsonl"}:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
