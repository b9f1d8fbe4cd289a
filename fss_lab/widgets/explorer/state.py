"""What can be selected and shown: checked and completed."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from traitlets import TraitError

from fss_lab.widgets.explorer.runs import Run

MAPS = ("query", "support", "memory", "pointers")
OUTLINES = ("truth", "prediction", "support")


class Choice(dict[str, Any]):
    """What is selected or shown. It is assigned as a whole, for only then it is checked and the panel hears of it."""

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(
            f"changing {name!r} in place would go unnoticed; assign what shall change, as in "
            "explorer.selection = {'layer': 0}"
        )

    def update(self, *others: Any, **more: Any) -> NoReturn:  # type: ignore[override]
        """Raises TypeError, as item assignment."""
        self[", ".join({**dict(*others), **more})] = None

    def __ior__(self, other: Any) -> dict[str, Any]:  # type: ignore[override, misc]
        return {**self, **other}  # which `explorer.selection |= ...` then assigns

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def start_cell(run: Run) -> tuple[int, int]:
    """Where the explorer starts: the cell nearest to the middle of the truth, else of the prediction, else of all."""
    _, inside = run.foreground
    if not inside.any():
        return run.grid[0] // 2, run.grid[1] // 2
    rows, columns = torch.nonzero(inside, as_tuple=True)
    far = (rows - rows.float().mean()) ** 2 + (columns - columns.float().mean()) ** 2
    nearest = int(far.argmin())
    return int(rows[nearest]), int(columns[nearest])


def check_selection(runs: Sequence[Run], known: Mapping[str, Any], wanted: Mapping[str, Any]) -> Choice:
    """`known` with the changes `wanted`. Raises TraitError for what does not exist."""
    _check_names("selection", known, wanted)
    new = {**known, **wanted}
    if "cell" in wanted and "end" not in wanted:
        new["end"] = wanted["cell"]
    new["map"] = _one_of("selection", "map", new["map"], MAPS)
    parts = [run.trace.layers[0].columns.pointers for run in runs]
    pointers = max(part.stop - part.start for part in parts)
    shape = (1, pointers) if new["map"] == "pointers" else runs[0].grid
    if new["map"] == "memory" and not any(run.has_query_memory for run in runs):
        raise TraitError(
            'there is no query memory in this trace (memory="support"), so none of its cells can be selected'
        )
    for name in ("cell", "end"):
        new[name] = _place(name, new[name], shape)
    for name, count in (("layer", len(runs[0].trace.layers)), ("shot", max(run.blocks for run in runs))):
        new[name] = _index("selection", name, new[name], count)
    return Choice(new)


def check_view(runs: Sequence[Run], known: Mapping[str, Any], wanted: Mapping[str, Any]) -> Choice:
    """`known` with the changes `wanted`. Raises TraitError for what does not exist."""
    _check_names("view", known, wanted)
    new = {**known, **wanted}
    names = tuple(run.name for run in runs)
    if new["against"] == new["run"]:
        new["against"] = None
    choices: dict[str, tuple[Any, ...]] = {
        "show": ("before", "after", "difference"),
        "run": names,
        "against": (None, *names),
    }
    for name, allowed in choices.items():
        new[name] = _one_of("view", name, new[name], allowed)
    if not isinstance(new["outlines"], list | tuple) or any(name not in OUTLINES for name in new["outlines"]):
        raise TraitError(f"view['outlines'] must be a list of some of {OUTLINES}, got {new['outlines']!r}")
    new["outlines"] = tuple(new["outlines"])
    counts = {"round": max(1, *(len(run.priors) for run in runs)), "shot": max(run.shots for run in runs)}
    for name, count in counts.items():
        new[name] = _index("view", name, new[name], count)
    return Choice(new)


def _check_names(what: str, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    unknown = set(wanted) - set(known)
    if unknown:
        raise TraitError(f"{what} has no {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(map(repr, known))}")


def _one_of(what: str, name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """The allowed value that equals this one: what travels are plain numbers, not numpy's."""
    if value not in allowed:
        raise TraitError(f"{what}[{name!r}] must be one of {allowed}, got {value!r}")
    return allowed[allowed.index(value)]


def _index(what: str, name: str, value: Any, count: int) -> int:
    """A number from 0 to count - 1; negative ones count from the end."""
    try:
        number = operator.index(value)  # numpy's and torch's whole numbers too
    except TypeError:
        number = count
    if isinstance(value, bool) or not -count <= number < count:
        raise TraitError(f"{what}[{name!r}] must be a whole number from 0 to {count - 1}, got {value!r}")
    return number % count


def _place(name: str, value: Any, shape: tuple[int, int]) -> tuple[int, int]:
    try:
        row, column = (operator.index(number) for number in value)
    except (TypeError, ValueError) as error:
        raise TraitError(f"selection[{name!r}] must be (row, column), whole numbers, got {value!r}") from error
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise TraitError(f"selection[{name!r}] must lie on the grid of {shape[0]} x {shape[1]}, got {(row, column)}")
    return row, column
