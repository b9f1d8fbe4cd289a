"""DINOv2 with registers and DINOv3 as dense features, against transformers' own outputs on random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from fss_lab import load_model
from fss_lab.backbones.dinov2 import Dinov2Features, Dinov2WithRegisters
from fss_lab.backbones.dinov3 import Dinov3Features
from fss_lab.backbones.normalised import DEVIATION, MEAN
from fss_lab.backbones.patch_tokens import PatchTokens
from fss_lab.backbones.registry import FEATURES
from fss_lab.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason='needs pip install "fss-lab[real]"')

TINY = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
FAMILIES = {Dinov2WithRegisters: {"image_size": 70}, Dinov3Features: {"intermediate_size": 96}}


def tiny(family: type[PatchTokens]) -> Any:
    """A network of the family in which every weight matters: nothing at 0 or 1."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family.prefix}Config")(**{**family.settings, **TINY, **FAMILIES[family]})
    model = getattr(transformers, f"{family.prefix}Model")(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def images() -> torch.Tensor:
    return torch.randint(256, (2, 3, 56, 66), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_features_are_transformers_own_patch_tokens(family: type[PatchTokens], tmp_path: Path) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    size = {14: 560, 16: 640}[model.config.patch_size]
    resized = F.interpolate(images().float(), (size, size), mode="bilinear", align_corners=True) / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
    tokens = model(pixel_values=(resized - mean) / deviation).last_hidden_state
    assert tokens.shape == (2, 1 + 4 + 1600, 64)
    expected = tokens[:, 5:].reshape(2, 40, 40, 64).permute(0, 3, 1, 2)
    for features in (family(model), family.load(tmp_path)):
        assert (features(images()) - expected).abs().max() <= 1e-5
        assert not any(parameter.requires_grad for parameter in features.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("dinov2-with-registers-small", 22.06),
        ("dinov2-with-registers-base", 86.6),
        ("dinov2-with-registers-large", 304.4),
        ("dinov2-with-registers-giant", 1136.5),
        ("dinov3-small", 21.6),
        ("dinov3-base", 85.7),
        ("dinov3-large", 303.1),
    ],
)
def test_every_size_has_its_published_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):  # the giant alone would take 4.5 GB
        features = FEATURES[name].build()
    assert sum(p.numel() for p in features.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
    assert features(torch.zeros(1, 3, 60, 80, device="meta")).shape == (1, features.channels, 40, 40)


def test_dinov3s_published_names_are_read(tmp_path: Path) -> None:
    """The published files call the layers "layer.0", not "model.layer.0"."""
    model = tiny(Dinov3Features)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    renamed = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    assert "layer.0.attention.k_proj.weight" in renamed
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(Dinov3Features.load(tmp_path)(images()), Dinov3Features(model)(images()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")  # transformers warns of the other type, too
def test_weights_of_another_family_or_size_are_refused(family: type[PatchTokens], tmp_path: Path) -> None:
    tiny(family).save_pretrained(tmp_path)
    for other in {Dinov2Features, Dinov2WithRegisters, Dinov3Features} - {family}:
        with pytest.raises(CheckpointError, match=f"{other.title}"):
            other.load(tmp_path)
    with pytest.raises(CheckpointError, match=f"has 64 channels, {family.title} base has 768"):
        family.build("base", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop(next(name for name in state if name.endswith("register_tokens")))
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing: embeddings\.register_tokens"):
        family.load(tmp_path)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"DINOv3 could not be loaded.*Expected a directory with config\.json"):
        Dinov3Features.load(tmp_path / "weights.pth")


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "fss-lab\[real\]"'):
        FEATURES["dinov3-small"].build()


def test_a_pair_has_them_under_its_name() -> None:
    model = load_model("sam2-tiny+dinov3-small", weights="random", image_size=128)
    assert isinstance(model.features, Dinov3Features) and model.features.channels == 384
    with pytest.raises(ValueError, match="there is no model 'sam2-tiny\\+dinov3-giant'.*dinov3-large"):
        load_model("sam2-tiny+dinov3-giant")


def test_weights_that_cannot_be_fetched_may_lie_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fss_lab.backbones.hub import fetch

    monkeypatch.setenv("FSS_LAB_WEIGHTS", str(tmp_path))
    name = "dinov3-vits16-pretrain-lvd1689m"
    (tmp_path / name).mkdir()
    assert fetch("dinov3-small") == tmp_path / name
