"""What the checks of all notebooks share: how they call an answer, compare it, and say whose work it is."""

from __future__ import annotations

import functools
import inspect
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from fss_lab.exercises.usage import names_used

Function = Callable[..., Any]
Check = Callable[[Function], str]
EXERCISES, PACKAGE = str(Path(__file__).parent), str(Path(__file__).parents[1])
LIMIT = 10  # seconds of computing for a check, whatever else the machine does meanwhile
UNWRITTEN: dict[str, str] = {}  # function -> the exercise that asks for it, as long as its check says so


class ExerciseError(AssertionError):
    """What is wrong with an answer, in words for the one who wrote it."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows: the diagnosis alone, without the inside of the check."""
        return [f"✗ {self}"]


class EndlessError(ExerciseError):
    """An answer that takes too long."""


class UnwrittenError(ExerciseError):
    """An answer that is still a stub, or uses one."""


def exercise(
    helpers: Mapping[str, Function] | None = None, library: Collection[str] = ()
) -> Callable[[Check], Callable[[Function], int | None]]:
    """Turn a check, which returns what it confirms, into one that prints it and says what it is worth.

    helpers: the library's version of the notebook's functions, by name. They stand in for the reader's while the check
    runs, so that a mistake costs points in one exercise only. library: further names of the answer in the library.

    The check returns None for full points and, as nbgrader's partial credit, 0 where the library computed the answer.
    Raises ExerciseError with a diagnosis.
    """

    def decorate(body: Check) -> Callable[[Function], int | None]:
        name = body.__name__.removeprefix("check_")
        below = {other: function for other, function in (helpers or {}).items() if other != name}

        @functools.wraps(body)
        def check(function: Function) -> int | None:
            calls: list[str] = []
            answer = _observed(function, {name, *library}, calls)
            names = getattr(inspect.unwrap(function), "__globals__", {})
            text, error = _attempt(body, answer, names, below)
            mistaken: dict[str, str] = {}
            used = names_used(function, names)
            if not isinstance(error, EndlessError) and any(
                helper in names and names[helper] is not below[helper] for helper in used & set(below)
            ):
                # helpers with more arguments than the library's are right too
                second, second_error = _attempt(body, answer, names, {})
                if second_error:
                    mistaken = _mistaken(body, names, below, used)
                if error and (second or error.__cause__):
                    text, error = second, second_error
            if isinstance(error, UnwrittenError):
                number = re.match(r"Exercise ([\d.]+)", body.__doc__ or "")
                UNWRITTEN[name] = f"exercise {number[1]} ({name})" if number else name
                _explain_what_is_missing()
            else:
                UNWRITTEN.pop(name, None)
            if error:
                if not mistaken:
                    raise error
                words = {"not right": "not right either", "not written": "not written yet"}
                too = " ".join(f"{who} {words[state]}." for state, who in mistaken.items())
                raise ExerciseError(f"{error} ({too})")
            if calls:
                print(f"○ {name}: the library computed it. You can go on, but for points you write it yourself.")
                return 0
            print(f"✓ {text}")
            for state, who in mistaken.items():
                print(f"  {who} {state} yet; this check used the library's instead.")
            return None

        return check

    return decorate


def _explain_what_is_missing() -> None:
    """From now on a cell of Jupyter that stops because of an unwritten exercise says which one, and shows no code."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell:
        shell.set_custom_exc((NameError, NotImplementedError), _show_error)


def _show_error(shell: Any, kind: type[Exception], error: Exception, trace: Any, tb_offset: int | None = None) -> None:
    """What IPython calls for errors of the two kinds that unwritten exercises lead to; others it shows as usual."""
    stub = traceback.extract_tb(trace)[-1].name
    if isinstance(error, NotImplementedError) and stub in UNWRITTEN:
        text = f"✗ This cell uses your {stub}: solve {UNWRITTEN[stub]} first."
    elif isinstance(error, NameError) and UNWRITTEN:
        text = (
            f"✗ {error.name} is missing, because a cell above did not finish. Not written yet: "
            f"{', '.join(UNWRITTEN.values())}. Solve that first, and run the cells below it again."
        )
    else:
        text = ""
    if text:
        error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]
    shell.showtraceback((kind, error, trace), running_compiled_code=True)


def _attempt(
    body: Check, answer: Function, names: dict[str, Any], helpers: Mapping[str, Function]
) -> tuple[str, ExerciseError | None]:
    """What the check confirms or the error that it raises, with `helpers` among the `names` that the answer uses."""
    before = {helper: names[helper] for helper in helpers if helper in names}
    names.update(helpers)
    try:
        # nbgrader gives no points to a cell that writes to stderr, be it a warning
        with redirect_stderr(sys.stdout), _limited(body.__name__.removeprefix("check_")):
            return body(answer), None
    except ExerciseError as error:
        return "", error
    finally:
        for helper in helpers:
            names.pop(helper, None)
        names.update(before)


def _mistaken(
    body: Check, names: dict[str, Any], helpers: Mapping[str, Function], used: Collection[str]
) -> dict[str, str]:
    """The reader's functions in use that do not pass their own check, on the library's versions of the others:
    {"not right": "Your a and b are", "not written": "Your c is"}."""
    states: dict[str, list[str]] = {}
    for name in (helper for helper in helpers if helper in names and helper in used):
        check = inspect.unwrap(body.__globals__[f"check_{name}"])
        others = {other: function for other, function in helpers.items() if other != name}
        if error := _attempt(check, names[name], names, others)[1]:
            states.setdefault("not written" if isinstance(error, UnwrittenError) else "not right", []).append(name)
    return {state: f"Your {' and '.join(who)} {'are' if who[1:] else 'is'}" for state, who in states.items()}


def _observed(function: Function, answers: Collection[str], calls: list[str]) -> Function:
    """The same function; notes in `calls` where it is the library's or lets the library compute one of `answers`."""

    @functools.wraps(function)
    def answer(*arguments: Any, **keywords: Any) -> Any:
        outside = sys._getframe()

        def note(frame: FrameType, event: str, _: Any) -> None:
            name, file = frame.f_code.co_name, frame.f_code.co_filename
            library = file.startswith(PACKAGE) and not file.startswith(EXERCISES)
            if event == "call" and library and (name in answers or frame.f_back is outside):
                calls.append(name)

        if sys.getprofile():  # somebody measures the time: two cannot
            return function(*arguments, **keywords)
        sys.setprofile(note)
        try:
            return function(*arguments, **keywords)
        finally:
            sys.setprofile(None)

    return answer


@contextmanager
def _limited(name: str) -> Iterator[None]:
    """Raises ExerciseError after LIMIT seconds of computing, where the system can measure them."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    start = time.thread_time()  # not that of a clock: the machine may be busy with others

    def stop(*_: Any) -> None:
        if time.thread_time() - start > LIMIT:
            raise EndlessError(f"{name} does not come to an end within {LIMIT} seconds: does a loop never stop?")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What the reader's function returns.

    Raises ExerciseError if it is not written yet, raises anything itself, returns None, or changes a tensor or a list
    that it was given.
    """
    name = getattr(function, "__name__", str(function))
    given = {**dict(zip(_parameters(function, len(arguments)), arguments, strict=True)), **keywords}
    before = {which: _contents(value) for which, value in given.items()}
    try:
        result = function(*arguments, **keywords)
    except NotImplementedError as error:
        raise UnwrittenError(_unwritten(function, error)) from None
    except ExerciseError:
        raise
    except Exception as error:
        raise ExerciseError(f"{name} stopped with {_where(function, error)}") from error
    if result is None:
        raise ExerciseError(f"{name} returns nothing (None): does it end with `return ...`?")
    for which, values in before.items():
        after = _contents(given[which])
        if len(after) != len(values) or not all(map(_equal, after, values)):
            instead = "tensor (`x = x * 2`, not `x *= 2`)"
            if not any(isinstance(value, Tensor) for value in values):
                instead = "list (`sorted(x)`, not `x.sort()`)"
            raise ExerciseError(
                f"{name} changes its argument {which} in place, which others still need; make a new {instead}."
            )
    return result


def _parameters(function: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its first arguments; by their number where it does not say."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        names = [name for name, one in inspect.signature(function).parameters.items() if one.kind in kinds]
    except ValueError:  # some functions written in C do not say
        names = []
    return names[:count] + [f"number {i + 1}" for i in range(len(names), count)]


def _contents(value: Any) -> list[Any]:
    """The tensors and numbers of an argument, which may be a list of them, as they are now; NaN, which equals nothing,
    as 0."""
    items = [x for x in (value if isinstance(value, list) else [value]) if isinstance(x, Tensor | int | float)]
    return [x.detach().nan_to_num().clone() if isinstance(x, Tensor) else x for x in items]


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


def check_tensor(
    answer: Any, shape: Sequence[int], what: str = "the result", dtype: torch.dtype | None = None
) -> Tensor:
    """`answer`. Raises ExerciseError if it is no tensor, or has another shape, or another dtype than the one given."""
    if not isinstance(answer, Tensor):
        raise ExerciseError(f"{what} must be a tensor of shape {tuple(shape)}, but is of type {type(answer).__name__}.")
    if tuple(answer.shape) != tuple(shape):
        raise ExerciseError(_wrong_shape(what, answer.shape, shape))
    if dtype is not None and answer.dtype != dtype:
        raise ExerciseError(f"{what} has the type {answer.dtype}; it must be {dtype}.")
    return answer


def check_number(answer: Any, what: str = "the result") -> float:
    """A number, or a tensor with one element, as float. Raises ExerciseError for anything else."""
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else ""
        raise ExerciseError(f"{what} must be one number, but is a {type(answer).__name__}{shape}.") from None


def compare(
    answer: Any,
    expected: Any,
    what: str = "the result",
    mistakes: Mapping[str, Any] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Pass if `answer` equals `expected`: numbers, tensors or nested lists of numbers.

    mistakes: diagnosis -> what this mistake would give. If `answer` is none of them, the message names the first
    place that differs. tolerance: absolute, and relative to the expected value.
    Raises ExerciseError with the diagnosis.
    """
    mine, right = _numbers(answer, what), _numbers(expected, what)
    if mine.shape == right.shape and torch.allclose(mine, right, tolerance, tolerance, equal_nan=True):
        return
    for diagnosis, value in (mistakes or {}).items():
        wrong = _numbers(value, what)
        if mine.shape == wrong.shape and torch.allclose(mine, wrong, tolerance, tolerance, equal_nan=True):
            raise ExerciseError(diagnosis)
    if mine.shape != right.shape:
        raise ExerciseError(_wrong_shape(what, mine.shape, right.shape))
    differs = ~torch.isclose(mine, right, tolerance, tolerance, equal_nan=True)
    place = tuple(differs.nonzero()[0].tolist())
    at = f" at [{', '.join(map(str, place))}]" if place else ""
    count = f" ({int(differs.sum())} of {differs.numel()} values differ)" if differs.numel() > 1 else ""
    zero = " NaN often comes from 0 / 0." if mine[place].isnan() else ""
    raise ExerciseError(f"{what}: {mine[place]:.5g}{at}, but {right[place]:.5g} is right{count}.{zero}")


def _wrong_shape(what: str, shape: Sequence[int], right: Sequence[int]) -> str:
    alike = len(shape) < len(right) and [n for n in shape if n != 1] == [n for n in right if n != 1]
    keep = " Keep the axes of length 1 (keepdim=True)." if alike else ""
    return f"{what}: the shape is {tuple(shape)}, but {tuple(right)} is right.{keep}"


@contextmanager
def hint(kind: type[Exception], words: str) -> Iterator[None]:
    """Add words to the message where the reader's function stops with this kind of error."""
    try:
        yield
    except ExerciseError as error:
        raise (ExerciseError(f"{error}\n{words}") if isinstance(error.__cause__, kind) else error) from error.__cause__


def _numbers(value: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError(f"{what} must be made of numbers, but is a {type(value).__name__}: {value!r:.80}") from None


def _unwritten(function: Callable[..., Any], error: Exception) -> str:
    """Which function is still a stub: the reader's own, or one of an earlier exercise that it calls."""
    name, stub = (getattr(function, "__name__", str(function)), traceback.extract_tb(error.__traceback__)[-1].name)
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or stub == code.co_name:
        return f"{name} is not written yet: put your code where it raises NotImplementedError."
    return f"{name} uses {stub}, which is not written yet: do that exercise first, or see its hint for how to skip it."


def _where(function: Callable[..., Any], error: Exception) -> str:
    """The error and the last line of the reader's own code before it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    file = code.co_filename if code else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f"\n    in line {frames[-1].lineno} of your cell: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
