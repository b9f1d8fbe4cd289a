"""The grading zoo: each kind of submission gets the mark that it must get."""

import csv
import re

import nbformat
import pytest
from helpers.harness import NOTEBOOKS
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from fss_lab.cli import main
from fss_lab.course import grading as grading_module
from fss_lab.course.grading import grade, look_through
from fss_lab.course.notebooks import grading, read
from fss_lab.course.release import STUB, student_edition
from fss_lab.errors import CourseError

NAME, SMALL = "04_pseudo_prompts.ipynb", "01_episodes.ipynb"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


@pytest.fixture(scope="module")
def original():
    """Notebook 04 without its figures: parameters, imports, exercises, checks."""
    cells = [new_code_cell("fold = 0\nseed = 0", id="parameters", metadata={"tags": ["parameters"]})]
    imports = "import torch\n\nfrom fss_lab.exercises import harness\nfrom fss_lab.method.prompts import resize\n\n"
    imports += "harness.LIMIT = 1"  # seconds instead of ten, in which each check of an endless loop computes
    cells.append(new_code_cell(imports, id="imports"))
    cells += [cell for cell in read(NOTEBOOKS / NAME).cells if grading(cell)]
    return new_notebook(cells=cells, metadata=KERNEL)


@pytest.fixture(scope="module")
def small():
    """Exercises that need no torch, which takes most of a kernel's time; worth 2 + 1 points."""
    cells = [new_code_cell("fold = 0\nseed = 0", id="parameters", metadata={"tags": ["parameters"]})]
    answers = [("double", 2, "x * 2", "double(3) == 6"), ("half", 1, "x / 2", "half(3) == 1.5")]
    for name, points, answer, check in answers:
        solution = f"def {name}(x):\n    ### BEGIN SOLUTION\n    return {answer}\n    ### END SOLUTION"
        rules = {"schema_version": 3, "task": False, "grade_id": name, "grade": False, "locked": False}
        cells.append(new_code_cell(solution, id=name, metadata={"nbgrader": {**rules, "solution": True}}))
        rules |= {"grade_id": f"{name}-check", "grade": True, "locked": True, "solution": False, "points": points}
        cells.append(new_code_cell(f"assert {check}", id=f"{name}-check", metadata={"nbgrader": rules}))
    return new_notebook(cells=cells, metadata=KERNEL)


def change(notebook, name, old, new):
    cell = next(cell for cell in notebook.cells if name in (cell.id, grading(cell).get("grade_id")))
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    return notebook


def stub(notebook, name):
    """One exercise as it was handed out."""
    cell = next(cell for cell in notebook.cells if grading(cell).get("grade_id") == name)
    cell.source = cell.source.split('    """')[0] + f"    {STUB}"
    return notebook


def without(notebook, *names):
    notebook.cells = [cell for cell in notebook.cells if grading(cell).get("grade_id") not in names]
    return notebook


def copied(notebook, name):
    index, cell = next((i, c) for i, c in enumerate(notebook.cells) if grading(c).get("grade_id") == name)
    notebook.cells.insert(index, nbformat.from_dict({**cell, "id": f"copy-{index}"}))
    return notebook


def renamed(notebook, name):
    next(c for c in notebook.cells if grading(c).get("grade_id") == name).metadata["nbgrader"]["grade_id"] = "mine"
    return notebook


def library(notebook, name):
    cell = next(cell for cell in notebook.cells if grading(cell).get("grade_id") == name)
    cell.source = "from fss_lab.method.prompts import min_max as stretch\n\nmin_max = lambda x: stretch(x)"
    return notebook


def kernel(notebook):
    notebook.metadata["kernelspec"]["name"] = "my-own-kernel"
    return notebook


def shadowed(notebook):
    """Another module under the name of the checks, and a function of them that is not theirs."""
    fake = "import sys\nimport types\n\nfake = types.ModuleType('fss_lab.exercises.ex04')\n"
    fake += "fake.check_min_max = fake.check_prototype = lambda function: print('✓')\n"
    notebook.cells.insert(0, new_code_cell(fake + "sys.modules['fss_lab.exercises.ex04'] = fake"))
    return change(notebook, "ex04-min-max", "- low)", "- high)")


def patched_library(notebook):
    """The library's function, with which the checks compare, is replaced by the answer."""
    change(notebook, "ex04-min-max", "- low)", "- high)")
    return change(notebook, "ex04-min-max", "### END SOLUTION", PATCH)


def tampered(notebook):
    notebook.cells.insert(0, new_code_cell("from fss_lab.exercises import ex04\nex04.check_min_max = print"))
    change(notebook, "ex04-min-max-check", "reload", "print('✓'); reload")
    return change(notebook, "ex04-min-max", "- low)", "- high)")


PATCH = "\n\nfrom fss_lab.method import prompts\n\nprompts.min_max = min_max"
MEAN = "(F * M).sum((-2, -1), keepdim=True) / (M.sum((-2, -1), keepdim=True) + 5e-4)"
EINSUM = (
    "torch.einsum('...chw,...hw->...c', F, M[..., 0, :, :])[..., None, None] / (M.sum((-2, -1), keepdim=True) + 5e-4)"
)
BOTH = "low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)"
ZOO = {  # what becomes of the right notebook, and its points out of 10: 2 + 2 + 1 + 2 + 3
    "right": (lambda n: n, 10),
    "differently right": (lambda n: change(n, "ex04-prototype", MEAN, EINSUM), 10),
    "empty": (student_edition, 0),
    "half": (lambda n: stub(stub(n, "ex04-discriminative-prior"), "ex04-generate-priors"), 5),
    "crash": (lambda n: change(n, "ex04-cosine-map", "product = ", "product = 1 / 0 + "), 8),
    "endless": (lambda n: change(n, "ex04-min-max", BOTH, "while True:\n        pass"), 9),
    "tampered": (tampered, 0),
    "shadowed": (shadowed, 0),
    "patched": (patched_library, 4),
    "library": (lambda n: library(n, "ex04-min-max"), 9),
    "follow-up error": (lambda n: change(n, "ex04-min-max", "+ 1e-7", "+ 5.0"), 9),
    "other parameters": (lambda n: change(n, "parameters", "fold = 0", "fold = 3"), 10),
}
SMALL_ZOO = {  # the same of the small notebook, out of 3: what is wrong is not in the answers
    "exit": (lambda n: change(n, "double", "return x * 2", "import os\n    os._exit(1)"), 1),
    "deleted check": (lambda n: without(n, "half-check"), 3),
    "deleted exercise": (lambda n: without(n, "half"), 2),
    "copied": (lambda n: copied(copied(n, "half-check"), "double"), 3),
    "renamed": (lambda n: renamed(renamed(n, "half"), "double-check"), 3),
    "other kernel": (kernel, 3),
}


@pytest.fixture(scope="module")
def graded(original, small, tmp_path_factory):
    """The folder in which the zoo was graded, once."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "originals").mkdir()
    for name, notebook, zoo in ((NAME, original, ZOO), (SMALL, small, SMALL_ZOO)):
        nbformat.write(notebook, folder / "originals" / name)
        for student, (become, _) in zoo.items():
            (folder / "submissions" / student).mkdir(parents=True)
            nbformat.write(become(nbformat.from_dict(notebook)), folder / "submissions" / student / name)
    (folder / "submissions" / "stray").mkdir()
    nbformat.write(original, folder / "submissions" / "stray" / "homework.ipynb")
    nbformat.write(small, folder / "submissions" / "doejane_4711_8810_01_episodes-1.ipynb")  # as Canvas names them
    (folder / "submissions" / "twice").mkdir()
    for name in ("01_episodes.ipynb", "01_episodes-1.ipynb"):
        nbformat.write(small, folder / "submissions" / "twice" / name)
    (folder / "roster.csv").write_text('Student,ID,SIS User ID,SIS Login ID,Section\n"Doe, Jane",4711,S1,jd1,A\n')
    grade(folder / "submissions", folder / "marks.csv", folder / "originals", folder / "roster.csv")
    return folder


@pytest.fixture(scope="module")
def marks(graded):
    """The table of marks by student."""
    with open(graded / "marks.csv", newline="") as file:
        return {row["Student"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("student", [*ZOO, *SMALL_ZOO])
def test_every_submission_gets_its_mark(marks, student):
    row = marks[student]
    column, zoo = ("04_pseudo_prompts (of 10)", ZOO) if student in ZOO else ("01_episodes (of 3)", SMALL_ZOO)
    assert row[column] == str(zoo[student][1]), row["Remarks"]


@pytest.mark.parametrize(
    ("student", "remark"),
    [
        ("exit", r"cell 2 ends the kernel with os._exit \| 01_episodes: cell 2 ended the kernel and was left out"),
        ("deleted exercise", "the cell half is missing"),
        ("copied", r"cell 2 is one of 2 copies of double"),
        ("renamed", "cell 3 has the unknown name mine"),
        ("other kernel", "my-own-kernel"),
        ("stray", "homework.ipynb is no notebook of the course"),
        ("tampered", "fss_lab.exercises.ex04.check_min_max is not the one that is installed"),
        ("shadowed", r"fss_lab.exercises.ex04.\w+ is not the one that is installed"),
        ("patched", "fss_lab.method.prompts.min_max is not the one that is installed"),
        ("twice", "01_episodes was handed in 2 times; the last file counts"),
        ("doejane_4711_8810", "^$"),
        ("right", "^this student is not in the roster$"),
        ("follow-up error", "^this student is not in the roster$"),
    ],
)
def test_what_a_teacher_should_look_at_is_named(marks, student, remark):
    assert re.search(remark, marks[student]["Remarks"])


def test_a_learning_platform_gets_its_own_columns_and_no_others(graded):
    rows = list(csv.reader((graded / "marks" / "canvas.csv").open(newline="")))
    assert rows[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "01_episodes", "04_pseudo_prompts"]
    assert rows[1] == ["    Points Possible", "", "", "", "", "3", "10"]
    assert ["Doe, Jane", "4711", "S1", "jd1", "A", "3", ""] in rows
    assert ["half", "", "", "half", "", "", "5"] in rows
    rows = list(csv.reader((graded / "marks" / "moodle.csv").open(newline="")))
    assert rows[0] == ["Username", "ID number", "Email address", "01_episodes", "04_pseudo_prompts"]
    assert ["half", "", "", "", "5"] in rows


def test_every_submission_that_ran_gets_feedback(graded):
    pages = {path.parent.name: path.read_text() for path in graded.glob("marks/feedback/*/*.html")}
    assert set(pages) == {*ZOO, *SMALL_ZOO, "doejane_4711_8810", "twice"}
    assert "ex04-cosine-map" in pages["crash"] and "ZeroDivisionError" in pages["crash"]
    assert "<strong>8 of 10 points</strong>" in pages["crash"]
    assert "✓ 10 of 10" not in pages["right"] and pages["right"].count('class="said full"') == 5
    assert "the library computed it" in pages["library"] and "○ 0 of 1" in pages["library"]
    assert "cell 2 ended the kernel and was left out" in pages["exit"]
    assert not any(re.search(r"https?://|<script|src=", page) for page in pages.values())


def test_a_figure_shows_what_went_wrong(graded):
    with Image.open(graded / "marks" / "diagnoses_04_pseudo_prompts.png") as image:
        assert image.info["Description"].startswith(f"ex04-prototype: 9 of {len(ZOO)} with full points.")
        assert "does not come to an end" in image.info["Description"] and image.width == 1000


def test_nothing_to_grade_is_an_error(tmp_path, capsys):
    with pytest.raises(CourseError, match="holds no notebooks"):
        grade(tmp_path, tmp_path / "marks.csv", NOTEBOOKS)
    assert main(["course", "grade", str(tmp_path), "--output", str(tmp_path / "marks.csv")]) == 1
    assert "holds no notebooks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "marks.xlsx"], "must end in .csv"),
        (["--output", "m.csv", "--roster", "no.csv"], "the roster no.csv"),
    ],
)
def test_a_wrong_option_is_named_before_anything_runs(tmp_path, capsys, options, message):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / SMALL).touch()
    assert main(["course", "grade", str(tmp_path), *options]) == 1
    assert message in capsys.readouterr().err


def test_all_notebooks_of_the_course_pass_the_look_through():
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        assert look_through(student_edition(read(path)), read(path)) == []


def test_grading_is_bounded():
    assert grading_module.SECONDS_LATER < grading_module.SECONDS <= 300
