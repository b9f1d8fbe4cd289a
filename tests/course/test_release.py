"""The student edition: nothing of a solution in it, all else as it was, and it says what is to be written."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute
from traitlets.config import PyFileConfigLoader

from fss_lab.cli import main
from fss_lab.course.notebooks import code_cells, exercises, grading, problems, read
from fss_lab.course.release import SETTINGS, STUB, release, solution_lines, student_edition
from fss_lab.errors import CourseError
from fss_lab.exercises import ExerciseError

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.ipynb"))
WITH_EXERCISES = [path for path in NOTEBOOKS if exercises(read(path))]


def lines(notebook):
    """All lines of all cells, without indentation."""
    return {line.strip() for cell in notebook.cells for line in cell.source.splitlines()}


def test_the_solution_goes_and_the_rest_stays(circles, cell):
    edition = {each.id: each for each in student_edition(circles).cells}
    assert edition["exercise"].source == f"import math\n\n\ndef area(r):\n    {STUB}"
    assert cell["exercise"].source != edition["exercise"].source, "the notebook itself has changed"
    for name in ("title", "parameters", "check", "use", "record", "sections"):
        assert edition[name].source == cell[name].source
    assert edition["exercise"].metadata.nbgrader.grade_id == "ex99-area"
    assert edition["check"].metadata.nbgrader.points == 2
    assert edition["check"].metadata.nbgrader.checksum and not edition["check"].metadata.editable
    assert edition["exercise"].metadata.tags == []
    assert solution_lines(circles) == ["square = r * r", "return math.pi * square"]


def test_outputs_go(circles, cell):
    cell["use"].outputs = [nbformat.v4.new_output("stream", text="12.6")]
    cell["use"].execution_count = 3
    circles.metadata["fss_lab"] = {"executed": "1234"}
    edition = student_edition(circles)
    assert not any(each.outputs or each.execution_count for each in code_cells(edition))
    assert "fss_lab" not in edition.metadata


def test_run_all_goes_on_past_whatever_needs_the_exercise(circles, cell):
    circles.cells[5:5] = [new_code_cell("total = big + 1", id="second-hand"), new_code_cell("square = 4", id="free")]
    tagged = {
        each.id for each in code_cells(student_edition(circles)) if "raises-exception" in each.metadata.get("tags", [])
    }
    assert tagged == {"check", "use", "second-hand"}


def test_a_folder_with_what_the_notebooks_link_to(file, tmp_path, capsys):
    path = file()
    path.with_name("glossary.md").write_text("# Glossary")
    out = tmp_path / "student"
    assert main(["course", "release", "--output", str(out), "--notebooks", str(path)]) == 0
    assert sorted(each.name for each in out.iterdir()) == ["99_circles.ipynb", "glossary.md", "nbgrader_config.py"]
    assert capsys.readouterr().out == f"{out / path.name}\n"
    assert "return math.pi" not in (out / path.name).read_text()


def test_the_contents_come_along_and_lead_to_what_is_there(file, tmp_path):
    path = file()
    path.with_name("index.ipynb").write_bytes((NOTEBOOKS[0].parent / "index.ipynb").read_bytes())
    (copy,) = release([path], tmp_path / "student")
    home = read(copy.with_name("index.ipynb"))
    (attached,) = [cell for cell in home.cells if "attachments" in cell]
    assert attached == next(cell for cell in read(path.with_name("index.ipynb")).cells if cell.id == attached.id)
    assert "](0" not in nbformat.writes(home) and "| 04 A pseudo prompt |" in nbformat.writes(home)


def test_links_to_what_a_student_does_not_get_become_words(file, cell, tmp_path):
    cell["sections"].source += (
        "\n\n[words](glossary.md#fold), [98](98_good.ipynb), [99](99_circles.ipynb#summary), "
        "[all](../docs/results.md), [top](#summary), [web](https://example.org)"
    )
    path = file()
    path.with_name("glossary.md").write_text(
        "# Glossary\n\nCircle ([99](99_circles.ipynb)), square ([98](98_good.ipynb))"
    )
    (copy,) = release([path], tmp_path / "student")
    assert copy.with_name("glossary.md").read_text().endswith("Circle ([99](99_circles.ipynb)), square (98)")
    assert (
        read(copy)
        .cells[-1]
        .source.endswith(
            "[words](glossary.md#fold), 98, [99](99_circles.ipynb#summary), all, [top](#summary), [web](https://example.org)"
        )
    )


def test_all_or_nothing(file, cell, tmp_path, capsys):
    good = file()
    good.rename(good.with_name("98_good.ipynb"))
    cell["exercise"].source = cell["exercise"].source.replace("### END SOLUTION", "")
    out = tmp_path / "student"
    arguments = [
        "course",
        "release",
        "--output",
        str(out),
        "--notebooks",
        str(good.with_name("98_good.ipynb")),
        str(file()),
    ]
    assert main(arguments) == 1
    assert "nothing was released:\n    99_circles.ipynb: cell ex99-area: the solution must" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["notebooks"]


def test_what_nbgrader_refuses_is_not_released(file, cell, tmp_path):
    cell["check"].metadata["nbgrader"]["schema_version"] = 99
    with pytest.raises(CourseError, match="nbgrader refuses 99_circles.ipynb"):
        release([file()], tmp_path / "student")
    assert [each.name for each in tmp_path.iterdir()] == ["notebooks"]


def test_a_failure_while_writing_leaves_nothing(file, tmp_path, monkeypatch):
    path = file()

    def full(aside, output):
        assert aside.is_dir()
        raise OSError("no space left")

    monkeypatch.setattr("fss_lab.course.release.Path.rename", full)
    with pytest.raises(OSError, match="no space"):
        release([path], tmp_path / "student")
    assert [each.name for each in tmp_path.iterdir()] == ["notebooks"]


def test_a_folder_that_holds_something_is_left_alone(file, tmp_path):
    out = tmp_path / "student"
    out.mkdir()
    assert release([file()], out)
    with pytest.raises(CourseError, match="student exists already"):
        release([file()], out)


@pytest.mark.notebook
def test_nbgrader_hands_out_and_grades(circles, tmp_path, monkeypatch):
    """As docs/course.md says: in the active environment, the notebook in source/; ann solves it, bob does not."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

    def nbgrader(*words):
        subprocess.run([sys.executable, "-m", "nbgrader", *words], cwd=tmp_path, check=True, capture_output=True)

    def put(notebook, *folders):
        (tmp_path.joinpath(*folders)).mkdir(parents=True)
        nbformat.write(notebook, tmp_path.joinpath(*folders, "99_circles.ipynb"))

    (tmp_path / "nbgrader_config.py").write_text(SETTINGS + "c.CourseDirectory.course_id = 'course'\n")
    put(circles, "source", "week1")
    nbgrader("generate_assignment", "week1", "--create")
    answer = read(tmp_path / "release" / "week1" / "99_circles.ipynb")
    assert not lines(answer) & set(solution_lines(circles))
    put(answer, "submitted", "bob", "week1")
    (stub,) = exercises(answer)
    # beside a module that must not stand for the real one
    stub.source = "import fss_lab.errors\n\n" + stub.source.replace(STUB, "return math.pi * r**2")
    put(answer, "submitted", "ann", "week1")
    (tmp_path / "submitted" / "ann" / "week1" / "fss_lab.py").write_text("raise SystemExit")
    nbgrader("autograde", "week1", "--create")
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        assert [book.find_submission("week1", student).score for student in ("ann", "bob")] == [2, 0]
    loader = PyFileConfigLoader("nbgrader_config.py", str(tmp_path))
    assert Execute(config=loader.load_config()).timeout == 300  # nbgrader's own 30 s are too few for a busy machine


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_no_solution_line_of_the_course_is_left(path):
    notebook = read(path)
    edition = student_edition(notebook)
    assert problems(notebook) == []
    assert not lines(edition) & set(solution_lines(notebook))
    assert sum(STUB in cell.source for cell in exercises(edition)) == len(exercises(notebook))
    assert "SOLUTION" not in nbformat.writes(edition)


def expressions(source):
    """What is computed: the right sides of assignments, and what is returned, with more than one call in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign | ast.Return) and node.value:
            steps = sum(isinstance(part, ast.Call | ast.BinOp) for part in ast.walk(node.value))
            yield from [ast.unparse(node.value)] * (steps > 1)


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_no_cell_of_the_course_gives_away_a_step_of_a_solution(path):
    """But for generate_priors, which puts together what its notebook has shown step by step."""
    notebook = read(path)
    steps = {
        step: grading(cell)["grade_id"]
        for cell in exercises(notebook)
        for step in expressions(cell.source)
        if grading(cell)["grade_id"] != "ex04-generate-priors"
    }
    others = [cell for cell in code_cells(student_edition(notebook)) if not grading(cell)]
    assert [(cell.id, steps[step]) for cell in others for step in expressions(cell.source) if step in steps] == []


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_every_check_of_the_student_edition_says_not_written_yet(path):
    """Run without a kernel: the imports of the notebook, its exercises, and each check."""
    names, seen = {}, 0
    for cell in code_cells(student_edition(read(path))):
        tree = ast.parse(cell.source)
        if grading(cell).get("grade"):
            with pytest.raises(ExerciseError, match="not written yet"):
                exec(cell.source, names)
            seen += 1
        else:
            keep = ast.FunctionDef | ast.Import | ast.ImportFrom if grading(cell) else ast.Import | ast.ImportFrom
            tree.body = [node for node in tree.body if isinstance(node, keep)]
            exec(compile(tree, cell.id, "exec"), names)
    assert seen == len(exercises(read(path)))


@pytest.mark.notebook
def test_a_student_can_run_a_whole_notebook(tmp_path):
    """Every exercise unsolved: each check says so, and all cells that need none of them work."""
    path = next(path for path in WITH_EXERCISES if path.stem.startswith("04"))
    (copy,) = release([path], tmp_path / "student")
    edition = read(copy)
    NotebookClient(edition, timeout=300, kernel_name="python3", resources={"metadata": {"path": copy.parent}}).execute()
    failed = {
        cell.id: output for cell in code_cells(edition) for output in cell.outputs if output.output_type == "error"
    }
    for cell in code_cells(edition):
        if grading(cell).get("grade"):
            assert "not written yet" in failed.pop(cell.id).evalue
    assert {error.ename for error in failed.values()} <= {"NotImplementedError", "NameError"}
    for error in failed.values():  # no chain of tracebacks: what to solve first
        (text,) = error.traceback
        assert text.startswith("✗ ") and "exercise 4." in text
    figures = [
        cell for cell in code_cells(edition) if any("image/png" in each.get("data", {}) for each in cell.outputs)
    ]
    assert figures
