"""The saved page in a real browser: what it shows is what the model did, and everything on it works."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.contrast import contrasts, too_pale
from helpers.traces import with_inputs
from matplotlib import colormaps

from fss_lab import Pictograms, explore
from fss_lab.figures import ATTENTION_MAP
from fss_lab.interventions import Where, knock_out, lens
from fss_lab.metrics import iou

LATENCY = {"toy": 16, "large": 50}  # milliseconds for a hover, drawing included
SLACK = 3  # machines differ; benchmarks/explorer.py measures
# Milliseconds from each of `count` hovers until the browser has painted what it changed; frames: one in each frame, at
# whose start browsers hand over the pointer's moves.
HOVERS = """async ({ count, frames }) => {
  const { panel } = document.getElementById("explorer"), { tile } = panel.rows[0].query;
  const box = tile.canvas.getBoundingClientRect(), [high, wide] = panel.data.grid, times = [];
  for (let i = 0; i < count; i++) {
    const clientX = box.left + ((i * 7) % wide + 0.5) * box.width / wide;
    const clientY = box.top + ((i * 3) % high + 0.5) * box.height / high;
    if (frames) await new Promise(requestAnimationFrame);
    const start = performance.now();
    tile.canvas.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
    if (frames) await new Promise((done) => {
      const channel = new MessageChannel(); // whose message comes when the frame is painted
      channel.port1.onmessage = done;
      channel.port2.postMessage(null);
    });
    times.push(performance.now() - start);
  }
  return times;
}"""


@pytest.fixture
def show(browser, tmp_path):
    """Save an explorer's page and open it from disk; no page may report an error or ask for anything."""
    pages, errors, requests = [], [], []

    def open_page(explorer, width=1000, **options):
        number = len(pages)
        path = explorer.save_html(tmp_path / f"page{number}.html")
        page = browser.new_page(viewport={"width": width, "height": 1200}, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("#explorer .fx-rows")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "blob:"))] == []


def tile(page, name, at=0):
    return page.locator(f".fx-{name} canvas").nth(at)


def centre(page, name, cell, grid=(16, 16), at=0):
    box = tile(page, name, at).bounding_box()
    return (box["x"] + (cell[1] + 0.5) * box["width"] / grid[1], box["y"] + (cell[0] + 0.5) * box["height"] / grid[0])


def hover(page, name, cell, **more):
    page.mouse.move(*centre(page, name, cell, **more))


def click(page, name, cell, **more):
    page.mouse.click(*centre(page, name, cell, **more))


def selection(page):
    return page.evaluate("document.getElementById('explorer').panel.selection")


def view(page):
    return page.evaluate("document.getElementById('explorer').panel.view")


def shown(page, row=0):
    """The arrays that a row of the page draws."""
    found = page.evaluate(
        """row => { const maps = document.getElementById("explorer").panel.maps[row];
        const plain = (x) => (Array.isArray(x) ? x.flatMap((part) => [...part]) : [...x]);
        return Object.fromEntries(Object.entries(maps).map(([name, values]) => [name, plain(values)])); }""",
        row,
    )
    return {name: np.array(values) for name, values in found.items()}


def agree(page, explorer):
    """What each row of the page draws is what `Explorer.attention` says for its run, layer, selection and view."""
    rows = page.evaluate(
        "document.getElementById('explorer').panel.rows.map(({ run, layer }) => [run.name, run.layers.indexOf(layer)])"
    )
    names = {"support": "support", "query": "memory", "pointers": "pointers", "readers": "query"}
    for row, (run, layer) in enumerate(rows):
        explorer.selection, explorer.view = {**selection(page), "layer": layer}, {**view(page), "run": run}
        drawn = shown(page, row)
        for name, values in explorer.attention().items():
            np.testing.assert_allclose(drawn[names[name]], values.ravel(), rtol=0, atol=1e-3)


def words(page):
    return page.locator(".fx-words").inner_text()


def test_hover_previews_click_locks_and_keys_move(show, traces, episodes):
    explorer = explore(traces["1 shots"])
    page = show(explorer)
    agree(page, explorer)
    start = selection(page)
    row, column = start["cell"]
    assert start == {"map": "query", "cell": [row, column], "end": [row, column], "shot": 0, "layer": 1}
    assert episodes[1].query_mask[16 * row + 8, 16 * column + 8] == 1  # it begins on the object

    hover(page, "query", (2, 3))
    assert selection(page) == start and "Query cell (2, 3) reads" in words(page)
    weights = traces["1 shots"].layers[1].attention[0, 0, 2 * 16 + 3]
    np.testing.assert_allclose(shown(page)["memory"], weights[256:512], atol=1e-3)
    page.mouse.move(2, 2)
    assert f"Query cell ({row}, {column}) reads" in words(page)

    click(page, "query", (2, 3))
    assert selection(page)["cell"] == [2, 3]
    agree(page, explorer)
    for key, cell in [("ArrowRight", [2, 4]), ("ArrowDown", [3, 4]), ("ArrowLeft", [3, 3]), ("ArrowUp", [2, 3])]:
        page.keyboard.press(key)
        assert selection(page)["cell"] == selection(page)["end"] == cell
    for _ in range(4):
        page.keyboard.press("ArrowUp")  # stops at the border
    assert selection(page)["cell"] == [0, 3]
    page.keyboard.press("Shift+ArrowDown")
    assert (selection(page)["cell"], selection(page)["end"]) == ([0, 3], [1, 3])
    page.keyboard.press("1")
    assert selection(page)["layer"] == 0
    page.keyboard.press("Shift+ArrowRight")  # the focus has survived the change of layer
    assert selection(page)["end"] == [1, 4] and "mean of 4" in words(page)
    agree(page, explorer)
    page.keyboard.press("Escape")
    assert selection(page)["end"] == [0, 3]


def test_the_numbers_of_a_memory_cell(show, traces):
    trace = traces["5 shots"]
    page = show(explore(trace))
    row, column = selection(page)["cell"]
    assert "mean of 5 supports" in page.locator(".fx-rows").inner_text()
    hover(page, "memory", (4, 9))
    text, layer = words(page), trace.layers[1]
    at, asking = 4 * 16 + 9, row * 16 + column
    number = r"(−?[\d.]+)"
    assert f"{float(layer.calibration[0, 0].flatten()[at]):.2f}" == re.search(rf"term c {number}", text)[1]
    similarities = re.search(r"support similarity (.*?) ·", text)[1]
    assert re.findall(rf"shot \d {number}", similarities) == [
        f"{float(value):.2f}" for value in layer.shot_similarity[0, 0, :, 4, 9]
    ]
    bias = float(re.search(rf"bias {number} nats", text)[1].replace("−", "-"))
    assert bias == pytest.approx(float(layer.bias[0, 0, asking, 256 + at]), abs=0.02)
    assert f"after round 3 · like the support's object (A) {float(trace.support_similarity[0, 0, 4, 9]):.2f}" in text
    page.locator(".fx-shot").nth(3).click()
    assert view(page)["shot"] == 3


def test_reverse_by_click_and_by_keys(show, traces):
    explorer = explore(traces["1 shots"])
    page = show(explorer)
    click(page, "memory", (5, 6))
    assert selection(page)["map"] == "memory"
    agree(page, explorer)
    assert "Query-memory cell (5, 6) is read" in words(page) and "Who reads it" in page.content()
    hover(page, "query", (5, 6))
    assert re.search(r"Query cell \(5, 6\): gives [\d.]+\s% before, [\d.]+\s% after", words(page))
    click(page, "support", (9, 2))
    agree(page, explorer)
    click(page, "pointers", (0, 6), grid=(1, 8))
    assert selection(page)["map"] == "pointers" and selection(page)["cell"] == [0, 6]
    agree(page, explorer)
    page.keyboard.press("Escape")
    assert selection(page)["map"] == "query"
    tile(page, "memory").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    row, column = selection(page)["cell"]
    assert f"Query-memory cell ({row}, {column + 1}): weight" in words(page)
    page.keyboard.press("Enter")
    assert selection(page)["map"] == "memory" and selection(page)["cell"] == [row, column + 1]


def test_region_by_dragging(show, traces):
    explorer = explore(traces["1 shots"])
    page = show(explorer)
    hover(page, "query", (6, 9))
    page.mouse.down()
    hover(page, "query", (5, 8))
    hover(page, "query", (4, 7))
    page.mouse.up()
    page.mouse.move(2, 2)
    assert (selection(page)["cell"], selection(page)["end"]) == ([6, 9], [4, 7])
    assert "(4, 7) to (6, 9), mean of 9" in words(page)
    agree(page, explorer)


def test_every_toggle(show, traces):
    explorer = explore(traces["1 shots"])
    page = show(explorer)

    def pixels():
        return page.evaluate(
            "[...document.querySelectorAll('canvas')].map((c) => c.toDataURL().length + c.toDataURL().slice(-400))"
        )

    before = pixels()
    for label in ("before", "difference", "truth", "prediction", "support mask"):
        page.get_by_label(label, exact=True).click()
        after = pixels()
        assert after != before, label
        before = after
        agree(page, explorer)
    assert view(page)["outlines"] == [] and view(page)["show"] == "difference"
    assert "after minus before" in page.locator(".fx-scale").inner_text()
    assert page.evaluate("document.activeElement.value") == "support"  # the focus stays
    slider = page.locator("input[type=range]")
    slider.focus()
    for name in ("after round 2", "after round 1", "before refinement"):
        page.keyboard.press("ArrowLeft")
        assert page.locator(".fx-refinement .fx-numbers").inner_text() == name
    hover(page, "prior", (3, 3))
    assert "Prior at (3, 3): prior" in words(page)
    page.keyboard.press("Shift+Tab")  # back from the slider to its map
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_compare_two_runs(show, traces):
    names = {"corrected": "5 shots", "as published": "as_published", "off": "off", "one shot": "1 shots"}
    explorer = explore({name: traces[key] for name, key in names.items()})
    page = show(explorer)
    assert page.locator(".fx-row-title").all_inner_texts() == ["corrected · layer 2", "as published · layer 2"]
    assert page.locator(".fx-row").nth(1).locator(".fx-support").count() == 5
    agree(page, explorer)
    click(page, "support", (3, 4), at=3)  # the third support of "as published"
    assert "this run has no such memory" in words(page)
    page.keyboard.press("Escape")
    page.locator("select").nth(0).select_option("as published")
    page.locator("select").nth(1).select_option("one shot")
    assert page.locator(".fx-row-title").all_inner_texts() == ["as published · layer 2", "one shot · layer 2"]
    agree(page, explorer)
    page.locator("select").nth(1).select_option("nothing")
    assert page.locator(".fx-row").count() == 1


def test_support_memory_heads_missing_images_and_numbers(show, traces):
    page = show(explore(traces["support"]))
    assert page.locator(".fx-memory").count() == 0 and page.locator(".fx-refinement").count() == 0
    assert page.get_by_label("difference").is_disabled() and "not calibrated" in page.content()
    many = explore(traces["3 heads"])
    page = show(many)
    agree(page, many)
    rounds = [replace(done, prior=done.prior.clone()) for done in traces["1 shots"].rounds]
    rounds[-1].prior[0, 0, 2, 3] = float("nan")
    page = show(explore(replace(traces["1 shots"], rounds=rounds)))
    hover(page, "prior", (2, 3))
    assert "prior not a number" in words(page)


def test_colours_stand_for_the_numbers(show, traces):
    explorer = explore(replace(traces["1 shots"], inputs=None))  # without images below
    explorer.view = {"outlines": []}
    page, maps = show(explorer), explorer.attention()
    top = max(maps["query"].max(), maps["support"].max())
    centres = """name => {
      const canvas = document.querySelector(`.fx-${name} canvas`), context = canvas.getContext("2d");
      const at = (i, size) => Math.floor((i + 0.5) * size / 16);
      return [...Array(256).keys()].map((i) =>
        [...context.getImageData(at(i % 16, canvas.width), at(i >> 4, canvas.height), 1, 1).data.slice(0, 3)]); }"""
    for name, values in (("memory", maps["query"]), ("support", maps["support"][0])):
        places = np.clip(1 + np.log10(values.ravel() / top) / 4, 0, 1)  # four decades
        expected = colormaps[ATTENTION_MAP](places, bytes=True)[:, :3].astype(int)
        np.testing.assert_allclose(page.evaluate(centres, name), expected, atol=8)  # a step of the palette


def test_odd_episodes(show, model, traces, wide, episodes):
    page = show(explore(model.segment(wide, trace=True)))
    boxes = [tile(page, name).bounding_box() for name in ("query", "support", "memory", "prior")]
    assert [box["width"] / box["height"] for box in boxes] == pytest.approx([200 / 120] * 4, rel=0.02)
    click(page, "query", (15, 0))
    assert selection(page)["cell"] == [15, 0]

    ten = Pictograms(fold=0, split="novel", shots=10)[3]
    apart = explore(model.variant(calibration="off").segment(ten, trace=True))
    page = show(apart, width=360)
    assert page.locator(".fx-support").count() == 10 and page.evaluate("document.body.scrollWidth") <= 360
    click(page, "support", (3, 4), at=9)
    assert selection(page)["shot"] == 9
    agree(page, apart)

    page = show(explore(with_inputs(traces["1 shots"], truth=torch.zeros_like(episodes[1].query_mask))))
    assert "no cell belongs to the object: the truth is empty" in page.locator(".fx-chart").inner_text()
    changed = [replace(traces["1 shots"].layers[0], attention=1 - traces["1 shots"].layers[0].attention)]
    with pytest.warns(UserWarning, match="differ from the model's own"):
        page = show(explore(replace(traces["1 shots"], layers=changed)))
    assert "farthest from the model's own attention weights: 1.0" in page.content()


def test_two_views_of_one_explorer(show, traces):
    page = show(explore({"a": traces["1 shots"], "b": traces["support"]}))
    checked = page.evaluate(
        """() => {
      const { panel } = document.getElementById("explorer"), root = document.createElement("div");
      document.body.append(root);
      const other = new panel.constructor(root, panel.data, panel.pictures, panel.store);
      panel.change("show", "before");
      other.receive();
      return [...document.querySelectorAll("input[value=before]")].map((input) => input.checked); }"""
    )
    assert checked == [True, True]


def test_a_change_from_outside_while_a_cell_is_read(show, traces):
    page = show(explore({"a": traces["1 shots"], "b": traces["support"]}))
    hover(page, "memory", (3, 4))
    assert "Query-memory cell (3, 4)" in words(page)
    outside = """view => {
      const { panel } = document.getElementById("explorer");
      panel.store.set("view", { ...panel.view, run: "b", against: null });
      panel.receive(); }"""
    page.evaluate(outside)
    assert page.locator(".fx-memory").count() == 0 and "Query-memory cell" not in words(page)


def test_a_run_chosen_for_both_sides_changes_places(show, traces):
    page = show(explore({"a": traces["1 shots"], "b": traces["off"], "c": traces["support"]}))
    page.locator("select").nth(0).select_option("b")
    assert (view(page)["run"], view(page)["against"]) == ("b", "a")
    assert page.locator("select").nth(1).input_value() == "a"


def test_focus_and_notes_survive_a_change_and_other_panels_keep_theirs(show, traces):
    page = show(explore(traces["1 shots"]))
    page.locator("summary").click()
    page.get_by_label("difference").click()
    assert page.locator("details").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.value") == "difference"
    focused = """() => {
      const { panel } = document.getElementById("explorer"), other = document.createElement("button");
      other.dataset.focus = "show:after";
      document.body.append(other);
      other.focus();
      panel.change("show", "before");
      return document.activeElement === other; }"""
    assert page.evaluate(focused)


def test_legend_says_what_the_chart_shows(show, traces):
    page = show(explore(traces["1 shots"]))
    assert page.locator(".fx-legend").inner_text().split("\n")[0] == "support memory"
    click(page, "memory", (5, 6))
    legend = [line for line in page.locator(".fx-legend").inner_text().split("\n") if line]
    assert legend == ["query cells of the object", "query cells of the background"]


def test_names_cannot_inject(show, traces):
    evil = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
    page = show(explore({evil: with_inputs(traces["1 shots"], class_name=evil), "b": traces["support"]}))
    assert evil in page.locator(".fx-title").inner_text() and page.locator("img").count() == 0


@pytest.mark.parametrize("width", [420, 1000])
def test_nothing_sticks_out(show, traces, width):
    runs = {"corrected": traces["5 shots"], "as published": traces["as_published"]}
    page = show(explore(runs), width=width, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.getElementById('explorer')).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground))) < 150  # dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(show, traces, scheme):
    page = show(explore({"corrected": traces["5 shots"], "as published": traces["as_published"]}), color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    assert len(contrasts(page)) > 30
    assert too_pale(page) == []


def test_two_thousand_hovers_leave_no_memory_behind(show, traces):
    page = show(explore(traces["1 shots"]), width=420)
    session = page.context.new_cdp_session(page)

    def used():
        session.send("HeapProfiler.collectGarbage")
        counts = session.send("Memory.getDOMCounters")
        return page.evaluate("performance.memory.usedJSHeapSize"), counts["nodes"]

    page.evaluate(HOVERS, {"count": 200})
    heap, nodes = used()
    page.evaluate(HOVERS, {"count": 2000})
    heap_after, nodes_after = used()
    assert heap_after - heap < 1e6 and nodes_after - nodes < 50


@pytest.mark.parametrize("size", ["toy", "large"])
def test_a_hover_is_painted_quickly(show, traces, large, size):
    page = show(explore(large) if size == "large" else explore(traces["1 shots"]))
    times = page.evaluate(HOVERS, {"count": 40, "frames": True})[5:]
    # the quick ones: other work on the machine delays some but not all
    assert np.percentile(times, 10) < SLACK * LATENCY[size]


def test_what_was_computed_before_is_in_the_page(show, model, episodes):
    prediction = model.segment(episodes[1], trace=True)
    explorer = explore(prediction)
    without = knock_out(model, prediction, Where(block="query", cells=((4, 9), (4, 10))))
    keys = ['["hide","","memory",0,[4,9],[4,10]]', '["lens",""]']
    for key in keys:
        explorer._handle_custom_msg({"type": "ask", "key": key}, [])
    page = show(explorer, width=400)
    section = page.locator(".fx-whatif")
    captions = section.locator("figure").all_inner_texts()
    truth = episodes[1].query_mask
    ious = [float(iou(without.mask, truth)), *lens(prediction).ious.tolist()]
    found = [float(re.search(r"IoU ([\d.]+)", caption)[1]) for caption in captions]
    assert found == pytest.approx([100 * value for value in ious], abs=0.06)
    assert captions[0].startswith("without cells (4,9) to (4,10) of the query memory")
    assert "need Python" in section.inner_text() and section.locator("button:not([disabled])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_if_asks_the_kernel_once(show, model, episodes):
    """The page with a kernel beside it: this process."""
    explorer = explore(model.segment(episodes[1], trace=True))
    page = show(explorer)
    asked = []

    def ask(key):
        asked.append(key)
        explorer._handle_custom_msg({"type": "ask", "key": key}, [])
        return explorer._answers

    page.expose_function("ask", ask)
    page.evaluate(
        """() => { const { panel } = document.getElementById("explorer");
        panel.store.ask = async (key) => {
          panel.store.set("_answers", await window.ask(key));
          panel.paintAnswers(); };
        panel.build(); }"""
    )
    page.get_by_role("button", name="query memory", exact=True).click()
    page.get_by_text("without the query memory").wait_for()
    tile(page, "query").focus()
    page.keyboard.press("h")  # nothing is selected there yet
    assert "Click a memory cell first" in page.locator(".fx-whatif").inner_text() and len(asked) == 1
    click(page, "memory", (4, 9))
    page.keyboard.press("h")
    page.get_by_text("without cells (4,9) to (4,9)").wait_for()
    page.keyboard.press("h")
    assert asked == ['["hide","","memory",null,null,null]', '["hide","","memory",0,[4,9],[4,9]]']
    page.get_by_role("button", name="what the query cells need").click()
    assert "Select query cells first" in page.locator(".fx-whatif").inner_text()
