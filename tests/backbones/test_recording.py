"""Recordings of the stock video predictor on a clip of the toy world, and on random weights of a published size."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

import fss_lab
from fss_lab.backbones.recording import Recording, record_memory, video_predictor
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import InputError

FRAMES, N = 9, 256


@pytest.fixture(scope="module")
def predictor() -> SAM2VideoPredictor:
    return video_predictor(fss_lab.load_model("toy", weights="pretrained").sam2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tensor]:
    """A folder of JPEG frames, and the mask of the first."""
    folder = tmp_path_factory.mktemp("clip")
    images, instances = fss_lab.Pictograms(0, "novel").clip(0, FRAMES)
    for number, image in enumerate(images):
        Image.fromarray(image.to(torch.uint8).permute(1, 2, 0).numpy()).save(folder / f"{number}.jpg", quality=95)
    return str(folder), instances[0] == 1


def track(predictor: SAM2VideoPredictor, clip: tuple[str, Tensor]) -> Tensor:
    """Logits (frames, 1, H, W)."""
    state = predictor.init_state(clip[0])
    predictor.add_new_mask(state, 0, 1, clip[1])
    return torch.cat([logits for _, _, logits in predictor.propagate_in_video(state)])


@pytest.fixture(scope="module")
def plain(predictor: SAM2VideoPredictor, clip: tuple[str, Tensor]) -> Tensor:
    return track(predictor, clip)


@pytest.fixture(scope="module")
def recorded(predictor: SAM2VideoPredictor, clip: tuple[str, Tensor], plain: Tensor) -> Recording:
    with record_memory(predictor) as recording:
        seen = track(predictor, clip)
    assert seen.equal(plain)  # to the last bit
    return recording


def test_nothing_stays_behind(predictor: SAM2VideoPredictor, clip: tuple[str, Tensor], recorded: Recording) -> None:
    before = predictor.maskmem_tpos_enc.clone()
    with pytest.raises(RuntimeError, match="stop"), record_memory(predictor, temporal_code=False):
        assert predictor.maskmem_tpos_enc.eq(0).all()
        raise RuntimeError("stop")
    assert predictor.maskmem_tpos_enc.equal(before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in predictor.modules())


def test_columns_are_those_of_the_stock_order(predictor: SAM2VideoPredictor, recorded: Recording) -> None:
    """Prompted frames, then the latest six from the oldest on, then pointers: prompted, then from the latest on."""
    assert [call.frame for call in recorded.calls] == list(range(1, FRAMES))
    call = recorded.of(8)
    grids = [(block.frame, block.code) for block in call.blocks if not block.pointer]
    assert grids == [(0, 6), (2, 5), (3, 4), (4, 3), (5, 2), (6, 1), (7, 0)]
    assert [block.frame for block in call.blocks if block.pointer] == [0, 7, 6, 5, 4, 3, 2, 1]
    assert call.blocks[-1].columns == slice(7 * N + 28, 7 * N + 32) and call.k[0].shape[2] == 7 * N + 32
    first = recorded.of(1).blocks
    assert [(block.frame, block.pointer, block.columns) for block in first] == [
        (0, False, slice(0, N)), (0, True, slice(N, N + 4)),
    ]  # fmt: skip


def test_the_attention_is_the_models_own(predictor: SAM2VideoPredictor, clip, plain: Tensor) -> None:
    """attention x values, projected, is what the layer's cross-attention gave."""
    outputs: list[Tensor] = []
    values: list[Tensor] = []
    cross = predictor.memory_attention.layers[0].cross_attn_image
    hooks = [
        cross.register_forward_hook(lambda _, given, output: outputs.append(output)),
        cross.v_proj.register_forward_hook(lambda _, given, v: values.append(v)),
    ]
    with record_memory(predictor, frames=lambda frame: frame == 5) as recording:
        track(predictor, clip)
    for hook in hooks:
        hook.remove()
    (call,) = recording.calls
    q, k = call.q[0], call.k[0]
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    torch.testing.assert_close(cross.out_proj(weights[0] @ values[4]), outputs[4], atol=1e-4, rtol=0)
    torch.testing.assert_close(call.attention(0, (3, 4)), weights[0, 0, 3 * 16 + 4])
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[3, 4:6] = True
    torch.testing.assert_close(call.attention(0, inside), weights[0, 0, 52:54].mean(0))
    maps, pointers = call.maps(0), call.pointers(0)
    assert list(maps) == [0, 1, 2, 3, 4] and maps[0].shape == (16, 16) and list(pointers) == [0, 4, 3, 2, 1]
    assert sum(float(x.sum()) for x in maps.values()) + sum(pointers.values()) == pytest.approx(1)


def test_images_are_those_of_the_clip(recorded: Recording) -> None:
    images = fss_lab.Pictograms(0, "novel").clip(0, FRAMES)[0]
    assert sorted(recorded.images) == list(range(FRAMES))
    assert (recorded.images[3].float() - images[3]).abs().mean() < 4  # what JPEG leaves


def test_hiding_is_softmax_without_these_columns(predictor: SAM2VideoPredictor, clip, plain: Tensor) -> None:
    with record_memory(predictor, hide=lambda frame, block: False) as recording:
        assert track(predictor, clip).equal(plain)
    whole = recording.of(1)
    with record_memory(predictor, hide=lambda frame, block: block.pointer) as recording:
        assert not track(predictor, clip).equal(plain)
    assert not any(block.pointer for call in recording.calls for block in call.blocks)
    kept = whole.attention(0)[:N]
    logits = whole.q[0] @ whole.k[0][:, :, :N].mT / whole.q[0].shape[-1] ** 0.5
    torch.testing.assert_close(recording.of(1).attention(0), logits.softmax(-1).mean((0, 1, 2)))
    assert kept.shape == (N,)
    with (
        pytest.raises(InputError, match="nothing is left to read in frame 1"),
        record_memory(predictor, hide=lambda frame, block: True),
    ):
        track(predictor, clip)


def test_the_temporal_code_off(predictor: SAM2VideoPredictor, clip, plain: Tensor) -> None:
    with record_memory(predictor, temporal_code=False):
        changed = track(predictor, clip)
    assert changed[0].equal(plain[0]) and not changed[2].equal(plain[2])
    assert track(predictor, clip).equal(plain)


def test_an_fssam(clip) -> None:
    model = fss_lab.load_model("toy").variant(calibration="off")
    episode = fss_lab.Pictograms(0, "novel", shots=2)[0]
    trace = model.segment(episode, trace=True).trace
    with record_memory(model) as recording:
        model.segment(episode)
        model.segment(episode, trace=True)
    for call in recording.calls:
        assert call.frame is None and len(call.q) == 2
        assert [block.frame for block in call.blocks] == [0, 1, 2, 0, 1, 2]
        torch.testing.assert_close(call.k[1], trace.layers[1].k, atol=1e-4, rtol=0)
    assert len(recording.calls) == 2


@pytest.mark.slow
def test_random_weights_of_a_published_size(clip) -> None:
    predictor = video_predictor(Sam2Backbone.build("sam2.1-tiny", 256))
    plain = track(predictor, clip)
    with record_memory(predictor, frames=lambda frame: frame == 8) as recording:
        assert track(predictor, clip).equal(plain)
    (call,) = recording.calls
    assert len(call.q) == 4 and [block.frame for block in call.blocks if not block.pointer] == [0, 2, 3, 4, 5, 6, 7]


def test_bad_arguments(recorded: Recording) -> None:
    with pytest.raises(InputError, match="no call of frame 0 was recorded; those of \\[1, 2, "):
        recorded.of(0)
    with pytest.raises(InputError, match="expected a SAM 2 .* got Linear"), record_memory(torch.nn.Linear(1, 1)):
        pass
