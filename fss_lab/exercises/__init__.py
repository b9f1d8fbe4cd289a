"""Self-checking exercises: one module for each notebook that has some, `ex01`, `ex02`, ..., and what they share.

A check calls the reader's function on numbers worked by hand. It prints a line with ✓, or raises ExerciseError
with a diagnosis: not only what differs, but which plausible mistake gives exactly that.

Knows the method, whose functions it compares answers with; nothing of scores, and of models and data only what
`planted` prepares for exercise 6.6.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import CodeType, ModuleType

import torch

from fss_lab.exercises.harness import ExerciseError, call, check_number, check_tensor, compare, exercise

__all__ = ["ExerciseError", "call", "check_number", "check_tensor", "compare", "exercise", "module"]

_FOLDER = Path(__file__).parent
_CHANGED = "Restart the kernel, take out what changes it, and run the notebook again."


def module(name: str) -> ModuleType:
    """The checks of one notebook, imported afresh from their file; name: ex01, ex02, ...

    Every check cell calls this right after it has reloaded this package, so that no cell above it decides what it runs.
    Raises ExerciseError if a cell has changed what the checks rely on.
    """
    spec = importlib.util.spec_from_file_location(f"{__name__}.{name}", _FOLDER / f"{name}.py")
    assert spec and spec.loader
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    for loaded in [value for value in sys.modules if value.startswith(("fss_lab.exercises.", "fss_lab.method."))]:
        if function := _changed_function(loaded):
            raise ExerciseError(f"{loaded}.{function} is not the one that is installed. {_CHANGED}")
    try:
        compare(torch.zeros(2), torch.ones(2))
    except ExerciseError:
        return checks
    raise ExerciseError(f"a comparison of 0 with 1 passes: functions of PyTorch were changed. {_CHANGED}")


def _changed_function(name: str) -> str | None:
    """The first function of a loaded module of this package that differs from its file, None if there is none."""
    place = _FOLDER.parent.joinpath(*name.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True)
    for written in (constant for constant in code.co_consts if isinstance(constant, CodeType)):
        loaded = inspect.unwrap(getattr(sys.modules[name], written.co_name, module))
        if isinstance(loaded, type) or not written.co_name.isidentifier() or written.co_name.startswith("__"):
            continue
        if getattr(loaded, "__code__", None) != written:
            return written.co_name
    return None
