"""What the checks of all notebooks share, and how the tests get at the solutions."""

import sys
import types

import nbformat
import pytest
import torch
from helpers import harness

from fss_lab.exercises import ExerciseError, call, check_number, check_tensor, compare, exercise
from fss_lab.exercises import harness as exercise_harness


def refusal(match):
    return pytest.raises(ExerciseError, match=match)


def test_an_answer_is_called_and_returned():
    assert call(lambda a, b: a + b, 1, b=2) == 3


def test_what_is_not_written_yet_is_called_so():
    def iou(mask):
        raise NotImplementedError()

    with refusal("iou is not written yet"):
        call(iou, torch.ones(2))


def test_an_earlier_stub_is_named():
    def earlier(x):
        raise NotImplementedError()

    def answer(x):
        return earlier(x)

    with pytest.raises(ExerciseError, match="answer uses earlier, which is not written yet"):
        call(answer, 1)


def test_an_error_of_the_reader_names_its_line():
    def iou(mask):
        return mask / [1]

    with refusal(r"iou stopped with TypeError: .*\n    in line \d+ of your cell: return mask / \[1\]"):
        call(iou, torch.ones(2))


def test_nothing_returned_and_arguments_changed_are_refused():
    with refusal("returns nothing"):
        call(lambda: None)
    with refusal("changes its argument F in place"):
        call(lambda F, M: F.mul_(M), torch.ones(2), 2 * torch.ones(2))
    with refusal("changes its argument number 1"):
        call(lambda *x: x[0].mul_(2), torch.ones(2))
    with refusal("changes its argument weights"):
        call(lambda weights: weights[0].mul_(2), [torch.ones(2)])
    with refusal("changes its argument x in place, .* make a new tensor"):
        call(lambda x: x.mul_(2), x=torch.ones(2))
    with refusal("changes its argument number 2 in place, "):
        call(lambda x, *others: others[0].mul_(2), 1, torch.ones(2))
    with refusal("changes its argument x in place, .* make a new list"):
        call(lambda x: x.sort() or 1, [2, 1])


def test_a_tensor_of_the_wrong_kind_is_refused():
    assert check_tensor(torch.ones(2, 3), (2, 3)).sum() == 6
    with refusal("must be a tensor .* type list"):
        check_tensor([1], (1,))
    with refusal(r"your mask: the shape is \(2,\), but \(3,\) is right"):
        check_tensor(torch.ones(2), (3,), "your mask")
    with refusal("torch.float32; it must be torch.int64"):
        check_tensor(torch.ones(2), (2,), dtype=torch.int64)


def test_a_number_may_be_a_tensor_of_one_element():
    assert check_number(torch.tensor([2])) == 2.0
    with refusal(r"one number, but is a Tensor of shape \(2,\)"):
        check_number(torch.ones(2))


def test_comparison_finds_the_mistake_or_the_first_place():
    right = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    compare([[1, 2], [3, 4 + 1e-6]], right)
    compare(torch.tensor(float("nan")), float("nan"))
    with refusal("you forgot to transpose"):
        compare(right.T, right, mistakes={"you forgot the sign": -right, "you forgot to transpose": right.T})
    with refusal(r"your map: 9 at \[1, 0\], but 3 is right \(1 of 4 values differ\)"):
        compare(torch.tensor([[1.0, 2.0], [9.0, 4.0]]), right, "your map")
    with refusal("NaN often comes from 0 / 0"):
        compare(torch.tensor(float("nan")), 1.0)
    with refusal(r"but \(2, 1\) is right. Keep the axes of length 1 \(keepdim=True\)"):
        compare(torch.ones(2), torch.ones(2, 1))
    with refusal(r"the shape is \(2,\), but \(2, 2\) is right"):
        compare([1, 2], right)
    with refusal("made of numbers, but is a str"):
        compare("one", 1)


def test_a_reader_sees_the_diagnosis_alone(capsys):
    assert ExerciseError("divide by the area")._render_traceback_() == ["✗ divide by the area"]

    @exercise()
    def check_sum(function):
        return "right"

    assert check_sum(sum) is None
    assert capsys.readouterr().out == "✓ right\n"


@pytest.fixture
def shell(monkeypatch):
    """A stand-in for IPython's shell: what it would call for an error, and what it would show."""

    class Shell:
        def set_custom_exc(self, kinds, handler):
            self.kinds, self.handler = kinds, handler

        def showtraceback(self, error, running_compiled_code):
            self.seen = getattr(error[1], "_render_traceback_", lambda: ["the usual"])()

        def run(self, code, names):
            try:
                exec(code, names)
            except self.kinds as error:
                self.handler(self, type(error), error, error.__traceback__, tb_offset=1)
                return self.seen

    made = Shell()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: made))
    monkeypatch.setattr(exercise_harness, "UNWRITTEN", {})
    return made


def test_a_cell_that_lacks_an_exercise_says_which(shell):
    @exercise()
    def check_area(function):
        """Exercise 9.2: `area(r)`."""
        return f"right: {call(function, 1)}"

    names = {}
    exec("def area(r):\n    raise NotImplementedError()", names)
    with refusal("area is not written yet"):
        check_area(names["area"])
    assert shell.run("area(2)", names) == ["✗ This cell uses your area: solve exercise 9.2 (area) first."]
    (text,) = shell.run("print(total)", names)
    assert text.startswith("✗ total is missing") and "Not written yet: exercise 9.2 (area). Solve that first" in text
    assert shell.run("def other():\n    raise NotImplementedError()\nother()", names) == ["the usual"]
    exec("def area(r):\n    return 3 * r * r", names)
    check_area(names["area"])
    assert shell.run("print(total)", names) == ["the usual"]


def test_a_solution_comes_with_the_imports_of_its_notebook_only(tmp_path, monkeypatch):
    def exercise(name, source):
        return nbformat.v4.new_code_cell(source, metadata={"nbgrader": {"grade_id": name, "solution": True}})

    cells = [
        nbformat.v4.new_code_cell("import math\nvalue = 1 / 0"),
        exercise("ex99-square", "def square(r):\n    return r * r"),
        exercise("ex99-area", "def area(r):\n    return math.pi * square(r)"),
        nbformat.v4.new_code_cell("area(2)"),
        exercise("ex99-value", "def double():\n    return 2 * value"),
        nbformat.v4.new_code_cell("double()"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "99_circles.ipynb")
    monkeypatch.setattr(harness, "NOTEBOOKS", tmp_path)
    names, check = harness.solved("ex99-area")
    assert names["area"](1) == pytest.approx(3.14159, abs=1e-5) and check == "area(2)"
    with pytest.raises(NameError, match="value"):
        harness.solved("ex99-value")[0]["double"]()
    with pytest.raises(KeyError, match="no exercise ex99-volume"):
        harness.solved("ex99-volume")
