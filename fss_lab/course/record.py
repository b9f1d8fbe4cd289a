"""What the notebooks of the course leave behind for tests."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from IPython.display import display

from fss_lab.errors import InputError

RECORD = "application/vnd.fss-lab.record+json"


def record(**values: Any) -> None:
    """Show values in one line and leave them in the notebook, under the MIME type RECORD, for the tests.

    values: numbers or truth values, also as tensors or arrays with one element. Raises InputError for anything
    else and for what is not finite.
    """
    plain = {name: _plain(name, value) for name, value in values.items()}
    line = " · ".join(
        f"{name} = {value:.4g}" if type(value) is float else f"{name} = {value}" for name, value in plain.items()
    )
    display({RECORD: plain, "text/plain": line}, raw=True)


def _plain(name: str, value: Any) -> bool | int | float:
    if hasattr(value, "tolist"):  # a tensor, an array or one of numpy's numbers
        elements = value.reshape(-1).tolist()
        value = elements[0] if len(elements) == 1 else value
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    raise InputError(f"record takes finite numbers and truth values, but {name} is {value!r}")
