"""The widget in a real JupyterLab: data arrive, clicks reach Python, Python reaches the panel, little is saved."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import launched

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed; `python lab.py install` brings it")

TOKEN = "explorer-test"
COURSE = Path(__file__).parents[2] / "notebooks" / "08_attention.ipynb"
CELLS = [
    """
import json, pathlib
import numpy as np
import fss_lab

model = fss_lab.load_model("toy", fold=0)
episode = fss_lab.Pictograms(fold=0, split="novel", shots=1)[20]
prediction = model.segment(episode, trace=True)

def tell(change):
    maps = first.attention()
    np.savez("shown.npz", **maps)
    pathlib.Path("told.json").write_text(json.dumps([first.selection, first.view, second.selection]))

first = fss_lab.explore(prediction.trace, episode=episode)
second = fss_lab.explore(prediction.trace, episode=episode)
first.observe(tell, ["selection", "view"])
first
""",
    "second",
    'second.selection = {"cell": (1, 2), "layer": 0}',
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of its own on a free port: its address and its folder."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings"}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    environment = os.environ | {name: str(folder / "own" / value) for name, value in own.items()}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    options += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    address = f"http://127.0.0.1:{port}"
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", *options],
            cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait_for(f"{address}/api?token={TOKEN}", server, folder / "log.txt")
            yield address, folder
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(address, server, log):
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    pytest.fail(f"JupyterLab did not answer within a minute:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


def command(page, name, arguments=None):
    page.evaluate(
        "([name, arguments]) => { window.jupyterapp.commands.execute(name, arguments); }", [name, arguments or {}]
    )


def opened(browser, lab, name):
    """A page with a notebook open, all of whose cells run."""
    address, _ = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1500})
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"{kernel}?.status === 'idle' && {kernel}.connectionStatus === 'connected'", timeout=60_000)
    command(page, "notebook:run-all-cells")
    return page


def panel(page, at, expression):
    return page.locator(".fx").nth(at).evaluate(f"(root) => {{ const {{ panel }} = root; return {expression}; }}")


def middle(page, at, name, cell):
    canvas = page.locator(".fx").nth(at).locator(f".fx-{name} canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    return box["x"] + (cell[1] + 0.5) * box["width"] / 16, box["y"] + (cell[0] + 0.5) * box["height"] / 16


def told(page, folder, check):
    """What the kernel wrote after a change, as soon as it satisfies a check."""
    for _ in range(150):
        page.wait_for_timeout(100)
        try:
            content = json.loads((folder / "told.json").read_text())
            maps = dict(np.load(folder / "shown.npz"))
        except (OSError, ValueError, EOFError):  # not written yet, or just being written
            continue
        if check(content):
            return content, maps
    pytest.fail("the kernel was not told")


def test_widget_in_jupyterlab(browser, lab):
    _, folder = lab
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "small.ipynb")
    page = opened(browser, lab, "small.ipynb")
    page.locator(".fx .fx-rows").nth(1).wait_for(timeout=90_000)
    page.wait_for_function("document.querySelectorAll('.fx')[1].panel.selection.layer === 0", timeout=30_000)
    assert panel(page, 1, "panel.selection.cell") == [1, 2]  # from Python
    assert panel(page, 0, "panel.selection.cell") == [10, 7]

    page.mouse.move(*middle(page, 0, "query", (4, 5)))
    assert "Query cell (4, 5) reads" in page.locator(".fx-words").first.inner_text()
    page.mouse.click(*middle(page, 0, "query", (4, 5)))
    (selection, _, other), maps = told(page, folder, lambda told: told[0]["cell"] == [4, 5])
    assert other["cell"] == [1, 2]  # two explorers do not disturb each other
    drawn = panel(page, 0, "[...panel.shown[0].memory]")
    np.testing.assert_allclose(drawn, maps["query"].ravel(), rtol=0, atol=1e-3)

    cells = page.locator(".jp-Cell").count()
    for key in ("ArrowDown", "ArrowRight", "a", "1"):  # JupyterLab's own keys rest: "a" inserts no cell
        page.keyboard.press(key)
    (selection, _, _), _ = told(page, folder, lambda told: told[0]["layer"] == 0)
    assert selection["cell"] == [5, 6] and page.locator(".jp-Cell").count() == cells
    first = page.locator(".fx").first
    for label in (
        "before",
        "difference",
        "linear",
        "per map",
        "truth",
        "prediction",
        "support mask",
        "image under the map",
    ):
        first.get_by_label(label, exact=True).click()
    (_, view, _), maps = told(page, folder, lambda told: told[1]["picture"] is False)
    assert (view["show"], view["scale"], view["range"], view["outlines"]) == ("difference", "linear", "each", [])
    np.testing.assert_allclose(panel(page, 0, "[...panel.shown[0].memory]"), maps["query"].ravel(), atol=1e-3)

    command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
    page.wait_for_function("getComputedStyle(document.querySelector('.fx')).color.match(/\\d+/)[0] > 150")

    command(page, "docmanager:save")
    path = folder / "small.ipynb"
    for _ in range(100):
        saved = json.loads(path.read_text())
        if saved["cells"][0]["outputs"]:
            break
        page.wait_for_timeout(100)
    output = saved["cells"][0]["outputs"][0]
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= output["data"].keys()
    assert output["metadata"]["image/png"]["alt"].startswith("Attention in layer 2 of 2")
    assert path.stat().st_size < 500_000

    page.reload()  # the page asks the kernel for the data again
    page.locator(".fx .fx-rows").nth(1).wait_for(timeout=60_000)
    assert panel(page, 0, "panel.selection.cell") == [5, 6]
    page.close()


@pytest.mark.skipif(not COURSE.exists(), reason="the course has no notebook 08 yet")
def test_notebook_of_the_course(browser, lab):
    _, folder = lab
    (folder / COURSE.name).write_bytes(COURSE.read_bytes())
    page = opened(browser, lab, COURSE.name)
    page.locator(".fx .fx-rows").first.wait_for(timeout=180_000)
    for _ in range(100):  # while later cells run the page may still move under the pointer
        page.mouse.move(*middle(page, 0, "query", (3, 3)))
        if "Query cell (3, 3) reads" in page.locator(".fx-words").first.inner_text():
            break
        page.wait_for_timeout(200)
    else:
        pytest.fail("the explorer does not answer the pointer")
    read = "Object.values(panel.shown[0]).flat().reduce((sum, map) => map.reduce((a, b) => a + b, sum), 0)"
    assert panel(page, 0, read) == pytest.approx(1, abs=1e-3)
    page.close()
