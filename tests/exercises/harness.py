"""Takes the solutions of the exercises out of the notebooks, so that tests can hold them against the checks."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fss_lab.course.notebooks import code_cells, grading, read

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def solution(number: str, name: str) -> Callable[..., Any]:
    """The function that the exercise cell `name` (its nbgrader id, as in ex04-prototype) of notebook `number` defines.

    Runs nothing but the imports of the notebook up to this cell, the exercises before it, whose functions it may build
    on, and the cell: a solution that needs anything else of its notebook fails here. The function is the last one that
    the cell defines.
    """
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    names: dict[str, Any] = {}
    for cell in code_cells(read(path)):
        kept = ast.parse(cell.source)
        if not grading(cell).get("solution"):
            kept.body = [node for node in kept.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(kept, f"{path.name}, {cell.id}", "exec"), names)
        if grading(cell).get("grade_id") == name:
            return names[[node.name for node in kept.body if isinstance(node, ast.FunctionDef)][-1]]
    raise KeyError(f"{path.name} has no exercise {name}")
