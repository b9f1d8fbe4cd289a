"""Takes the exercises out of the notebooks, so that tests can hold their solutions against their checks."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from fss_lab.course.notebooks import code_cells, grading, read

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def solved(name: str) -> tuple[dict[str, Any], str]:
    """What a notebook has defined when its exercise `name` (the nbgrader id, as in ex04-prototype) is solved, and the
    code of the check below it.

    Runs nothing but the imports of the notebook up to this cell, the exercises before it, whose functions it may build
    on, and the cell: a solution that needs anything else of its notebook fails.
    """
    (path,) = NOTEBOOKS.glob(f"{name[2:4]}_*.ipynb")
    names: dict[str, Any] = {}
    cells = code_cells(read(path))
    for cell, following in zip(cells, cells[1:], strict=False):
        kept = ast.parse(cell.source)
        if not grading(cell).get("solution"):
            kept.body = [node for node in kept.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(kept, f"{path.name}, {cell.id}", "exec"), names)
        if grading(cell).get("grade_id") == name:
            return names, following.source
    raise KeyError(f"{path.name} has no exercise {name}")
