"""Running the notebooks: with other parameters for the tests, in place for git."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from fss_lab.checkpoints import write_atomically
from fss_lab.course.notebooks import (
    CourseError,
    code_cells,
    code_hash,
    output_problems,
    parameters,
    problems,
    read,
    records,
    text,
    tidy,
)  # fmt: skip

EXPECTED = "expected.json"
PRESS = """\
from fss_lab.widgets import Browse

for browse in list(Browse.instances):
    browse.press_everything()"""


def execute(path: str | Path, given: Mapping[str, Any] | None = None, press: bool = False) -> NotebookNode:
    """Run all cells of a notebook in its own folder, in a fresh kernel; the file stays as it is.

    given: values for names of its parameters cell. press: afterwards set every control of every Browse to each of
    its options. Returns the executed notebook.
    Raises CourseError for a parameter that the notebook does not have, a cell that fails or was left out.
    """
    path = Path(path)
    notebook = read(path)
    known = parameters(notebook)
    if unknown := sorted(set(given or {}) - set(known)):
        raise CourseError(f"{path.name} has no parameter {', '.join(unknown)}, only {', '.join(known)}")
    if press:
        notebook.cells.append(nbformat.v4.new_code_cell(PRESS, id="press-everything"))
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of each notebook that it is given as an object
    try:
        done = papermill.execute_notebook(
            notebook,
            None,
            dict(given or {}),
            cwd=str(path.parent),
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which warns of having no encryption
        )
    except PapermillExecutionError as error:
        cell = next(each for each in notebook.cells if each.source == error.source)
        raise CourseError(f"{path.name}, cell {cell.id} failed:\n" + "\n".join(error.traceback)) from None
    if left := [cell.id for cell in code_cells(done) if cell.source.strip() and not cell.execution_count]:
        raise CourseError(f"{path.name}: cells that were not executed: {', '.join(left)}")
    return done


def refresh(path: str | Path) -> None:
    """Run a notebook as shipped and write it back with its outputs, the same bytes on every run.

    Raises CourseError if it fails or breaks a rule (see `problems` and `output_problems`); the file is then as it was.
    """
    path = Path(path)
    notebook = tidy(execute(path))
    notebook.metadata["fss_lab"] = {"executed": code_hash(notebook)}
    if found := problems(notebook) + output_problems(notebook):
        raise CourseError(f"{path.name} was not written:\n    " + "\n    ".join(found))
    write_atomically(path, text(notebook).encode())


def varied(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What expected.json says for each notebook: `parameters` of another run, `values` it recorded, `tolerance`."""
    return json.loads((Path(folder) / EXPECTED).read_text(encoding="utf-8"))


def refresh_expected(path: str | Path) -> None:
    """Run a notebook with its other parameters and write what it records into expected.json beside it.

    Raises CourseError if expected.json has no parameters for it, or the run fails or records nothing.
    """
    path = Path(path)
    entries = varied(path.parent)
    if path.stem not in entries:
        raise CourseError(f'{EXPECTED} has no entry for {path.stem}; add one with "parameters" and "values": {{}}')
    entries[path.stem]["values"] = records(execute(path, entries[path.stem]["parameters"]))
    if not entries[path.stem]["values"]:
        raise CourseError(f"{path.name} records no value; use fss_lab.notebook.record")
    write_atomically(path.parent / EXPECTED, (json.dumps(entries, indent=2) + "\n").encode())


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> list[str]:
    """How recorded values differ from the expected ones: names, and numbers by more than the tolerance.

    Whole numbers and truth values must be equal; others may differ by `tolerance`, absolute or relative.
    """
    lines = [f"{name} is missing" for name in expected if name not in found]
    lines += [f"{name} is new" for name in found if name not in expected]
    for name in (name for name in expected if name in found):
        mine, right = found[name], expected[name]
        allowed = tolerance * max(1.0, abs(right)) if isinstance(right, float) else 0
        if type(mine) is not type(right) or abs(mine - right) > allowed:
            lines.append(f"{name} is {mine}, expected {right}" + (f" ± {allowed:.2g}" if allowed else ""))
    return lines


def refresh_all(paths: Iterable[Path]) -> list[str]:
    """Refresh notebooks and their expected values; tells how it goes. Returns what went wrong, a text for each."""
    wrong = []
    for path in paths:
        print(f"{path.name} ...", flush=True)
        try:
            refresh(path)
            refresh_expected(path)
        except CourseError as error:
            wrong.append(str(error))
    return wrong
