"""The slides, in a real browser: complete, readable, moved by keys, printed one a page, without a network."""

import re
from pathlib import Path

import pytest
from helpers.contrast import too_pale

from fss_lab.cli import main
from fss_lab.course.slides import build
from fss_lab.errors import CourseError

SOURCE = Path(__file__).parents[2] / "docs" / "teaching" / "slides.md"


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    path = tmp_path_factory.mktemp("deck") / "slides.html"
    assert main(["course", "slides", "--output", str(path)]) == 0
    return path


@pytest.fixture
def page(browser, deck):
    with browser.new_context(viewport={"width": 1280, "height": 720}) as context:
        page = context.new_page()
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(deck.as_uri())
        yield page


def test_every_slide_has_a_title_notes_and_described_figures(deck):
    text = deck.read_text(encoding="utf-8")
    slides = text.split("<section")[1:]
    assert 20 <= len(slides) <= 25
    for slide in slides:
        assert re.search(r"<h[12]", slide) and re.search(r'<aside aria-label="notes">\s*<p>', slide)
    assert (
        text.count("<img ") == len(re.findall(r'<img src="data:image/png;base64,[^"]+" alt="[^"]{20,}">', text)) >= 20
    )
    assert "anchor-link" in text  # of nbconvert; slides.css hides them


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (390, 700)])
def test_every_slide_fits_and_shows_its_figure(page, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for number in range(page.evaluate("slides.length")):
        page.evaluate(f"show({number})")
        outside = page.evaluate(
            """() => [slides[now], ...slides[now].querySelectorAll("*")]
            .filter((x) => x.checkVisibility() && !x.closest("aside")).filter((x) => {
              const box = x.getBoundingClientRect();
              return box.right > innerWidth + 1 || box.bottom > innerHeight + 1 || x.scrollWidth > x.clientWidth + 1
                && getComputedStyle(x).display !== "inline";
            }).map((x) => x.outerHTML.slice(0, 80))"""
        )
        assert outside == [], number + 1
        assert page.evaluate(
            "[...slides[now].querySelectorAll('img')].every((image) => image.naturalWidth && image.clientHeight > 50)"
        )
        assert too_pale(page) == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.browser
def test_keys_turn_slides_and_show_notes(page):
    def place():
        return page.locator("nav span").inner_text()

    assert place() == "1 / 25" and page.locator("section:visible").count() == 1
    for key, number in (
        ("ArrowRight", 2),
        ("PageDown", 3),
        ("ArrowLeft", 2),
        ("End", 25),
        ("ArrowRight", 25),
        ("Home", 1),
    ):
        page.keyboard.press(key)
        assert place() == f"{number} / 25"
    page.keyboard.press("ArrowDown")
    page.reload()
    assert place() == "2 / 25" and page.evaluate("document.activeElement.tagName") == "BODY"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "slide 3 of 25"
    page.keyboard.press("n")
    notes = page.locator("aside:visible")
    assert notes.count() == 1 and "Notebook 01" in notes.inner_text() and too_pale(page) == []
    assert page.evaluate("slides[now].getBoundingClientRect().bottom") <= 0.73 * 720
    page.get_by_role("button", name="speaker notes").click()
    assert page.locator("aside:visible").count() == 0
    page.get_by_role("button", name="previous slide").click()
    assert place() == "2 / 25"


@pytest.mark.browser
def test_it_prints_one_slide_a_page(page):
    page.keyboard.press("n")
    pdf = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 25


def write(folder, text):
    for kind in (".css", ".js"):
        (folder / f"slides{kind}").write_text("")
    (folder / "slides.md").write_text(text)
    return folder / "slides.md"


@pytest.mark.parametrize(
    "figure", ["![](99.png)", "![words](99.png)", "![](99_circles.ipynb#use)", "![](99_circles.ipynb#no)"]
)
def test_a_figure_without_picture_or_description_is_refused(file, tmp_path, figure):
    file()
    with pytest.raises(CourseError, match="the slides need 99"):
        build(write(tmp_path / "notebooks", f"# Circles\n\n{figure}\n"), tmp_path / "slides.html")
    assert not (tmp_path / "slides.html").exists()


def test_a_picture_without_a_description_is_refused(file, tmp_path):
    file().with_name("99.png").write_bytes(bytes(24))
    with pytest.raises(CourseError, match="a PNG with a description"):
        build(write(tmp_path / "notebooks", "# Circles\n\n![](99.png)\n"), tmp_path / "slides.html")
    assert build(write(tmp_path / "notebooks", "# Circles\n\n![a circle](99.png)\n"), tmp_path / "slides.html") == 1


def test_it_needs_a_clone(tmp_path):
    with pytest.raises(CourseError, match="made from a clone"):
        build(tmp_path / "slides.md", tmp_path / "slides.html")
