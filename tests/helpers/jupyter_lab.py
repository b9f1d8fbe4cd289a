"""A real JupyterLab in a real browser, for tests of widgets: `open_notebook`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from helpers.browser import launched

TOKEN = "test"
# no questions, no requests to the network
SETTINGS = {"@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}


@contextmanager
def open_notebook(folder: Path, cells: list[str]) -> Iterator[Any]:
    """Start JupyterLab in `folder` and open a notebook of these code cells in Chromium; as `open_lab`."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "test.ipynb")
    with open_lab(folder) as page:
        visit(page, "test.ipynb")
        yield page


@contextmanager
def open_lab(folder: Path, settings: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Any]:
    """Start JupyterLab in `folder`; `visit` opens its notebooks.

    settings: "extension/plugin" -> what a user would choose for it.
    Yields the Playwright page; requests that leave this machine are refused and listed in `page.refused`.
    Skips the test where there is no JupyterLab, Playwright or Chromium.
    """
    pytest.importorskip("jupyterlab", reason="needs JupyterLab")
    with launched() as browser, _server(folder, {**SETTINGS, **(settings or {})}) as url:
        page = browser.new_page(viewport={"width": 1200, "height": 1100})
        page.lab, page.refused = url, []
        page.route(lambda address: not address.startswith((url, "data:", "blob:")), lambda route: _refuse(page, route))
        yield page


def visit(page: Any, name: str, kernel: bool = True) -> None:
    """Open a notebook of the folder, from the disk, and wait for its kernel if wanted."""
    page.goto(f"{page.lab}/lab/tree/{name}?token={TOKEN}&reset")
    if not kernel:
        return
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=120_000)
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.isReady", timeout=60_000)


RUN_CELL = """async (number) => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  panel.content.activeCellIndex = number;
  await window.jupyterapp.commands.execute("notebook:run-cell");
}"""


def run_cell(page: Any, number: int) -> Any:
    """Run a code cell and wait until it is done. Returns its output area.

    Raises AssertionError with what it printed if the cell fails.
    """
    page.evaluate(RUN_CELL, number)
    output = page.locator(".jp-Notebook-cell").nth(number).locator(".jp-Cell-outputArea")
    text = output.inner_text()
    assert "Traceback (most recent call last)" not in text, text
    return output


def _refuse(page: Any, route: Any) -> None:
    page.refused.append(route.request.url)
    route.abort()


@contextmanager
def _server(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = folder / ".jupyter"
    for plugin, chosen in settings.items():
        file = home / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(chosen))
    places = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    environment = os.environ | {f"JUPYTER_{name}_DIR": str(home / place) for name, place in places.items()}
    environment |= {f"JUPYTERLAB_{name}_DIR": str(home / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1",
        "--allow-root", "--expose-app-in-browser",
    ]  # fmt: skip
    log = folder / "jupyter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, f"{url}/api/status?token={TOKEN}", log)
        yield url
    finally:
        process.terminate()  # it ends its kernels first
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 90
    while True:
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.2)
