"""The attention explorer: click a cell of the query and see what SAM 2's memory answers.

    import fss_lab

    prediction = model.segment(episode, trace=True)
    explorer = fss_lab.explore(prediction)
    explorer  # the last line of a notebook cell shows it

    explorer.selection = {"cell": (8, 5), "layer": 1}  # what is shown; also changes when somebody clicks
    explorer.attention()["query"]  # (h, w): the map that is drawn, as the model computed it
    explorer.figure()  # the same as a matplotlib figure
    explorer.save_html("attention.html")  # one file that needs neither Python nor a network

docs/explorer.md explains every element of the panel.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from fss_lab.backbones.recording import Recording
from fss_lab.errors import InputError
from fss_lab.method import Prediction, Trace
from fss_lab.widgets.explorer.runs import Run, collect
from fss_lab.widgets.explorer.widget import Explorer

if TYPE_CHECKING:
    from fss_lab.widgets.browse import Browse

__all__ = ["Explorer", "Run", "explore"]


def explore(
    traced: Prediction | Trace | Mapping[str, Prediction | Trace] | Recording, episode: object = None
) -> Explorer | Browse:
    """Explore the attention of one traced forward pass, or compare several, in a notebook or as an HTML file.

    traced: a prediction of `model.segment(..., trace=True)`, or its trace. To compare runs, a dictionary of name ->
        prediction, e.g. {"corrected": a, "calibration off": b}: the panel draws the first and lets one choose another
        to stand beside it. They must share memory grid and number of layers. A recording of `record_memory` is shown
        as maps of every remembered frame, with a slider over the frames and lists of layers and cells.
    episode: not needed and not used, for a trace knows what it was made of.

    Images are drawn at their own size; the model saw all of them stretched to its square input. A trace of
    `model(batch, trace=True)` knows no images: its maps are drawn on a plain ground.
    Returns a widget. See `Explorer` for `selection`, `view`, `attention`, `figure` and `save_html`.

    Raises TypeError for something that is no trace; InputError for a prediction without one, a batch of several
    queries, runs that cannot be compared, and traces that hold NaN or infinite numbers.
    """
    if isinstance(traced, Recording):
        return _browse(traced)
    return Explorer(collect(traced))


def _browse(recording: Recording) -> Browse:
    # imported only now, since it needs matplotlib
    from fss_lab.figures.recording import recording_figure
    from fss_lab.widgets.browse import Browse

    frames = sorted({call.frame for call in recording.calls if call.frame is not None}, reverse=True)
    if not frames:
        raise InputError("this recording holds no frame of a video; track one inside `with record_memory(...)`")
    call = recording.of(frames[0])
    every = range(frames[0], frames[-1] - 1, -1)
    return Browse(
        partial(recording_figure, recording), frame=every if list(every) == frames else frames,
        layer=list(reversed(range(len(call.q)))), row={"all": None} | {str(i): i for i in range(call.grid[0])},
        column={"all": None} | {str(i): i for i in range(call.grid[1])},
    )  # fmt: skip
