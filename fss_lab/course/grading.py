"""Grading what students handed in: looked through first, then run with time limits, each check marked by nbgrader."""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fss_lab.course.feedback import diagnoses_figure, page
from fss_lab.course.marks import Marks, Result, Roster, canvas, identity, moodle, read_roster, table
from fss_lab.course.notebooks import code_cells, grading, read
from fss_lab.errors import CourseError, needs
from fss_lab.figures import keep
from fss_lab.files import write_atomically

with needs("grading", "course"):
    import nbformat
    from nbformat import NotebookNode
    from nbgrader.utils import determine_grade

SECONDS, SECONDS_LATER = 300, 20  # a cell's limit, before and after the first one that exceeds it
LETHAL = {"_exit", "abort", "kill", "killpg", "exit", "quit"}
RESTARTS = 8
DIAGNOSES = ("ExerciseError", "EndlessError", "UnwrittenError")  # errors whose text says it all


def grade(submissions: Path, output: Path, notebooks: Path, roster: Path | None = None) -> list[str]:
    """Mark all notebooks of `submissions`, a folder with one folder for each student, and write the table `output`.

    Into a folder of the table's name go canvas.csv, moodle.csv, feedback/STUDENT/NOTEBOOK.html, and for each notebook
    a figure of what went wrong. notebooks: the folder of the originals; a submission's name contains that of its
    original. Files that lie in `submissions` itself belong to the student whose name they have before it. Nothing but
    notebooks is taken from a submission. roster: a gradebook that Canvas or Moodle exported.
    Returns all remarks. Raises CourseError if there is no submission, no nbgrader, a bad roster or output name.
    """
    originals = {path.stem: read(path) for path in sorted(notebooks.glob("[0-9]*.ipynb"))}
    handed_in = [path for path in sorted(submissions.glob("**/*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    if not handed_in:
        raise CourseError(f"{submissions} holds no notebooks; put each student's into a folder with the student's name")
    if output.suffix != ".csv":
        raise CourseError(f"the table of marks is a CSV file; {output} must end in .csv")
    students = read_roster(roster) if roster else ()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")

    def marked(path: Path) -> Marks:
        student, name = _whose(path.relative_to(submissions), originals)
        try:
            if name not in originals:
                raise CourseError(f"{path.name} is no notebook of the course: was it renamed?")
            row = mark(student, name, read(path), originals[name])
        except Exception as error:  # one odd file must not cost the others their marks
            row = Marks(student, name, [], [f"not marked: {error}"])
        print(f"{student}, {name}: {row.points:g} points", flush=True)
        return row

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        marks = list(pool.map(marked, handed_in))
    for (student, name), times in Counter((row.student, row.notebook) for row in marks).items():
        if times > 1:
            marks.append(Marks(student, "", [], [f"{name} was handed in {times} times; the last file counts"]))
    for student in sorted({row.student for row in marks}):
        if students and identity(student, students) is None:
            marks.append(Marks(student, "", [], ["this student is not in the roster"]))
    _write(output, marks, originals, students)
    return [f"{row.student}, {note}" for row in marks for note in row.notes]


def _whose(path: Path, originals: Mapping[str, NotebookNode]) -> tuple[str, str]:
    """Student and notebook of a file, by its path in the folder of submissions."""
    name = next((name for name in originals if name in path.stem), path.stem)
    before = path.stem.partition(name)[0].rstrip("_- ")
    return (path.parts[0] if len(path.parts) > 1 else before or path.stem), name


def _write(output: Path, marks: list[Marks], originals: Mapping[str, NotebookNode], roster: Roster) -> None:
    """All files that grading makes."""
    names = sorted({row.notebook for row in marks} & set(originals))
    most = {name: sum(grading(cell)["points"] for cell in _checks(originals[name])) for name in names}
    folder = output.with_suffix("")
    files = {output: table(marks, most), folder / "canvas.csv": canvas(marks, most, roster)}
    files[folder / "moodle.csv"] = moodle(marks, most, roster)
    for row in (row for row in marks if row.results):
        heading = originals[row.notebook].cells[0].source.partition("\n")[0].strip("# ")
        files[folder / "feedback" / row.student / f"{row.notebook}.html"] = page(row, heading or row.notebook)
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.encode())
    for name in names:
        if rows := [row for row in marks if row.notebook == name and row.results]:
            keep(diagnoses_figure(name, rows), folder, f"diagnoses_{name}")


def mark(student: str, name: str, submission: NotebookNode, original: NotebookNode) -> Marks:
    """Run one notebook that was handed in, with the original checks, and mark each check for itself."""
    remarks = look_through(submission, original)
    done, incidents = run(prepared(submission, original))
    results: dict[str, Result] = {}
    for cell in _checks(done):
        task = grading(cell)["grade_id"].removesuffix("-check")
        answers = [other for other in done.cells if other.metadata.get("answers") == task]
        points, most = determine_grade(cell) if cell.execution_count else (0, grading(cell)["points"])
        diagnosis = _diagnosis(cell, answers)
        if "not the one that is installed" in diagnosis and diagnosis not in remarks:
            remarks.append(diagnosis)
        if task not in results or points > results[task].points:
            code = "\n\n".join(answer.source for answer in answers)
            results[task] = Result(task, _title(original, task), points, most, diagnosis, code, _said(cell))
    return Marks(student, name, list(results.values()), remarks + incidents)


def _said(check: NotebookNode) -> str:
    """What a check printed, and the error that it raised, as the student would see it."""
    lines = [output.get("text", "") for output in check.outputs if output.output_type == "stream"]
    errors = [output for output in check.outputs if output.output_type == "error"]
    return "".join(lines + [f"✗ {_words(error)}" for error in errors]).strip()


def _diagnosis(check: NotebookNode, answers: list[NotebookNode]) -> str:
    """Why a check gave no points, "" if it did: its error, or that of the answer, whose function it then lacks."""
    if not check.execution_count:
        return "not run, because the kernel had ended"
    errors = [output for output in check.outputs if output.output_type == "error"]
    if errors and errors[0].ename == "NameError":
        errors = [output for cell in answers for output in cell.outputs if output.output_type == "error"] or errors
    return _words(errors[0]) if errors else _said(check).partition("○ ")[2]


def _words(error: NotebookNode) -> str:
    return error.evalue if error.ename in DIAGNOSES else f"{error.ename}: {error.evalue}"


def _title(original: NotebookNode, task: str) -> str:
    """The last heading above an exercise, without the word exercise."""
    number = [grading(cell).get("grade_id") for cell in original.cells].index(f"{task}-check")
    prose = "\n".join(cell.source for cell in original.cells[:number] if cell.cell_type == "markdown")
    return (re.findall(r"^#+ Exercise (.+)", prose, re.MULTILINE) or [task])[-1]


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
            cell.metadata["answers"] = cell.metadata.pop("nbgrader", {}).get("grade_id", "")
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
