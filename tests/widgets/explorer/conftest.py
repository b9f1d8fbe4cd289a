"""Traces of the toy model, and one of several heads."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fss_lab import Episode, Pictograms, load_model
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.toy import ToyFeatures
from fss_lab.method import FSSAM
from fss_lab.method.calibration import calibration_bias


@pytest.fixture(scope="session")
def model():
    return load_model("toy", fold=0)


@pytest.fixture(scope="session")
def episodes():
    """Number of shots -> the same query with so many supports."""
    return {shots: Pictograms(fold=0, split="novel", shots=shots)[20] for shots in (1, 5)}


@pytest.fixture(scope="session")
def traces(model, episodes):
    runs = {f"{shots} shots": model.segment(episodes[shots], trace=True).trace for shots in (1, 5)}
    for mode in ("off", "as_published"):
        runs[mode] = model.variant(calibration=mode).segment(episodes[5], trace=True).trace
    runs["support"] = model.variant(memory="support").segment(episodes[1], trace=True).trace
    runs["3 heads"] = _with_heads(runs["1 shots"], 3)
    return runs


@pytest.fixture(scope="session")
def wide(episodes):
    """An episode of 120 x 200 pixels."""

    def stretch(x, mode):
        return F.interpolate(x.float(), (120, 200), mode=mode).to(torch.uint8)

    square = episodes[1]
    return Episode(
        stretch(square.query_image[None], "bilinear")[0], stretch(square.query_mask[None, None], "nearest")[0, 0],
        stretch(square.support_images, "bilinear"), stretch(square.support_masks[None], "nearest")[0], 0, "key",
    )  # fmt: skip


@pytest.fixture(scope="session")
def large():
    """A trace of SAM 2 small at 512 x 512 pixels (4 layers, grid 32 x 32; random weights)."""
    torch.manual_seed(0)
    model = FSSAM(Sam2Backbone.build("sam2-small", 512), ToyFeatures().eval())
    for parameter in model.sam2.model.memory_attention.parameters():  # SAM 2 starts its layers as copies of one
        torch.nn.init.normal_(parameter, std=0.05)
    images = F.interpolate(torch.rand(2, 3, 8, 8) * 255, (512, 512), mode="bilinear")
    mask = torch.zeros(512, 512, dtype=torch.uint8)
    mask[100:300, 150:400] = 1
    episode = Episode(images[0], mask, images[1:], mask[None], 0, "thing")
    return model.segment(episode, trace=True).trace


def _with_heads(trace, heads):
    """The trace as if its layers had several heads: each looks at some of the channels."""
    layers = []
    for layer in trace.layers:
        q, k = (x.unflatten(-1, (heads, -1)).squeeze(1).transpose(1, 2) for x in (layer.q, layer.k))
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        term = torch.cat([(layer.calibration * strength) for strength in torch.linspace(0.5, 1, heads)], dim=1)
        bias = torch.zeros_like(logits)
        bias[..., layer.columns.query] = calibration_bias(logits[..., layer.columns.query], term)
        layers.append(
            replace(
                layer, q=q, k=k, logits=logits, bias=bias, calibration=term,
                shot_similarity=term.unsqueeze(2),
                attention_before=logits.softmax(-1), attention=(logits + bias).softmax(-1),
            )
        )  # fmt: skip
    return replace(trace, layers=layers)
