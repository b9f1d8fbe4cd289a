"""Several classes at once, clicks, and arithmetic that overflows."""

from __future__ import annotations

import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import InputError, NotFiniteError
from fss_lab.images import load_mask
from fss_lab.method import FSSAM
from fss_lab.method.options import PRESENT
from fss_lab.models.photos import segment_photos

NO_ALARM = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def supports(model: FSSAM, make_batch) -> dict:
    batch = make_batch(3, 1)
    names = ("dog", "cat", "bird")
    return {name: model.remember(batch.support_images[i], batch.support_masks[i]) for i, name in enumerate(names)} | {
        "query": batch.query_images[0]
    }


# -- several classes --


def test_every_pixel_is_of_one_class_or_background(model: FSSAM, supports: dict) -> None:
    query = supports.pop("query")
    result = model.segment_classes(query, supports, threshold=0)
    alone = {name: model.segment(query, support) for name, support in supports.items()}
    joint = torch.stack([alone[name].score * alone[name].probability * alone[name].mask for name in result.names])
    best, winner = joint.max(0)
    assert result.labels.dtype == torch.uint8 and result.labels.shape == query.shape[1:]
    assert result.labels.equal(torch.where(best > 0, winner + 1, 0).to(torch.uint8))
    assert result.names == ("dog", "cat", "bird")
    for name, prediction in result.predictions.items():
        assert prediction.logits.equal(alone[name].logits) and result.scores[name] == alone[name].score
        assert prediction.image.data_ptr() == result.predictions["dog"].image.data_ptr()  # one query for all
    assert repr(result).startswith("LabelMap(128 x 128, dog ")


def test_the_encoders_see_a_query_once(model: FSSAM, supports: dict, monkeypatch) -> None:
    query, calls = supports.pop("query"), []
    for network in (model.sam2, model.features):
        method = "encode" if network is model.sam2 else "forward"
        true = getattr(network, method)
        monkeypatch.setattr(network, method, lambda images, true=true: calls.append(len(images)) or true(images))
    model.segment_classes(query, supports)
    assert calls == [1, 1]


def test_a_class_below_the_threshold_gets_no_pixel(model: FSSAM, supports: dict) -> None:
    query = supports.pop("query")
    scores = model.segment_classes(query, supports).scores
    least = sorted(scores.values())[1]
    result = model.segment_classes(query, supports, threshold=least)
    kept = {number for number, name in enumerate(result.names, start=1) if scores[name] >= least}
    assert set(result.labels.unique().tolist()) <= {0} | kept and len(kept) == 2
    assert not model.segment_classes(query, supports, threshold=1.1).labels.any()
    assert PRESENT == 0.5


def test_classes_are_given_as_segment_takes_them(model: FSSAM, make_batch) -> None:
    batch = make_batch(2, 1)
    image, mask = batch.support_images[0, 0], batch.support_masks[0, 0]
    labels = torch.where(mask == 1, 7, 3).to(torch.uint8)
    by_class = model.segment_classes(
        batch.query_images[0], {"square": (image, labels), "ground": (image, labels)},
        foreground={"square": 7, "ground": 3}, threshold=0,
    )  # fmt: skip
    for name, value in (("square", 7), ("ground", 3)):
        alone = model.segment(batch.query_images[0], (image, labels), foreground=value)
        assert by_class.predictions[name].logits.equal(alone.logits)
    for wrong in ({}, {str(i): (image, mask) for i in range(255)}):
        with pytest.raises(InputError, match=r"expected 1 to 254 classes with their supports, got (0|255)"):
            model.segment_classes(batch.query_images[0], wrong)


def test_the_foreground_is_named_wherever_a_mask_is_taken(model: FSSAM, make_batch) -> None:
    batch = make_batch(1, 1)
    image, mask, query = batch.support_images[0, 0], batch.support_masks[0, 0], batch.query_images[0]
    labels = torch.where(mask == 1, 7, 3).to(torch.uint8)
    expected = model.segment(query, (image, mask)).logits
    assert model.segment(query, (image, labels), foreground=7).logits.equal(expected)
    (prediction,) = segment_photos(model, image, labels, query, foreground=7)
    assert prediction.logits.equal(expected)
    with pytest.raises(InputError, match=r"foreground=7 is for a pair \(images, masks\)"):
        model.segment(query, model.remember(image, mask), foreground=7)


# -- clicks --


class SameSize(nn.Module):
    """What the stock predictor takes from torchvision, which is not installed, for an image of the model's size."""

    def __init__(self, size):
        super().__init__()

    def forward(self, image):
        return image


class Normalise(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def forward(self, image):
        return (image - self.mean) / self.std


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1) / 255


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam2-tiny", "sam2.1-tiny"])
def test_clicks_are_answered_as_by_the_stock_predictor(name: str, monkeypatch) -> None:
    """Of random weights, on an image of the model's own size, which neither of the two resizes."""
    monkeypatch.setitem(sys.modules, "torchvision", transforms := ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.transforms", transforms)
    transforms.Normalize, transforms.Resize, transforms.ToTensor = Normalise, SameSize, lambda: to_tensor
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    backbone = Sam2Backbone.build(name, image_size=128)
    model, stock = FSSAM(backbone, None, memory="support"), SAM2ImagePredictor(backbone.model)
    stock._bb_feat_sizes = [(32, 32), (16, 16), (8, 8)]  # the predictor takes 1024 pixels for granted
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    stock.set_image(image)
    features, _ = model.encode_images([torch.from_numpy(image).permute(2, 0, 1)])
    for points, labels, box in (
        ([(40, 90)], [1], None),
        ([(40, 90), (100.5, 3)], [1, 0], None),
        (None, None, (10, 20, 90, 100)),
        ([(40, 90)], [1], (10, 20, 90, 100)),
    ):
        multimask = box is None and len(points) == 1
        given = (None, None) if points is None else (np.array(points), np.array(labels))
        _, ious, low = stock.predict(*given, None if box is None else np.array(box), multimask_output=multimask)
        answer = model.click(image, points or (), labels, boxes=box or ())
        marks = torch.tensor([*([box[:2], box[2:]] if box else []), *(points or [])]).float()[None]
        kinds = torch.tensor([*([2, 3] if box else []), *(labels or [])], dtype=torch.int32)[None]
        decoded = backbone.click(features, marks, kinds, multimask)
        torch.testing.assert_close(decoded.masks[0].clamp(-32, 32), torch.from_numpy(low), atol=1e-5, rtol=0)
        torch.testing.assert_close(decoded.ious[0], torch.from_numpy(ious), atol=1e-5, rtol=0)
        grown = torch.nn.functional.interpolate(decoded.low_res_logits, (128, 128), mode="bilinear")
        torch.testing.assert_close(answer.logits, grown[0, 0], atol=1e-5, rtol=0)
        assert answer.evidence["predicted_iou"] == pytest.approx(ious.max(), abs=1e-5)


@NO_ALARM
@given(size=st.tuples(st.integers(40, 200), st.integers(40, 200)), place=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_points_are_pixels_of_the_image_at_any_size(model: FSSAM, size, place) -> None:
    """The same place of a plain image, at whatever size, is the same prompt."""
    seen = []
    original = model.sam2.click
    image = np.full((*size, 3), 90, np.uint8)
    try:
        model.sam2.click = lambda features, points, labels, multimask: (
            seen.append((points, labels)) or original(features, points, labels, multimask)
        )
        prediction = model.click(image, [(place[0] * size[1], place[1] * size[0])])
    finally:
        del model.sam2.click
    assert prediction.mask.shape == size and 0 <= prediction.score <= 1
    points, labels = seen[0]
    torch.testing.assert_close(points, torch.tensor([[[place[0] * 128, place[1] * 128]]]), atol=1e-3, rtol=1e-4)
    assert labels.tolist() == [[1]]


def test_several_boxes_are_the_union_of_their_objects(model: FSSAM, make_batch) -> None:
    image = make_batch(1, 1).query_images[0]
    boxes = [(0, 0, 60, 60), (50, 50, 128, 128)]
    apart = [model.click(image, boxes=box).logits for box in boxes]
    together = model.click(image, boxes=boxes).logits
    assert (together >= torch.maximum(*apart) - 1e-3).all()  # united before they are enlarged, which softens no edge
    assert ((together > 0) == (torch.maximum(*apart) > 0)).float().mean() > 0.99
    assert torch.equal(model.click(image, boxes=[boxes[0]]).logits, apart[0])


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({}, "nothing marks the object: give a point on it"),
        ({"points": [(5, 5)], "labels": [0]}, "nothing marks the object"),
        ({"points": [(5, 5)], "labels": [1, 1]}, "each of 1 points needs a label"),
        ({"points": [(5, 5)], "labels": [2]}, "1 on the object or 0 off it, got"),
        ({"points": [(5, 5)], "labels": ["x"]}, "needs a label"),
        ({"points": [(129, 5)]}, r"points lie in the image, x in 0\.\.128 and y in 0\.\.128"),
        ({"points": [(5, -1)]}, "points lie in the image"),
        ({"points": [(5, float("nan"))]}, "points lie in the image"),
        ({"points": [(5, 5, 5)]}, r"points are a list of \(x, y\)"),
        ({"points": [(5, 5), (5,)]}, r"points are a list of \(x, y\)"),
        ({"points": "dog"}, r"points are a list of \(x, y\)"),
        ({"boxes": (5, 5, 3, 9)}, r"a box is \(left, top, right, bottom\) with left < right"),
        ({"boxes": (5, 5, 5, 9)}, "left < right"),
        ({"boxes": (5, 5, 500, 9)}, "boxes lie in the image"),
        ({"boxes": (5, 5)}, r"boxes are a list of \(left, top, right, bottom\)"),
        ({"boxes": [(0, 0, 9, 9)] * 2, "points": [(5, 5)]}, "points refine one box, and 2 are given"),
    ],
    ids=str,
)
def test_marks_that_cannot_be_are_refused(model: FSSAM, make_batch, marks: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.click(make_batch(1, 1).query_images[0], **marks)


def test_a_model_that_was_not_trained_for_clicks_says_so_once(model: FSSAM, make_batch) -> None:
    image = make_batch(1, 1).query_images[0]
    model.click_warning = "the toy model was trained to remember"
    with pytest.warns(UserWarning, match="trained to remember"):
        model.click(image, [(5, 5)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.click(image, [(5, 5)])


# -- numbers --


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_weights_of_another_type_are_refused(model: FSSAM, make_batch, kind: str) -> None:
    batch = make_batch(1, 1)
    before = model(batch).logits
    dtype = getattr(torch, {"half": "float16", "double": "float64"}.get(kind, kind))
    for change in (getattr(model, kind), lambda: model.to(dtype), lambda: model.sam2.to(dtype)):
        with pytest.raises(InputError, match=f"the weights stay in torch.float32, not {dtype}".replace(".", r"\.")):
            change()
    assert model.to("cpu").float()(batch).logits.equal(before)  # nothing was changed on the way


def test_masks_are_never_made_of_nan(model: FSSAM, make_batch) -> None:
    batch = make_batch(1, 1)
    pair, query = (batch.support_images[0], batch.support_masks[0]), batch.query_images[0]
    scale = model.sam2.model.sam_mask_decoder.output_upscaling[3].weight
    kept = scale.detach().clone()
    try:
        with torch.no_grad():
            scale.fill_(3e38)  # finite weights, whose products are not
        with pytest.raises(NotFiniteError, match="the networks' numbers exceed what their type holds"):
            model.segment(query, pair)
        with pytest.raises(NotFiniteError, match="NaN or infinite"):
            model.click(query, [(5, 5)])
        with torch.no_grad():
            scale.fill_(torch.nan)
        with pytest.raises(NotFiniteError, match=r"so are weights of the model \(sam2\.model\.sam_mask_decoder"):
            model.segment(query, pair)
    finally:
        with torch.no_grad():
            scale.copy_(kept)


def test_overflow_of_float16_is_named(model: FSSAM, make_batch, monkeypatch) -> None:
    batch = make_batch(1, 1)
    support = model.remember(batch.support_images[0], batch.support_masks[0])
    true = model.sam2.decode

    def overflowing(*arguments):
        decoded = true(*arguments)
        decoded.low_res_logits.fill_(torch.inf)
        return decoded

    monkeypatch.setattr(model.sam2, "decode", overflowing)
    with torch.autocast("cpu", torch.float16), pytest.raises(NotFiniteError, match="float16 ends at 65504"):
        model.segment(batch.query_images[0], support)


def test_a_saved_mask_is_read_back(model: FSSAM, make_batch, tmp_path) -> None:
    batch = make_batch(1, 1)
    prediction = model.segment(batch.query_images[0], (batch.support_images[0], batch.support_masks[0]))
    prediction.save(tmp_path / "mask.png")
    assert torch.equal(load_mask(tmp_path / "mask.png").bool(), prediction.mask)
