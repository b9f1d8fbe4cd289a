"""The explorer as a notebook widget: its state, and what Python can ask of it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import uuid
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.files import write_atomically
from fss_lab.method.trace import LayerTrace
from fss_lab.widgets.explorer.page import html_page
from fss_lab.widgets.explorer.payload import TOLERANCE, pack
from fss_lab.widgets.explorer.runs import Run
from fss_lab.widgets.explorer.state import check_selection, check_view, start_cell
from fss_lab.widgets.explorer.whatif import answer

if TYPE_CHECKING:
    from fss_lab.figures import Picture

SCRIPTS = ("attention", "drawing", "paint", "words", "whatif", "layout", "panel", "explorer")


@cache
def script() -> str:
    """The browser's part as one ES module: the scripts one after the other, without their imports of each other."""
    texts = [(files("fss_lab.widgets.explorer") / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return re.sub(r'^import [^;]*? from "\./\w+\.js";\n', "", "\n".join(texts), flags=re.MULTILINE)


@cache
def style() -> str:
    """The style sheet."""
    return (files("fss_lab.widgets.explorer") / "explorer.css").read_text(encoding="utf-8")


class Explorer(anywidget.AnyWidget):
    """An interactive view of memory attention; made by `fss_lab.explore`.

    selection: what is asked, a dictionary, observable with `explorer.observe(function, "selection")`:
        "map": "query" (one cell of the query asks all of the memory), or "support", "memory" (the query memory) or
            "pointers" (a memory cell: which query cells read it?)
        "cell": (row, column) on the memory grid; for pointers (0, token)
        "end": the opposite corner of a region, whose mean is shown; the same as "cell" for a single cell
        "shot": which support, where each has its own memory; "layer": counted from 0
        An assignment may leave out what shall stay; "cell" alone selects one cell. Changing the dictionary in place
        raises TypeError: nothing would notice.
    view: how it is shown, a dictionary, observable too: "show" ("before", "after" or "difference" of the calibration),
        "outlines" (of "truth", "prediction", "support"), "round" (of the prior), "shot" (the image under averaged
        supports), "run" and "against" (names of runs; None: no comparison).
        An assignment may leave out what shall stay.
    deviation: how far the weights that the browser computes are from the trace's, at most.
    Values that do not exist raise traitlets.TraitError.
    """

    _esm = script()
    _css = style()
    _id = traitlets.Unicode().tag(sync=True)
    _description = traitlets.Dict().tag(sync=True)
    _data = traitlets.Bytes().tag(sync=True)
    _picture = traitlets.Bytes().tag(sync=True)
    _alt = traitlets.Unicode().tag(sync=True)
    _answers = traitlets.Dict().tag(sync=True)  # question as JSON -> answer of `whatif.answer`
    selection = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, runs: Sequence[Run]) -> None:
        """runs: checked ones, from `fss_lab.widgets.explorer.runs.collect`."""
        self.runs = list(runs)
        description, self._packed = pack(self.runs)
        first = self.runs[0]
        self.deviation = max(run["deviation"] for run in description["runs"])
        if self.deviation > TOLERANCE:
            warnings.warn(
                f"weights computed from this trace's queries and keys differ from the model's own by up to "
                f"{self.deviation:.2g}; was its attention changed, or computed in low precision?",
                stacklevel=3,
            )
        self._selection = {
            "map": "query", "cell": start_cell(first), "end": start_cell(first), "shot": 0,
            "layer": len(first.trace.layers) - 1,
        }  # fmt: skip
        self._view = {
            "show": "after", "outlines": ("truth", "prediction", "support"), "shot": 0,
            "round": max(len(first.priors) - 1, 0),
            "run": first.name, "against": self.runs[1].name if len(self.runs) > 1 else None,
        }  # fmt: skip
        identity = uuid.uuid4().hex
        super().__init__(
            _id=identity, _description={"id": identity, **description}, _data=self._packed,
            selection=self._selection, view=self._view,
        )  # fmt: skip
        self.on_msg(self._answer)

    @traitlets.validate("selection")
    def _check_selection(self, proposal: dict[str, Any]) -> dict[str, Any]:
        self._selection = check_selection(self.runs, self._selection, proposal["value"])
        return self._selection

    @traitlets.validate("view")
    def _check_view(self, proposal: dict[str, Any]) -> dict[str, Any]:
        self._view = check_view(self.runs, self._view, proposal["value"])
        return self._view

    def _answer(self, _: Any, content: Any, __: Any) -> None:
        """The browser asks what if; or it has the bytes, so that they can leave the state; or it needs them again."""
        if content.get("type") == "ask":
            self._ask(content["key"])
        else:
            self._data = self._packed if content.get("type") == "send" else b""

    def _ask(self, key: str) -> None:
        """Answer a question of the panel, once. key: the question of `whatif.answer` as the browser's JSON."""
        if key in self._answers:
            return
        question = json.loads(key)
        run = next(run for run in self.runs if run.name == question[1])

        def progress(done: int, total: int) -> None:
            self.send({"type": "progress", "key": key, "done": done, "total": total})

        self._answers = {**self._answers, key: answer(run, question, progress)}

    def attention(self) -> dict[str, np.ndarray]:
        """The maps that the panel draws now, as the model computed them (float32; the first of two compared runs).

        Where a query cell asks: "support" (blocks, h, w), "query" (h, w; absent for memory="support") and "pointers"
        (tokens,), weights that together sum to 1, or differences that sum to 0. Where a memory cell is selected:
        "readers" (h, w), what every query cell gives to it. Regions and heads are averaged.
        Raises InputError if this run has no such memory cell (of a shot that another run has).
        """
        maps = self._maps(self.selection)
        if maps is None:
            run = self.run
            raise InputError(f"the run {run.name!r} has no such memory cell; its support memories: {run.blocks}")
        return maps

    def _maps(self, selection: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """As `attention`, for any selection; None if the run that is shown has no such memory cell."""
        run = self.run
        layer = run.trace.layers[selection["layer"]]
        weights = self._weights(layer, self.view["show"])  # N, L
        (top, left), (bottom, right) = selection["cell"], selection["end"]
        if selection["map"] == "pointers":
            cells = torch.arange(min(left, right), max(left, right) + 1)
        else:
            numbers = torch.arange(run.grid[0] * run.grid[1]).unflatten(0, run.grid)
            cells = numbers[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1].flatten()
        columns = layer.columns
        if selection["map"] == "query":
            row = weights[cells].mean(0)  # L
            maps = {"support": row[columns.support].unflatten(0, (-1, *run.grid))}
            if run.has_query_memory:
                maps["query"] = row[columns.query].unflatten(0, run.grid)
            maps["pointers"] = row[columns.pointers]
        else:
            part = getattr(columns, {"memory": "query"}.get(selection["map"], selection["map"]))
            first = part.start + (selection["shot"] * run.grid[0] * run.grid[1] if selection["map"] == "support" else 0)
            if first + int(cells.max()) >= part.stop:
                return None
            maps = {"readers": weights[:, first + cells].mean(1).unflatten(0, run.grid)}
        return {name: values.numpy() for name, values in maps.items()}

    @property
    def run(self) -> Run:
        """The run that is shown, the first of two compared ones."""
        return next(run for run in self.runs if run.name == self.view["run"])

    @staticmethod
    def _weights(layer: LayerTrace, show: str) -> Tensor:
        """(N, L), mean over the heads."""
        both = (layer.attention_before, layer.attention)
        before, after = (weights[0].detach().float().cpu().mean(0) for weights in both)
        return {"before": before, "after": after, "difference": after - before}[show]

    def data(self) -> dict[str, np.ndarray]:
        """Everything that the panel shows now, as named arrays (of the first of two compared runs).

        "weights support", "weights query", "weights pointers" or "weights readers": what `attention` returns.
        "selected": (2, 2), first and last cell. "query" (3, H, W), "support 1", ...: images in 0..255. "truth" (0, 1,
        255), "prediction", "support mask 1", ...: masks. "prior 0" before refinement, "prior 1", ... after each round:
        (h, w) in 0..1. "object": (h, w) bool. What is not known is missing.
        """
        run = self.run
        arrays: dict[str, Any] = {f"weights {name}": values for name, values in self.attention().items()}
        arrays["selected"] = np.array([self.selection["cell"], self.selection["end"]])
        arrays |= {"query": run.query, "truth": run.truth, "prediction": run.prediction, "object": run.foreground[1]}
        arrays |= {f"support {i}": image for i, image in enumerate(run.supports or [], 1)}
        arrays |= {f"support mask {i}": mask for i, mask in enumerate(run.trace.support_masks[0], 1)}
        arrays |= {f"prior {i}": prior for i, (_, prior) in enumerate(run.priors)}
        return {
            name: values.detach().cpu().numpy() if isinstance(values, Tensor) else values
            for name, values in arrays.items()
            if values is not None
        }

    def save_data(self, path: str | os.PathLike[str]) -> Path:
        """Write `data` as one .npz file, which `numpy.load` opens. Returns its path. Raises FileError."""
        content = io.BytesIO()
        np.savez_compressed(content, **self.data())  # type: ignore[arg-type]  # numpy types its own option alone
        write_atomically(Path(path), content.getvalue())
        return Path(path)

    def figure(self) -> Picture:
        """What the panel shows now as a matplotlib figure for print (the first of two compared runs)."""
        return self._picture_of(self.attention(), self.selection)

    def _picture_of(self, maps: Mapping[str, np.ndarray], selection: Mapping[str, Any]) -> Picture:
        # imported only now, for matplotlib's axes take as long to load as all of the explorer
        from fss_lab.widgets.explorer.figure import explorer_figure

        return explorer_figure(self.run, maps, selection, self.view)

    def save_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the explorer as one HTML file that opens from disk, without Python and network. Returns its path.

        Raises FileError where the file cannot be written.
        """
        state = {"selection": self.selection, "view": self.view, "_answers": self._answers}
        return html_page(Path(path), script(), style(), self._description, self._packed, state)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; where none can live (GitHub, exports, untrusted notebooks) a picture with a description."""
        selection, maps = self.selection, self._maps(self.selection)
        if maps is None:  # the selected memory cell belongs to another run: what the first query cell reads
            start = start_cell(self.run)
            selection = {**selection, "map": "query", "cell": start, "end": start}
            maps = self._maps(selection)
            assert maps is not None  # every run has query cells
        picture = self._picture_of(maps, selection)
        png = picture.png()
        self._picture, self._alt = png, picture.alt
        widget, metadata = super()._repr_mimebundle_() or ({}, {})
        bundle = {**widget, "image/png": base64.b64encode(png).decode(), "text/plain": picture.alt}
        return bundle, {**metadata, "image/png": {"alt": picture.alt}}

    def __repr__(self) -> str:
        names = ", ".join(repr(run.name) for run in self.runs if run.name)
        return f"Explorer({names or 'one run'}, {len(self.runs[0].trace.layers)} layers, grid {self.runs[0].grid})"
