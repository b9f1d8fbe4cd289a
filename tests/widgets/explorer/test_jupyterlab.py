"""Notebook 08 in a real JupyterLab: the explorer shows the trace, obeys mouse and keys, and leaves little behind.

All tests look at the same run of the notebook, in the order in which they stand here.
"""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from helpers.jupyter_lab import open_lab, run_cell, visit

from fss_lab import Pictograms, explore, load_model
from fss_lab.course.notebooks import parameters, read, tidy
from fss_lab.interventions import lens

COURSE = Path(__file__).parents[3] / "notebooks" / "08_attention.ipynb"
# Cells that stand below the notebook's explorer: what the kernel hears, a second explorer, and a change from Python.
MORE = [
    """
import json, pathlib

def tell(change):
    heard = {"selection": explorer.selection, "view": explorer.view}
    pathlib.Path("heard.json").write_text(json.dumps(heard))

explorer.observe(tell, ["selection", "view"])
five = Pictograms(fold, "novel", 5, seed)[episode]
published = model.variant(calibration="as_published").segment(five, trace=True)
fss_lab.explore({"1 shot": prediction, "5 shots": published})
""",
    'explorer.selection = {"map": "query", "cell": (1, 2), "layer": 0}',
]
SAVE_STATE = {"@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def place():
    """The number of the notebook's cell that shows the explorer."""
    return next(i for i, cell in enumerate(read(COURSE).cells) if cell.source.endswith("\nexplorer"))


@pytest.fixture(scope="module")
def page(folder, place):
    """JupyterLab with the notebook down to its explorer; no page may ask another machine for anything."""
    notebook = read(COURSE)
    notebook.cells[place + 1 :] = [nbformat.v4.new_code_cell(cell.strip()) for cell in MORE]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(notebook, folder / "08.ipynb")
    with open_lab(folder, SAVE_STATE) as page:
        visit(page, "08.ipynb")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")  # returns when all have run
        page.wait_for_function("document.querySelectorAll('.fx .fx-rows').length === 2", timeout=60_000)
        yield page
        assert page.refused == []


@pytest.fixture(scope="module")
def explorer():
    """The notebook's explorer, made here again: what the page shows must be what its trace holds."""
    given = parameters(read(COURSE))
    task = Pictograms(given["fold"], "novel", given["shots"], given["seed"])[given["episode"]]
    return explore(load_model("toy", fold=given["fold"]).segment(task, trace=True))


def panel(page, expression, at=0):
    return page.locator(".fx").nth(at).evaluate(f"(root) => {{ const {{ panel }} = root; return {expression}; }}")


def middle(page, name, cell, at=0, grid=(16, 16)):
    canvas = page.locator(".fx").nth(at).locator(f".fx-{name} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + (cell[1] + 0.5) * box["width"] / grid[1], box["y"] + (cell[0] + 0.5) * box["height"] / grid[0]


def words(page, at=0):
    return page.locator(".fx-words").nth(at).inner_text()


def agree(page, explorer):
    """What the panel draws is what the trace holds, for the panel's selection and view."""
    explorer.selection, explorer.view = panel(page, "panel.preview ?? panel.selection"), panel(page, "panel.view")
    names = {"support": "support[0]", "query": "memory", "pointers": "pointers", "readers": "query"}
    for name, values in explorer.attention().items():
        drawn = panel(page, f"[...panel.maps[0].{names[name]}]")
        np.testing.assert_allclose(drawn, values.ravel(), rtol=0, atol=1e-3)


def heard(page, folder, check):
    """What the kernel heard last, as soon as it satisfies a check."""
    for _ in range(150):
        page.wait_for_timeout(100)
        try:
            content = json.loads((folder / "heard.json").read_text())
        except (OSError, ValueError):  # not written yet, or just being written
            continue
        if check(content):
            return content
    pytest.fail("the kernel was not told")


def cells_of(page):
    return page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")


def save(page):
    page.evaluate("window.jupyterapp.shell.currentWidget.context.save()")


def test_python_moves_the_panel(page, place, explorer):
    run_cell(page, place + 2)
    page.wait_for_function("document.querySelector('.fx').panel.selection.cell.join() === '1,2'")
    assert panel(page, "panel.selection.layer") == 0
    agree(page, explorer)


def test_mouse_and_keys_tell_python(page, folder, explorer):
    other = panel(page, "panel.selection", at=1)
    page.mouse.move(*middle(page, "query", (4, 5)))
    assert "Query cell (4, 5) reads" in words(page) and panel(page, "panel.selection.cell") == [1, 2]
    agree(page, explorer)
    page.mouse.click(*middle(page, "query", (4, 5)))
    heard(page, folder, lambda told: told["selection"]["cell"] == [4, 5])
    for key in ("ArrowDown", "ArrowRight", "Shift+ArrowRight", "2"):
        page.keyboard.press(key)
    told = heard(page, folder, lambda told: told["selection"]["layer"] == 1)["selection"]
    assert (told["cell"], told["end"]) == ([5, 6], [5, 7])
    page.mouse.move(*middle(page, "query", (3, 4)))
    page.mouse.down()
    page.mouse.move(*middle(page, "query", (5, 6)), steps=3)
    page.mouse.up()
    told = heard(page, folder, lambda told: told["selection"]["end"] == [5, 6])["selection"]
    assert told["cell"] == [3, 4] and "mean of 9" in words(page)
    agree(page, explorer)
    page.mouse.click(*middle(page, "memory", (7, 3)))
    heard(page, folder, lambda told: told["selection"]["map"] == "memory")
    agree(page, explorer)
    page.mouse.click(*middle(page, "pointers", (0, 6), grid=(1, 8)))
    heard(page, folder, lambda told: told["selection"]["map"] == "pointers")
    agree(page, explorer)
    page.keyboard.press("Escape")
    assert panel(page, "panel.selection.map") == "query"
    assert panel(page, "panel.selection", at=1) == other  # two explorers do not disturb each other


def test_hide_and_lens(page, explorer):
    """The kernel's answers are those of the functions."""
    first = page.locator(".fx").first
    page.mouse.click(*middle(page, "memory", (4, 9)))
    page.keyboard.press("h")
    first.get_by_role("button", name="the lens").click()
    first.get_by_text("after layer 2, IoU").wait_for(timeout=20_000)
    key = '["hide","","memory",0,[4,9],[4,9]]'
    explorer._handle_custom_msg({"type": "ask", "key": key}, [])
    ious = [explorer._answers[key]["iou"], *lens(explorer.run.traced).ious.tolist()]
    captions = first.locator(".fx-whatif figure").all_inner_texts()
    read_off = [float(re.search(r"IoU ([\d.]+)", caption)[1]) for caption in captions]
    assert read_off == pytest.approx([100 * value for value in ious], abs=0.06)
    first.locator(".fx-query canvas").focus()
    page.keyboard.press("Escape")


def test_every_toggle(page, folder, explorer):
    first = page.locator(".fx").first
    labels = ("before", "difference", "truth", "prediction", "support mask")
    for label in labels:
        first.get_by_label(label, exact=True).click()
        page.mouse.move(2, 2)
        agree(page, explorer)
    heard(page, folder, lambda told: (told["view"]["show"], told["view"]["outlines"]) == ("difference", []))
    first.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    heard(page, folder, lambda told: told["view"]["round"] == 0)
    assert first.locator(".fx-refinement .fx-numbers").inner_text() == "before refinement"


def test_comparison(page):
    second = page.locator(".fx").nth(1)
    assert second.locator(".fx-row-title").all_inner_texts() == ["1 shot · layer 2", "5 shots · layer 2"]
    assert second.locator(".fx-support").count() == 1 + 5
    page.mouse.click(*middle(page, "query", (9, 9), at=1))
    assert words(page, at=1).count("support memory") >= 2
    second.locator("select").nth(0).select_option("5 shots")
    assert second.locator(".fx-row-title").all_inner_texts() == ["5 shots · layer 2", "1 shot · layer 2"]
    second.locator("select").nth(1).select_option("nothing")
    assert second.locator(".fx-row").count() == 1


def test_jupyterlab_s_own_keys_rest(page, folder):
    before = cells_of(page)
    page.evaluate("document.querySelectorAll('.fx')[0].panel.change('show', 'after')")
    stops = page.locator(".fx").nth(0).locator("canvas, input, button, select, summary")
    for i in range(stops.count()):
        stop = stops.nth(i)
        if stop.is_disabled():
            continue
        stop.focus()
        assert stop.get_attribute("data-lm-suppress-shortcuts") == "true", stop.evaluate("(node) => node.outerHTML")
    for stop in (page.locator(".fx-query canvas").first, page.locator(".fx summary").first):
        stop.focus()
        for key in ("d", "d", "a", "b", "x"):
            page.keyboard.press(key)
    assert cells_of(page) == before
    (folder / "08.ipynb").unlink()
    page.keyboard.press("Control+s")  # those with Ctrl do not
    for _ in range(100):
        if (folder / "08.ipynb").exists():
            return
        page.wait_for_timeout(100)
    pytest.fail("Ctrl+S does not save")


def test_dark_theme(page):
    page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
    page.wait_for_function("getComputedStyle(document.querySelector('.fx')).color.match(/\\d+/)[0] > 150")


def test_what_is_saved_is_small_and_shows_a_picture(page, folder, place, explorer):
    """With the kernel the panel comes back; without it, for strangers and in the course's own files, a picture."""
    save(page)
    saved = nbformat.read(folder / "08.ipynb", 4)
    (output,) = saved.cells[place].outputs
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= output.data.keys()
    assert output.metadata["image/png"]["alt"].startswith("Attention in layer")
    state = saved.metadata.widgets["application/vnd.jupyter.widget-state+json"]
    assert len(json.dumps(state)) < 500_000  # two explorers
    chosen = panel(page, "panel.selection")
    visit(page, "08.ipynb")  # the page asks the kernel for the data again
    page.locator(".fx .fx-rows").nth(1).wait_for(timeout=60_000)
    assert panel(page, "panel.selection") == chosen
    agree(page, explorer)

    save(page)
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    del saved.metadata["widgets"]
    saved.cells[place].source += "  # changed, so not signed: JupyterLab does not trust it"
    nbformat.write(saved, folder / "stranger.ipynb")
    nbformat.write(tidy(saved), folder / "course.ipynb")
    for name in ("08.ipynb", "stranger.ipynb", "course.ipynb"):
        visit(page, name, kernel=False)
        picture = page.locator(".jp-Notebook-cell").nth(place).locator("img")
        picture.wait_for(timeout=30_000)
        assert picture.evaluate("(image) => image.naturalWidth") > 800, name
    assert page.locator(".fx").count() == 0
