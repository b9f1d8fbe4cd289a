"""The slides: their text from a page in Markdown, their figures from the notebooks, all in one HTML file."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

from fss_lab.course.notebooks import outputs, read
from fss_lab.errors import CourseError, needs
from fss_lab.files import write_atomically

with needs("the slides", "course"):
    from nbconvert.filters import markdown2html

FIGURE = re.compile(r"^!\[(.*?)\]\((\S+?)(?:#(\S+))?\)$", re.MULTILINE)
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<body><main>
{slides}
</main>
<script>{script}</script></body>
</html>
"""


def build(source: Path, output: Path) -> int:
    """Make one HTML file of the page `source` and of the .css and .js files of its name; returns the number of slides.

    A line `---` ends a slide, a line `Notes:` begins what is for the speaker. An image is a PNG file with its
    description, or `NOTEBOOK#CELL`, the picture that a notebook holds below a cell, with the description it has there.
    Raises CourseError without `source`, or for a picture that is missing or has no description. Raises FileError if
    `output` cannot be written.
    """
    if not source.is_file():
        raise CourseError(f"the slides are made from a clone of the repository; there is no {source}")
    text = source.read_text(encoding="utf-8")
    slides = [_slide(part, source) for part in re.split(r"^---$", text, flags=re.MULTILINE)]
    title = html.escape(text.splitlines()[0].lstrip("# "))
    style, script = (source.with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    page = PAGE.format(title=title, style=style, script=script, slides="\n".join(slides))
    write_atomically(output, page.encode())
    return len(slides)


def _slide(text: str, source: Path) -> str:
    """A section of HTML: the words, the figures below them (beside them if they are not wide), and the notes."""
    shown, _, notes = text.partition("\nNotes:\n")
    figures, beside = "", ""
    for found in FIGURE.finditer(shown):
        image, alt = _picture((source.parent / found[2]).resolve(), found[3], found[1])
        width, height = (int.from_bytes(image[place : place + 4], "big") for place in (16, 20))
        beside = beside or ' class="beside"' * (width < 1.6 * height)
        data = base64.b64encode(image).decode()
        figures += f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(alt)}"></figure>'
    words, spoken = markdown2html(FIGURE.sub("", shown)), markdown2html(notes)
    return f'<section{beside}><div>{words}</div>{figures}<aside aria-label="notes">{spoken}</aside></section>'


def _picture(file: Path, cell: str | None, alt: str) -> tuple[bytes, str]:
    """The bytes of a PNG and its description."""
    if cell is None:
        image = file.read_bytes() if file.is_file() else b""
    else:
        shown = [each for at, each in outputs(read(file)) if at.id == cell and "image/png" in each.get("data", {})]
        image = base64.b64decode(shown[0].data["image/png"]) if shown else b""
        alt = alt or (shown[0].metadata.get("image/png", {}).get("alt", "") if shown else "")
    if not (image and alt):
        raise CourseError(f"the slides need {file.name}{f'#{cell}' if cell else ''}: a PNG with a description")
    return image, alt
