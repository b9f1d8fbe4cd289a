"""Figures: what they draw where, what they say, and that they leave nothing behind."""

import base64
import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, to_rgb
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from fss_lab import figures
from fss_lab.backbones.toy import ToyFeatures, build_toy_sam2
from fss_lab.errors import InputError
from fss_lab.figures.results import separation_figure
from fss_lab.figures.roadmap import BLOCKS
from fss_lab.method import FSSAM
from fss_lab.metrics import SegmentationScore
from fss_lab.toyworld.pictograms import CLASS_NAMES, Pictograms


@pytest.fixture(scope="module")
def model():
    """Random weights: figures must work with whatever a model says."""
    torch.manual_seed(0)
    return FSSAM(build_toy_sam2(), ToyFeatures().eval())


@pytest.fixture(scope="module", params=[1, pytest.param(5, marks=pytest.mark.slow)])
def episode(request):
    return Pictograms(0, shots=request.param)[4]


@pytest.fixture(scope="module")
def prediction(model, episode):
    return model.segment(episode, trace=True)


def titles(picture):
    return [axes.get_title() for axes in picture.axes if axes.get_title()]


def texts(picture):
    """Every text that is seen."""
    return [t for t in picture.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]


def check(picture):
    """What every figure promises: size, readable text inside it, and an alternative text."""
    assert picture.dpi <= 110
    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = canvas.get_width_height()
    assert width <= 1100
    for text in texts(picture):
        assert text.get_fontsize() >= 9
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()
    named = [axes.title.get_window_extent(renderer) for axes in picture.axes if axes.get_title()]
    assert not any(a.overlaps(b) for i, a in enumerate(named) for b in named[:i])
    assert len(picture.alt) > 40


def test_episode_figure(episode, prediction):
    picture = figures.episode_figure(episode, prediction)
    check(picture)
    shots = len(episode.support_images)
    assert len(titles(picture)) == shots + 2
    score = f"{100 * figures.iou(prediction.mask, episode.query_mask):.0f} %"
    assert score in titles(picture)[-1] and score in picture.alt and episode.class_name in picture.alt
    assert f"{shots}-shot" in picture.alt


def test_episode_figure_without_a_prediction(episode):
    picture = figures.episode_figure(episode)
    check(picture)
    assert "prediction" not in " ".join(text.get_text() for text in texts(picture))


def test_a_prediction_may_be_a_mask(episode):
    truth = (episode.query_mask == 1).int()
    assert "IoU 100 %" in titles(figures.episode_figure(episode, truth))[-1]


def test_priors_figure(episode, prediction):
    picture = figures.priors_figure(episode, prediction.trace)
    check(picture)
    names = ["P_d", "P_d after round 1", "P_d after round 2", "P_d after round 3", "change of the memory"]
    assert titles(picture)[3:] == names
    drawn = picture.axes[4].images[0].get_array()
    torch.testing.assert_close(torch.tensor(np.asarray(drawn)), prediction.trace.rounds[0].prior[0, 0])
    moved = prediction.trace.rounds[-1].memory - prediction.trace.pseudo_memory.memory
    change = torch.tensor(np.asarray(picture.axes[7].images[0].get_array()))
    torch.testing.assert_close(change, moved[0].norm(dim=0))  # of what attention reads, not of the prior


@pytest.mark.parametrize("options", [{"rounds": 0}, {"rounds": 6}, {"prior": "truth"}])
def test_priors_figure_of_other_options(model, episode, options):
    trace = model.variant(**options).segment(episode, trace=True).trace
    picture = figures.priors_figure(episode, trace)
    check(picture)
    assert ("change of the memory" in titles(picture)) == bool(trace.rounds)
    assert titles(picture)[3 if trace.priors else 1] == ("prior" if options.get("prior") else "P_d")


def test_attention_figure(episode, prediction):
    layer = prediction.trace.layers[0]
    picture = figures.attention_figure(episode, prediction.trace, (3, 5), layer=0)
    check(picture)
    panels = {axes.get_title(): axes for axes in picture.axes}
    for when, weights in (("before", layer.attention_before), ("after", layer.attention)):
        row = 100 * weights[0].mean(0)[3 * 16 + 5]
        for part, columns in (("query", layer.columns.query), ("support", layer.columns.support)):
            drawn = np.asarray(panels[f"{part} memory\n{when} calibration"].images[0].get_array())
            torch.testing.assert_close(torch.tensor(drawn).flatten(), row[columns])
    heights = [bar.get_height() for bar in panels["what each part gets"].patches]
    assert sum(heights[:3]) == pytest.approx(100, abs=1e-3) and sum(heights[3:]) == pytest.approx(100, abs=1e-3)


def test_attention_figure_adds_shots_that_lie_side_by_side(model, episode):
    trace = model.variant(calibration="off").segment(episode, trace=True).trace
    picture = figures.attention_figure(episode, trace, (0, 0))
    drawn = np.asarray(picture.axes[1].images[0].get_array())
    layer = trace.layers[-1]
    assert drawn.sum() == pytest.approx(100 * float(layer.attention[0, 0, 0, layer.columns.support].sum()), rel=1e-4)


def test_attention_figure_refuses(model, episode, prediction):
    with pytest.raises(ValueError, match="16 x 16"):
        figures.attention_figure(episode, prediction.trace, (16, 0))
    trace = model.variant(memory="support").segment(episode, trace=True).trace
    with pytest.raises(ValueError, match="no query memory"):
        figures.attention_figure(episode, trace, (0, 0))
    with pytest.raises(ValueError, match="no prior"):
        figures.priors_figure(episode, trace)


@pytest.mark.parametrize("highlight", [(), "ppg", ("features", "remember")], ids=str)
def test_the_road_map_marks_where_the_reader_is(highlight):
    picture = figures.road_map(highlight)
    check(picture)
    dark = [box for box in picture.findobj(FancyBboxPatch) if to_rgb(box.get_facecolor()) == to_rgb(figures.INK)]
    names = [BLOCKS[key].name for key in ([highlight] if isinstance(highlight, str) else highlight)]
    assert len(dark) == len(names) and all(name in picture.alt.partition("Highlighted:")[2] for name in names)
    assert "SCMA (memory attention) → Mask" in picture.alt


def test_the_road_map_shows_the_toy_models_shapes(model, episode, prediction):
    trace, written = prediction.trace, {text.get_text() for text in texts(figures.road_map())}
    dense = model.features(episode.query_image[None])[0]
    for tensor in (episode.query_image, trace.rounds[-1].memory[0], trace.attended[0], dense):
        assert any("×".join(map(str, tensor.shape)) in text.replace("\n", "") for text in written)
    assert not any("×" in text.get_text() for text in texts(figures.road_map(shapes=False)))
    with pytest.raises(InputError, match="no block"):
        figures.road_map("magic")


def test_overview_figure(model, episode, prediction):
    check(figures.overview_figure(episode, prediction))
    with pytest.raises(ValueError, match="trace=True"):
        figures.overview_figure(episode, model.segment(episode))


def test_results_figure():
    scores = {
        "right": SegmentationScore([0], np.array([[0, 100, 100, 500, 500]])),
        "half right": SegmentationScore([0], np.array([[0, 50, 100, 450, 500]])),
    }
    picture = figures.results_figure(scores, [figures.TRUTH, figures.PREDICTION], "Two models")
    check(picture)
    assert "right 100, half right 50" in picture.alt
    with pytest.raises(ValueError, match="2 variants, got 1"):
        figures.results_figure(scores, [figures.TRUTH])
    with pytest.raises(ValueError, match="no scores"):
        figures.results_figure({})


def test_separation_figure():
    measured = {
        "dense features": [np.array([0.9, 1.0]), np.array([0.8])],
        "A of IMR": [np.array([0.7]), np.array([0.7])],
    }
    picture = separation_figure(measured, "Maps")
    assert picture.alt == "Maps; separation from 0 to 1, 0.5 is chance: dense features 0.90, A of IMR 0.70."
    assert "dots: folds" in picture.axes[0].get_xlabel() and picture.png()
    assert "dots" not in separation_figure({"a": [np.array([0.4])]}, "Maps").axes[0].get_xlabel()
    with pytest.raises(ValueError, match="nothing to draw"):
        separation_figure({}, "Maps")


def test_toy_world_figure():
    picture = figures.toy_world_figure(fold=1, seed=2)
    check(picture)
    assert titles(picture) == list(CLASS_NAMES)
    assert all(name in picture.alt for name in CLASS_NAMES)
    novel = [axes.get_title() for axes in picture.axes if axes.title.get_color() == figures.SUPPORT]
    assert novel == list(CLASS_NAMES[5:10])


def test_contact_sheet_refuses_unequal_numbers():
    with pytest.raises(ValueError, match="2 images and 1 titles"):
        figures.contact_sheet([torch.zeros(3, 8, 8)] * 2, ["one"], "Sheet")
    with pytest.raises(ValueError, match="0 images"):
        figures.contact_sheet([], [], "Sheet")


def test_masks_without_an_edge_are_drawn():
    image = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    for value in (0, 1, 255):
        picture = figures.Picture(2, 2, "mask")
        figures.overlay(picture.subplots(), image, torch.full((32, 32), value))
        picture.png()


def test_overlay_tints_the_object_only():
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[2:4], mask[6] = 1, 255
    axes = figures.Picture(2, 2, "mask").subplots()
    figures.overlay(axes, torch.zeros(3, 8, 8), mask, figures.PREDICTION)
    tint = np.asarray(axes.images[1].get_array())
    assert ((tint[..., 3] > 0) == (mask == 1).numpy()).all()
    assert tint[2, 2, :3] == pytest.approx(to_rgb(figures.PREDICTION))


def test_central_cell():
    mask = torch.zeros(256, 256, dtype=torch.uint8)
    mask[32:80, 160:208] = 1  # rows 2..4, columns 10..12
    assert figures.central_cell(mask) == (3, 11)
    ring = torch.zeros(256, 256, dtype=torch.uint8)
    ring[64:192, 64:192] = 1
    ring[96:160, 96:160] = 0
    row, column = figures.central_cell(ring)
    assert ring[row * 16 + 8, column * 16 + 8] == 1  # not in the hole
    with pytest.raises(ValueError, match="no object"):
        figures.central_cell(torch.full((256, 256), 255))


def test_iou_leaves_out_ignored_pixels():
    truth = torch.tensor([[1, 1, 0, 255]])
    assert figures.iou(torch.tensor([[True, False, True, True]]), truth) == pytest.approx(1 / 3)
    assert figures.iou(torch.tensor([[False, False, False, True]]), torch.tensor([[0, 0, 0, 255]])) == 0


def test_a_picture_shows_itself_with_its_alternative_text(tmp_path):
    picture = figures.Picture(3, 2, "Title", "What it shows – ≥ 1")
    data, metadata = picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == picture.alt
    assert figures.keep(picture, tmp_path / "new", "name") is picture
    with Image.open(tmp_path / "new" / "name.png") as image:
        assert image.text["Description"] == picture.alt
    figures.keep(picture, None, "nowhere")
    assert [path.name for path in tmp_path.rglob("*.png")] == ["name.png"]


def test_colour_maps_survive_the_palette():
    """A PNG of 256 colours must not turn the small values of a map into others."""
    picture = figures.Picture(4, 2, "ramp")
    axes = picture.subplots()
    shown = figures.heat(axes, torch.linspace(0, 1, 32).repeat(16, 1), figures.PRIOR_MAP, Normalize(0, 1))
    pixels = np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)
    box = axes.get_window_extent()
    row = pixels[int(pixels.shape[0] - (box.y0 + box.y1) / 2)]
    for cell in range(32):
        found = row[int(box.x0 + (cell + 0.5) / 32 * box.width)]
        assert np.abs(found - np.array(shown.to_rgba(cell / 31, bytes=True)[:3])).max() <= 8


def test_a_picture_is_drawn_again_only_after_a_change(monkeypatch):
    picture = figures.Picture(3, 2, "Title")
    axes = picture.subplots()
    first = picture.png()
    with monkeypatch.context() as patch:
        patch.setattr(picture, "savefig", lambda *_, **__: pytest.fail("drawn again"))
        assert picture.png() is first
    shown = [first]
    for change in (
        lambda: axes.plot([0, 1]), lambda: axes.lines[0].set_color("red"), lambda: picture.suptitle("Another"),
        lambda: setattr(picture, "alt", "words"),
    ):  # fmt: skip
        change()
        shown.append(picture.png())
    assert len(set(shown)) == 5


def test_pyplot_is_left_alone():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.toy_world_figure()
    assert plt.get_fignums() == before
