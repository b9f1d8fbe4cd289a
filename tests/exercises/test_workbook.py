"""The reader's functions, read from their notebooks: solved, unsolved, damaged; nothing else is executed."""

import json

import pytest
import torch
from helpers.harness import NOTEBOOKS

from fss_lab.exercises.workbook import LIBRARY, NOT_RIGHT, NOT_WRITTEN, written
from fss_lab.exercises.workbook import NOTEBOOKS as FILES

FUNCTIONS = {name: function for library in LIBRARY.values() for name, function in library.items()}
ANSWERS = list(FUNCTIONS)


def notebook(*cells):
    """JSON of a notebook. cells: (grade id, source)."""
    parts = [
        {"cell_type": "code", "metadata": {"nbgrader": {"grade_id": name}} if name else {}, "source": [source]}
        for name, source in cells
    ]
    return json.dumps({"cells": parts})


@pytest.fixture(scope="module")
def solutions():
    return written(NOTEBOOKS)


def test_the_solutions_are_taken_and_equal_the_library(solutions):
    assert list(solutions) == ANSWERS
    assert all(solutions[name] is not function for name, function in FUNCTIONS.items())
    q, k, v = (torch.randn(2, 2, n, 8) for n in (6, 3 * 6 + 4, 3 * 6 + 4))
    masks = (torch.rand(2, 2, 2, 3) > 0.4).float()
    mine, library = solutions["calibrated_attention"], LIBRARY["ex06"]["calibrated_attention"]
    torch.testing.assert_close(mine(q, k, v, masks), library(q, k, v, masks), atol=1e-5, rtol=1e-4)
    memories, maps = [torch.randn(1, 3, 4, 4) for _ in range(2)], [torch.rand(1, 1, 4, 4) for _ in range(3)]
    arguments = (memories[0], maps[0], memories[1], maps[1], maps[2])
    for one, other in zip(solutions["refine"](*arguments), LIBRARY["ex05"]["refine"](*arguments), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (None, NOT_WRITTEN),
        ("no notebook", NOT_WRITTEN),
        (notebook(("ex04-prototype", "def prototype(F, M):\n    raise NotImplementedError()")), NOT_WRITTEN),
        (notebook(("ex04-prototype", "def prototype(F, M:\n")), NOT_RIGHT),
        (notebook(("ex04-prototype", "prototype = print")), NOT_WRITTEN),
        (notebook(("ex04-prototype", "def prototype(F, M):\n    return F.mean((-2, -1), keepdim=True)")), NOT_RIGHT),
        (notebook(("ex04-prototype", "from fss_lab.method.prompts import prototype")), NOT_WRITTEN),
    ],
    ids=["missing", "damaged", "stub", "syntax", "no function", "wrong", "the library's"],
)
def test_what_is_not_solved_falls_back_to_the_library_and_that_is_printed(tmp_path, capsys, content, state):
    if content is not None:
        (tmp_path / "04_pseudo_prompts.ipynb").write_text(content)
    functions = written(tmp_path)
    assert functions == FUNCTIONS
    printed = capsys.readouterr().out.splitlines()
    others = [name for name in ANSWERS if state == NOT_WRITTEN or name != "prototype"]
    wanted = ["yours: none", f"the library's, as {NOT_WRITTEN}: {', '.join(others)}"]
    wanted += [f"the library's, as {NOT_RIGHT}: prototype"] * (state == NOT_RIGHT)
    assert printed == [*wanted, f"Only these files are read: {', '.join(FILES.values())}"]


def test_a_copy_beside_a_notebook_changes_nothing(tmp_path, capsys):
    for path in NOTEBOOKS.glob("0[456]_*.ipynb"):
        (tmp_path / path.name).write_text(path.read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == list(FILES.values())
    stub = notebook(("ex05-agreement", "def agreement(A, B):\n    raise NotImplementedError()"))
    for copy in ("05_memory_refinement_done.ipynb", "05_memory_refinement-Copy1.ipynb"):
        (tmp_path / copy).write_text(stub)
    written(tmp_path)
    assert capsys.readouterr().out.startswith(f"yours: {', '.join(ANSWERS)}\n")


def test_a_solved_function_uses_the_librarys_where_another_is_not_solved(tmp_path, capsys):
    content = json.loads((NOTEBOOKS / FILES["ex05"]).read_text())
    content["cells"] = [
        c for c in content["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "ex05-refine"
    ]
    (tmp_path / FILES["ex05"]).write_text(json.dumps(content))
    refine = written(tmp_path)["refine"]
    assert capsys.readouterr().out.startswith("yours: refine\n")
    memories, maps = [torch.randn(1, 3, 4, 4) for _ in range(2)], [torch.rand(1, 1, 4, 4) for _ in range(3)]
    assert len(refine(memories[0], maps[0], memories[1], maps[1], maps[2])) == 3


def test_one_answer_alone_is_taken(tmp_path, capsys):
    source = (
        "def prototype(F, M):\n    total = M.sum((-2, -1), keepdim=True)\n    return weigh(F, M) / (total + 5e-4)\n\n\n"
    )
    source += "def weigh(F, M):\n    return (F * M).sum((-2, -1), keepdim=True)"
    (tmp_path / FILES["ex04"]).write_text(notebook(("", "1 / 0"), ("ex04-prototype", source)))
    assert written(tmp_path)["prototype"] is not LIBRARY["ex04"]["prototype"]
    assert capsys.readouterr().out.startswith(f"yours: prototype\nthe library's, as {NOT_WRITTEN}")
    marked = source.replace("    total", "    ### BEGIN SOLUTION\n    total", 1)
    (tmp_path / FILES["ex04"]).write_text(notebook(("ex04-prototype", marked)))
    written(tmp_path)
    assert capsys.readouterr().out.startswith("yours: prototype\nThe notebooks here hold the shipped solutions")


@pytest.mark.parametrize(
    "source",
    [
        "open({0!r}, 'w')\n{1}",
        "@open({0!r}, 'w').close\n{1}",
        "class Answer:\n    open({0!r}, 'w')\n{1}",
        "if open({0!r}, 'w'):\n    pass\n{1}",
        "def prototype(F, M, file=open({0!r}, 'w')):\n    return F",
        "def prototype(F, M: open({0!r}, 'w')) -> open({0!r}, 'w'):\n    return F",
        "{1}\nprototype = prototype or open({0!r}, 'w')",
    ],
)
def test_nothing_but_definitions_is_executed(tmp_path, source):
    definition = "def prototype(F, M):\n    return (F * M).sum((-2, -1), keepdim=True)"
    trace = tmp_path / "trace"
    (tmp_path / FILES["ex04"]).write_text(notebook(("ex04-prototype", source.format(str(trace), definition))))
    written(tmp_path)
    assert not trace.exists()
