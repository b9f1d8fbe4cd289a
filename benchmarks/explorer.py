"""How long the attention explorer takes to answer: a hover, in Chromium, from the event to the drawn frame.

    python benchmarks/explorer.py [--hovers 200]
    python benchmarks/explorer.py --pictures docs/images

Prints a table: the toy model and SAM 2 small at 512 x 512 (random weights). Browsers hand over the pointer's moves at
the start of a frame, and so does this: one hover in each. "script": the panel's own work; "painted": from the event
until the browser has laid out and painted the frame, and how many hovers keep within the budget (16 ms for the toy
model, 50 ms at 512 x 512). "frames/s": so many hovers reach the screen in a second, 60 at most. Needs playwright and a
Chromium on the PATH; other work on the machine disturbs it.

With --pictures it measures nothing and takes the pictures of the documentation: explorer.png, with answers of "what if"
below the maps, and explorer.gif with hovering, the reverse and the difference.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from anywidget import AnyWidget
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from fss_lab import FSSAM, Episode, Pictograms, explore, load_model
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.toy import ToyFeatures
from fss_lab.figures import central_cell, iou

HOVER = """async ({ hovers }) => {
  const { panel } = document.getElementById("explorer");
  const [high, wide] = panel.data.grid, script = [], painted = [];
  const event = (row, column) => {
    const { canvas } = panel.rows[0].query.tile, box = canvas.getBoundingClientRect();
    const clientX = box.left + (column + 0.5) * box.width / wide, clientY = box.top + (row + 0.5) * box.height / high;
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
  };
  const frame = (i) => new Promise((done) => requestAnimationFrame(() => {
    const start = performance.now(), channel = new MessageChannel(); // whose message comes when the frame is painted
    channel.port1.onmessage = () => done(performance.now() - start);
    event((i * 3) % high, (i * 7) % wide);
    channel.port2.postMessage(null);
  }));
  for (let i = 0; i < 10; i++) await frame(i);
  const start = performance.now();
  for (let i = 0; i < hovers; i++) {
    painted.push(await frame(i));
    script.push(panel.milliseconds);
  }
  const rate = 1000 * hovers / (performance.now() - start);
  panel.select({ map: "query", cell: [2, 2], end: [9, 9], shot: 0 });
  const dragged = panel.milliseconds;
  panel.select({ map: "memory", cell: [2, 2], end: [2, 2], shot: 0 });
  return { script, painted, rate, dragged, reversed: panel.milliseconds };
}"""


def large_explorer() -> AnyWidget:
    """SAM 2 small at 512 x 512 pixels with random weights: 4 layers, a grid of 32 x 32."""
    torch.manual_seed(0)
    model = FSSAM(Sam2Backbone.build("sam2-small", 512), ToyFeatures().eval())
    for parameter in model.sam2.model.memory_attention.parameters():  # SAM 2 starts its layers as copies of one
        torch.nn.init.normal_(parameter, std=0.05)
    images = F.interpolate(torch.rand(2, 3, 8, 8) * 255, (512, 512), mode="bilinear")
    mask = torch.zeros(512, 512, dtype=torch.uint8)
    mask[100:300, 150:400] = 1
    episode = Episode(images[0], mask, images[1:], mask[None], 0, "thing")
    return explore(model.segment(episode, trace=True))


def measure(page: Page, explorer: AnyWidget, path: Path, hovers: int, budget: float) -> None:
    """Print one line. budget: milliseconds for a hover."""
    start = time.perf_counter()
    page.goto(explorer.save_html(path).as_uri())
    page.wait_for_selector("#explorer .fx-rows")
    opened = time.perf_counter() - start
    grid = "x".join(map(str, explorer.run.grid))
    found = page.evaluate(HOVER, {"hovers": hovers})
    script, painted = (np.percentile(found[name], [50, 95]) for name in ("script", "painted"))
    kept = 100 * np.mean(np.array(found["painted"]) <= budget)
    print(
        f"{grid:>6} {len(explorer.run.trace.layers):>6} {path.stat().st_size / 1e6:>5.1f} "
        f"{opened:>6.1f} {script[0]:>8.1f} {script[1]:>5.1f} {painted[0]:>9.1f} {painted[1]:>5.1f} "
        f"{kept:>6.0f} % <= {budget:.0f} {found['rate']:>9.0f} {found['dragged']:>9.0f} {found['reversed']:>8.1f}"
    )


def best_explorer(candidates: int = 40) -> AnyWidget:
    """The toy model's best answer among the first episodes with novel classes."""
    model, episodes = load_model("toy", fold=0), Pictograms(fold=0, split="novel", episodes=candidates)
    answers = [model.segment(episode) for episode in episodes]
    scores = [iou(answer.mask, episode.query_mask) for answer, episode in zip(answers, episodes, strict=True)]
    episode = episodes[int(np.argmax(scores))]
    return explore(model.segment(episode, trace=True))


def take_pictures(page: Page, explorer: AnyWidget, folder: Path, page_path: Path) -> None:
    """Write explorer.png and explorer.gif."""
    chosen = [*map(list, (explorer.selection["cell"], explorer.selection["end"]))]
    for question in (["hide", "", "memory", None, None, None], ["needed", "", *chosen], ["lens", ""]):
        content = {"type": "ask", "key": json.dumps(question, separators=(",", ":"))}
        explorer._handle_custom_msg(content, [])
    page.goto(explorer.save_html(page_path).as_uri())
    page.wait_for_selector("#explorer .fx-rows")
    page.locator("#explorer").screenshot(path=folder / "explorer.png")
    picture = Image.open(folder / "explorer.png").convert("RGB")
    picture.quantize(palette=picture.quantize(256, kmeans=2)).save(folder / "explorer.png", optimize=True)
    (high, wide), (row, column) = explorer.run.grid, explorer.selection["cell"]
    frames: list[tuple[Image.Image, int]] = []  # and how long each is shown, in milliseconds

    def keep(milliseconds: int) -> None:
        shot = Image.open(io.BytesIO(page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": 505})))
        frames.append((shot.convert("RGB").resize((700, 353), Image.Resampling.LANCZOS), milliseconds))

    def centre(name: str, at: tuple[int, int]) -> tuple[float, float]:
        box = page.locator(f".fx-{name} canvas").bounding_box()
        assert box is not None
        return box["x"] + (at[1] + 0.5) * box["width"] / wide, box["y"] + (at[0] + 0.5) * box["height"] / high

    keep(1200)
    for step in range(1, 7):  # hover, from the object to a corner
        page.mouse.move(*centre("query", (row + (1 - row) * step // 6, column + (1 - column) * step // 6)))
        keep(350)
    page.mouse.move(2, 2)
    page.get_by_label("difference").click()
    keep(1500)
    page.get_by_label("after", exact=True).click()
    page.mouse.click(*centre("support", central_cell(explorer.run.trace.support_masks[0, 0], high)))
    page.mouse.move(2, 2)
    keep(1800)
    together = Image.new("RGB", (700, 353 * len(frames)))  # one palette, so that what stays the same costs nothing
    for number, (frame, _) in enumerate(frames):
        together.paste(frame, (0, 353 * number))
    palette = together.quantize(256, kmeans=2)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in frames)
    times = [milliseconds for _, milliseconds in frames]
    first.save(folder / "explorer.gif", save_all=True, append_images=others, duration=times, loop=0, optimize=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hovers", type=int, default=200, help="hovers for each line of the table")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="instead: take the documentation's pictures")
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium on the PATH: install chromium or google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 1400})
        if given.pictures:
            take_pictures(page, best_explorer(), given.pictures, Path(folder) / "page.html")
        else:
            measure_all(page, Path(folder), given.hovers)
        browser.close()


def measure_all(page: Page, folder: Path, hovers: int) -> None:
    """Print the table."""
    episode = Pictograms(fold=0, split="novel")[20]
    toy = explore(load_model("toy", fold=0).segment(episode, trace=True))
    if hasattr(os, "getloadavg"):
        print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; times in milliseconds")
    print("                            script         painted         within              region")
    print("  grid layers    MB open s   median  95 %    median  95 %   the budget  frames/s     8 x 8  reverse")
    for name, explorer, budget in (("toy", toy, 16), ("large", large_explorer(), 50)):
        measure(page, explorer, folder / f"{name}.html", hovers, budget)


if __name__ == "__main__":
    main()
