"""Running the notebooks: with other parameters for the tests, in place for git."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fss_lab.course.notebooks import (
    code_cells,
    code_hash,
    output_problems,
    parameters,
    problems,
    read,
    records,
    text,
    tidy,
)
from fss_lab.errors import CourseError, needs
from fss_lab.files import write_atomically

with needs("running notebooks", "course"):
    import nbformat
    import papermill
    from nbformat import NotebookNode
    from papermill.exceptions import PapermillExecutionError

EXPECTED = "expected.json"
TOLERANCE = 0.005  # other processors round differently, which may turn a pixel; on one, values stay what they are
SLOW = 45  # seconds that a notebook may take as shipped, on two cores
PRESS = """\
from fss_lab.widgets.browse import Browse

for browse in list(Browse.instances):
    browse.press_everything()"""


def execute(path: str | Path, given: Mapping[str, Any] | None = None, press: bool = False) -> NotebookNode:
    """Run all cells of a notebook in its own folder, in a fresh kernel; the file stays as it is.

    given: values for names of its parameters cell. press: afterwards move every control of every Browse
    (see `Browse.press_everything`). Returns the executed notebook.
    The kernel's threads sleep while they wait (OMP_WAIT_POLICY, unless it is set): where other programs want the
    cores too, threads that spin slow a notebook down several times.
    Raises CourseError for a parameter that the notebook does not have, a cell that fails or was left out.
    """
    path = Path(path)
    notebook = read(path)
    known = parameters(notebook)
    if unknown := sorted(set(given or {}) - set(known)):
        raise CourseError(f"{path.name} has no parameter {', '.join(unknown)}, only {', '.join(known)}")
    if press:
        notebook.cells.append(nbformat.v4.new_code_cell(PRESS, id="press-everything"))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of each notebook that it is given as an object
    try:
        done = papermill.execute_notebook(
            notebook,
            None,
            dict(given or {}),
            cwd=str(path.parent),
            kernel_name="python3",
            progress_bar=False,
            store_widget_state=False,  # megabytes that no reader of a notebook can use
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


def expectations(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What expected.json says for each notebook: `shipped`, the values that it records as shipped; `parameters` of
    another run and the `values` of that; where TOLERANCE is not right for it, `tolerance`.
    """
    return json.loads((Path(folder) / EXPECTED).read_text(encoding="utf-8"))


def refresh_expected(path: str | Path) -> None:
    """Write into expected.json what a notebook recorded as shipped, and what it records with its other parameters.

    The former is taken from its outputs, the latter from a run. Raises CourseError if expected.json has no parameters
    for it, if the run fails, or if either records nothing.
    """
    path = Path(path)
    if path.stem not in (entries := expectations(path.parent)):
        raise CourseError(f'{EXPECTED} has no entry for {path.stem}; add one with "parameters" and "values": {{}}')
    varied = execute(path, entries[path.stem]["parameters"])
    found = {"shipped": records(read(path)), "values": records(varied)}
    if not all(found.values()):
        raise CourseError(f"{path.name} records no value; use fss_lab.course.record.record")
    entries[path.stem].update(found)
    write_atomically(path.parent / EXPECTED, (json.dumps(entries, indent=2) + "\n").encode())


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = TOLERANCE) -> list[str]:
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
    """Refresh notebooks and their expected values; tells how it goes and how long each takes as shipped.

    Returns what went wrong, a text for each.
    """
    wrong = []
    for path in paths:
        print(f"{path.name} ... ", end="", flush=True)
        start = time.monotonic()
        try:
            refresh(path)
            seconds = time.monotonic() - start
            slow = f", more than {SLOW}: is it too long, or this machine busy?" if seconds > SLOW else ""
            print(f"{seconds:.0f} s{slow}", flush=True)
            refresh_expected(path)
        except CourseError as error:
            print("failed", flush=True)
            wrong.append(str(error))
    return wrong
