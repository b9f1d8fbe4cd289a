"""Self-checking exercises: one module for each notebook, `ex01` to `ex08`, and what they share.

A check calls the reader's function on numbers worked by hand. It prints a line with ✓, or raises ExerciseError
with a diagnosis: not only what differs, but which plausible mistake gives exactly that.

Knows the method, whose functions it compares answers with; nothing of data sets, models and scores.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class ExerciseError(AssertionError):
    """What is wrong with an answer, in words for the one who wrote it."""

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows: the diagnosis alone, without the inside of the check."""
        return [f"✗ {self}"]


def passed(text: str) -> None:
    """Tell the reader that the answer is right."""
    print(f"✓ {text}")


def call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What the reader's function returns.

    Raises ExerciseError if it is not written yet, raises anything itself, returns None, or changes a tensor that
    it was given.
    """
    name = getattr(function, "__name__", str(function))
    given = {**{f"number {i}": value for i, value in enumerate(arguments, start=1)}, **keywords}
    before = {which: value.detach().clone() for which, value in given.items() if isinstance(value, Tensor)}
    try:
        result = function(*arguments, **keywords)
    except NotImplementedError as error:
        raise ExerciseError(_unwritten(function, error)) from None
    except ExerciseError:
        raise
    except Exception as error:
        raise ExerciseError(f"{name} stopped with {_where(function, error)}") from error
    if result is None:
        raise ExerciseError(f"{name} returns nothing (None): does it end with `return ...`?")
    for which, value in before.items():
        if not torch.equal(given[which].detach().nan_to_num(), value.nan_to_num()):
            raise ExerciseError(
                f"{name} changes its argument {which}; compute a new tensor instead (`x = x * 2`, not `x *= 2`)."
            )
    return result


def check_tensor(
    found: Any, shape: Sequence[int], what: str = "the result", dtype: torch.dtype | None = None
) -> Tensor:
    """`found`. Raises ExerciseError if it is no tensor, or has another shape, or another dtype than the one given."""
    if not isinstance(found, Tensor):
        raise ExerciseError(f"{what} must be a tensor of shape {tuple(shape)}, but is of type {type(found).__name__}.")
    if tuple(found.shape) != tuple(shape):
        raise ExerciseError(f"{what} has the shape {tuple(found.shape)}; it must be {tuple(shape)}.")
    if dtype is not None and found.dtype != dtype:
        raise ExerciseError(f"{what} has the type {found.dtype}; it must be {dtype}.")
    return found


def check_number(found: Any, what: str = "the result") -> float:
    """A number, or a tensor with one element, as float. Raises ExerciseError for anything else."""
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise ExerciseError(f"{what} must be one number, but is a {type(found).__name__}{shape}.") from None


def compare(
    found: Any,
    expected: Any,
    what: str = "the result",
    mistakes: Mapping[str, Any] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Pass if `found` equals `expected`: numbers, tensors or nested lists of numbers.

    mistakes: diagnosis -> what this mistake would give. If `found` is none of them, the message names the first
    place that differs. tolerance: absolute, and relative to the expected value.
    Raises ExerciseError with the diagnosis.
    """
    mine, right = _numbers(found, what), _numbers(expected, what)
    if mine.shape == right.shape and torch.allclose(mine, right, tolerance, tolerance, equal_nan=True):
        return
    for diagnosis, value in (mistakes or {}).items():
        wrong = _numbers(value, what)
        if mine.shape == wrong.shape and torch.allclose(mine, wrong, tolerance, tolerance, equal_nan=True):
            raise ExerciseError(diagnosis)
    if mine.shape != right.shape:
        raise ExerciseError(f"{what} has the shape {tuple(mine.shape)}; it must be {tuple(right.shape)}.")
    differs = ~torch.isclose(mine, right, tolerance, tolerance, equal_nan=True)
    place = tuple(differs.nonzero()[0].tolist())
    at = f" at [{', '.join(map(str, place))}]" if place else ""
    count = f" ({int(differs.sum())} of {differs.numel()} values differ)" if differs.numel() > 1 else ""
    zero = " NaN often comes from 0 / 0." if mine[place].isnan() else ""
    raise ExerciseError(f"{what} is {_short(mine[place])}{at}, expected {_short(right[place])}{count}.{zero}")


def _numbers(value: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise ExerciseError(f"{what} must be made of numbers, but is a {type(value).__name__}: {value!r:.80}") from None


def _short(value: Tensor) -> str:
    return f"{value.item():.5g}"


def _unwritten(function: Callable[..., Any], error: Exception) -> str:
    """Which function is still a stub: the reader's own, or one of an earlier exercise that it calls."""
    name, stub = (getattr(function, "__name__", str(function)), traceback.extract_tb(error.__traceback__)[-1].name)
    code = getattr(function, "__code__", None)
    if code is None or stub == code.co_name:
        return f"{name} is not written yet: put your code where it raises NotImplementedError."
    return f"{name} uses {stub}, which is not written yet: do that exercise first, or see its hint for how to skip it."


def _where(function: Callable[..., Any], error: Exception) -> str:
    """The error and the last line of the reader's own code before it."""
    code = getattr(function, "__code__", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    place = f"\n    in line {own[-1].lineno} of your cell: {own[-1].line}" if own else ""
    return f"{type(error).__name__}: {error}{place}"
