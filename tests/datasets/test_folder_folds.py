"""Classes of one's own in folds: as image sets, in training, in evaluation, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fss_lab.cli import commands as cli
from fss_lab.datasets.augmentation import Augmentation
from fss_lab.datasets.catalogue import open_photos
from fss_lab.datasets.folder_folds import FolderFold, draw_folds
from fss_lab.errors import InputError, RunError

CLASSES = ("bus", "cat", "dog", "elephant", "giraffe")


def picture(folder: Path, number: int, side: int = 48) -> None:
    """A bright square on noise, and its mask."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 90, (side, side, 3), dtype=np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2 + number % 3, side // 4 : side // 2] = 255
    pixels[mask > 0] += 120
    Image.fromarray(pixels).save(folder / f"{number}.jpg")
    Image.fromarray(mask).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Five classes of three photos; dog has twelve."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for place, name in enumerate(CLASSES):
        for number in range(12 if name == "dog" else 3):
            picture(root / name, 20 * place + number)
    return root


@pytest.fixture
def file(tmp_path):
    """Writes a file of folds."""

    def write(content, name="folds.yaml") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def test_folds_are_drawn_by_class_and_cover_all(photos) -> None:
    folds = draw_folds(CLASSES)
    assert folds == draw_folds(CLASSES[::-1]) and sorted(sum(folds, ())) == list(CLASSES) and len(folds) == 4
    novel = [open_photos("folder", photos, fold, "novel") for fold in range(4)]
    assert [tuple(map(images.class_name, images.classes)) for images in novel] == list(folds)
    for images in novel:
        base = open_photos("folder", photos, images.fold, "base")
        assert set(base.classes) | set(images.classes) == set(range(5)) and not set(base.classes) & set(images.classes)
        assert {images.class_name(c) for name in images.names for c in images.counts_for(name)} == set(
            folds[images.fold]
        )
        assert images.facts["folds"] == [list(names) for names in folds] and len(images.facts["photos"]) == 64


def test_a_large_class_holds_photos_out_to_validate_and_a_small_one_shares_them(photos, file) -> None:
    folds = file({0: ["bus", "cat"], 1: ["dog", "elephant", "giraffe"]})
    train, val = (FolderFold(photos, 0, "base", part=part, folds=folds) for part in ("train", "val"))
    of_dog = [{name for name in images.names if name.startswith("dog")} for images in (train, val)]
    assert of_dog[0] == {f"dog/{n}.jpg" for n in range(40, 52) if n not in (44, 49)}
    assert of_dog[1] == {"dog/44.jpg", "dog/49.jpg"}
    assert set(train.names) - of_dog[0] == set(val.names) - of_dog[1] and len(train.names) == 16
    assert val.name == "photos in photos, 8 images, held out to validate"
    assert len(FolderFold(photos, 1, folds=folds)) == 18


def test_a_photo_that_shows_a_novel_class_is_not_trained_on(tmp_path) -> None:
    root, shapes = tmp_path / "scenes", []
    root.mkdir()
    for number in range(4):
        picture(root, number)
        (root / f"{number}.png").unlink()
        for category in [1, 2] if number < 2 else [1]:
            shapes.append({"id": len(shapes), "image_id": number, "category_id": category, "iscrowd": 0,
                           "segmentation": [[2, 2, 20, 2, 20, 20 + category]]})  # fmt: skip
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 48, "width": 48} for n in range(4)]
    names = [{"id": 1, "name": "cup"}, {"id": 2, "name": "spoon"}]
    (root / "all.json").write_text(json.dumps({"images": images, "annotations": shapes, "categories": names}))
    (tmp_path / "folds.json").write_text('{"0": ["spoon"], "1": ["cup"]}')
    kept = [FolderFold(root, 0, "base", folds=tmp_path / "folds.json", protocol=p).names for p in ("fssam", "hsnet")]
    assert kept == [("cup/2.jpg", "cup/3.jpg"), tuple(f"cup/{n}.jpg" for n in range(4))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: ["bus", "cat"], 1: ["dog", "elephant"]}, "giraffe is in no fold"),
        ({0: [*CLASSES, "tiger"]}, "there is no class tiger"),
        ({0: ["bus", "cat"], 1: [*CLASSES[2:], "cat"]}, "cat is in 2 folds"),
        ({0: [*CLASSES], 1: []}, "fold 1 holds out no class"),
        ({1: [*CLASSES]}, "keys must be 0, 1, ..."),
        ({0: "bus", 1: ["cat"]}, "each have a list of classes"),
        ("- bus\n- cat\n", "is no file of folds"),
        ("0: [bus\n", "is no file of folds"),
        ("0: *everything\n", "YAML alias"),
        ({0: [*CLASSES]}, "leaves no base class to train on"),
    ],
)
def test_a_file_of_folds_that_does_not_fit_is_explained(photos, file, content, message) -> None:
    with pytest.raises(InputError, match=rf"folds\.yaml.*{re.escape(message)}"):
        FolderFold(photos, 0, "base", folds=file(content))


def test_too_few_classes_folds_or_photos_are_named(photos, tmp_path, capsys) -> None:
    with pytest.raises(InputError, match=r"3 class\(es\) are fewer than 4 folds: bus, cat, dog"):
        draw_folds(CLASSES[:3])
    with pytest.raises(InputError, match="fold must be one of 0, 1, 2, 3, got 4"):
        FolderFold(photos, 4)
    with pytest.raises(InputError, match=r"gone\.yaml is no file of folds .*No such file"):
        FolderFold(photos, 0, folds=tmp_path / "gone.yaml")
    command = ["train", "--dataset", "folder", "--data-root", str(photos), "--output", str(tmp_path / "run")]
    assert cli.main([*command, "--shots", "3"]) == 1
    assert "3-shot episodes need 4 images of every class, but photos in photos, " in capsys.readouterr().err
    assert cli.main([*command[:3], "--output", str(tmp_path / "run")]) == 1
    assert "--dataset folder needs --data-root" in capsys.readouterr().err
    assert cli.main([*command[:3], "--data-root", str(tmp_path / "gone"), "--output", str(tmp_path / "run")]) == 1
    assert "gone is no folder" in capsys.readouterr().err


def test_large_photos_are_shrunk_before_they_are_cropped() -> None:
    image, mask = torch.zeros(3, 400, 300, dtype=torch.uint8), torch.zeros(400, 300, dtype=torch.uint8)
    mask[50:350, 50:250] = 1
    views = [Augmentation(100, (1, 1), shrink=s)(image, mask, np.random.default_rng(0))[1] for s in (True, False)]
    assert (views[0] == 1).float().mean() == pytest.approx(0.375, abs=0.03)  # of 400 x 400, all of the object
    assert (views[1] == 1).float().mean() > 0.8


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory) -> tuple[Path, Path]:
    """A run of the toy on folds of one's own, and the file of these."""
    home = tmp_path_factory.mktemp("own")
    folds = home / "folds.yaml"
    folds.write_text("0: [bus, cat]\n1: [dog, elephant, giraffe]\n")
    assert cli.main(command(photos, folds, home / "run")) == 0
    return home / "run", folds


def command(photos: Path, folds: Path, output: Path) -> list[str]:
    text = (
        "train --dataset folder --accelerator cpu --steps 2 --batch-size 1 --validate-every 2 --validation-episodes 1"
    )
    return [*text.split(), "--data-root", str(photos), "--folds", str(folds), "--output", str(output)]


@pytest.mark.slow
def test_training_evaluation_and_ablation_on_own_classes(trained, photos, tmp_path, capsys) -> None:
    run, folds = trained
    text = (run / "run.yaml").read_text()
    assert 'data, folds: [["bus", "cat"], ["dog", "elephant", "giraffe"]]' in text and "data, photos: " in text
    weights = str(run / "weights.safetensors")
    options = ["--dataset", "folder", "--data-root", str(photos), "--model", "toy", "--weights", weights]
    options += ["--episodes", "1"]
    assert cli.main(["evaluate", *options, "--folds", str(folds), "0", "--output", str(tmp_path / "out")]) == 0
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["class_names"] == {"0": "bus", "1": "cat"} and result["folds"][1] == list(CLASSES[2:])
    assert cli.main(["ablate", *options, "--folds", str(folds), "0", "--shots", "1", "--measured", "0", "--output",
                     str(tmp_path / "ablation")]) == 0  # fmt: skip
    assert "photos in photos, 6 images" in capsys.readouterr().out
    assert cli.main(["evaluate", *options, "--folds", "0"]) == 1  # other folds: dog may be among the novel classes
    assert "was trained with folds [['bus', 'cat']" in capsys.readouterr().err
    folds.write_text("0: [bus, cat]\n1: [dog]\n2: [elephant, giraffe]\n")
    try:
        assert cli.main(["evaluate", *options, "--folds", str(folds), "0", "--output", str(tmp_path / "out")]) == 1
    finally:
        folds.write_text("0: [bus, cat]\n1: [dog, elephant, giraffe]\n")


@pytest.mark.slow
def test_a_run_resumes_with_the_same_folds_and_photos_only(trained, photos, tmp_path, capsys) -> None:
    run, folds = (shutil.copytree(trained[0], tmp_path / "run"), trained[1])
    moved = shutil.copytree(photos, tmp_path / "elsewhere")
    renamed = shutil.copy(folds, tmp_path / "other.yaml")
    assert cli.main(command(moved, renamed, run)) == 0 and "is complete" in capsys.readouterr().out
    Path(renamed).write_text("0: [bus]\n1: [cat, dog, elephant, giraffe]\n")
    assert cli.main(command(moved, renamed, run)) == 1
    assert re.search(r"belongs to another run: folds was \[\['bus', 'cat'\].*now \[\['bus'\]", capsys.readouterr().err)
    picture(moved / "cat", 99)
    assert cli.main(command(moved, folds, run)) == 1
    assert "belongs to another run: photos was " in capsys.readouterr().err
    from fss_lab.training.trainer import load_trained

    assert load_trained(run).options.memory == "pseudo"
    with pytest.raises(RunError, match="is missing|cannot be read"):
        load_trained(tmp_path)
