"""A support that lasts: saved, loaded, and used by the same numbers in another process only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fss_lab import load_model, load_support
from fss_lab.backbones.checkpoints import load_metadata, load_state, save_safetensors
from fss_lab.errors import CheckpointError, FileError, InputError
from fss_lab.method import FSSAM, Support
from fss_lab.toyworld.pictograms import Pictograms

EPISODE = Pictograms(0, shots=2)[0]


@pytest.fixture(scope="module")
def model() -> FSSAM:
    return load_model("toy")


@pytest.fixture(scope="module")
def support(model: FSSAM) -> Support:
    large = torch.nn.functional.interpolate(EPISODE.support_images[:1].float(), (900, 600))[0].to(torch.uint8)
    mask = torch.nn.functional.interpolate(EPISODE.support_masks[None, :1].float(), (900, 600))[0, 0] == 1
    return model.remember([large, EPISODE.support_images[1]], [mask, EPISODE.support_masks[1]])


@pytest.fixture
def path(support: Support, tmp_path: Path) -> Path:
    support.save(tmp_path / "dog.support.safetensors")
    return tmp_path / "dog.support.safetensors"


def test_the_same_masks_before_and_after(model: FSSAM, support: Support, path: Path) -> None:
    loaded = load_support(path, model)
    assert repr(loaded) == repr(support) and len(loaded) == 2
    before, after = (model.segment(EPISODE.query_image, one, trace=True) for one in (support, loaded))
    assert after.logits.equal(before.logits) and after.score == before.score
    assert [tuple(image.shape) for image in after.trace.inputs.supports] == [(3, 256, 171), (3, 256, 256)]
    assert after.trace.inputs.supports[1].equal(EPISODE.support_images[1])
    assert path.stat().st_size < 6e6 and set(load_state(path)) >= {"memory", "masks", "image.1"}
    again = path.with_name("again.safetensors")
    loaded.save(again)  # what was loaded can be saved
    assert load_metadata(again) == load_metadata(path)
    assert all(tensor.equal(load_state(again)[name]) for name, tensor in load_state(path).items())


def test_a_variant_and_a_model_without_a_prior_use_it(model: FSSAM, support: Support, path: Path) -> None:
    variant = model.variant(memory="support")
    expected = variant.segment(EPISODE.query_image, support).logits
    assert variant.segment(EPISODE.query_image, load_support(path, variant)).logits.equal(expected)
    plain = FSSAM(model.sam2, None, memory="support")
    assert plain.segment(EPISODE.query_image, load_support(path, plain)).logits.equal(expected)


@pytest.mark.processes
def test_another_process_uses_it(model: FSSAM, support: Support, path: Path) -> None:
    np.save(path.with_name("query.npy"), EPISODE.query_image.permute(1, 2, 0).numpy())
    code = (
        "import sys, numpy, fss_lab, torch; torch.set_num_threads(1); model = fss_lab.load_model('toy')\n"
        "logits = model.segment(sys.argv[2], fss_lab.load_support(sys.argv[1], model)).logits\n"
        "numpy.save(sys.argv[3], logits.numpy())"
    )
    arguments = [str(path), str(path.with_name("query.npy")), str(path.with_name("logits.npy"))]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    expected = model.segment(EPISODE.query_image, support).logits
    torch.testing.assert_close(torch.from_numpy(np.load(arguments[2])), expected, atol=1e-4, rtol=1e-4)


def test_another_model_refuses_it_and_both_are_named(model: FSSAM, path: Path) -> None:
    made = json.loads(load_metadata(path)["networks"])["sam2"]
    for other in (load_model("toy", fold=1), load_model("toy", weights="random")):
        with pytest.raises(CheckpointError, match="remembered by another model") as refusal:
            load_support(path, other)
        assert f"sam2 from toy_sam2.safetensors (SHA-256 {made['sha256'][:12]}), here " in str(refusal.value)
    assert "here random numbers (SHA-256 " in str(refusal.value) and "features from" in str(refusal.value)
    other = FSSAM(model.sam2, load_model("toy", weights="random").features)
    with pytest.raises(CheckpointError, match=r"features from toy_features\.safetensors"):
        load_support(path, other)


def test_the_same_numbers_of_another_origin_are_the_same_model(model: FSSAM, path: Path) -> None:
    twin = load_model("toy")  # other objects, the same numbers
    assert twin.segment(EPISODE.query_image, load_support(path, twin)).mask.any()


@pytest.mark.parametrize("kind", ["cut short", "weights", "no support", "empty", "folder", "missing", "other suffix"])
def test_bad_files_are_named(model: FSSAM, path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "weights":
        save_safetensors(path, {"memory": torch.zeros(3)})
    elif kind == "no support":
        path.write_bytes(b"no support")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "missing":
        path.unlink()
    else:
        path = path.rename(path.with_suffix(".pt"))
    with pytest.raises(CheckpointError, match=path.name.replace(".", r"\.")):
        load_support(path, model)


def _without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "damage",
    [_without(name) for name in ("memory", "position", "pointer", "low_res_logits", "masks", "image.0")]
    + [
        lambda tensors: tensors.update(memory=tensors["memory"][:, :, :4]),
        lambda tensors: tensors.update(masks=tensors["masks"][:1]),
        lambda tensors: tensors.update(features=tensors["features"][:1]),
        lambda tensors: tensors.update(features=tensors["features"][0]),
        lambda tensors: tensors.update({"image.1": tensors["image.1"][0]}),
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors["memory"].fill_(torch.nan),
    ],
)
def test_tensors_that_do_not_fit_are_refused(model: FSSAM, path: Path, damage) -> None:
    tensors, metadata = load_state(path), load_metadata(path)
    damage(tensors)
    save_safetensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=r"dog\.support\.safetensors (does not fit a model|holds NaN)"):
        load_support(path, model)


@pytest.mark.parametrize("networks", ["", "[]", "{}", '{"sam2": 1}', '{"sam2": {}, "features": {}}'])
def test_a_file_that_does_not_name_its_networks_is_refused(model: FSSAM, path: Path, networks: str) -> None:
    metadata = load_metadata(path) | {"networks": networks}
    save_safetensors(path, load_state(path), metadata)
    with pytest.raises(CheckpointError, match="does not say which networks made it"):
        load_support(path, model)


def test_where_it_cannot_be_written(support: Support, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a support is saved as \.safetensors"):
        support.save(tmp_path / "dog.pt")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="could not be written"):
        support.save(tmp_path / "file" / "dog.safetensors")
