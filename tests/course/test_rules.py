"""Every rule for a notebook finds the notebook that breaks it."""

import pytest
from nbformat.v4 import new_code_cell

from fss_lab.course.notebooks import output_problems, parameters, problems, read
from fss_lab.errors import CourseError


def only(found, match):
    """Exactly one problem, and this one."""
    assert len(found) == 1 and match in found[0], found


def test_a_good_notebook_has_no_problems(circles):
    assert problems(circles) == []
    assert parameters(circles) == {"fold": 0, "seed": 0, "radius": 2}


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("fold = 0", "must include fold and seed"),
        ("fold = 0\nseed = [1]", "seed must be a number, a text or None"),
        ("fold = 0\nseed = int()", "may only assign values: seed = int()"),
        ("fold = 0\nprint(fold)", "may only assign values: print(fold)"),
    ],
)
def test_parameters_are_plain(circles, cell, source, match):
    cell["parameters"].source = source
    only(problems(circles), match)


def test_there_is_exactly_one_parameters_cell(circles, cell):
    cell["use"].metadata["tags"] = ["parameters"]
    only(problems(circles), "exactly one code cell must be tagged `parameters`, found 2")
    cell["use"].metadata["tags"] = cell["parameters"].metadata["tags"] = []
    only(problems(circles), "found 0")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("x = 1\n" * 26, "cell use: 26 lines of code, at most 25"),
        ("!pip list", "neither magics"),
        ("%pip list", "neither magics"),
        ("import sys\n\nsys.path.append('.')", "sys.path.append"),
        ("open('/home/somebody/file')", "a path of some machine: /home/s"),
        ("open(r'C:\\data')", "a path of some machine: C:"),
        ("### BEGIN SOLUTION", "outside an exercise"),
    ],
)
def test_code_is_short_and_imports_what_it_needs(circles, cell, source, match):
    cell["use"].source = source
    only(problems(circles), match)


def test_comments_and_empty_lines_are_no_code_but_many_long_cells_are_too_many(circles, cell):
    cell["use"].source = "# why\n\n" * 30 + "x = 1"
    assert problems(circles) == []
    for name in ("use", "record", "check"):
        cell[name].source = "x = 1\n" * 9
    only(problems(circles), "the median cell has 9")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("# 99 · Circles", "# Circles", "must begin with a title"),
        ("**A circle's", "A circle's", "one sentence in bold"),
        ("1 minute to read", "Read me", "minutes to read"),
        ("After this you can", "It is about", "objectives are missing"),
        ("- draw a circle.", "", "2 objectives; 3 to 5"),
        ("- draw a circle.", "- draw a circle,\n- two,\n- three,\n- four.", "6 objectives; 3 to 5"),
        ("**Prerequisites:**", "**Multiplication:**", "does not name its `**Prerequisites:**`"),
    ],
)
def test_the_beginning_says_what_to_expect(circles, cell, old, new, match):
    cell["title"].source = cell["title"].source.replace(old, new)
    only(problems(circles), match)


def test_the_end_is_there(circles, cell):
    cell["sections"].source = "## Summary"
    only(problems(circles), "fewer than three sections")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    ### BEGIN SOLUTION\n", ""),
        ("    ### END SOLUTION", ""),
        ("### BEGIN SOLUTION", "### END SOLUTION"),
        ("### END SOLUTION", "### END SOLUTION\n    ### BEGIN SOLUTION"),
    ],
)
def test_markers_match(circles, cell, old, new):
    cell["exercise"].source = cell["exercise"].source.replace(old, new)
    only(problems(circles), "the solution must stand between one ### BEGIN SOLUTION and one ### END SOLUTION")


def test_an_exercise_has_its_check_right_below(circles, cell):
    circles.cells.insert(3, new_code_cell("x = 1"))
    only(problems(circles), "cell ex99-area: its check ex99-area-check must come right below it")


def test_graded_cells_have_ids_of_their_own_and_points(circles, cell):
    del cell["check"].metadata["nbgrader"]["points"]
    only(problems(circles), "at least one point")
    cell["check"].metadata["nbgrader"]["points"] = 1
    cell["use"].metadata["nbgrader"] = dict(cell["check"].metadata["nbgrader"])
    only(problems(circles), "the nbgrader id ex99-area-check is used 2 times")


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(CourseError, match="no notebook .*missing.ipynb"):
        read(tmp_path / "missing.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(CourseError, match="text.ipynb is not a notebook"):
        read(tmp_path / "text.ipynb")


def test_a_notebook_without_outputs_is_not_ready(circles):
    code, cells = output_problems(circles)
    assert "its code is not the code that was executed" in code
    assert "not all cells were executed once, in order: [None, None, None, None, None]" in cells
