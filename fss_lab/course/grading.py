"""Grading what students handed in: looked through first, then run with time limits, each check marked by nbgrader."""

from __future__ import annotations

import ast
import csv
import io
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fss_lab.course.notebooks import code_cells, grading, read
from fss_lab.errors import CourseError, needs
from fss_lab.files import write_atomically

with needs("grading", "course"):
    import nbformat
    from nbformat import NotebookNode

SECONDS, SECONDS_LATER = 300, 20  # a cell's limit, before and after the first one that exceeds it
LETHAL = {"_exit", "abort", "kill", "killpg", "exit", "quit"}
RESTARTS = 8


@dataclass(frozen=True)
class Marks:
    """What one notebook of one student is worth. points: by check; remarks: for the teacher, a line for each."""

    student: str
    notebook: str
    points: dict[str, float]
    remarks: list[str]


def grade(submissions: Path, output: Path, notebooks: Path) -> list[str]:
    """Mark all notebooks of `submissions`, a folder with one folder for each student, and write the table `output`.

    notebooks: the folder of the originals; one is told by its name, 04_pseudo_prompts.ipynb. Nothing but notebooks is
    taken from a submission. Returns all remarks. Raises CourseError if there is no submission or no nbgrader.
    """
    originals = {path.name: read(path) for path in notebooks.glob("[0-9]*.ipynb")}
    handed_in = [path for path in sorted(submissions.glob("*/**/*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    if not handed_in:
        raise CourseError(f"{submissions} holds no notebooks; put each student's into a folder with the student's name")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")

    def marked(path: Path) -> Marks:
        student = path.relative_to(submissions).parts[0]
        if path.name not in originals:
            return Marks(student, path.stem, {}, [f"{path.name} is no notebook of the course: was it renamed?"])
        try:
            return mark(student, path.stem, read(path), originals[path.name])
        except CourseError as error:
            return Marks(student, path.stem, {}, [str(error)])

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        marks = list(pool.map(marked, handed_in))
    write_atomically(output, table(marks, originals).encode())
    return [f"{row.student}, {row.notebook}: {remark}" for row in marks for remark in row.remarks]


def table(marks: list[Marks], originals: dict[str, NotebookNode]) -> str:
    """The marks as CSV: Canvas's columns for a student, which Moodle's import maps too, and one for each notebook."""
    names = sorted({row.notebook for row in marks if f"{row.notebook}.ipynb" in originals})
    most = {name: sum(grading(cell)["points"] for cell in _checks(originals[f"{name}.ipynb"])) for name in names}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["Student", "ID", "SIS Login ID", "Section", *(f"{n} (of {most[n]:g})" for n in names), "Remarks"])
    for student in sorted({row.student for row in marks}):
        theirs = [row for row in marks if row.student == student]
        points = {row.notebook: f"{sum(row.points.values()):g}" for row in theirs}
        remarks = " | ".join(remark for row in theirs for remark in row.remarks)
        rows.writerow([student, "", student, "", *(points.get(name, "") for name in names), remarks])
    return text.getvalue()


def mark(student: str, name: str, submission: NotebookNode, original: NotebookNode) -> Marks:
    """Run one notebook that was handed in, with the original checks, and mark each check for itself."""
    try:
        from nbgrader.utils import determine_grade
    except ImportError as error:
        raise CourseError("grading needs nbgrader, which is not here: pip install 'fss-lab[course]'") from error
    remarks = look_through(submission, original)
    done, incidents = run(prepared(submission, original))
    points: dict[str, float] = {}
    for cell in _checks(done):
        identity = grading(cell)["grade_id"]
        for output in cell.outputs:
            if "not the one that is installed" in (reason := output.get("evalue", "")) and reason not in remarks:
                remarks.append(reason)
        points[identity] = max(points.get(identity, 0), determine_grade(cell)[0] if cell.execution_count else 0)
    return Marks(student, name, points, remarks + incidents)


def look_through(submission: NotebookNode, original: NotebookNode) -> list[str]:
    """What in a submission would abort nbgrader or deserves a look: copied, lost and unknown graded cells, calls that
    end the kernel, another kernel."""
    remarks = []
    known = {grading(cell)["grade_id"] for cell in original.cells if grading(cell).get("grade_id")}
    count = Counter(grading(cell).get("grade_id") for cell in submission.cells)
    for number, cell in enumerate(submission.cells, start=1):
        identity = grading(cell).get("grade_id")
        if identity and identity not in known:
            remarks.append(f"cell {number} has the unknown name {identity}")
        elif identity and count[identity] > 1:
            remarks.append(f"cell {number} is one of {count[identity]} copies of {identity}")
        if calls := sorted(_lethal_calls(cell)):
            remarks.append(f"cell {number} ends the kernel with {', '.join(calls)}")
    remarks += [f"the cell {identity} is missing" for identity in sorted(known - set(count))]
    kernel = submission.metadata.get("kernelspec", {}).get("name", "python3")
    return remarks + ([f"it was made for the kernel {kernel}"] if kernel != "python3" else [])


def prepared(submission: NotebookNode, original: NotebookNode) -> NotebookNode:
    """The submission with the original checks: each copy of one is restored, a lost one follows its exercise."""
    notebook = nbformat.from_dict(submission)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    checks = {grading(cell)["grade_id"]: cell for cell in _checks(original)}
    cells: list[NotebookNode] = []
    lost = set(checks) - {grading(cell).get("grade_id") for cell in notebook.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        identity = grading(cell).get("grade_id")
        cells.append(nbformat.from_dict(checks[identity]) if identity in checks else cell)
        if f"{identity}-check" in lost:
            cells.append(nbformat.from_dict(checks[f"{identity}-check"]))
            lost.remove(f"{identity}-check")
    notebook.cells = cells + [nbformat.from_dict(checks[identity]) for identity in checks if identity in lost]
    for cell in code_cells(notebook):
        if grading(cell).get("grade_id") not in checks:
            cell.metadata.pop("nbgrader", None)
        cell.metadata.pop("tags", None)
        cell.outputs, cell.execution_count = [], None
    return notebook


def run(notebook: NotebookNode) -> tuple[NotebookNode, list[str]]:
    """All cells in a kernel of the environment, in an empty folder; an error is no reason to stop.

    Where the kernel ends, the cells that end kernels are left out, or else the one that ran, and all runs again.
    Returns the notebook with its outputs, and remarks.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    remarks: list[str] = []
    for _ in range(RESTARTS):
        attempt, late, begun = nbformat.from_dict(notebook), list[str](), list[int]()

        def limit(cell: Any, late: list[str] = late) -> int:
            return SECONDS_LATER if late else SECONDS

        client: Any
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(
                attempt,
                timeout_func=limit,
                interrupt_on_timeout=True,
                allow_errors=True,
                kernel_name="python3",
                extra_arguments=["--InteractiveShellApp.ignore_cwd=True", "--log-level=CRITICAL"],
                on_cell_start=lambda cell, cell_index, begun=begun: begun.append(cell_index),
                on_cell_executed=lambda cell, late=late, **_: late.extend(_interrupted(cell)),
                resources={"metadata": {"path": folder}},
            )
            try:
                client.execute()
            except DeadKernelError:
                lethal = [number for number, cell in enumerate(notebook.cells) if any(_lethal_calls(cell))]
                for index in lethal or begun[-1:]:
                    remarks.append(f"cell {index + 1} ended the kernel and was left out")
                    notebook.cells[index].source = ""
                continue
        return attempt, remarks + [f"cell {cell} took too long" for cell in late]
    return attempt, [*remarks, "the kernel ended again and again: look at it yourself"]


def _checks(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in code_cells(notebook) if grading(cell).get("grade")]


def _interrupted(cell: NotebookNode) -> list[str]:
    return [cell.id for output in cell.outputs if output.get("ename") in ("KeyboardInterrupt", "CellTimeoutError")]


def _lethal_calls(cell: NotebookNode) -> Iterator[str]:
    try:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
    except SyntaxError:  # a magic, or a mistake
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] in LETHAL and name.rpartition(".")[0] in ("", "os", "sys"):
                yield name
