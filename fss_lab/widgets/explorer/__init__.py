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

from fss_lab.method import Prediction, Trace
from fss_lab.widgets.explorer.runs import Run, collect
from fss_lab.widgets.explorer.widget import Explorer

__all__ = ["Explorer", "Run", "explore"]


def explore(traced: Prediction | Trace | Mapping[str, Prediction | Trace], episode: object = None) -> Explorer:
    """Explore the attention of one traced forward pass, or compare several, in a notebook or as an HTML file.

    traced: a prediction of `model.segment(..., trace=True)`, or its trace. To compare runs, a dictionary of name ->
        prediction, e.g. {"corrected": a, "calibration off": b}: the panel draws the first and lets one choose another
        to stand beside it. They must share memory grid and number of layers.
    episode: not needed and not used, for a trace knows what it was made of.

    Images are drawn at their own size; the model saw all of them stretched to its square input. A trace of
    `model(batch, trace=True)` knows no images: its maps are drawn on a plain ground.
    Returns a widget. See `Explorer` for `selection`, `view`, `attention`, `figure` and `save_html`.

    Raises TypeError for something that is no trace; InputError for a prediction without one, a batch of several
    queries, runs that cannot be compared, and traces that hold NaN or infinite numbers.
    """
    return Explorer(collect(traced))
