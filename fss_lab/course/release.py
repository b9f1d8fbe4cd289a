"""The student edition of the course, made with nbgrader's own converters."""

from __future__ import annotations

import ast
import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from traitlets.config import Config

from fss_lab.course.notebooks import HOME, code_cells, exercises, grading, problems, read, text
from fss_lab.errors import CourseError, needs

with needs("the student edition", "course"):
    import nbformat
    from nbconvert.exporters import NotebookExporter
    from nbformat import NotebookNode

STUB = "raise NotImplementedError()"
BESIDE = (HOME, "glossary.md", "references.bib")  # the contents, and what the notebooks link to
SETTINGS = """\
# nbgrader reads this file in the folder in which it, or Jupyter, is started: for `Validate` and for the grading.
c = get_config()  # noqa: F821
c.ExecutePreprocessor.timeout = 300  # seconds for a cell; a busy machine needs longer than nbgrader's 30
c.ExecutePreprocessor.extra_arguments = ["--InteractiveShellApp.ignore_cwd=True"]  # modules come from the environment
"""


def student_edition(notebook: NotebookNode) -> NotebookNode:
    """A notebook without its solutions and outputs, its checks locked; an exercise holds STUB in their place.

    Run all cells goes on past an exercise that is not solved yet. Raises MissingPackageError without nbgrader.
    """
    clean = nbformat.from_dict(notebook)
    clean.metadata.pop("fss_lab", None)
    unsolved = _unsolved(clean)
    for cell in code_cells(clean):
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != "hide-input"]
        if cell.id in unsolved:
            tags.append("raises-exception")  # what Jupyter calls a cell after whose error it goes on
        if tags or "tags" in cell.metadata:
            cell.metadata["tags"] = tags
    exporter = NotebookExporter(config=Config({"ClearSolutions": {"code_stub": {"python": STUB}}}))
    for converter in _converters():
        exporter.register_preprocessor(converter, enabled=True)
    return nbformat.reads(exporter.from_notebook_node(clean)[0], as_version=nbformat.NO_CONVERT)


def release(paths: Iterable[Path], output: str | Path) -> list[Path]:
    """Write the student edition of notebooks, what they link to and nbgrader's settings into the new folder `output`.

    Returns the notebooks' new paths. All or nothing: raises CourseError if a notebook breaks a rule, for example by
    markers that do not match, or if the folder exists and holds anything.
    """
    paths, output = list(paths), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise CourseError(f"{output} exists already; name a new folder, or remove that one first")
    notebooks = {path: read(path) for path in paths}
    if wrong := [f"{path.name}: {each}" for path, notebook in notebooks.items() for each in problems(notebook)]:
        raise CourseError("nothing was released:\n    " + "\n    ".join(wrong))
    beside = [extra for extra in {path.with_name(name) for path in paths for name in BESIDE} if extra.exists()]
    names = {path.name for path in [*paths, *beside]}
    files = {path.name: text(_converted(path.name, each, names)) for path, each in notebooks.items()}
    files |= {extra.name: _beside(extra, names) for extra in beside}
    files["nbgrader_config.py"] = SETTINGS
    aside = output.with_name(f".{output.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.mkdir(parents=True)
        for name, content in files.items():
            (aside / name).write_text(content, encoding="utf-8", newline="\n")
        if output.exists():
            output.rmdir()
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # gone already after the renaming
    return [output / path.name for path in notebooks]


def solution_lines(notebook: NotebookNode) -> list[str]:
    """The lines that the student edition must not contain: those of all solutions, without their indentation."""
    lines = []
    for cell in exercises(notebook):
        _, _, rest = cell.source.partition("BEGIN SOLUTION\n")
        lines += [line.strip() for line in rest.partition("END SOLUTION")[0].splitlines()[:-1] if line.strip()]
    return lines


def _converted(name: str, notebook: NotebookNode, names: set[str]) -> NotebookNode:
    """The student edition of a notebook that is released together with files of these names."""
    try:
        edition = student_edition(notebook)
    except CourseError:
        raise
    except Exception as error:  # nbgrader's converters raise several kinds
        raise CourseError(f"nothing was released: nbgrader refuses {name}: {error}") from error
    return _relinked(edition, names)


def _beside(extra: Path, names: set[str]) -> str:
    """What a page beside the notebooks, or the contents, becomes."""
    if extra.suffix == ".ipynb":
        return text(_relinked(read(extra), names))
    return linked(extra.read_text(encoding="utf-8"), names)


def _relinked(notebook: NotebookNode, names: set[str]) -> NotebookNode:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, names)
    return notebook


def linked(markdown: str, names: set[str]) -> str:
    """With links to files of these names, and to the web; of other links the words alone stay."""
    link = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)")
    return link.sub(lambda found: found[0] if found[2] in names else found[1], markdown)


def _unsolved(notebook: NotebookNode) -> set[str]:
    """The ids of the cells that cannot work before the exercises are solved: they use, at first or second hand, what
    the reader is to write.
    """
    found: set[str] = set()
    missing: set[str] = set()
    for cell in code_cells(notebook):
        tree = ast.parse(cell.source)
        if grading(cell).get("solution"):
            missing |= _defined(tree)
        elif missing & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
            found.add(cell.id)
            missing |= _defined(tree)
    return found


def _defined(tree: ast.Module) -> set[str]:
    """The names that a cell gives to the cells after it."""
    names = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        else:
            stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            names |= {node.id for node in stored if isinstance(node.ctx, ast.Store)}
    return names


def _converters() -> list[Any]:
    """In nbgrader's own order, without what needs its database."""
    with needs("the student edition", "course"):
        from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, ComputeChecksums, LockCells
    return [LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ComputeChecksums]
