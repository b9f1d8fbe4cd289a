"""A small notebook that keeps all rules and needs no torch, for tests that break it in one place."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

TITLE = """# 99 · Circles

**A circle's area grows with the square of its radius.**

1 minute to read · about 1 second to run on two CPU cores

After this you can

- compute an area,
- say what a radius is, and
  what it is not,
- draw a circle.

**Prerequisites:** multiplication."""
EXERCISE = """\
import math


def area(r):
    ### BEGIN SOLUTION
    square = r * r
    return math.pi * square
    ### END SOLUTION"""
CHECK = "assert round(area(1), 2) == 3.14"


@pytest.fixture
def circles():
    """Its cells by name: title, parameters, exercise, check, use, record, sections."""
    graded = {"schema_version": 3, "grade_id": "ex99-area-check", "grade": True, "locked": True, "solution": False}
    solved = {"schema_version": 3, "grade_id": "ex99-area", "grade": False, "locked": False, "solution": True}
    cells = [
        new_markdown_cell(TITLE, id="title"),
        new_code_cell("fold = 0\nseed = 0\nradius = 2", id="parameters", metadata={"tags": ["parameters"]}),
        new_code_cell(
            EXERCISE, id="exercise", metadata={"nbgrader": {**solved, "task": False}, "tags": ["hide-input"]}
        ),
        new_code_cell(CHECK, id="check", metadata={"nbgrader": {**graded, "task": False, "points": 2}}),
        new_code_cell("big = area(radius)", id="use"),
        new_code_cell(
            "from fss_lab.course.record import record\n\nrecord(radius=radius, area=3.14159 * radius**2)", id="record"
        ),
        new_markdown_cell("## Summary\n\n## Limits\n\n## Readings", id="sections"),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.from_dict(notebook)


@pytest.fixture
def cell(circles):
    """A cell of it by its id."""
    return {each.id: each for each in circles.cells}


@pytest.fixture
def file(circles, tmp_path):
    """Writes the notebook into a fresh folder and returns its path."""

    def write():
        path = tmp_path / "notebooks" / "99_circles.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(circles, path)
        return path

    return write
