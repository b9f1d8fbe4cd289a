"""The web site, in a real browser: it asks nobody for anything, and reads well on a phone and in the dark."""

import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.contrast import contrasts, too_pale

from fss_lab.course import site as site_module
from fss_lab.course.notebooks import BEGIN, exercises, outputs, read
from fss_lab.course.release import STUB
from fss_lab.course.site import build, linked_files, links, stage
from fss_lab.errors import CourseError

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API modifications")
PAGES = ["index", "notebooks/index", "notebooks/04_pseudo_prompts", "notebooks/glossary", "docs/course"]
MORE = ["docs/teaching/README", "docs/teaching/assistants", "docs/teaching/points", "docs/accessibility"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("made") / "site").parent


@pytest.fixture(scope="module")
def address(site):
    """Where a small server shows the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def visit(browser, address, **settings):
    """The page, and every request that failed or went to somebody else."""
    page, wrong = browser.new_context(**settings).new_page(), []
    own = address[: address.index("/", 8) + 1]
    page.on("request", lambda request: None if request.url.startswith((own, "data:")) else wrong.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
    page.goto(address)
    page.wait_for_load_state("networkidle")
    return page, wrong


def test_every_page_is_there(site):
    for notebook in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert (site / "notebooks" / f"{notebook.stem}.html").exists()
    contents = (site / "index.html").read_text(encoding="utf-8")
    places = [contents.index(f'href="{page}.html"') for page in [*PAGES[1:], "docs/results"]]
    assert places == sorted(places)


def test_every_figure_of_the_notebooks_is_there(site):
    """Also those that stand for a widget; in the place of the attention explorer's is the explorer."""
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        figures = sum("image/png" in output.get("data", {}) for _, output in outputs(read(path)))
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert page.count("<img alt=") + page.count('<iframe class="explorer"') == figures > 0, path.stem
        assert "VBox(" not in page


def test_the_explorer_can_be_used(address, browser):
    page, wrong = visit(browser, f"{address}/notebooks/08_attention.html", viewport={"width": 1280, "height": 900})
    page.locator("iframe.explorer").scroll_into_view_if_needed()
    explorer = page.frame_locator("iframe.explorer")
    summary = explorer.locator(".fx-summary")
    explorer.locator("canvas.fx-tile").first.click(position={"x": 60, "y": 60})
    assert summary.inner_text().startswith("Query cell (5, 5) reads, after calibration")
    explorer.get_by_role("radio", name="before").check()
    assert summary.inner_text().startswith("Query cell (5, 5) reads, before calibration")
    assert explorer.locator("body").evaluate("body => body.scrollWidth <= body.clientWidth")
    assert wrong == []


def test_no_page_names_a_script_or_style_elsewhere(site):
    for page in site.rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        assert not [tag for tag in re.findall(r"<(?:script|link)\b[^>]*>", content) if "//" in tag], page


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (1280, "dark")])
def test_pages_are_complete_and_fit(address, browser, width, scheme):
    for name in [*PAGES, *MORE]:
        settings = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        page, wrong = visit(browser, f"{address}/{name}.html", **settings)
        assert wrong == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.naturalWidth && image.alt)")
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
        assert (sum(shade) > 600) == (scheme == "light")


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))])
def test_notebooks_fit_a_phone(address, browser, name):
    page, wrong = visit(browser, f"{address}/notebooks/{name}.html", viewport={"width": 390, "height": 800})
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if name != "00_quickstart":  # it has no formula
        page.wait_for_selector("mjx-container")
    assert page.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(address, browser, scheme):
    """Solutions and hints are opened first."""
    for name in [*PAGES, *MORE]:
        page, _ = visit(browser, f"{address}/{name}.html", color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
        assert len(contrasts(page)) > 100
        assert too_pale(page) == [], name
        page.context.close()


def test_mathematics_is_set_even_from_the_disk(site, browser):
    page, wrong = visit(browser, (site / "notebooks/04_pseudo_prompts.html").as_uri())
    assert wrong == []
    page.wait_for_selector("mjx-container")
    assert page.evaluate("document.querySelectorAll('mjx-container').length") > 20
    assert page.evaluate("document.querySelectorAll('mjx-merror').length") == 0


def test_solutions_and_hints_are_folded(address, browser):
    page, _ = visit(browser, f"{address}/notebooks/04_pseudo_prompts.html")
    solution = page.locator("details", has_text="Show one solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    assert not page.locator("details", has_text="Hint").first.locator("p").first.is_visible()


def test_the_search_finds_pages(address, browser):
    page, wrong = visit(browser, f"{address}/search.html?q=prototype")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a", has_text="Glossary").count()
    assert wrong == []


def test_links_are_found_in_text_and_not_in_code(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '[a](x/a.md#part) ![b](b.png) `[c](c.md)` <img src="d.png"> [e](https://example.org) [f](#f)\n\n'
        "```\n[g](g.md)\n```\n"
    )
    assert links(page) == ["x/a.md#part", "b.png", "https://example.org", "#f", "d.png"]
    assert linked_files(page) == [tmp_path / "x" / "a.md", tmp_path / "b.png", tmp_path / "d.png"]


def test_a_site_without_solutions_shows_exercises_as_handed_out(tmp_path, monkeypatch):
    """No line of a solution, no page for instructors and no link to one."""
    monkeypatch.setattr(site_module, "save_explorer", lambda *_: "explorer.html")
    stage(ROOT, tmp_path / "source", solutions=False)
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        staged = read(tmp_path / "source" / "notebooks" / path.name)
        for cell, original in zip(exercises(staged), exercises(read(path)), strict=True):
            assert cell.source.endswith(f"    {STUB}") and BEGIN not in cell.source and "tags" not in cell.metadata
            assert cell.source.startswith(original.source.partition(f"    {BEGIN}")[0])
    pages = [page for page in (tmp_path / "source").rglob("*") if page.suffix in (".md", ".ipynb")]
    assert len(pages) > 20 and not (tmp_path / "source" / "docs" / "teaching").exists()
    assert not [page for page in pages if re.search(r"\]\([^)]*teaching/", page.read_text(encoding="utf-8"))]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CourseError, match="holds something else than the site"):
        build(ROOT, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_it_needs_a_clone(tmp_path):
    with pytest.raises(CourseError, match="made from a clone"):
        build(tmp_path, tmp_path / "site")


def test_a_broken_link_stops_it(tmp_path, capfd):
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "notebooks").mkdir()
    shutil.copytree(ROOT / "docs" / "site", root / "docs" / "site")
    (root / "README.md").write_text("# A course\n\n[next](docs/missing.md)\n")
    (root / "docs" / "course.md").write_text("# Teaching\n")
    (root / "notebooks" / "glossary.md").write_text("# Glossary\n")
    with pytest.raises(CourseError, match="was not built"):
        build(root, tmp_path / "site")
    assert "docs/missing.md" in capfd.readouterr().err
    assert not (tmp_path / "site").exists()
