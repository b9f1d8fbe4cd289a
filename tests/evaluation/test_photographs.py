"""The whole way of the benchmarks on miniatures: download, check, unpack, prepare, count, train a step, evaluate."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from helpers.local_hub import COMMIT
from helpers.local_server import LocalServer, serve
from helpers.photo_trees import coco_tree, tar, voc_and_sbd, zipped

from fss_lab.backbones.dinov2 import SIZES
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.cli import commands as cli
from fss_lab.datasets.catalogue import open_photos
from fss_lab.datasets.coco import Coco20i
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.evaluation.variants import FULL, PRIOR_ALONE
from fss_lab.evaluation.worlds import Photographs
from fss_lab.models import load
from fss_lab.models.provenance import origins
from fss_lab.training.config import profile
from fss_lab.training.trainer import base_episodes, train

PAIR = "sam2-tiny+dinov2-small"


def manifest(server: LocalServer, path: Path, sources: dict[str, list[tuple[str, str | None, str]]]) -> Path:
    """A manifest of what `server` has: for each source (file, folder in it, where that goes)."""
    content = {}
    for source, files in sources.items():
        content[source] = []
        for name, folder, into in files:
            data = (server.folder / name).read_bytes()
            content[source].append({
                "name": name, "urls": [f"{server.url}/{name}"], "bytes": len(data) if folder else None,
                "md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest(), "folder": folder,
                "into": into,
            })  # fmt: skip
    path.write_text(json.dumps({"format": 1, "sources": content}))
    return path


@pytest.fixture(scope="module")
def pascal(tmp_path_factory) -> Path:
    """PASCAL-5i in miniature, got and prepared with the commands, over a line that breaks, stalls and is slow."""
    made, served, root = (tmp_path_factory.mktemp(name) for name in ("made", "served", "data"))
    voc_and_sbd(made)
    tar(served / "voc.tar", made, "VOCdevkit")
    tar(served / "sbd.tgz", made, "benchmark_RELEASE", "w:gz")
    (made / "train_noval.txt").rename(served / "train_noval.txt")
    with serve(served) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        wanted = {
            "voc": [("voc.tar", "VOCdevkit/VOC2012", "")],
            "sbd": [("sbd.tgz", "benchmark_RELEASE/dataset", ""), ("train_noval.txt", None, "")],
        }
        listed = manifest(server, root / "manifest.json", wanted)
        server.faults = {"voc.tar": ["break", "stall"], "sbd.tgz": ["slow"], "train_noval.txt": ["other", "busy"]}
        command = ["data", "get", "voc", "sbd", "--root", str(root), "--manifest", str(listed), "--timeout", "0.5"]
        assert cli.main(command) == 1  # the lists come with other bytes, and are refused
        assert not (root / "downloads" / "train_noval.txt").exists()
        assert cli.main(command) == 0
        size = len((served / "voc.tar").read_bytes())
        resumed = [ranges for name, ranges in server.requests if name == "voc.tar"]
        assert resumed == ["", f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-"]
    assert cli.main(["data", "prepare", "--root", str(root), "--workers", "1"]) == 0
    return root


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, str]:
    """Options with files of random weights, in Meta's format and in transformers'."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    sam2 = Sam2Backbone.build("sam2-tiny", 128)
    torch.save({"model": sam2.model.state_dict()}, folder / "sam2_hiera_tiny.pt")
    config = transformers.Dinov2Config(image_size=518, patch_size=14, **SIZES["small"])  # the published files' grid
    transformers.Dinov2Model(config).save_pretrained(folder / "dinov2")
    return {
        "model": PAIR, "sam2_checkpoint": str(folder / "sam2_hiera_tiny.pt"),
        "features_checkpoint": str(folder / "dinov2"), "image_size": "128",
    }  # fmt: skip


def options(**given: str) -> list[str]:
    return [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", value)]


def test_what_was_prepared_is_counted(pascal, capsys) -> None:
    assert cli.main(["data", "check", "--root", str(pascal)]) == 1  # a miniature is not as published
    printed = capsys.readouterr().out
    assert "PASCAL-5i: 100 label maps" in printed
    for fold in range(4):
        assert f"| {fold} | 45 | 45 | 10 | 2 2 2 2 2 |" in printed
    assert "thing(s) wrong" in printed and "missing" not in printed


@pytest.fixture(scope="module")
def trained(pascal, networks, tmp_path_factory) -> Path:
    """One step of training with a full-size architecture on PASCAL-5i."""
    run = tmp_path_factory.mktemp("run")
    numbers = {"steps": "1", "batch_size": "1", "validate_every": "0", "fold": "0"}
    where = {"dataset": "pascal", "data_root": str(pascal), "output": str(run), "accelerator": "cpu"}
    assert cli.main(["train", *options(**networks, **numbers, **where), "--no-tensorboard"]) == 0
    return run


def test_a_step_of_training_and_an_evaluation_with_a_full_size_architecture(
    pascal, networks, trained, tmp_path, capsys
) -> None:
    assert len((trained / "log.csv").read_text().splitlines()) == 2
    command = ["evaluate", *options(**networks, dataset="pascal", data_root=str(pascal), folds="0", episodes="1")]
    weights = str(trained / "weights.safetensors")
    assert cli.main([*command, "--weights", weights, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "Protocol fssam (queries: images in order" in printed and "PASCAL-5i val, 10 images" in printed
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["seed"] == 321 and result["list"] and result["episodes"] == 1
    assert result["networks"] == {"sam2": networks["sam2_checkpoint"], "features": networks["features_checkpoint"]}
    rows = ["support memory, not fine-tuned", PRIOR_ALONE, "PPG", "PPG + IMR", "PPG + IMR + SCMA (FSSAM)",
            "true query mask (upper bound)"]  # fmt: skip
    assert list(result["scores"]) == rows
    assert (tmp_path / "out" / "episodes" / "fssam_fold0_1shot_seed321.json").exists()


def test_folds_with_other_numbers_of_images_share_a_table(pascal, networks, tmp_path, capsys) -> None:
    root = shutil.copytree(pascal, tmp_path / "data")
    (names,) = root.rglob("Segmentation/val.txt")
    names.write_text(names.read_text() + "more\n")
    for kept in ("JPEGImages/{}.jpg", "SegmentationClassAug/{}.png"):  # of fold 1
        shutil.copy(names.parents[2] / kept.format("2008_06v0"), names.parents[2] / kept.format("more"))
    command = ["evaluate", *options(**networks, dataset="pascal", data_root=str(root), episodes="1")]
    assert cli.main([*command, "--folds", "0", "1", "--output", str(tmp_path / "out")]) == 0
    assert "PASCAL-5i val, 10 images; PASCAL-5i val, 11 images; novel classes of folds 0, 1" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.md").exists()


def test_weights_are_not_evaluated_on_what_they_were_trained_on(trained, networks) -> None:
    world = Photographs(**{**networks, "image_size": 128})
    path = trained / "weights.safetensors"
    with pytest.raises(ValueError, match=r"weights\.safetensors was trained with fold 0, not 1"):
        world.load(path, 1)
    with pytest.raises(ValueError, match="was trained with dataset 'pascal', not 'coco'"):
        replace(world, dataset="coco").load(path, 0)
    model = world.load(path, 0, rounds=1)
    assert model.options.rounds == 1 and not model.training


def test_the_model_is_that_of_the_weights_and_nothing_is_fetched_for_another(trained, monkeypatch) -> None:
    monkeypatch.setattr(load, "fetch", lambda *_: pytest.fail("asked for weights"))
    assert Photographs().model == "sam2-small+dinov2-base"
    for place in (trained / "weights.safetensors", trained / "last.pt", trained.parent / "run{fold}" / "last.pt"):
        assert Photographs(weights={"fssam": str(place)}).model == PAIR, place
    with pytest.raises(ValueError, match=rf"last\.pt was trained with model '{re.escape(PAIR)}', not 'toy'; add --mod"):
        Photographs(model="toy", weights={"fssam": str(trained / "last.pt")})


def test_weights_go_with_the_networks_they_were_trained_with_wherever_these_lie(
    pascal, trained, networks, tmp_path, monkeypatch, capsys
) -> None:
    path, sam2 = trained / "weights.safetensors", Path(networks["sam2_checkpoint"])
    there = "# sam2 from " + str(sam2) + " (SHA-256 "
    assert there in (trained / "run.yaml").read_text()
    cached = tmp_path / "models--facebook--sam2-hiera-tiny" / "snapshots" / COMMIT / sam2.name
    cached.parent.mkdir(parents=True)
    cached.hardlink_to(sam2)
    places = {"sam2-tiny": cached, "dinov2-small": Path(networks["features_checkpoint"])}
    monkeypatch.setattr(load, "fetch", lambda name, revision: places[name])
    pinned = Photographs(model=f"sam2-tiny@{COMMIT}+dinov2-small", image_size=128)
    model = pinned.load(path, 0)
    assert origins(model) == {"sam2": f"sam2-tiny@{COMMIT}", "features": networks["features_checkpoint"]}
    unpacked = pinned.load(trained / "last.pt", 0).sam2.model.state_dict()
    assert all(torch.equal(t.half(), unpacked[name].half()) for name, t in model.sam2.model.state_dict().items())
    rows = replace(pinned, weights={"fssam": str(trained / "last.pt")}).trained(0)
    assert list(rows) == ["support memory, not fine-tuned", FULL]

    content = torch.load(sam2, weights_only=True)
    content["model"]["image_encoder.neck.convs.0.conv.bias"] += 1
    torch.save(content, tmp_path / "moved.pt")
    where = options(**networks | {"sam2_checkpoint": str(tmp_path / "moved.pt")}, dataset="pascal", folds="0")
    command = ["evaluate", *where, "--data-root", str(pascal), "--episodes", "1", "--weights", str(path)]
    assert cli.main(command) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} was trained with other frozen networks, and fits no others: sam2 from {sam2} (" in message
    assert (
        f"now from {tmp_path / 'moved.pt'} (SHA-256" in message and "@COMMIT" in message and "features f" not in message
    )


def test_rows_without_training_and_with_the_authors_checkpoint(networks, tmp_path) -> None:
    world = Photographs(**{**networks, "image_size": 128})
    stock = world.models(0)  # nothing to switch off
    assert list(stock) == ["support memory, not fine-tuned", f"{FULL}, not fine-tuned", PRIOR_ALONE]
    model = stock[f"{FULL}, not fine-tuned"]
    parts = {f"module.sam2.{name}": tensor for name, tensor in model.sam2.model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": parts, "optimizer": {}}, tmp_path / "authors0.pth")
    weights = {"fssam": str(tmp_path / "authors{fold}.pth")}
    lost = replace(world, sam2_checkpoint="lost.pt", weights=weights)  # the file brings its own
    assert list(lost.trained(0)) == [FULL]
    other = replace(lost, model="sam2-small+dinov2-small")
    with pytest.raises(ValueError, match=r"authors0\.pth holds sam2-tiny, not the SAM 2 of sam2-small\+dinov2-small"):
        other.trained(0)


def test_the_papers_profile_trains_with_augmentation(pascal) -> None:
    config = profile("paper", data_root=str(pascal))
    assert config.dataset == "pascal" and config.augment and config.steps == 300 * 4208 // 8
    training = base_episodes(config, 1000, 321)
    episode = training[0]
    assert episode.query_image.shape == (3, 512, 512) and episode.query_image.dtype == torch.uint8
    assert (episode.query_mask == 255).float().mean() > 0.5  # a miniature on a large square of padding
    held_out = base_episodes(config, 5, 10_000, True)
    names = {drawn.query for drawn in held_out.list.episodes}
    assert names <= set(open_photos("pascal", pascal, 0, "base", part="val").names)
    plain = base_episodes(profile("paper", data_root=str(pascal), augment=False), 10, 321)[0]
    assert not (plain.query_mask == 255).float().mean() > 0.5


def test_images_with_novel_classes_are_trained_on_as_the_protocol_says(pascal, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(
        "fss_lab.training.trainer.open_photos", lambda *a, **k: opened.append(k["protocol"]) or open_photos(*a, **k)
    )
    for protocol in ("fssam", "hsnet"):
        for held_out in (False, True):
            base_episodes(profile("paper", data_root=str(pascal), protocol=protocol, steps=1), 1, 321, held_out)
    assert opened[:2] == ["fssam", "fssam"] and opened[-2:] == ["hsnet", "fssam"]  # none to validate on


def test_the_toy_model_trains_on_photographs_and_is_validated_on_held_out_ones(pascal, tmp_path) -> None:
    numbers = {"steps": 2, "batch_size": 2, "validate_every": 1, "validation_episodes": 3, "accelerator": "cpu"}
    config = profile("toy", dataset="pascal", data_root=str(pascal), tensorboard=False, **numbers)
    result = train(config, tmp_path)
    assert "\n2," in (tmp_path / "validation.csv").read_text() and 0 <= result.progress.best_score <= 1
    moved = replace(config, data_root=f"{pascal}/VOCdevkit/VOC2012", steps=2)
    assert train(moved, tmp_path).progress.step == 2  # where the data lie does not make another run


def test_errors_end_a_command_with_one_line(pascal, networks, tmp_path, capsys) -> None:
    common = options(**networks, dataset="pascal", data_root=str(pascal), episodes="2")
    for wrong, text in {
        ("--images", "5"): "--images is for the toy world; photographs have a list of their own",
        ("--shots", "3"): "3-shot episodes need 4 images of every class",
        ("--weights", str(tmp_path / "lost.safetensors")): "lost.safetensors does not exist",
    }.items():
        assert cli.main(["evaluate", *common, *wrong]) == 1
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("fss-lab evaluate: error:") and text in error[-1]
    assert cli.main(["data", "check", "voc", "--root", str(pascal)]) == 1
    assert "there is no data set 'voc' to check; there is pascal, coco" in capsys.readouterr().err


def test_coco_from_its_archives_to_episodes(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    made, served, root = (tmp_path / name for name in ("made", "served", "data"))
    served.mkdir()
    coco_tree(made, each=2)
    files = {"train2014.zip": "train2014", "val2014.zip": "val2014", "annotations.zip": "annotations"}
    for name, folder in files.items():
        zipped(served / name, made, folder)
    with serve(served) as server:
        server.faults = {"train2014.zip": ["break"]}
        listed = manifest(server, tmp_path / "m.json", {"coco": [(n, folder, "coco") for n, folder in files.items()]})
        get = ["data", "get", "coco", "--root", str(root), "--manifest", str(listed), "--remove-archives"]
        assert cli.main(get) == 0
    assert list((root / "downloads").iterdir()) == []
    assert cli.main(["data", "prepare", "--root", str(root), "--workers", "1"]) == 0
    assert cli.main(["data", "check", "--root", str(root)]) == 1
    printed = capsys.readouterr().out
    for fold in range(4):
        assert f"| {fold} | 120 | 120 | 40 | {' '.join(['2'] * 20)} |" in printed
    images = Coco20i(root, 2)
    for protocol in BENCHMARKS.values():
        episodes = ListedEpisodes(draw_episodes(protocol, images, 1, 30), images, size=32)
        episode = episodes[7]
        assert episode.query_image.shape == (3, 32, 32) and 0.4 < (episode.query_mask == 1).float().mean() < 0.6
        assert episode.class_id % 4 == 2
