from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.sam2 import Sam2Backbone, merge_heads
from fss_lab.episode import Episode, EpisodeBatch
from fss_lab.method import FSSAM, Trace
from fss_lab.method.options import CALIBRATIONS
from fss_lab.models import load_model
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.training.losses import dice_loss

Maker = Callable[..., EpisodeBatch]

VARIANTS = [
    {"memory": "support"},
    {"rounds": 0, "calibration": "off"},
    {"rounds": 0},
    {"calibration": "off"},
    {},
    {"prior": "foreground"},
    {"prior": "truth"},
    {"rounds": 7, "refinement": "v2", "calibration": "as_published"},
]


def tensors_of(x: object) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, list | tuple):
        return [t for item in x for t in tensors_of(item)]
    if is_dataclass(x):
        return [t for field in fields(x) for t in tensors_of(getattr(x, field.name))]
    return []


def episode(batch: EpisodeBatch, index: int) -> Episode:
    return Episode(
        batch.query_images[index],
        batch.query_masks[index],
        batch.support_images[index],
        batch.support_masks[index],
        0,
        "square",
    )


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@torch.no_grad()
def test_tracing_changes_nothing(model: FSSAM, batch: EpisodeBatch, options: dict) -> None:
    variant = model.variant(**options)
    plain, traced = variant(batch), variant(batch, trace=True)
    assert plain.trace is None and isinstance(traced.trace, Trace)
    assert plain.logits.shape == (2, 128, 128) and plain.low_res_logits.shape == (2, 1, 32, 32)
    assert plain.ious.shape == (2, 3) and plain.logits.isfinite().all()
    assert (plain.logits - traced.logits).abs().max() <= 1e-5
    assert all(tensor.isfinite().all() for tensor in tensors_of(traced.trace))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@torch.no_grad()
def test_attention_in_the_trace_explains_the_output(model: FSSAM, batch: EpisodeBatch, options: dict) -> None:
    variant = model.variant(**options)
    trace = variant(batch, trace=True).trace
    assert trace is not None
    layers = model.sam2.model.memory_attention.layers
    assert len(trace.layers) == len(layers)
    for seen, layer in zip(trace.layers, layers, strict=True):
        for rows in (seen.attention, seen.attention_before):
            torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5, rtol=0)
        torch.testing.assert_close((seen.logits + seen.bias).softmax(-1), seen.attention)
        rebuilt = merge_heads(layer.cross_attn_image, seen.attention @ seen.v)
        torch.testing.assert_close(rebuilt, seen.output, atol=1e-5, rtol=0)
        assert seen.bias.min() >= -10 and seen.bias.max() <= 0
        columns, total = seen.columns, seen.k.shape[2]
        assert (columns.support.start, columns.pointers.stop) == (0, total)
        assert columns.support.stop == columns.query.start and columns.query.stop == columns.pointers.start
        published = variant.options.calibration == "as_published"
        assert seen.bias[..., columns.pointers].eq(0).all()
        assert seen.bias[..., columns.query if published else columns.support].eq(0).all()
        if variant.options.memory == "support" or variant.options.calibration == "off":
            assert seen.calibration is None and seen.attention.equal(seen.attention_before)
        else:
            assert seen.calibration.shape == (2, 1, 8, 8) and seen.bias.min() < 0


@torch.no_grad()
def test_off_and_the_baseline_are_stock_sam2(model: FSSAM, batch: EpisodeBatch) -> None:
    """The stock memory attention over all shots side by side, bit for bit."""
    sam2 = model.sam2
    for options, blocks in (({"calibration": "off"}, 3), ({"memory": "support"}, 2)):
        variant = model.variant(**options)
        encoded = variant.encode(batch)
        trace = variant.predict(encoded, trace=True).trace
        assert trace is not None
        tokens = trace.tokens
        assert len(tokens.tokens) == blocks * (64 + 4) and tokens.pointer_tokens == 4 * blocks
        attended = sam2.model.memory_attention(
            curr=encoded.query.top.flatten(2).permute(2, 0, 1),
            curr_pos=encoded.query.position.flatten(2).permute(2, 0, 1),
            memory=tokens.tokens,
            memory_pos=tokens.position,
            num_obj_ptr_tokens=tokens.pointer_tokens,
        )
        decoded = sam2.decode(attended.permute(1, 2, 0).reshape(encoded.query.top.shape), encoded.query)
        assert decoded.low_res_logits.equal(variant(batch).low_res_logits)
        assert (trace.attended.flatten(2).permute(2, 0, 1) - attended).abs().max() <= 1e-5


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(3)), st.integers(0, 100), st.sampled_from(VARIANTS[:-1]))
@torch.no_grad()
def test_the_order_of_shots_does_not_matter(
    model: FSSAM, make_batch: Maker, order: list[int], seed: int, options: dict
) -> None:
    batch, variant = make_batch(1, 3, seed=seed), model.variant(**options)
    other = replace(batch, support_images=batch.support_images[:, order], support_masks=batch.support_masks[:, order])
    torch.testing.assert_close(variant(batch).logits, variant(other).logits, atol=2e-4, rtol=1e-4)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 100), st.sampled_from(VARIANTS))
@torch.no_grad()
def test_episodes_of_a_batch_do_not_see_each_other(model: FSSAM, make_batch: Maker, seed: int, options: dict) -> None:
    variant, batch = model.variant(**options), make_batch(3, 2, seed=seed)
    together = variant(batch).logits
    encoded = variant.encode(batch)
    for index in range(3):
        alone = variant.predict(encoded[index : index + 1]).logits
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["empty", "ignored", "full", "tiny"])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_extreme_supports_never_give_nan(model: FSSAM, batch: EpisodeBatch, kind: str, options: dict) -> None:
    """Nor in the gradient. The tiny mask lies between the sampling points of the grid and vanishes there."""
    masks = torch.full_like(batch.support_masks, {"ignored": 255, "full": 1}.get(kind, 0))
    if kind == "tiny":
        masks[..., 2:6, 3:7] = 1
    model.freeze().train()
    output = model.variant(**options)(replace(batch, support_masks=masks), trace=True)
    assert output.trace is not None
    dice_loss(output.logits, batch.query_masks).backward()
    assert all(tensor.isfinite().all() for tensor in [output.logits, *tensors_of(output.trace)])
    gradients = [p.grad for _, p in model.trainable_parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    model.eval()


@torch.no_grad()
def test_a_support_that_vanishes_on_the_grid_is_not_calibrated(model: FSSAM, make_batch: Maker) -> None:
    batch = make_batch(1, 1)
    masks = torch.zeros_like(batch.support_masks)
    masks[..., 1:7, 1:7] = 1  # the grid's nearest neighbours are the pixels 0, 16, 32, ...
    tiny = replace(batch, support_masks=masks)
    trace = model(tiny, trace=True).trace
    assert trace is not None and trace.support_masks.any() and not trace.support_masks_attention.any()
    assert all(layer.bias.eq(0).all() for layer in trace.layers)
    uncalibrated = model.variant(calibration="off")(tiny).logits
    torch.testing.assert_close(model(tiny).logits, uncalibrated, atol=1e-4, rtol=0)


# -- training --


def test_what_is_trained(model: FSSAM, batch: EpisodeBatch) -> None:
    model.freeze()
    trainable = dict(model.trainable_parameters())
    assert {name.split(".")[0] for name in trainable} == {"memory_encoder", "memory_attention", "sam_mask_decoder"}
    assert not any("conv_s0" in name or "conv_s1" in name for name in trainable)
    assert {name for name, p in model.sam2.model.named_parameters() if p.requires_grad} == set(trainable)
    assert not any(p.requires_grad for p in model.features.parameters())
    dice_loss(model(batch).logits, batch.query_masks).backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    # the unused tokens and heads of the decoder apart, everything trainable learns
    idle = {name for name, p in trainable.items() if p.grad is None}
    assert not any(name.startswith(("memory_encoder", "memory_attention")) for name in idle)


def test_train_keeps_frozen_modules_in_evaluation(model: FSSAM) -> None:
    model.train()
    modes = {name: module.training for name, module in model.sam2.model.named_modules() if name}
    assert modes["memory_attention.layers.0.dropout1"] and modes["memory_encoder"] and modes["sam_mask_decoder"]
    assert not modes["image_encoder.trunk"] and not modes["sam_prompt_encoder"] and not modes["obj_ptr_proj"]
    assert not model.features.training and model.training
    model.eval()
    assert not any(module.training for module in model.modules())


def test_dropout_is_active_in_training_only(model: FSSAM, batch: EpisodeBatch) -> None:
    encoded = model.encode(batch)
    assert model.predict(encoded).logits.equal(model.predict(encoded).logits)
    model.train()
    assert not model.predict(encoded).logits.equal(model.predict(encoded).logits)
    model.eval()


def test_encoded_episodes_are_picked(model: FSSAM, batch: EpisodeBatch) -> None:
    features = model.extract(batch)
    assert not any(tensor.requires_grad for tensor in tensors_of(features))
    expected = model(batch).logits.flip(0)
    for swapped in (model.encode(features[[1, 0]]), model.encode(features)[[1, 0]]):
        assert len(swapped) == 2
        torch.testing.assert_close(model.predict(swapped).logits, expected, atol=1e-4, rtol=1e-4)


def test_models_that_share_frozen_encoders_share_features_but_no_memories(model: FSSAM, batch: EpisodeBatch) -> None:
    other = FSSAM(copy.deepcopy(model.sam2), model.features)
    with torch.no_grad():
        other.sam2.model.memory_encoder.out_proj.weight.mul_(1.5)
        features = model.extract(batch)
        for one in (model, other):
            assert one.predict(one.encode(features)).logits.equal(one(batch).logits)
        memories = [one.encode(features).support_memory.memory for one in (model, other)]
    assert not memories[0].equal(memories[1])


def test_the_memory_encoder_learns_from_the_supports(model: FSSAM, batch: EpisodeBatch) -> None:
    model.freeze("memory_encoder").encode(batch).support_memory.memory.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in model.trainable_parameters("memory_encoder"))


def test_bfloat16_autocast(model: FSSAM, batch: EpisodeBatch) -> None:
    """The paper's training precision: close to float32, with gradients, traced or not."""
    exact = model(batch).logits.detach()
    model.freeze()
    for trace in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(batch, trace=trace)
        dice_loss(output.logits, batch.query_masks).backward()
        assert (output.logits - exact).abs().mean() < 0.1 * exact.std()
        gradients = [p.grad for _, p in model.trainable_parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_variants_share_modules(model: FSSAM) -> None:
    other = model.variant(calibration="off", rounds=0)
    assert other.sam2 is model.sam2 and other.features is model.features
    assert (other.options.calibration, other.options.rounds) == ("off", 0)
    assert (model.options.calibration, model.options.rounds) == ("corrected", 3)


@pytest.mark.parametrize(
    "options",
    [{"memory": "both"}, {"prior": "best"}, {"rounds": -1}, {"rounds": 1.5}, {"rounds": True}]
    + [{"refinement": "v3"}, {"calibration": None}],
    ids=str,
)
def test_unknown_options(model: FSSAM, backbone: Sam2Backbone, options: dict) -> None:
    (name,) = options
    for make in (model.variant, lambda **kwargs: FSSAM(backbone, None, **kwargs)):
        with pytest.raises(ValueError, match=name):
            make(**options)


def test_unknown_option_name(model: FSSAM) -> None:
    with pytest.raises(TypeError, match="round"):
        model.variant(round=3)


@torch.no_grad()
def test_without_a_feature_extractor(backbone: Sam2Backbone, batch: EpisodeBatch) -> None:
    for options in ({"memory": "support"}, {"prior": "truth"}):
        assert FSSAM(backbone, None, **options)(batch).logits.isfinite().all()
    with pytest.raises(ValueError, match="feature extractor"):
        FSSAM(backbone, None)(batch)


# -- for people --


@torch.no_grad()
def test_the_baseline_needs_no_dense_features(model: FSSAM, batch: EpisodeBatch) -> None:
    baseline, cache = model.variant(memory="support"), FeatureCache()
    bare = baseline.encode(batch, cache, priors=False)
    assert bare.priors is None
    assert torch.equal(baseline.predict(bare).logits, baseline(batch).logits)
    with pytest.raises(ValueError, match="these options need priors"):
        model.predict(bare)
    # what was cached without them does not stand in for what has them
    torch.testing.assert_close(model.predict(model.encode(batch, cache)).logits, model(batch).logits)


@torch.no_grad()
def test_segment_equals_forward(model: FSSAM, batch: EpisodeBatch) -> None:
    logits = model(batch).logits
    for index in range(2):
        found = model.segment(episode(batch, index))
        torch.testing.assert_close(found.logits, logits[index], atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(found.probability, found.logits.sigmoid())
        assert found.mask.dtype == torch.bool and found.mask.equal(found.probability > 0.5)


def test_remember_once_equals_recomputing(model: FSSAM, batch: EpisodeBatch) -> None:
    pair = (batch.support_images[0], batch.support_masks[0])
    support = model.remember(*pair)
    assert len(support) == 2
    for query in batch.query_images:
        once = model.segment(query, support)
        assert once.logits.equal(model.segment(query, support=support).logits)
        assert once.logits.equal(model.segment(query, pair).logits)
    assert model.segment(batch.query_images[0], episode(batch, 0)).logits.equal(model.segment(episode(batch, 0)).logits)


def test_sources_of_any_kind_and_size(model: FSSAM, make_batch: Maker, tmp_path: Path) -> None:
    batch = make_batch(1, 1, size=200)
    query = batch.query_images[0][:, :150]  # 150 x 200
    image, mask = batch.support_images[0, 0], batch.support_masks[0, 0]
    array, binary = image.permute(1, 2, 0).numpy(), mask.numpy()
    Image.fromarray(array).save(tmp_path / "image.png")
    Image.fromarray(binary * np.uint8(255)).save(tmp_path / "mask.png")
    images = [image, array, Image.fromarray(array), tmp_path / "image.png", str(tmp_path / "image.png")]
    masks = [mask, binary, Image.fromarray(binary * np.uint8(255)), tmp_path / "mask.png", mask.bool()]
    expected = model.segment(query, (image, mask))
    assert expected.logits.shape == expected.mask.shape == (150, 200)
    for one, other in zip(images, masks, strict=True):
        assert model.segment(query.permute(1, 2, 0).numpy(), (one, other)).logits.equal(expected.logits)
        assert model.segment(query, ([one], [other])).logits.equal(expected.logits)


def test_shots_of_different_sizes(model: FSSAM, make_batch: Maker) -> None:
    one, other = make_batch(1, 1, size=96), make_batch(1, 1, size=130)
    support = model.remember(
        [one.support_images[0, 0], other.support_images[0, 0]], [one.support_masks[0, 0], other.support_masks[0, 0]]
    )
    assert support.masks.shape == (2, 128, 128)
    assert model.segment(one.query_images[0], support).logits.shape == (96, 96)


def test_trace_and_truth_through_segment(model: FSSAM, batch: EpisodeBatch) -> None:
    prediction = model.segment(episode(batch, 0), trace=True)
    assert isinstance(prediction.trace, Trace) and len(prediction.trace.rounds) == 3
    given = prediction.trace.inputs
    assert given.truth.equal(batch.query_masks[0]) and given.class_name == "square" and len(given.supports) == 2
    assert given.query.data_ptr() == batch.query_images[0].data_ptr()  # by reference
    assert given.supports[1].data_ptr() == batch.support_images[0, 1].data_ptr()
    support = model.remember(batch.support_images[0], batch.support_masks[0])
    assert model.segment(batch.query_images[1], support, trace=True).trace.inputs.truth is None
    assert model(batch, trace=True).trace.inputs is None
    upper = model.variant(prior="truth")
    assert upper.segment(episode(batch, 0)).logits.isfinite().all()
    with pytest.raises(ValueError, match="truth"):
        upper.segment(batch.query_images[0], episode(batch, 1))


@pytest.mark.parametrize("value", [0, 255])
def test_supports_without_foreground_are_refused(model: FSSAM, batch: EpisodeBatch, value: int) -> None:
    masks = batch.support_masks[0].clone()
    masks[1] = value
    empty = replace(episode(batch, 0), support_masks=masks)
    with pytest.raises(ValueError, match="support 2: .*no foreground"):
        model.segment(empty)


def test_mask_that_vanishes_when_stretched_is_refused(model: FSSAM) -> None:
    image, mask = torch.zeros(3, 1280, 1280, dtype=torch.uint8), torch.zeros(1280, 1280, dtype=torch.uint8)
    mask[5, 5] = 1
    with pytest.raises(ValueError, match="vanishes"):
        model.remember(image, mask)


def test_bad_supports(model: FSSAM, batch: EpisodeBatch) -> None:
    images, masks = batch.support_images[0], batch.support_masks[0]
    query = batch.query_images[0]
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        model.remember(images, masks[:1])
    with pytest.raises(ValueError, match="at least one"):
        model.remember([], [])
    with pytest.raises(ValueError, match="same size"):
        model.remember(images[0], masks[0, :100])
    with pytest.raises(ValueError, match="0..255"):
        model.remember(images[0] / 255, masks[0])
    with pytest.raises(ValueError, match="values 0, 7"):
        model.remember(images[0], masks[0] * 7)
    with pytest.raises(TypeError):
        model.remember(3, masks[0])
    for wrong in (None, "support.png", 7, (images,), [images, masks]):
        with pytest.raises(TypeError, match="Support from remember"):
            model.segment(query, wrong)
    with pytest.raises(FileNotFoundError):
        model.segment("nowhere.png", (images, masks))


@torch.no_grad()
def test_batches_of_another_size_are_stretched(model: FSSAM, make_batch: Maker) -> None:
    assert model(make_batch(1, 1, size=100)).logits.shape == (1, 128, 128)


@torch.no_grad()
def test_options_do_what_they_say_and_nothing_else(model: FSSAM, make_batch: Maker) -> None:
    """All combinations; those that must agree do, all others differ."""
    encoded = model.encode(make_batch(2, 2))
    results: dict[tuple, Tensor] = {}
    for prior, rounds, kind, mode in itertools.product(
        ("discriminative", "foreground", "truth"), (0, 2), ("v1", "v2"), CALIBRATIONS
    ):
        variant = model.variant(prior=prior, rounds=rounds, refinement=kind, calibration=mode)
        logits = variant.predict(encoded).logits
        # refining the foreground memory by itself or the truth changes nothing, nor does "v2" of no rounds
        key = (prior, mode, kind if rounds and prior == "discriminative" else None)
        torch.testing.assert_close(logits, results.setdefault(key, logits), atol=3e-5, rtol=0)
    assert len(results) == 20
    for one, other in itertools.combinations(results.values(), 2):
        assert (one - other).abs().max() > 1e-4


def test_a_large_photo_is_averaged_before_the_methods_own_resize(tmp_path) -> None:
    model, episode = load_model("toy"), Pictograms(0)[0]
    noise = np.random.default_rng(0).normal(0, 40, (2048, 2048, 3))

    def noisy(image) -> np.ndarray:
        large = np.kron(image.permute(1, 2, 0).numpy(), np.ones((8, 8, 1)))
        return (large + noise).clip(0, 255).astype(np.uint8)

    support = model.remember(list(episode.support_images), list(episode.support_masks))
    clean = model.segment(episode.query_image, support).probability
    large = model.segment(noisy(episode.query_image), support).probability
    assert large.shape == (2048, 2048)
    small = torch.nn.functional.interpolate(large[None, None], (256, 256), mode="area")[0, 0]
    assert (small - clean).abs().mean() < 0.03


def test_a_mask_that_may_lie_turned_on_its_photo_is_a_warning(tmp_path) -> None:
    model, episode = load_model("toy"), Pictograms(0)[0]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the size stays
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    Image.fromarray(episode.support_images[0].permute(1, 2, 0).numpy()).save(photo, exif=exif)
    Image.fromarray(255 * (episode.support_masks[0] == 1).numpy().astype(np.uint8)).save(mask)
    with pytest.warns(UserWarning, match="stored turned"):
        model.remember(photo, mask)


def test_the_foreground_of_a_label_map_is_named() -> None:
    model, episode = load_model("toy"), Pictograms(0)[0]
    binary = episode.support_masks[0] == 1
    labels = torch.where(binary, 7, 3).to(torch.uint8)
    named = model.remember(episode.support_images[0], labels, foreground=7)
    assert torch.equal(named.memory.memory, model.remember(episode.support_images[0], binary).memory.memory)


def test_the_prior_alone_is_the_prior_cut_at_one_half() -> None:
    model, episode = load_model("toy"), Pictograms(0)[0]
    alone = model.variant(memory="none", prior="foreground")
    prior = model.segment(episode, trace=True).trace.priors.foreground[0, 0]
    prediction = alone.segment(episode)
    assert torch.equal(prediction.mask, prior > 0.5)
    with pytest.raises(ValueError, match="nothing to trace"):
        alone.segment(episode, trace=True)
