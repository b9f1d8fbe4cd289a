"""What a notebook of the course consists of, and the rules that it keeps."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from fss_lab.course.record import RECORD
from fss_lab.errors import CourseError, needs

with needs("the course", "course"):
    import nbformat
    from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HOME = "index.ipynb"  # the contents: text and an attached picture, no code
LONGEST_CELL, MEDIAN_CELL, BYTES, DPI = 25, 8, 600_000, 110
LANGUAGE = {  # without the version of Python, which differs between machines
    "name": "python",
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "codemirror_mode": {"name": "ipython", "version": 3},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
# folders that only some machines have, at the beginning of a path
MACHINE_PATH = re.compile(
    r"(?<![\w.)\]])(/(home|root|tmp|work|opt|usr|mnt|var|private|content|Users|Volumes)/\w|[A-Z]:\\\\?\w)"
)


def read(path: str | Path) -> NotebookNode:
    """A notebook as it is in the file. Raises CourseError if it is none."""
    try:
        return nbformat.read(path, as_version=nbformat.NO_CONVERT)
    except FileNotFoundError:
        raise CourseError(f"there is no notebook {path}") from None
    except Exception as error:  # nbformat raises whatever its JSON and its schemas raise
        raise CourseError(f"{path} is not a notebook: {error}") from error


def text(notebook: NotebookNode) -> str:
    """The bytes that a notebook has in git, as text."""
    return nbformat.writes(notebook) + "\n"


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells with code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Each output with its cell."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield cell, output


def grading(cell: NotebookNode) -> dict[str, Any]:
    """What nbgrader knows of a cell, {} if nothing."""
    return cell.metadata.get("nbgrader", {})


def exercises(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that the reader is to write."""
    return [cell for cell in code_cells(notebook) if grading(cell).get("solution")]


def code_hash(notebook: NotebookNode) -> str:
    """A fingerprint of all code, in its order."""
    return hashlib.sha256("\0".join(cell.source for cell in code_cells(notebook)).encode()).hexdigest()[:16]


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """Names and values of the cell tagged `parameters`.

    Raises CourseError unless there is exactly one such cell and it assigns nothing but numbers, texts and None.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0].cell_type != "code":
        raise CourseError(f"exactly one code cell must be tagged `parameters`, found {len(tagged)}")
    values = {}
    for line in ast.parse(tagged[0].source).body:
        try:
            (name,) = line.targets  # type: ignore[attr-defined]
            values[name.id] = ast.literal_eval(line.value)  # type: ignore[attr-defined]
        except (AttributeError, ValueError):
            raise CourseError(f"the parameters cell may only assign values: {ast.unparse(line)}") from None
        if not isinstance(values[name.id], int | float | str | None):
            raise CourseError(f"the parameter {name.id} must be a number, a text or None")
    return values


def records(notebook: NotebookNode) -> dict[str, Any]:
    """The values that the notebook recorded when it ran. Raises CourseError for a name recorded twice."""
    found: dict[str, Any] = {}
    for cell, output in outputs(notebook):
        values = output.get("data", {}).get(RECORD, {})
        if twice := set(values) & set(found):
            raise CourseError(f"cell {cell.id} records {sorted(twice)} a second time")
        found.update(values)
    return found


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Without what changes from run to run or shows nothing without a kernel: times, versions, widgets."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    for cell in notebook.cells:
        cell.metadata = {name: cell.metadata[name] for name in ("nbgrader", "tags") if cell.metadata.get(name)}
    for cell in code_cells(notebook):
        cell.outputs = [each for each in cell.outputs if not _only_widget(each)]
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
    return notebook


def _only_widget(output: NotebookNode) -> bool:
    """Whether an output shows nothing without a kernel: a widget that brings no picture with it."""
    return WIDGET in output.get("data", {}) and "image/png" not in output.data


def problems(notebook: NotebookNode) -> list[str]:
    """Everything about a notebook itself that breaks a rule, one line for each; [] for a good one."""
    found = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found.append(f"no valid notebook: {error.message}")
    try:
        if not {"fold", "seed"} <= set(parameters(notebook)):
            found.append("the parameters must include fold and seed")
    except CourseError as error:
        found.append(str(error))
    return found + list(_wrong_code(notebook)) + list(_wrong_text(notebook)) + list(_wrong_exercises(notebook))


def _wrong_code(notebook: NotebookNode) -> Iterator[str]:
    lengths = {cell.id: sum(_counts(line) for line in cell.source.splitlines()) for cell in code_cells(notebook)}
    for name, length in lengths.items():
        if length > LONGEST_CELL:
            yield f"cell {name}: {length} lines of code, at most {LONGEST_CELL}"
    if lengths and (median := statistics.median(lengths.values())) > MEDIAN_CELL:
        yield f"the median cell has {median} lines of code, at most {MEDIAN_CELL}"
    for cell in code_cells(notebook):
        if found := re.search(r"^\s*[!%].*|.*(sys\.path|pip install).*", cell.source, re.MULTILINE):
            yield f"cell {cell.id}: neither magics, installing nor sys.path: {found[0].strip()}"
    for cell in notebook.cells:
        if found := MACHINE_PATH.search(cell.source):
            yield f"cell {cell.id}: a path of some machine: {found[0]}"


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def _wrong_text(notebook: NotebookNode) -> Iterator[str]:
    first = notebook.cells[0].source if notebook.cells else ""
    if not re.match(r"# \d\d · \S", first):
        yield "the first cell must begin with a title such as `# 04 · The pseudo prompt generator`"
    if not re.match(r".+\n\n\*\*\S[\s\S]+?\*\*\n", first):
        yield "the title needs the notebook's claim below it, one sentence in bold"
    if not re.search(r"minutes? to read.* · .*to run", first):
        yield "the title cell must say `N minutes to read · about N seconds to run on two CPU cores`"
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    objectives = re.search(r"^After this you can\n\n((?:[-*] .+\n?(?: +\S.*\n?)*)+)", prose, re.MULTILINE)
    if not objectives:
        yield "the objectives are missing: `After this you can` with a list below it"
    elif not 3 <= (count := len(re.findall(r"^[-*] ", objectives[1], re.MULTILINE))) <= 5:
        yield f"{count} objectives; 3 to 5 can be kept in mind"
    if not re.search(r"^\*\*Prerequisites:\*\*", prose, re.MULTILINE):
        yield "it does not name its `**Prerequisites:**`"
    if len(re.findall(r"^## ", prose, re.MULTILINE)) < 3:
        yield "fewer than three sections (`## `)"


def _wrong_exercises(notebook: NotebookNode) -> Iterator[str]:
    ids = Counter(grading(cell)["grade_id"] for cell in notebook.cells if "grade_id" in grading(cell))
    yield from (f"the nbgrader id {name} is used {times} times" for name, times in ids.items() if times > 1)
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        marks = [line.strip() for line in cell.source.splitlines() if re.search("(BEGIN|END) SOLUTION", line)]
        name = grading(cell).get("grade_id", cell.id)
        if grading(cell).get("solution"):
            if marks != [BEGIN, END]:
                yield f"cell {name}: the solution must stand between one {BEGIN} and one {END}, found {marks}"
            after = grading(following) if following else {}
            if not after.get("grade") or after.get("grade_id") != f"{name}-check":
                yield f"cell {name}: its check {name}-check must come right below it"
        elif marks:
            yield f"cell {name}: {marks[0]} outside an exercise"
        elif grading(cell) and not grading(cell).get("points"):
            yield f"cell {name}: a check is worth at least one point"


def output_problems(notebook: NotebookNode) -> list[str]:
    """Everything about the outputs that breaks a rule, one line for each; [] for a notebook as it is kept in git."""
    found = []
    if notebook.metadata.get("fss_lab", {}).get("executed") != code_hash(notebook):
        found.append("its code is not the code that was executed: run `python lab.py notebooks`")
    if "widgets" in notebook.metadata:
        found.append("it holds the state of widgets, which shows nothing without a kernel")
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"not all cells were executed once, in order: {counts}")
    for cell, output in outputs(notebook):
        data = output.get("data", {})
        if output.output_type == "error":
            found.append(f"cell {cell.id} ended with {output.ename}: {output.evalue}")
        if output.get("name") == "stderr":
            found.append(f"cell {cell.id} wrote to stderr: {output.text.strip()[:200]}")
        if any(kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt") for kind in data):
            found.append(f"cell {cell.id} shows an image without alternative text")
        if "image/png" in data and (dpi := _dots_per_inch(data["image/png"])) > DPI:
            found.append(f"cell {cell.id} shows an image of {dpi} dpi, at most {DPI}")
        if WIDGET in data:
            found.append(f"cell {cell.id} holds a widget, which shows nothing without a kernel")
        written = output.get("text", "") + "".join(str(value) for kind, value in data.items() if kind != "image/png")
        if path := MACHINE_PATH.search(written):
            found.append(f"cell {cell.id} shows a path of this machine: {path[0]}")
    if (size := len(text(notebook).encode())) > BYTES:
        found.append(f"{size / 1000:.0f} KB, at most {BYTES // 1000}")
    return found


def _dots_per_inch(png: str) -> int:
    """As matplotlib writes it into a PNG (here in base64); 0 without an entry, as in a Picture, which has 100."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        return round(image.info.get("dpi", (0, 0))[0])
