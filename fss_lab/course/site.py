"""The course as a web site: Sphinx with myst-nb and furo, built and read without a network."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path

from fss_lab.course.execution import execute
from fss_lab.course.notebooks import BEGIN, END, HOME, exercises, outputs, read, text, tidy
from fss_lab.course.record import RECORD
from fss_lab.course.release import STUB
from fss_lab.errors import CourseError, MissingPackageError, needs

with needs("the site", "course"):
    from nbformat.v4 import new_markdown_cell

CONTENTS = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""
INSTRUCTORS = "docs/teaching"  # pages that a site without solutions leaves out
EXPLORER = "explorer"  # a cell that ends with this name shows the attention explorer
FRAME = """\
<iframe class="explorer" src="{page}" title="The attention explorer, interactive" loading="lazy"></iframe>

[The explorer on a page of its own]({page})"""


def build(root: Path, output: Path, solutions: bool = True) -> Path:
    """Build the site of the repository `root` into the folder `output`, replacing it; returns the start page.

    solutions: False shows exercises as they are handed out, and leaves out the pages for instructors.
    Raises CourseError if `root` is no clone, Sphinx finds a mistake (a broken link, say), or `output` holds other
    files, MissingPackageError without Sphinx, its theme or its extensions.
    """
    if not (root / "docs" / "site").is_dir():
        raise CourseError(f"the site is made from a clone of the repository, which {root} is not")
    for module in ("sphinx", "myst_nb", "furo", "sphinx-mathjax-offline"):
        if importlib.util.find_spec(module) is None:
            raise MissingPackageError(f'the site needs {module}, which is not installed: pip install "fss-lab[course]"')
    from sphinx.cmd.build import main as sphinx

    if output.exists() and any(output.iterdir()) and not (output / "objects.inv").exists():
        raise CourseError(f"{output} holds something else than the site; name another folder with --output")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source", Path(folder) / "html"
        stage(root, source, solutions)
        # -W: a warning is an error
        options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(Path(folder) / "doctrees")]
        if sphinx([*options, "-c", str(root / "docs" / "site"), str(source), str(made)]):
            raise CourseError("the site was not built; the lines above say why")
        for page in source.rglob("*.html"):  # the explorer, which Sphinx does not know
            shutil.copy(page, made / page.relative_to(source))
        aside = output.with_name(f".{output.name}.tmp")  # so that no half of a site is ever there
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(made, aside)
        shutil.rmtree(output, ignore_errors=True)
        aside.rename(output)
    return output / "index.html"


def stage(root: Path, source: Path, solutions: bool = True) -> None:
    """Copy the pages, and whatever they link to, into `source`, in the folders that they have in the repository.

    The start page is the README with the contents below it. solutions: as for `build`.
    """
    start = root / "README.md"
    home, lessons = ((root / "notebooks").glob(name) for name in (HOME, "[0-9][0-9]_*.ipynb"))
    course = [*home, *sorted(lessons), root / "notebooks" / "glossary.md"]
    found = [start, *course, *sorted((root / "docs").glob("*.md"))]
    for page in found:  # which grows meanwhile
        if page.suffix in (".md", ".ipynb"):
            linked = [file for file in dict.fromkeys(linked_files(page)) if file.is_file() and file not in found]
            found += [file for file in linked if solutions or root / INSTRUCTORS not in file.parents]
    for file in found[1:]:
        place = source / file.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".ipynb":
            _stage_notebook(file, place, solutions)
        elif file.suffix == ".md" and not solutions:
            place.write_text(_without_links(file.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copy(file, place)
    more = [file for file in found[1:] if file.suffix == ".md" and file not in course]
    index = start.read_text(encoding="utf-8")
    index = index if solutions else _without_links(index)
    for caption, pages in (("The course", course), ("More", more)):
        names = "\n".join(page.relative_to(root).with_suffix("").as_posix() for page in pages)
        index += CONTENTS.format(caption=caption, pages=names)
    (source / "index.md").write_text(index, encoding="utf-8")


def links(page: Path) -> list[str]:
    """The targets of all links and images of a Markdown file or notebook, in order."""
    if page.suffix == ".ipynb":
        content = "\n\n".join(cell.source for cell in read(page).cells if cell.cell_type == "markdown")
    else:
        content = page.read_text(encoding="utf-8")
    content = re.sub(r"^(```|~~~).*?^\1", "", content, flags=re.MULTILINE | re.DOTALL)
    content = re.sub(r"`[^`\n]*`", "", content)
    return re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", content) + re.findall(r"(?:src|href)=\"([^\"]+)\"", content)


def linked_files(page: Path) -> list[Path]:
    """The files and folders of this repository that a page links to, whether they exist or not."""
    inside = [link.partition("#")[0] for link in links(page) if not re.match(r"[a-z]+:|#", link)]
    return [(page.parent / link).resolve() for link in inside]


def _without_links(markdown: str) -> str:
    """With the words alone of links to the pages for instructors."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./|docs/)*teaching/[^)]*\)", r"\1", markdown)


def _stage_notebook(page: Path, place: Path, solutions: bool) -> None:
    """With the alternative text of each image where myst-nb looks for it, in the settings of the cell, attached
    images beside it, and the explorer itself instead of its picture.
    """
    notebook = tidy(read(page))
    if not solutions:
        for cell in exercises(notebook):
            cell.source = re.sub(rf"{BEGIN}.*?{END}", STUB, cell.source, flags=re.DOTALL)
            cell.metadata.pop("tags", None)  # nothing is left to fold away
        for cell in notebook.cells:
            cell.source = _without_links(cell.source)
    for cell in notebook.cells:
        for name, image in cell.pop("attachments", {}).items():
            (place.parent / name).write_bytes(base64.b64decode(image["image/png"]))
            cell.source = cell.source.replace(f"(attachment:{name})", f"({name})")
    for cell, output in outputs(notebook):
        output.get("data", {}).pop(RECORD, None)  # its text stays
        if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    numbers = [number for number, cell in enumerate(notebook.cells) if cell.source.split("\n")[-1] == EXPLORER]
    for number in numbers[:1]:
        notebook.cells[number].outputs = []
        frame = FRAME.format(page=save_explorer(page, number, place.parent))
        notebook.cells.insert(number + 1, new_markdown_cell(frame, id=EXPLORER))
    place.write_text(text(notebook), encoding="utf-8")


def save_explorer(page: Path, number: int, folder: Path) -> str:
    """Run a notebook up to its cell `number`, which shows the explorer, and save the explorer as a file of `folder`.

    Returns the file's name. Raises CourseError if a cell fails.
    """
    notebook, name = read(page), f"{page.stem}_explorer.html"
    notebook.cells = notebook.cells[: number + 1]
    notebook.cells[number].source += f'.save_html("{name}")'
    draft = folder / f"{page.stem}_draft.ipynb"
    draft.write_text(text(notebook), encoding="utf-8")
    try:
        execute(draft)
    finally:
        draft.unlink()
    return name
