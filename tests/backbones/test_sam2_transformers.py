"""SAM 2 as transformers saves it: its tensors under Meta's names, and the outputs of transformers' own class."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2VideoConfig, Sam2VideoModel

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.sam2_transformers import load_sam2_state, meta_names
from fss_lab.errors import CheckpointError

pytestmark = pytest.mark.slow
SIZE = 128


@pytest.fixture(scope="module")
def reference():
    """transformers' tiny SAM 2.1 for small images, every tensor random."""
    torch.manual_seed(0)
    config = Sam2VideoConfig(
        image_size=SIZE, memory_attention_rope_feat_sizes=[SIZE // 16] * 2, prompt_encoder_config={"image_size": SIZE}
    )  # fmt: skip
    model = Sam2VideoModel(config).eval()
    with torch.no_grad():
        for tensor in {id(t): t for t in model.state_dict().values()}.values():
            tensor.add_(torch.randn(tensor.shape) * 0.02)
    model.prompt_encoder.shared_embedding.load_state_dict(model.shared_image_embedding.state_dict())  # always the same
    return model


@pytest.fixture(scope="module")
def saved(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    reference.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(saved):
    return Sam2Backbone.build("sam2.1-tiny", SIZE, saved)


def close(ours, theirs):
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_outputs_are_those_of_transformers(reference, backbone) -> None:
    images = torch.rand(2, 3, SIZE, SIZE) * 255
    features = backbone.encode(images)
    theirs = reference.vision_encoder(backbone.normalise(images / 255))
    convolved = [reference.mask_decoder.conv_s0, reference.mask_decoder.conv_s1]
    maps = [conv(x) for conv, x in zip(convolved, theirs.fpn_hidden_states, strict=False)]
    for ours, expected in zip((*features.high_res, features.top), (*maps, theirs.fpn_hidden_states[2]), strict=True):
        close(ours, expected)

    masks = torch.randn(2, 1, SIZE, SIZE)
    remembered, position = reference.memory_encoder(features.top, torch.sigmoid(masks))
    ours = backbone.model.memory_encoder(features.top, masks, skip_mask_sigmoid=False)
    close(ours["vision_features"], remembered)

    pointers = torch.randn(2, backbone.channels)
    tokens = backbone.memory_tokens([(remembered, position)], [pointers])
    attended = reference.memory_attention(
        features.top.flatten(2).permute(2, 0, 1), tokens.tokens, features.position.flatten(2).permute(2, 0, 1),
        tokens.position, num_object_pointer_tokens=tokens.pointer_tokens,
    )  # fmt: skip
    attended = attended[0].transpose(1, 2).reshape(features.top.shape)  # 1, B, N, C
    close(backbone.attend(features, tokens), attended)

    sparse, dense = reference.prompt_encoder(
        torch.zeros(2, 1, 1, 2), -torch.ones(2, 1, 1, dtype=torch.int32), None, None
    )
    decoded = reference.mask_decoder(
        image_embeddings=attended, image_positional_embeddings=reference.get_image_wide_positional_embeddings(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
        high_resolution_features=list(features.high_res),
    )  # fmt: skip
    ours = backbone.decode(attended, features)
    for found, expected in zip(
        (ours.masks, ours.ious, ours.object_score), (decoded[0], decoded[1], decoded[3]), strict=True
    ):
        close(found, expected.squeeze(1))
    close(backbone.model.obj_ptr_proj(pointers), reference.object_pointer_proj(pointers))


def test_every_tensor_has_one_place(reference, saved, backbone) -> None:
    state, ours = reference.state_dict(), backbone.model.state_dict()
    renamed = meta_names(state)
    assert renamed.keys() == ours.keys()
    assert all(torch.equal(renamed[name], ours[name]) for name in ours)
    one_file = load_sam2_state(saved / "model.safetensors")
    assert one_file.keys() == ours.keys()


def test_another_version_or_kind_is_named(saved, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="holds weights of SAM 2.1, and the model is a SAM 2: choose a sam2.1-"):
        Sam2Backbone.build("sam2-tiny", SIZE, saved)
    state = load_file(saved / "model.safetensors")
    newer = ("occlusion_spatial_embedding_parameter", "temporal_positional_encoding_projection_layer")
    older = {name: tensor for name, tensor in state.items() if not name.startswith(newer)}
    save_file(older, tmp_path / "older.safetensors")
    assert Sam2Backbone.build("sam2-tiny", SIZE, tmp_path / "older.safetensors")
    with pytest.raises(CheckpointError, match="It holds weights of SAM 2, and the model is a SAM 2.1: choose a sam2-"):
        Sam2Backbone.build("sam2.1-tiny", SIZE, tmp_path / "older.safetensors")
    save_file({n: t for n, t in state.items() if not n.startswith("memory_")}, tmp_path / "images.safetensors")
    with pytest.raises(CheckpointError, match=r"images\.safetensors holds SAM 2 for single images, .*Sam2VideoModel"):
        Sam2Backbone.build("sam2.1-tiny", SIZE, tmp_path / "images.safetensors")
