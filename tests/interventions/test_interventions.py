"""Interventions against runs that edit the tensors by hand, on the toy model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import fss_lab
from fss_lab.backbones.sam2 import merge_heads, project_heads
from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.interventions import Where, blocks, knock_out, lens, patch, sweep
from fss_lab.method import FSSAM, Prediction
from fss_lab.metrics import iou

N = 256  # cells of the toy's grid


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    data = fss_lab.Pictograms(fold=0, split="novel", shots=2)
    return [data[0], data[1]]


@pytest.fixture(scope="module")
def model() -> FSSAM:
    return fss_lab.load_model("toy")


@pytest.fixture(scope="module")
def off(model: FSSAM) -> FSSAM:
    return model.variant(calibration="off")


@pytest.fixture(scope="module")
def averaged(model: FSSAM, episodes: list[Episode]) -> Prediction:
    return model.segment(episodes[0], trace=True)


@pytest.fixture(scope="module")
def apart(off: FSSAM, episodes: list[Episode]) -> list[Prediction]:
    return [off.segment(episode, trace=True) for episode in episodes]


def by_hand(model: FSSAM, prediction: Prediction, edit) -> Tensor:
    """Logits (H, W) of SAM 2's own attention with edit(layer, k, v, logits) in place; batch 1, one head."""
    trace = prediction.trace

    def cross_attention(layer, attention, q, k, v, pointers):
        q, k, v = project_heads(attention, q, k, v, pointers)
        k, v = k.clone(), v.clone()
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        k, v, logits = edit(layer, k, v, logits) or (k, v, logits)
        return merge_heads(attention, logits.softmax(-1) @ v)

    with torch.no_grad():
        attended = model.sam2.attend(trace.features, trace.tokens, cross_attention)
        low = model.sam2.decode(attended, trace.features).low_res_logits
    size = trace.support_masks.shape[-2:]
    return torch.nn.functional.interpolate(low, size, mode="bilinear", align_corners=False)[0, 0]


def test_an_intervention_nowhere_changes_nothing_to_the_last_bit(
    model: FSSAM, off: FSSAM, averaged: Prediction, apart: list[Prediction], episodes: list[Episode]
) -> None:
    for network, prediction in ((model, averaged), (off, apart[0])):
        for how in ("renormalise", "mean"):
            same = knock_out(network, prediction, Where(block=()), how)
            assert same.logits.equal(prediction.logits) and same.evidence == prediction.evidence
        for what in ("memory", "keys", "values", "calibration"):
            assert patch(network, prediction, prediction, Where(), what).logits.equal(prediction.logits)
            assert patch(network, prediction, episodes[1], Where(layer=()), what).logits.equal(prediction.logits)
    assert sweep(off, apart[0], "block", where=Where(block=("support 1",), layer=())).values.eq(0).all()


@pytest.mark.parametrize(
    ("where", "layers", "columns"),
    [
        (Where(block="query"), (0, 1), slice(2 * N, 3 * N)),
        (Where(layer=-1, block="support 2"), (1,), slice(N, 2 * N)),
        (Where(layer=0, block="pointers"), (0,), slice(3 * N, None)),
        (Where(block="query", cells=((3, 4), (8, 8))), (0, 1), [2 * N + 52, 2 * N + 136]),
        (Where(block="support", cells=((0, 1),)), (0, 1), [1, N + 1]),
        (Where(cells=((0, 1),)), (0, 1), [1, N + 1, 2 * N + 1]),
    ],
)
def test_a_knock_out_is_the_run_with_edited_tensors(
    off: FSSAM, apart: list[Prediction], where: Where, layers: tuple, columns
) -> None:
    def hide(layer, k, v, logits):
        if layer in layers:
            logits[..., columns] = -math.inf

    def level(layer, k, v, logits):
        if layer in layers:
            v[:, :, columns] = v.mean(2, keepdim=True).clone()

    for how, edit in (("renormalise", hide), ("mean", level)):
        altered = knock_out(off, apart[0], where, how)
        torch.testing.assert_close(altered.logits, by_hand(off, apart[0], edit), atol=1e-4, rtol=0)
        assert altered.mask.equal(altered.logits.sigmoid() > 0.5)
    hidden = knock_out(off, apart[0], where).trace.layers[layers[0]].attention
    assert hidden[..., columns].eq(0).all()
    torch.testing.assert_close(hidden.sum(-1), torch.ones(1, 1, N))


def test_a_patch_is_the_run_with_edited_tensors(off: FSSAM, apart: list[Prediction]) -> None:
    query = slice(2 * N, 3 * N)
    gift = apart[1].trace

    def exchange(name):
        def edit(layer, k, v, logits):
            (k if name == "k" else v)[:, :, query] = getattr(gift.layers[layer], name)[:, :, query]
            q = apart_q[layer] if layer == 0 else None
            return (k, v, q @ k.mT / math.sqrt(q.shape[-1])) if name == "k" and q is not None else None

        return edit

    apart_q = {0: apart[0].trace.layers[0].q}
    values = patch(off, apart[0], apart[1], Where(block="query"), "values")
    torch.testing.assert_close(values.logits, by_hand(off, apart[0], exchange("v")), atol=1e-4, rtol=0)
    keys = patch(off, apart[0], apart[1], Where(layer=0, block="query"), "keys")
    only_first = lambda layer, k, v, logits: exchange("k")(layer, k, v, logits) if layer == 0 else None  # noqa: E731
    torch.testing.assert_close(keys.logits, by_hand(off, apart[0], only_first), atol=1e-4, rtol=0)


def test_all_of_another_memory_is_that_memory(model: FSSAM, averaged: Prediction, episodes: list[Episode]) -> None:
    donor = model.segment(episodes[1], trace=True)
    read = patch(model, averaged, donor, Where(), "memory").trace
    k = donor.trace.layers[0].k
    torch.testing.assert_close(read.layers[0].k, k)
    bias = patch(model, averaged, donor, Where(), "calibration").trace.layers
    assert all(layer.bias.equal(gift.bias) for layer, gift in zip(bias, donor.trace.layers, strict=True))


def test_a_sweep_is_its_knock_outs(off: FSSAM, apart: list[Prediction], episodes: list[Episode]) -> None:
    prediction, truth, calls = apart[0], episodes[0].query_mask, []
    swept = sweep(off, prediction, ("layer", "block"), progress=lambda *done: calls.append(done), chunk=3)
    assert swept.axes == ("layer", "block") and swept.values.shape == (2, 4)
    assert swept.labels == {"layer": (0, 1), "block": ("support 1", "support 2", "query", "pointers")}
    assert calls == [(3, 8), (6, 8), (8, 8)] and swept.whole == float(iou(prediction.mask, truth))
    alone = knock_out(off, prediction, Where(1, "query"))
    assert float(swept.values[1, 2]) == pytest.approx(swept.whole - float(iou(alone.mask, truth)), abs=2e-3)

    inside = truth == 1
    mean = sweep(off, prediction, "block", effect="logit", how="mean")
    assert mean.whole == pytest.approx(float(prediction.logits[inside].mean()))
    alone = knock_out(off, prediction, Where(block="query"), "mean")
    assert float(mean.values[2]) == pytest.approx(mean.whole - float(alone.logits[inside].mean()), abs=1e-4)


def test_a_sweep_over_cells(off: FSSAM, apart: list[Prediction]) -> None:
    where = Where(layer=1, block="query")
    swept = sweep(off, apart[0], "cells", effect=lambda logits: logits[:, 100, 100], where=where)
    assert swept.axes == ("row", "column") and swept.values.shape == (16, 16)
    alone = knock_out(off, apart[0], Where(1, "query", ((6, 6),))).logits[100, 100]
    assert float(swept.values[6, 6]) == pytest.approx(float(apart[0].logits[100, 100] - alone), abs=1e-4)


def test_the_lens_ends_with_the_prediction(
    averaged: Prediction, apart: list[Prediction], episodes: list[Episode]
) -> None:
    for prediction in (averaged, apart[0]):
        answers = lens(prediction)
        assert answers.logits.shape == (3, 256, 256) and answers.masks.dtype == torch.bool
        assert answers.logits[-1].equal(prediction.logits)
        assert float(answers.ious[-1]) == float(iou(prediction.mask, episodes[0].query_mask))
        assert not answers.logits[0].equal(answers.logits[1])
    stock = averaged.support.sam2.model.memory_attention
    assert not any(module._forward_pre_hooks for module in stock.modules())  # nothing stays behind


def test_blocks(averaged: Prediction, apart: list[Prediction]) -> None:
    assert blocks(averaged) == ("support", "query", "pointers")
    assert blocks(apart[0]) == ("support 1", "support 2", "query", "pointers")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (Where(block="support 1"), r"supports are averaged here, model.variant\(calibration=\"off\"\) not"),
        (Where(block="prior"), "the memory has the blocks support, query, pointers"),
        (Where(layer=2), "layers 0 to 1, got layer=2"),
        (Where(cells=((16, 0),)), r"a grid of 16 x 16, counted from 0, got \(16, 0\)"),
        (Where(block="pointers", cells=((0, 0),)), "pointers have no cells"),
        (Where(layer=1), "nothing left to read"),
    ],
)
def test_parts_that_are_not_there(model: FSSAM, averaged: Prediction, where: Where, message: str) -> None:
    with pytest.raises(InputError, match=message):
        knock_out(model, averaged, where)


def test_bad_arguments(model: FSSAM, averaged: Prediction, episodes: list[Episode]) -> None:
    plain = model.segment(episodes[0])
    one_shot = fss_lab.Pictograms(fold=0, split="novel", shots=1)[0]
    for message, call in {
        "this prediction has no trace": lambda: lens(plain),
        "how must be": lambda: knock_out(model, averaged, Where(block="query"), "silence"),
        "what must be one of memory": lambda: patch(model, averaged, averaged, Where(), "logits"),
        "as many supports as the episode, got 1 for 2": lambda: patch(model, averaged, one_shot, Where()),
        "over must be different ones of": lambda: sweep(model, averaged, ("layer", "head")),
        'one of "iou", "logit"': lambda: sweep(model, averaged, effect="dice"),
        "of another model": lambda: knock_out(fss_lab.load_model("toy", weights=None), averaged, Where(block=())),
    }.items():
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(TypeError, match="expected an Episode or a traced Prediction, got int"):
        knock_out(model, 3, Where())
