from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.sam2_config import CONFIGS, read_config
from fss_lab.errors import CheckpointError

REFERENCE = Path(__file__).parents[1] / "reference"
CONFIG, WEIGHTS = REFERENCE / "sam2_reference.yaml", REFERENCE / "one_shot_weights.safetensors"


@pytest.fixture(scope="module")
def backbone() -> Sam2Backbone:
    return Sam2Backbone.build(CONFIG, checkpoint=WEIGHTS)


def images(count: int, size: int = 128, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_of_all_sizes(name: str) -> None:
    settings = read_config(name)
    assert settings.image_size == 1024 and settings.use_high_res_features_in_sam


@pytest.mark.parametrize("name", ["sam2-tiny", "sam2.1-tiny"])
@pytest.mark.parametrize("size", [112, 128])  # an odd number of grid cells needs padding
@torch.no_grad()
def test_all_four_verbs(name: str, size: int) -> None:
    backbone = Sam2Backbone.build(name, image_size=size)
    grid = size // 16
    assert (backbone.grid_size, backbone.channels, backbone.memory_channels) == (grid, 256, 64)
    features = backbone.encode(images(2, size))
    assert features.top.shape == features.position.shape == (2, 256, grid, grid)
    assert [tuple(x.shape) for x in features.high_res] == [(2, 32, 4 * grid, 4 * grid), (2, 64, 2 * grid, 2 * grid)]
    memory = backbone.remember(features, torch.rand(2, 1, size, size))
    assert memory.memory.shape == memory.position.shape == (2, 64, grid, grid)
    assert memory.pointer.shape == (2, 256)
    tokens = backbone.memory_tokens([(memory.memory, memory.position)] * 3, [memory.pointer] * 2)
    assert tokens.tokens.shape == (3 * grid * grid + 8, 2, 64) and tokens.pointer_tokens == 8
    attended = backbone.attend(features, tokens)
    decoded = backbone.decode(attended, features)
    assert decoded.masks.shape == (2, 3, 4 * grid, 4 * grid) and decoded.ious.shape == (2, 3)
    assert decoded.object_score.shape == (2, 1)
    best = decoded.ious.argmax(1)
    assert decoded.low_res_logits[:, 0].equal(decoded.masks[torch.arange(2), best])
    assert backbone.decode(attended, features, multimask=False).masks.shape == (2, 1, 4 * grid, 4 * grid)


def test_image_size_reaches_every_rotary_table() -> None:
    backbone = Sam2Backbone.build(CONFIG, image_size=96)
    for layer in backbone.model.memory_attention.layers:
        assert layer.cross_attn_image.freqs_cis.shape[0] == layer.self_attn.freqs_cis.shape[0] == 36


@torch.no_grad()
def test_padding_leaves_sizes_of_32_alone(backbone: Sam2Backbone) -> None:
    normalised = (images(1).float() / 255 - backbone.mean) / backbone.std
    stock = backbone.model.forward_image(normalised)
    features = backbone.encode(images(1))
    assert features.top.equal(stock["backbone_fpn"][-1]) and features.position.equal(stock["vision_pos_enc"][-1])


@torch.no_grad()
def test_hook_with_stock_module_changes_nothing(backbone: Sam2Backbone) -> None:
    features = backbone.encode(images(2))
    memory = backbone.remember(features, torch.ones(2, 1, 128, 128))
    tokens = backbone.memory_tokens([(memory.memory, memory.position)], [memory.pointer])
    called = []

    def stock(number, module, q, k, v, pointer_tokens):
        called.append(number)
        return module(q, k, v, num_k_exclude_rope=pointer_tokens)

    hooked = backbone.attend(features, tokens, stock)
    assert hooked.equal(backbone.attend(features, tokens)) and called == [0, 1]


def test_gradients_flow_where_they_should(backbone: Sam2Backbone) -> None:
    backbone.requires_grad_(True).zero_grad()
    features = backbone.encode(images(1))
    mask = torch.rand(1, 1, 128, 128, requires_grad=True)
    memory = backbone.remember(features, mask)
    tokens = backbone.memory_tokens([(memory.memory, memory.position)], [memory.pointer])
    backbone.decode(backbone.attend(features, tokens), features).masks.sum().backward()
    for part in ("image_encoder", "memory_encoder", "memory_attention", "sam_mask_decoder"):
        gradients = [p.grad for p in backbone.model.get_submodule(part).parameters() if p.grad is not None]
        assert sum(gradient.abs().sum() for gradient in gradients) > 0, part
    assert mask.grad is not None and mask.grad.abs().sum() > 0
    backbone.zero_grad()


@torch.no_grad()
def test_soft_masks_are_nearly_binarised(backbone: Sam2Backbone) -> None:
    features = backbone.encode(images(1))
    soft, hard = (torch.full((1, 1, 128, 128), value) for value in (0.9, 1.0))
    near, far = (backbone.remember(features, mask).memory for mask in (soft, soft / 3))
    exact = backbone.remember(features, hard).memory
    assert (near - exact).abs().max() < 0.05 * (far - exact).abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["sam2-tiny", "sam2.1-tiny"])  # 2.1 marks memories without an object
@torch.no_grad()
def test_a_memory_without_its_pointer_is_the_same_memory(name: str) -> None:
    backbone = Sam2Backbone.build(name, image_size=64)
    features = backbone.encode(images(2, 64))
    mask = torch.rand(2, 1, 64, 64)
    mask[0] = 0
    expected = backbone.remember(features, mask).memory
    assert backbone.remember_without_pointer(features, mask).equal(expected)
    with pytest.raises(ValueError, match="expected masks of shape"):
        backbone.remember_without_pointer(features, mask[:1])


@pytest.mark.parametrize("size", [112, 128])
@torch.no_grad()
def test_every_image_has_the_same_position_code(size: int) -> None:
    backbone = Sam2Backbone.build(CONFIG, size, None)
    features = backbone.encode(images(2, size))
    assert features.position.equal(backbone.position_code(features.top))
    assert features.position[0].equal(features.position[1])


@torch.no_grad()
def test_encoder_modules_are_what_encoding_runs() -> None:
    backbone = Sam2Backbone.build(CONFIG)
    own = {id(p) for module in backbone.encoder_modules() for p in module.parameters()}
    before = backbone.encode(images(1))
    for parameter in backbone.model.parameters():
        if id(parameter) not in own:
            parameter.add_(1)
    after = backbone.encode(images(1))
    assert after.top.equal(before.top) and all(map(torch.equal, after.high_res, before.high_res))
    for module in backbone.encoder_modules():
        next(module.parameters()).add_(0.1)
        changed = backbone.encode(images(1))
        assert not (changed.top.equal(after.top) and all(map(torch.equal, changed.high_res, after.high_res)))
        after = changed


def test_an_empty_mask_gets_the_no_object_pointer(backbone: Sam2Backbone) -> None:
    features = backbone.encode(images(2))
    mask = torch.zeros(2, 1, 128, 128)
    mask[1, :, 30:90, 30:90] = 1
    pointer = backbone.remember(features, mask).pointer
    torch.testing.assert_close(pointer[0], backbone.model.no_obj_ptr[0])


@torch.no_grad()
def test_features_are_picked(backbone: Sam2Backbone) -> None:
    features = backbone.encode(images(3))
    for index in (torch.tensor([2, 0]), [2, 0], slice(1, 3)):
        picked = features[index]
        assert len(picked) == 2 and picked.top.equal(features.top[index])
        assert all(own.equal(whole[index]) for own, whole in zip(picked.high_res, features.high_res, strict=True))


def test_wrong_input(backbone: Sam2Backbone) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 128, 128\)"):
        backbone.encode(images(1, 64))
    features = backbone.encode(images(1))
    with pytest.raises(ValueError, match=r"\(1, 1, 128, 128\)"):
        backbone.remember(features, torch.ones(1, 128, 128))


@pytest.mark.parametrize("size", [0, -16, 100, 128.0, "128", True])
def test_wrong_image_size(size: object) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        Sam2Backbone.build(CONFIG, image_size=size)  # type: ignore[arg-type]


def test_wrong_configurations(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="sam2.1-huge.*sam2-tiny"):
        Sam2Backbone.build("sam2.1-huge")
    file = tmp_path / "config.yaml"
    for text, message in (
        ("model: [", "not a readable YAML"),
        ("image_size: 3", "no `model` section"),
        ("- 1", "no `model` section"),
        ("model: {image_size: 128, _target_: os.system}", "only classes of the sam2 package"),
        ("model: {image_size: 128, _target_: sam2.build_sam.os.system}", "only classes of the sam2 package"),
        ("model: {image_size: 128, _target_: sam2.build_sam.build_sam2}", "only classes of the sam2 package"),
        ("model: {image_size: 128, parts: [{_target_: os.system}]}", "only classes of the sam2 package"),
        ("model: {image_size: 128, parts: [[{_target_: sam2.nowhere}]]}", "only classes of the sam2 package"),
        ("model: {image_size: 128, a: &a [1], b: *a}", "YAML alias"),
        ("model: {image_size: 128, a: '${oc.env:HOME}'}", "interpolation"),
        ('model: {image_size: 128, a: "\\x24{oc.env:HOME}"}', "interpolation"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            Sam2Backbone.build(file)
    settings = OmegaConf.load(CONFIG)
    settings.model.use_high_res_features_in_sam = False
    OmegaConf.save(settings, file)
    with pytest.raises(ValueError, match="use_high_res_features_in_sam"):
        Sam2Backbone.build(file)


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "sam2.modeling.sam2_base.torch.hub.load",  # what a module of sam2 imports
        "sam2.modeling.sam2_base.torch.nn.Linear",
        "sam2.modeling.sam2_utils.copy.deepcopy",
        "sam2.build_sam.build_sam2",
        "sam2.build_sam.os.mkdir",
        "sam2.modeling.sam2_base.NO_OBJ_SCORE",
        "sam2.modeling.gone.Network",
    ],
)
@pytest.mark.parametrize("place", ["{call}", "[{call}]", "[[{{a: {call}}}]]"])
def test_a_configuration_reaches_only_networks_of_sam2(tmp_path: Path, target: str, place: str) -> None:
    made = tmp_path / "made"
    call = place.format(call=f"{{_target_: {target}, _args_: [{made}]}}")
    settings = OmegaConf.to_container(OmegaConf.load(CONFIG))
    settings["model"]["image_encoder"]["extra"] = OmegaConf.to_container(OmegaConf.create(f"a: {call}"))["a"]
    OmegaConf.save(settings, tmp_path / "config.yaml")
    with pytest.raises(ValueError, match=f"asks for '{target}'; only classes of the sam2 package"):
        Sam2Backbone.build(tmp_path / "config.yaml")
    assert not made.exists()


def test_checkpoints(tmp_path: Path, backbone: Sam2Backbone) -> None:
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    expected = backbone.encode(images(1)).top
    torch.save({"model": state}, tmp_path / "meta.pt")
    assert Sam2Backbone.build(CONFIG, checkpoint=tmp_path / "meta.pt").encode(images(1)).top.equal(expected)

    other = Sam2Backbone.build(CONFIG)
    before = other.encode(images(1)).top
    one, *_ = names = sorted(state)
    wrong = {name: state[name] for name in names[1:]} | {"surplus": torch.zeros(1)}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match=f"wrong.safetensors.*{one}.*surplus"):
        other.load_checkpoint(tmp_path / "wrong.safetensors")
    save_file(state | {one: torch.zeros(7)}, tmp_path / "shape.safetensors")
    with pytest.raises(CheckpointError, match=one):
        other.load_checkpoint(tmp_path / "shape.safetensors")
    assert other.encode(images(1)).top.equal(before)

    for suffix in (".pt", ".safetensors"):
        source = tmp_path / "meta.pt" if suffix == ".pt" else WEIGHTS
        for name, content in (("cut", source.read_bytes()[:-1000]), ("text", b"no weights"), ("empty", b"")):
            (tmp_path / (name + suffix)).write_bytes(content)
            with pytest.raises(CheckpointError, match=name + suffix):
                other.load_checkpoint(tmp_path / (name + suffix))
    with pytest.raises(CheckpointError, match="nowhere.pt"):
        other.load_checkpoint(tmp_path / "nowhere.pt")
