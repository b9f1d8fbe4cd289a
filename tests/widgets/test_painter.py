"""Drawing a support mask: the strokes in Python, and the widget in a real JupyterLab."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import traitlets
from helpers.jupyter_lab import open_notebook, run_cell
from PIL import Image

from fss_lab import MaskPainter, load_model
from fss_lab.errors import FileError
from fss_lab.images import load_mask
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.widgets.painter import CLEAR, HERE, LONGEST, brush, draw_mask, polygon, wand

SQUARE = polygon([(10, 5), (30, 5), (30, 25), (10, 25)])


@pytest.fixture
def painter() -> MaskPainter:
    return MaskPainter(np.full((40, 60, 3), 128, np.uint8))


def test_a_polygon_that_crosses_itself_is_empty_where_it_lies_twice() -> None:
    """By the even-odd rule, which the browser's half has to use too."""
    star = [(50 + 45 * np.sin(k * 0.8 * np.pi), 50 - 45 * np.cos(k * 0.8 * np.pi)) for k in range(5)]
    mask = draw_mask((100, 100), [polygon(star)])
    assert mask[50, 50] == 0 and mask[20, 50] == 1
    assert 'context.fill("evenodd")' in (HERE / "painter_canvas.js").read_text(encoding="utf-8")


def test_a_polygon_fills_what_it_surrounds() -> None:
    mask = draw_mask((40, 60), [SQUARE])
    assert mask.shape == (40, 60) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert mask[5:25, 10:30].all()  # pixel (10, 5) covers 10..11, 5..6
    assert mask.sum() <= 22 * 22  # its edge may take one pixel more


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_a_brush_paints_what_is_within_half_its_size(size: float) -> None:
    mask = draw_mask((100, 120), [brush([(30, 30), (90, 60)], size)])
    y, x = np.mgrid[:100, :120] + 0.5
    along = np.clip(((x - 30) * 60 + (y - 30) * 30) / (60**2 + 30**2), 0, 1)
    distance = np.hypot(x - 30 - 60 * along, y - 30 - 30 * along)
    assert mask[distance < size / 2 - 1].all()
    assert not mask[distance > size / 2 + 1].any()
    assert mask.any()


def test_a_dot() -> None:
    mask = draw_mask((40, 60), [brush([(20.5, 10.5)], 5)])
    assert mask[10, 18:23].all() and mask.sum() == pytest.approx(np.pi * 2.5**2, abs=6)


def test_strokes_add_up_erase_and_clear() -> None:
    hole = brush([(20, 15)], 6, erase=True)
    assert draw_mask((40, 60), [SQUARE, hole])[15, 20] == 0
    assert draw_mask((40, 60), [SQUARE, hole])[6, 11] == 1
    assert draw_mask((40, 60), [hole, SQUARE])[15, 20] == 1
    assert draw_mask((40, 60), [SQUARE, polygon([(0, 0), (60, 0), (60, 40), (0, 40)], erase=True)]).sum() == 0
    assert draw_mask((40, 60), [SQUARE, CLEAR]).sum() == 0
    assert draw_mask((40, 60), [CLEAR, SQUARE]).sum() > 0
    assert draw_mask((40, 60), [polygon([(-9, -9), (99, -9), (99, 99), (-9, 99)])]).all()  # cut at the edge


@pytest.mark.parametrize(
    ("stroke", "message"),
    [
        ({"tool": "spray"}, "is no stroke; make one with polygon"),
        ({"tool": "brush", "erase": False, "points": [[1, 2]]}, "is no stroke"),
        ("line", "is no stroke"),
        ({"tool": "wand", "points": [[1, 2]]}, "is no stroke"),
        (polygon([(0, 0), (1, 1)]), r"a polygon needs at least 3 points \(x, y\)"),
        (brush([], 3), "at least 1 points"),
        (brush([(1, float("nan"))], 3), "needs at least 1 points"),
        (brush([(1, 2)], 0), "a size of more than 0 pixels"),
    ],
)
def test_what_is_no_stroke_is_refused(painter: MaskPainter, stroke: object, message: str) -> None:
    with pytest.raises((ValueError, traitlets.TraitError), match=message if stroke != "line" else "strokes"):
        painter.strokes = [stroke]
    with pytest.raises(ValueError, match=message):
        draw_mask((40, 60), [stroke])
    assert painter.strokes == [] and painter.mask.sum() == 0


def test_the_mask_follows_the_strokes_and_can_be_observed(painter: MaskPainter) -> None:
    seen = []
    painter.observe(lambda change: seen.append(change["new"].sum()), "mask")
    painter.strokes = [SQUARE]
    area = painter.mask.sum()
    painter.clear()
    painter.undo()
    painter.undo()
    painter.undo()  # nothing left: no complaint
    assert seen == [area, 0, area, 0] and area > 0
    assert repr(painter) == "MaskPainter(60 x 40, 0.0% marked)"
    with pytest.raises(traitlets.TraitError):
        painter.mask = np.ones((40, 60), np.uint8)


def test_the_mask_has_the_photos_own_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Image.new("RGB", (2000, 1000)).save(tmp_path / "a.jpg", exif=exif)
    painter = MaskPainter(tmp_path / "a.jpg", strokes=[polygon([(0, 0), (1000, 0), (1000, 500), (0, 500)])])
    assert painter.mask.shape == (2000, 1000) == tuple(painter.image.shape[1:])
    assert painter.mask[:500].all() and painter.brush_size == 100
    (tmp_path / "shown.jpg").write_bytes(painter._picture)
    assert Image.open(tmp_path / "shown.jpg").size == (LONGEST // 2, LONGEST)


def test_even_a_tiny_photo_has_a_brush() -> None:
    assert MaskPainter(np.zeros((8, 6, 3), np.uint8)).brush_size == 1
    with pytest.raises(traitlets.TraitError, match="brush_size"):
        MaskPainter(np.zeros((8, 6, 3), np.uint8), brush_size=0.5)


def test_it_is_saved_as_a_mask_file_and_used_as_a_support(painter: MaskPainter, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is marked yet"):
        painter.support  # noqa: B018
    painter.strokes = [SQUARE]
    painter.save(tmp_path / "mask.png")
    assert torch.equal(load_mask(tmp_path / "mask.png"), torch.from_numpy(painter.mask))
    with pytest.raises(ValueError, match=r"mask\.jpg: a mask is saved as \.png"):
        painter.save(tmp_path / "mask.jpg")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="could not be written"):
        painter.save(tmp_path / "file" / "mask.png")
    image, mask = painter.support
    assert image.shape == (3, 40, 60) and mask is painter.mask
    prediction = load_model("toy").segment(Pictograms(0)[0].query_image, painter.support)
    assert prediction.mask.shape == (256, 256)


class Clicks:
    """In a model's place: what it sees under points is the square of 10 pixels around the first."""

    def __init__(self) -> None:
        self.calls: list = []

    def click(self, image, points, *, cache) -> SimpleNamespace:
        self.calls.append(points)
        mask = torch.zeros(image.shape[1:], dtype=torch.bool)
        x, y = map(int, points[0])
        mask[max(y - 5, 0) : y + 5, max(x - 5, 0) : x + 5] = True
        return SimpleNamespace(mask=mask)


def test_a_wand_marks_what_the_model_sees_and_asks_it_once() -> None:
    model = Clicks()
    painter = MaskPainter(np.full((40, 60, 3), 128, np.uint8), model=model, strokes=[wand([(20.0, 15.04)])])
    assert painter.mask[10:20, 15:25].all() and painter.mask.sum() == 100
    painter.strokes = [SQUARE, wand([(20, 15)], erase=True)]
    assert not painter.mask[10:20, 15:25].any() and painter.mask[6, 11]
    painter.undo()
    painter.strokes = [wand([(20, 15)]), wand([(50, 30), (51, 31)]), CLEAR, wand([(20, 15)])]
    assert painter.mask.sum() == 100
    assert model.calls == [[(20.0, 15.04)], [[50, 30], [51, 31]]] or [list(map(tuple, c)) for c in model.calls] == [
        [(20.0, 15.04)], [(50, 30), (51, 31)],
    ]  # fmt: skip
    assert set(painter._areas) == {"20,15", "50,30;51,31"}
    with Image.open(io.BytesIO(painter._areas["20,15"])) as area:
        assert area.size == (60, 40) and np.array_equal(np.array(area), draw_mask((40, 60), [CLEAR]) + painter.mask)


def test_a_wand_needs_a_model(painter: MaskPainter) -> None:
    for stroke in (wand([(3, 3)]), wand([])):
        with pytest.raises(ValueError, match="a wand needs"):
            painter.strokes = [SQUARE, stroke]
    assert painter.strokes == [] and not painter._has_wand


@pytest.mark.slow
def test_a_click_outside_the_photo_is_refused_and_the_mask_stays() -> None:
    painter = MaskPainter(np.full((40, 60, 3), 128, np.uint8), model=load_model("toy"), strokes=[SQUARE])
    area = painter.mask.sum()
    with pytest.raises(ValueError, match="points lie in the image"):
        painter.strokes = [SQUARE, wand([(99, 3)])]
    assert painter.strokes == [SQUARE] and painter.mask.sum() == area
    with pytest.warns(UserWarning, match="not to answer clicks"):
        painter.strokes = [wand([(20, 20)])]
    assert painter.mask.shape == (40, 60)


def test_a_prediction_is_corrected() -> None:
    photo, mask = np.full((40, 60, 3), 128, np.uint8), torch.zeros(40, 60, dtype=torch.bool)
    mask[10:20, 30:50] = True
    painter = MaskPainter(photo, mask=mask)
    assert painter.mask.sum() == 200 and painter._marked == pytest.approx(200 / 2400) and painter.strokes == []
    painter.strokes = [polygon([(30, 10), (40, 10), (40, 20), (30, 20)], erase=True)]
    assert 85 <= painter.mask.sum() <= 100 and mask.sum() == 200
    painter.undo()
    painter.undo()  # what it began with is no stroke
    assert painter.mask.sum() == 200
    painter.clear()
    assert painter.mask.sum() == 0
    painter.undo()
    assert painter.mask.sum() == 200
    assert "base" not in MaskPainter(photo)._areas and "base" in painter._areas


@pytest.mark.parametrize("kind", ["file", "label map", "with ignored pixels"])
def test_a_mask_to_begin_with_is_read_as_every_mask(tmp_path: Path, kind: str) -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:10], labels[10:20] = 1, 255
    source, foreground = labels, None
    if kind == "file":
        source = tmp_path / "mask.png"
        Image.fromarray((labels == 1) * np.uint8(255)).save(source)
    elif kind == "label map":
        source, foreground = np.where(labels == 1, 7, 3), 7
    assert MaskPainter(np.zeros((40, 60, 3), np.uint8), mask=source, foreground=foreground).mask.sum() == 600


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the photo has 60 x 40 pixels and its mask 40 x 60"):
        MaskPainter(np.zeros((40, 60, 3), np.uint8), mask=np.ones((60, 40), bool))


CELLS = [
    """
from fss_lab import MaskPainter, Pictograms, load_model
episode = Pictograms(0)[0]
painter = MaskPainter(episode.support_images[0], brush_size=20)
painter
""",
    """
import numpy as np
model = load_model("toy")
prediction = model.segment(episode.query_image, painter.support)
np.save("prediction.npy", prediction.mask)
np.save("mask.npy", painter.mask)
print([(s["tool"], s.get("erase"), len(s.get("points", []))) for s in painter.strokes])
""",
]


@pytest.mark.browser
def test_in_a_real_jupyterlab(tmp_path: Path) -> None:
    """Draw a polygon and brush strokes with mouse and keyboard, undo, erase, and segment with the mask."""
    with open_notebook(tmp_path, CELLS) as page:
        output = run_cell(page, 0)
        canvas = output.locator(".fss-painter canvas")
        status = output.locator(".fss-painter-status")
        page.wait_for_function("document.querySelector('.fss-painter canvas').width > 0")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()

        def place(x: float, y: float) -> tuple[float, float]:
            """A pixel of the photo (256 x 256) on the screen."""
            return box["x"] + x / 256 * box["width"], box["y"] + y / 256 * box["height"]

        def drag(*points: tuple[float, float]) -> None:
            page.mouse.move(*place(*points[0]))
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*place(*point), steps=4)
            page.mouse.up()

        def button(name: str):
            return output.get_by_role("button", name=name)

        status.get_by_text("0.0 % of the photo (256 × 256) marked").wait_for()
        button("Polygon").click()
        for corner in ((40, 40), (120, 40), (120, 120), (40, 120)):
            page.mouse.click(*place(*corner))
        status.get_by_text("open polygon of 4").wait_for()
        page.mouse.click(*place(41, 41))  # the first corner closes it
        # the kernel has drawn it: about 80 x 80 of 256 x 256 pixels
        status.get_by_text(re.compile(r"^(9\.[5-9]|10\.[0-2]) % of the photo")).wait_for()

        button("Brush").click()
        drag((150, 200), (230, 200))
        drag((10, 240), (60, 240))
        button("Undo").click()  # takes the last one back
        button("Eraser").click()
        drag((60, 80), (100, 80))
        button("Eraser").click()

        # the same with the keyboard, and JupyterLab's own shortcuts keep out of it
        page.keyboard.press("Escape")
        canvas.focus()
        cells = page.locator(".jp-Notebook-cell").count()
        for key in ("d", "d", "a", "x", "p", "b"):
            page.keyboard.press(key)
        assert page.locator(".jp-Notebook-cell").count() == cells
        page.mouse.move(*place(200, 60))
        page.keyboard.press("Space")
        page.keyboard.press("Shift+ArrowDown")
        status.get_by_text("brush is down").wait_for()
        page.keyboard.press("Space")
        page.keyboard.press("p")
        for keys in ((), ("Shift+ArrowLeft",), ("Shift+ArrowDown",)):
            for key in keys:
                page.keyboard.press(key)
            page.keyboard.press("Space")
        page.keyboard.press("Enter")
        page.keyboard.press("Control+z")
        assert button("Polygon").get_attribute("aria-pressed") == "true"

        text = run_cell(page, 1).inner_text()
        assert "('polygon', False, 4), ('brush', False," in text and "('brush', True," in text
        assert text.rstrip().endswith("('brush', False, 2)]")  # the keyboard's; its polygon was undone
        assert page.refused == []  # nothing but this machine was asked for anything
    mask = np.load(tmp_path / "mask.npy")
    assert mask.shape == (256, 256) and mask.dtype == np.uint8
    assert mask[45:65, 45:115].all() and mask[95:115, 45:115].all()  # the polygon, without what was erased
    assert not mask[75:85, 62:98].any()
    assert mask[193:207, 150:230].all() and not mask[225:].any()
    assert mask[60:72, 195:205].all()
    assert np.load(tmp_path / "prediction.npy").shape == (256, 256)


WAND = [
    """
import torch, warnings
from fss_lab import MaskPainter, Pictograms, load_model
warnings.simplefilter("ignore")
episode = Pictograms(0)[0]
model = load_model("toy")
base = torch.zeros(256, 256, dtype=torch.bool)
base[:64, :128] = True
painter = MaskPainter(episode.query_image, model=model, mask=base)
painter
""",
    """
click = model.click(episode.query_image, painter.strokes[0]["points"]).mask
expected = (base | click).numpy()
print("same mask:", (painter.mask == expected).all(), [s["tool"] for s in painter.strokes])
""",
]
BLUE = """() => {
  const canvas = document.querySelector('.fss-painter canvas');
  const context = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height})
    .getContext('2d', {willReadFrequently: true});
  context.drawImage(canvas, 0, 0);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  const [top, outside] = [[0.1, 0.1], [0.9, 0.9]].map(([x, y]) => {
    const at = 4 * (Math.round(y * canvas.height) * canvas.width + Math.round(x * canvas.width));
    return [...data.slice(at, at + 3)];
  });
  return {top, outside};
}"""


@pytest.mark.browser
def test_the_wand_in_a_real_jupyterlab(tmp_path: Path) -> None:
    """Starts from a mask, which is drawn; a click of the wand asks the model and adds its answer; the keyboard too."""
    with open_notebook(tmp_path, WAND) as page:
        output = run_cell(page, 0)
        canvas, status = output.locator(".fss-painter canvas"), output.locator(".fss-painter-status")
        status.get_by_text("12.5 % of the photo (256 × 256) marked").wait_for()
        page.wait_for_function("document.querySelector('.fss-painter canvas').width > 0")
        page.wait_for_timeout(500)  # for the picture of the mask
        red, _, blue = page.evaluate(BLUE)["top"]
        assert blue > red + 40  # the colour of what is marked
        wand = output.get_by_role("button", name="Wand")
        wand.click()
        assert wand.get_attribute("aria-pressed") == "true"
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
        status.get_by_text(re.compile(r"^(?!12\.5 ).*marked$")).wait_for()  # the kernel has answered
        before = status.inner_text()
        canvas.focus()
        page.keyboard.press("e")
        page.keyboard.press("Space")  # the same place, taken away again
        status.get_by_text(re.compile(f"^(?!{re.escape(before)}).*marked$")).wait_for()
        output.get_by_role("button", name="Undo").click()
        status.get_by_text(before).wait_for()
        text = run_cell(page, 1).inner_text()
        assert "same mask: True ['wand']" in text
        assert page.refused == []
