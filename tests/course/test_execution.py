"""Running notebooks: what counts as failure, and what is written back."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_output

from fss_lab.cli import course as cli_course
from fss_lab.cli import main
from fss_lab.course.execution import differences, execute, refresh, refresh_all, refresh_expected
from fss_lab.course.notebooks import code_hash, output_problems, read, records, tidy
from fss_lab.errors import CourseError


def test_it_runs_with_other_parameters_and_leaves_the_file_alone(file):
    path = file()
    before = path.read_bytes()
    done = execute(path, {"radius": 10})
    assert records(done) == {"radius": 10, "area": 314.159}
    assert path.read_bytes() == before


def test_unknown_parameters_are_an_error(file):
    with pytest.raises(CourseError, match="99_circles.ipynb has no parameter folds, only fold, seed, radius"):
        execute(file(), {"folds": 1})


def test_a_second_parameters_cell_is_an_error(file, cell):
    cell["use"].metadata["tags"] = ["parameters"]
    with pytest.raises(CourseError, match="exactly one code cell .* found 2"):
        execute(file())


def test_a_failing_cell_is_named(file, cell):
    cell["use"].source = "area(1) / 0"
    with pytest.raises(CourseError, match="(?s)99_circles.ipynb, cell use failed:.*ZeroDivisionError"):
        execute(file())


def test_a_control_that_fails_is_an_error(file, cell):
    cell["use"].source = (
        "from fss_lab.figures.style import Picture\nfrom fss_lab.widgets.browse import Browse\n\n"
        "Browse(lambda layer: Picture(1, 1, str(1 // (1 - layer)), 'a number'), layer=[0, 1])"
    )
    with pytest.raises(CourseError, match="(?s)cell press-everything failed:.*ZeroDivisionError"):
        execute(file(), press=True)


def test_a_cell_left_out_is_an_error(file, cell):
    cell["use"].metadata["tags"] = ["skip-execution"]
    with pytest.raises(CourseError, match="not executed: use"):
        execute(file())


def test_refreshing_twice_gives_the_same_bytes_and_a_good_notebook(file, capsys):
    path = file()
    (path.parent / "expected.json").write_text('{"99_circles": {"parameters": {"radius": 3}, "values": {}}}')
    assert main(["course", "execute", str(path)]) == 0
    first = path.read_bytes()
    assert output_problems(read(path)) == []
    assert records(read(path)) == {"radius": 2, "area": pytest.approx(12.566, abs=1e-3)}
    entry = json.loads((path.parent / "expected.json").read_text())["99_circles"]
    assert entry["parameters"] == {"radius": 3}
    assert entry["shipped"] == {"radius": 2, "area": pytest.approx(12.566, abs=1e-3)}
    assert entry["values"] == {"radius": 3, "area": pytest.approx(28.274, abs=1e-3)}
    assert re.fullmatch(r"99_circles.ipynb \.\.\. \d+ s\n", capsys.readouterr().out)
    refresh(path)
    assert path.read_bytes() == first


def test_a_slow_notebook_and_a_failing_one_are_told(file, cell, capsys, monkeypatch):
    path = file()
    (path.parent / "expected.json").write_text('{"99_circles": {"parameters": {}, "values": {}}}')
    monkeypatch.setattr("fss_lab.course.execution.SLOW", 0)
    assert refresh_all([path]) == []
    assert " s, more than 0: is it too long" in capsys.readouterr().out
    cell["use"].source = "1 / 0"
    (wrong,) = refresh_all([file()])
    assert "ZeroDivisionError" in wrong and capsys.readouterr().out == "99_circles.ipynb ... failed\n"


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("import sys\nprint('careful', file=sys.stderr)", "cell use wrote to stderr: careful"),
        ("print('/home/somebody/data')", "cell use shows a path of this machine: /home/s"),
        ("print('x' * 600_000)", "KB, at most 600"),
        ("from PIL import Image\n\nImage.new('1', (8, 8))", "cell use shows an image without alternative text"),
        (
            "import io\n\nfrom IPython.display import Image\nfrom matplotlib.figure import Figure\n\n"
            "file = io.BytesIO()\nFigure().savefig(file, dpi=150)\nImage(file.getvalue())",
            "cell use shows an image of 150 dpi, at most 110",
        ),
    ],
)
def test_bad_outputs_are_not_written(file, cell, source, match):
    cell["use"].source = source
    path = file()
    before = path.read_bytes()
    with pytest.raises(CourseError, match="(?s)99_circles.ipynb was not written:.*" + match):
        refresh(path)
    assert path.read_bytes() == before and [each.name for each in path.parent.iterdir()] == [path.name]


def test_changed_code_errors_and_widgets_are_found_in_a_file(circles, cell):
    for count, each in enumerate((each for each in circles.cells if each.cell_type == "code"), start=1):
        each.execution_count = count
    circles.metadata["fss_lab"] = {"executed": code_hash(circles)}
    assert output_problems(circles) == []
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    cell["use"].outputs = [new_output("display_data", view), new_output("error", ename="KeyError", evalue="1")]
    assert [problem.split(" ", 2)[2] for problem in output_problems(circles)] == [
        "holds a widget, which shows nothing without a kernel",
        "ended with KeyError: 1",
    ]
    circles.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    assert "it holds the state of widgets" in output_problems(circles)[0]
    (error,) = tidy(circles).cells[4].outputs
    assert error.output_type == "error" and "widgets" not in circles.metadata
    cell["use"].source += " "
    assert "its code is not the code that was executed" in output_problems(circles)[0]


def test_a_widget_with_a_picture_leaves_the_picture(circles, cell):
    picture = {"image/png": "iVBORw0KGgo=", "text/plain": "maps"}
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    cell["use"].outputs = [new_output("display_data", {**view, **picture})]
    assert [dict(output.data) for output in tidy(circles).cells[4].outputs] == [picture]


def test_a_name_is_recorded_once(circles, cell):
    value = new_output("display_data", {"application/vnd.fss-lab.record+json": {"area": 1.0}})
    cell["use"].outputs = cell["record"].outputs = [value]
    with pytest.raises(CourseError, match=r"cell record records \['area'\] a second time"):
        records(circles)


def test_expected_values_need_an_entry_and_a_record(file, circles):
    circles.cells = [each for each in circles.cells if each.id != "record"]
    path = file()
    (path.parent / "expected.json").write_text("{}")
    with pytest.raises(CourseError, match="no entry for 99_circles"):
        refresh_expected(path)
    (path.parent / "expected.json").write_text('{"99_circles": {"parameters": {}, "values": {}}}')
    with pytest.raises(CourseError, match="records no value"):
        refresh_expected(path)


def test_differences_are_named():
    expected = {"miou": 0.5, "cells": 256, "better": True, "gone": 1}
    assert differences({"miou": 0.51, "cells": 256, "better": True, "gone": 1}, expected, 0.02) == []
    assert differences({"gain": 0.004}, {"gain": 0.0}) == [] != differences({"gain": 0.006}, {"gain": 0.0})
    assert differences({"steps": 1000.0}, {"steps": 1004.0}) == []
    assert differences({"miou": 0.53, "cells": 257, "better": 1.0, "new": 1}, expected, 0.02) == [
        "gone is missing",
        "new is new",
        "miou is 0.53, expected 0.5 ± 0.02",
        "cells is 257, expected 256",
        "better is 1.0, expected True",
    ]


def test_wrong_notebooks_turn_the_suite_red(file, circles):
    """As `pytest --nbmake notebooks/` does it: a right notebook, one that records another value, and a broken one."""
    path = file()
    shutil.copy(path, path.with_name("97_right.ipynb"))
    path.rename(path.with_name("98_other.ipynb"))
    circles.cells.append(new_code_cell("assert big < 0", id="broken"))
    folder = file().parent
    areas = {"97_right": 12.566, "98_other": 12.9}
    entries = {name: {"shipped": {"radius": 2, "area": area}} for name, area in areas.items()}
    (folder / "expected.json").write_text(json.dumps(entries))
    shutil.copy(Path(__file__).parents[2] / "conftest.py", folder)
    options = ["--nbmake", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    suite = subprocess.run([sys.executable, "-m", "pytest", *options, str(folder)], capture_output=True, text=True)
    assert suite.returncode == 1 and "2 failed, 1 passed" in suite.stdout
    assert "area is 12.56636, expected 12.9" in suite.stdout
    assert "assert big < 0" in suite.stdout


def test_notebooks_are_named_by_path_or_by_the_beginning_of_their_name(file):
    path, folder = file(), Path(__file__).parents[2] / "notebooks"
    assert cli_course._notebooks([str(path), "00", "04_pseudo"]) == [
        path,
        folder / "00_quickstart.ipynb",
        folder / "04_pseudo_prompts.ipynb",
    ]
    assert cli_course._notebooks([]) == sorted(folder.glob("[0-9]*.ipynb"))
    with pytest.raises(CourseError, match="no notebook 77, neither as a path nor in"):
        cli_course._notebooks(["77"])
