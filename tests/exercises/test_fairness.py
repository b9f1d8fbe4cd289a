"""What a check is worth: each exercise is marked for itself, the library's work earns nothing, and no cell decides."""

import contextlib
import copy
import functools
import itertools
import re
import sys
import types

import pytest
import torch
from helpers.harness import NOTEBOOKS, solved
from nbformat.v4 import new_output

import fss_lab
from fss_lab import exercises as package
from fss_lab.course.notebooks import code_cells, grading, read
from fss_lab.course.notebooks import exercises as solution_cells
from fss_lab.evaluation.scoring import vote
from fss_lab.exercises import ExerciseError, ex04, ex05, ex06, ex07, exercise, harness
from fss_lab.method import prompts, refinement

BUILT_UP = [ex04, ex05, ex06]  # the notebooks whose exercises build on each other


def answers(checks):
    """The right answers of a notebook by name, and the check of each."""
    by_name = {
        name.removeprefix("check_"): check for name, check in vars(checks).items() if hasattr(check, "__wrapped__")
    }
    (path,) = NOTEBOOKS.glob(f"{checks.__name__[-2:]}_*.ipynb")
    return solved(grading(solution_cells(read(path))[-1])["grade_id"])[0], by_name


def with_mistakes(right, mistakes):
    """A namespace in which all functions of `right` call each other, but for the `mistakes`."""
    space = dict(right)
    for name, function in right.items():
        if getattr(function, "__globals__", None) is right:
            space[name] = types.FunctionType(function.__code__, space, name, function.__defaults__)
    space.update(mistakes)
    return space


def used_by(space, code):
    """The functions of the notebook that a piece of code uses, at first or second hand."""
    names = set(code.co_names)
    for part in code.co_consts:
        names |= used_by(space, part) if isinstance(part, types.CodeType) else set()
    mine = [name for name in code.co_names if getattr(space.get(name), "__globals__", None) is space]
    return names.union(*(used_by(space, space[name].__code__) for name in mine))


def unwritten(*arguments, **keywords):
    raise NotImplementedError


WRONG = {
    "unwritten": unwritten,
    "nothing": lambda *arguments, **keywords: None,
    "first argument": lambda first, *arguments, **keywords: first,
    "zeros": lambda first, *arguments, **keywords: 0 * first,
}


def changes_what_it_is_given(function):
    """The right answer, which leaves its first tensor or list other than it was."""

    def answer(*arguments):
        result = copy.deepcopy(function(*arguments))
        given = next(value for value in arguments if isinstance(value, torch.Tensor | list))
        given.append(0) if isinstance(given, list) else given.copy_(given == 0)
        return result

    return answer


ALONE = [cell for path in sorted(NOTEBOOKS.glob("0[1-3]_*")) for cell in solution_cells(read(path))]


@pytest.mark.parametrize("name", [grading(cell)["grade_id"] for cell in ALONE])
def test_every_kind_of_wrong_answer_is_refused(name):
    """In 01 to 03, whose exercises do not build on each other; the mistakes of one exercise are in its own file."""
    names, check = solved(name)
    function = re.search(r"\((\w+)\)\s*$", check)[1]
    right = names[function]
    for wrong in WRONG.values():
        names[function] = wrong
        with pytest.raises(ExerciseError):
            exec(check, names)
    if name != "ex02-frames-to-read":  # which is given numbers
        names[function] = changes_what_it_is_given(right)
        with pytest.raises(ExerciseError, match="changes its argument"):
            exec(check, names)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("checks", BUILT_UP, ids=lambda checks: checks.__name__[-4:])
def test_a_mistake_costs_points_in_its_own_exercise_only(checks, kind, capsys):
    right, by_name = answers(checks)
    for name in by_name:
        space = with_mistakes(right, {name: WRONG[kind]})
        with pytest.raises(ExerciseError):
            by_name[name](space[name])
        assert all(check(space[other]) is None for other, check in by_name.items() if other != name)
        printed = capsys.readouterr().out
        assert printed.count("✓") == len(by_name) - 1
        users = [other for other in by_name if other != name and name in used_by(right, right[other].__code__)]
        assert printed.count(f"Your {name} is not {'written' if kind == 'unwritten' else 'right'} yet") == len(users)
        assert space[name] is WRONG[kind], "the reader's names have changed"


def test_any_set_of_mistakes_costs_exactly_its_points():
    right, by_name = answers(ex04)
    for count in range(len(by_name) + 1):
        for mistakes in itertools.combinations(by_name, count):
            space = with_mistakes(right, dict.fromkeys(mistakes, WRONG["zeros"]))
            passing = []
            for name, check in by_name.items():
                with contextlib.suppress(ExerciseError):
                    check(space[name])
                    passing.append(name)
            assert passing == [name for name in by_name if name not in mistakes]


def test_a_helper_with_other_arguments_than_the_librarys_is_right_too():
    space = {}
    code = """
def min_max(x, low, high):
    return (x - low) / (high - low + 1e-7)

def discriminative_prior(S_fg, S_bg):
    lead = (S_fg - S_bg).clamp(min=0)
    return min_max(lead, lead.amin((-2, -1), keepdim=True), lead.amax((-2, -1), keepdim=True))
"""
    exec(code, space)
    assert ex04.check_discriminative_prior(space["discriminative_prior"]) is None


def once(*arguments, **keywords):
    done = refinement.refine_once(*arguments, **keywords)
    return done.memory, done.prior, done.weight


def both(*arguments):
    priors = prompts.generate_priors(*arguments)
    return priors.foreground, priors.discriminative


LIBRARY = [
    (ex04.check_prototype, prompts.prototype),
    (ex04.check_min_max, prompts.min_max),
    (ex04.check_discriminative_prior, prompts.discriminative_prior),
    (ex04.check_generate_priors, both),
    (ex05.check_support_similarity, refinement.support_similarity),
    (ex05.check_agreement, refinement.agreement),
    (ex05.check_refine_once, once),
    (ex06.check_calibration_bias, package.module("ex06").calibration.calibration_bias),
    (ex07.check_vote, vote),
]
WAYS = {
    "itself": lambda function: function,
    "partial": functools.partial,
    "lambda": lambda function: lambda *arguments, **keywords: function(*arguments, **keywords),
    "renamed": lambda function: types.FunctionType(
        function.__code__, function.__globals__, "mine", function.__defaults__
    ),
    "wrapped": lambda function: functools.wraps(function)(lambda *a, **k: function(*a, **k)),
    "disguised": lambda function: (
        lambda *arguments, **keywords: [step(*arguments, **keywords) for step in [function]][0]
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("check", "function"), LIBRARY, ids=lambda value: getattr(value, "__name__", ""))
def test_the_librarys_answer_passes_without_points(check, function, way, capsys):
    assert check(WAYS[way](function)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("○") and "✓" not in printed and "for points you write it yourself" in printed


def test_nbgrader_counts_no_points_for_the_librarys_answer():
    from nbgrader.utils import determine_grade

    (path,) = NOTEBOOKS.glob("04_*.ipynb")
    cell = next(cell for cell in code_cells(read(path)) if grading(cell).get("grade"))
    assert determine_grade(cell) == (2, 2)
    cell.outputs.append(new_output("execute_result", {"text/plain": "0"}))
    assert determine_grade(cell) == (0, 2)


def test_a_warning_of_the_answer_costs_nothing(capsys):
    @exercise()
    def check_sum(function):
        function()
        return "right"

    check_sum(lambda: print("old fashioned", file=sys.stderr))
    assert not capsys.readouterr().err


def test_a_loop_without_end_ends(monkeypatch):
    def endless(x):
        while True:
            pass

    monkeypatch.setattr(harness, "LIMIT", 1)
    with pytest.raises(ExerciseError, match="min_max does not come to an end"):
        ex04.check_min_max(endless)


# ---- cells that change what a check below them runs

FAKE = "Fake = type('Fake', (), {'__getattr__': lambda self, name: lambda *arguments, **keywords: self})()\n"
TAMPERING = {
    "a name of the notebook": "ex04 = exercises = Fake",
    "a check": "from fss_lab.exercises import ex04\nex04.check_prototype = lambda function: print('✓')",
    "a check by a builtin": "from fss_lab.exercises import ex04\nex04.check_prototype = print",
    "the module of the checks": "import sys\nsys.modules['fss_lab.exercises.ex04'] = Fake",
    "the package's attribute": "import fss_lab.exercises\nfss_lab.exercises = Fake",
    "the package": "import sys\nsys.modules['fss_lab.exercises'] = Fake",
    "what loads a module": "import fss_lab.exercises\nfss_lab.exercises.module = lambda name: Fake",
    "the comparison": "import fss_lab.exercises.harness as h\nh.compare = lambda *arguments, **keywords: None",
    "the comparison in place": "from fss_lab.exercises import compare\ncompare.__code__ = (lambda *a, **k: 1).__code__",
    "PyTorch": "import torch\ntorch.allclose = lambda *arguments, **keywords: True",
    "the library": "from fss_lab.method import prompts\nprompts.prototype = prototype",
}


@pytest.fixture
def restored():
    """Puts back what a cell has changed."""
    modules = [fss_lab, package, harness, ex04, prompts, torch]
    before, contents = dict(sys.modules), [(module, dict(vars(module))) for module in modules]
    code = harness.compare.__code__
    yield
    sys.modules.update(before)
    for module, names in contents:
        vars(module).update(names)
    harness.compare.__code__ = code


@pytest.mark.parametrize("change", TAMPERING)
def test_no_cell_decides_what_a_check_below_it_runs(change, restored, capsys):
    names, check = solved("ex04-prototype")
    exec("def prototype(F, M):\n    return F.mean((-2, -1), keepdim=True)\n" + FAKE + TAMPERING[change], names)
    with pytest.raises((ExerciseError, ImportError, TypeError)):
        exec(check, names)
    assert "✓" not in capsys.readouterr().out


def test_every_check_cell_loads_its_checks_afresh():
    for path in NOTEBOOKS.glob("[0-9]*.ipynb"):
        for cell in (cell for cell in code_cells(read(path)) if grading(cell).get("grade")):
            assert f'reload(exercises).module("ex{path.stem[:2]}").check_' in cell.source


def test_what_is_said_of_other_functions_names_those_in_use_and_whether_they_are_written(capsys):
    right, _ = answers(ex05)
    with pytest.raises(ExerciseError) as failure:  # an unwritten answer uses nothing
        ex05.check_share(with_mistakes(right, {"agreement": WRONG["zeros"], "share": unwritten})["share"])
    assert "(" not in str(failure.value)
    space = with_mistakes(right, {"agreement": unwritten, "support_similarity": WRONG["zeros"]})
    assert ex05.check_refine_once(space["refine_once"]) is None
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  Your agreement is not written yet; this check used the library's instead."
    ]
    space["agreement"] = WRONG["zeros"]
    exec("def refine_once(*x, **o):\n    return x[0], agreement(x[1], x[1]), x[1]", space)
    assert ex05.check_refine(space["refine"]) is None
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  Your agreement and refine_once are not right yet; this check used the library's instead."
    ]
