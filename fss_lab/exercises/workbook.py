"""What the reader wrote in notebooks 04 to 06, by name, for notebooks that build on it.

Nothing of those notebooks is executed but the definitions of functions in the cells of exercises, without decorators
and annotations, and with plain values as defaults.
"""

from __future__ import annotations

import ast
import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fss_lab.exercises as exercises
from fss_lab.exercises import ex04, ex05, ex06
from fss_lab.exercises.harness import UnwrittenError
from fss_lab.method import calibration, prompts, refinement

Function = Callable[..., Any]
NOTEBOOKS = {
    "ex04": "04_pseudo_prompts.ipynb",
    "ex05": "05_memory_refinement.ipynb",
    "ex06": "06_calibrated_attention.ipynb",
}
NOT_WRITTEN = "these are not written yet, or not saved"
NOT_RIGHT = "what you saved of these does not pass its check"


def written(folder: str | Path = ".") -> dict[str, Function]:
    """The reader's functions of notebooks 04 to 06 by name, such as "prototype"; prints which they are.

    folder: where the notebooks lie, as they were saved under the course's names. An answer counts that passes its check
    and was not computed by the library; for all others, and where a notebook is missing or damaged, the library's
    function takes its place.
    """
    chosen: dict[str, Function] = {}
    states: dict[str, list[str]] = {"yours": [], NOT_WRITTEN: [], NOT_RIGHT: []}
    for notebook, library in LIBRARY.items():
        solved: dict[str, Function] = {}  # for the notebook's other functions, which may use these
        for name, stand_in in library.items():
            names: dict[str, Any] = {**vars(prompts), "torch": torch, "F": F, "math": math, **library, **solved}
            del names[name]
            try:
                exec(_definitions(_source(Path(folder), f"{notebook}-{name.replace('_', '-')}")), names)
                if name not in names:
                    raise UnwrittenError(name)
                check = getattr(exercises.module(notebook), f"check_{name}")
                with redirect_stdout(io.StringIO()):
                    state = NOT_WRITTEN if check(names[name]) == 0 else "yours"
            except UnwrittenError:
                state = NOT_WRITTEN
            except Exception:  # whatever a reader's cell may raise
                state = NOT_RIGHT
            states[state].append(name)
            chosen[name] = stand_in
            if state == "yours":
                chosen[name] = solved[name] = names[name]
    print("yours:", ", ".join(states.pop("yours")) or "none")
    if any("### BEGIN SOLUTION" in _text(Path(folder) / name) for name in NOTEBOOKS.values()):
        print("The notebooks here hold the shipped solutions, or at least their marks; the student edition does not.")
    for state, missing in states.items():
        if missing:
            print(f"the library's, as {state}: {', '.join(missing)}")
    if any(states.values()):
        print(f"Only these files are read: {', '.join(NOTEBOOKS.values())}")
    return chosen


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""


def _source(folder: Path, exercise: str) -> str:
    """The cell of an exercise. Raises UnwrittenError where there is none, or no notebook that can be read."""
    with suppress(Exception):  # a damaged notebook may have any form
        cells = json.loads(_text(folder / NOTEBOOKS[exercise[:4]]))["cells"]
        (cell,) = (c for c in cells if c["metadata"].get("nbgrader", {}).get("grade_id") == exercise)
        return "".join(cell["source"])
    raise UnwrittenError(exercise)


def _definitions(source: str) -> Any:
    """Code of the functions that a cell defines, bare: none of them runs before it is called."""
    nodes: list[ast.stmt] = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        node.decorator_list, node.returns = [], None
        for part in ast.walk(node.args):
            if isinstance(part, ast.arg):
                part.annotation = None
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                ast.literal_eval(default)
        nodes.append(node)
    return compile(ast.Module(nodes, []), "exercise", "exec", dont_inherit=True)


def _generate_priors(*arguments: Tensor) -> tuple[Tensor, Tensor]:
    priors = prompts.generate_priors(*arguments)
    return priors.foreground, priors.discriminative


def _refine(*arguments: Any, **keywords: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(after.memory, after.prior, after.weight) for after in refinement.refine(*arguments, **keywords)]


def _calibrated_attention(q: Tensor, k: Tensor, v: Tensor, M_S: Tensor) -> Tensor:
    N, K = q.shape[2], M_S.shape[1]
    k_S, k_Q = k[:, :, : K * N].unflatten(2, (K, N)), k[:, :, K * N : (K + 1) * N]
    c = calibration.calibration_term(calibration.shot_similarity(k_Q, k_S, M_S), M_S)
    bias = calibration.calibration_bias(q @ k_Q.mT / math.sqrt(q.shape[-1]), c)
    k, v = (calibration.average_shots(x, K, N) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=F.pad(bias, (N, k.shape[2] - 2 * N)))


LIBRARY: dict[str, dict[str, Function]] = {
    "ex04": {**ex04.LIBRARY, "generate_priors": _generate_priors},
    "ex05": {**ex05.LIBRARY, "refine": _refine},
    "ex06": {**ex06.LIBRARY, "calibrated_attention": _calibrated_attention},
}
"""By notebook, in the order in which the functions build on each other."""
