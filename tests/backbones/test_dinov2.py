from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from fss_lab.backbones.dinov2 import SIZES, Dinov2Features, resize_positions
from fss_lab.errors import CheckpointError

REFERENCE = Path(os.environ.get("FSS_LAB_REFERENCE", Path(__file__).parent.parent / "reference"))
WEIGHTS = REFERENCE / "dinov2_weights.safetensors"


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason='needs pip install "fss-lab[real]"')


@pytest.fixture(scope="module")
def features(transformers: Any) -> Dinov2Features:
    return Dinov2Features.load(WEIGHTS, num_heads=2)


def images(batch: int = 1, size: int = 56) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (batch, 3, size, size + 10), generator=generator, dtype=torch.uint8)


def small(transformers: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        **{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1, "image_size": 70} | options
    )
    model = transformers.Dinov2Model(config).eval()
    for parameter in model.parameters():  # every weight must matter: nothing at 0 or 1
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def own_names(published: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published transformers weights under the names of DINOv2's own code."""
    state = {}
    for name, tensor in published.items():
        name = name.replace("embeddings.position_embeddings", "pos_embed")
        name = name.replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
        name = name.replace("embeddings.", "").replace("layernorm.", "norm.").replace("encoder.layer.", "blocks.")
        name = name.replace("attention.output.dense", "attn.proj").replace("mlp.weights_out", "mlp.w3")
        name = name.replace("mlp.weights_in", "mlp.w12")
        name = re.sub(r"layer_scale(\d)\.lambda1", r"ls\1.gamma", name)
        state[name] = tensor
    for name in [name for name in state if ".attention.attention.query." in name]:
        parts = [state.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        state[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return state


def test_reference(features: Dinov2Features) -> None:
    stored = load_file(REFERENCE / "dinov2.safetensors")
    found = features(stored["in.images"])
    assert found.shape == (2, 32, 40, 40)
    assert (found - stored["features"]).abs().max() <= 1e-4


def test_resizing_the_grid_to_a_size_would_give_something_else() -> None:
    positions = load_file(WEIGHTS)["pos_embed"].float()
    ours = resize_positions(positions, 40)
    square = positions[:, 1:].transpose(1, 2).unflatten(2, (37, 37))
    naive = F.interpolate(square, size=(40, 40), mode="bicubic").flatten(2).transpose(1, 2)
    assert ours.shape == (1, 1601, 32)
    assert torch.equal(ours[:, 0], positions[:, 0])
    assert (ours[:, 1:] - naive).abs().max() > 1e-3
    assert resize_positions(ours, 40) is ours


def test_float_and_uint8_images_agree_and_elements_are_independent(features: Dinov2Features) -> None:
    batch = images(2)
    found = features(batch)
    assert torch.equal(found, features(batch.float()))
    torch.testing.assert_close(found[1:], features(batch[1:]), atol=1e-5, rtol=0)


def test_it_is_frozen(features: Dinov2Features) -> None:
    features.train()
    assert not any(module.training for module in features.modules())
    assert not any(parameter.requires_grad for parameter in features.parameters())
    found = features(images().float().requires_grad_())
    assert not found.requires_grad


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3)])
def test_wrong_shapes_are_refused(features: Dinov2Features, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        features(torch.zeros(shape))


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_directory_and_a_file_with_own_names_agree(
    transformers: Any, tmp_path: Path, swiglu: bool, suffix: str
) -> None:
    model = small(transformers, use_swiglu_ffn=swiglu)
    model.save_pretrained(tmp_path / "saved")
    state = own_names(load_file(tmp_path / "saved" / "model.safetensors"))
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"model": state}, path)
    expected = Dinov2Features(model)(images())
    for source in (tmp_path / "saved", str(path)):
        found = Dinov2Features.load(source)
        assert len(found.model.encoder.layer) == 3
        torch.testing.assert_close(found(images()), expected, atol=1e-4, rtol=1e-5)


def test_half_precision_directories_become_float32(transformers: Any, tmp_path: Path, capfd) -> None:
    small(transformers).half().save_pretrained(tmp_path)
    capfd.readouterr()
    found = Dinov2Features.load(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}


def test_build_random(transformers: Any) -> None:
    features = Dinov2Features.build("small")
    assert features.channels == SIZES["small"]["hidden_size"] == 384
    assert len(features.model.encoder.layer) == 12
    assert features.model.embeddings.position_embeddings.shape == (1, 1601, 384)


@pytest.mark.parametrize(
    ("size", "layers", "millions"), [("small", 12, 22), ("base", 12, 87), ("large", 24, 304), ("giant", 40, 1136)]
)
def test_every_size_has_its_published_layers_and_parameters(
    transformers: Any, size: str, layers: int, millions: float
) -> None:
    with torch.device("meta"):  # the giant alone would take 4.5 GB
        features = Dinov2Features.build(size)
    assert len(features.model.encoder.layer) == layers
    assert sum(p.numel() for p in features.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert features(torch.zeros(1, 3, 60, 80, device="meta")).shape == (1, SIZES[size]["hidden_size"], 40, 40)


@pytest.mark.parametrize("layers", [2, 5])
def test_the_features_are_those_of_the_last_layer_however_many_there_are(transformers: Any, layers: int) -> None:
    model = small(transformers, num_hidden_layers=layers)
    features = Dinov2Features(model)
    before = features(images())
    seen = []
    model.encoder.layer[-1].register_forward_hook(lambda module, arguments, output: seen.append(output))
    after = features(images())
    last = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    expected = model.layernorm(last)[:, 1:].transpose(1, 2).unflatten(2, (40, 40))
    assert len(model.encoder.layer) == layers
    torch.testing.assert_close(after, expected)
    assert torch.equal(before, after)


def test_build_checks_size_and_weights(transformers: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown DINOv2 size 'huge'; expected one of small, base"):
        Dinov2Features.build("huge")
    small(transformers).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has 64 channels, DINOv2 base has 768"):
        Dinov2Features.build("base", weights=tmp_path)


def test_a_state_that_does_not_fit_is_listed(transformers: Any, tmp_path: Path) -> None:
    state = load_file(WEIGHTS)
    del state["blocks.1.norm1.weight"]
    state["register_tokens"] = torch.zeros(1, 4, 32)
    state["norm.weight"] = torch.zeros(5)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Dinov2Features.load(tmp_path / "a.safetensors", num_heads=2)
    message = str(caught.value)
    assert "1 missing: encoder.layer.1.norm1.weight" in message
    assert "1 unexpected: register_tokens" in message
    assert "1 mismatched: ('layernorm.weight'" in message


def test_a_directory_with_missing_weights_is_refused(transformers: Any, tmp_path: Path) -> None:
    small(transformers).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["layernorm.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 missing: layernorm\.bias"):
        Dinov2Features.load(tmp_path)


def test_other_sources_are_refused(transformers: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="32 channels, no published size; give num_heads"):
        Dinov2Features.load(WEIGHTS)
    with pytest.raises(CheckpointError, match="does not exist"):
        Dinov2Features.load(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="Expected a directory with config.json and model.safetensors"):
        Dinov2Features.load(tmp_path)  # an empty directory
    save_file({"layernorm.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="saved by transformers give their directory"):
        Dinov2Features.load(tmp_path / "model.safetensors")


def test_a_damaged_directory_is_refused(transformers: Any, tmp_path: Path) -> None:
    small(transformers).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="could not be loaded"):
        Dinov2Features.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="could not be loaded"):
        Dinov2Features.load(tmp_path)


def test_without_transformers_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "fss-lab\[real\]"'):
        Dinov2Features.build("small")
    with pytest.raises(ImportError, match=r'pip install "fss-lab\[real\]"'):
        Dinov2Features.load(WEIGHTS, num_heads=2)
