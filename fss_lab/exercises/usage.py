"""Which functions of a notebook an answer depends on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any


def names_used(function: Callable[..., Any], names: Mapping[str, Any]) -> set[str]:
    """The names that a function of the notebook uses, itself or through other functions of the notebook."""
    used: set[str] = set()
    pending = [getattr(inspect.unwrap(function), "__code__", None)]
    while pending:
        code = pending.pop()
        if code is None:
            continue
        new = set(code.co_names) - used
        used |= new
        functions = (inspect.unwrap(names[name]) for name in new if callable(names.get(name)))
        pending += [f.__code__ for f in functions if getattr(f, "__globals__", None) is names]
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return used
