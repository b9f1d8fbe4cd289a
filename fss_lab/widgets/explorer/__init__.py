"""The attention explorer: click a cell of the query and see what SAM 2's memory answers.

    import fss_lab

    prediction = model.segment(episode, trace=True)
    explorer = fss_lab.explore(prediction.trace, episode=episode)
    explorer  # the last line of a notebook cell shows it

    explorer.selection = {"cell": (8, 5), "layer": 1}  # what is shown; also changes when somebody clicks
    explorer.attention()["query"]  # (h, w): the map that is drawn, as the model computed it
    explorer.figure()  # the same as a matplotlib figure
    explorer.save_html("attention.html")  # one file that needs neither Python nor a network

docs/explorer.md explains every element of the panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fss_lab.episode import Episode
from fss_lab.images import Source
from fss_lab.method import Prediction
from fss_lab.method.trace import Trace
from fss_lab.widgets.explorer.runs import Run, collect
from fss_lab.widgets.explorer.widget import Explorer

__all__ = ["Explorer", "Run", "explore"]


def explore(
    traced: Trace | Prediction | Mapping[str, Trace | Prediction],
    episode: Episode | Mapping[str, Episode] | None = None,
    *,
    query: Source | None = None,
    supports: Source | Sequence[Source] | None = None,
    truth: Source | None = None,
) -> Explorer:
    """Explore the attention of one traced forward pass, or compare several, in a notebook or as an HTML file.

    traced: `prediction.trace` or the prediction itself, of `model.segment(..., trace=True)`. To compare runs, a
        dictionary of name -> trace, e.g. {"corrected": a.trace, "calibration off": b.trace}: the panel shows the
        first and lets one choose another to stand beside it. They must share memory grid and number of layers.
    episode: whose images, truth and class name are drawn. With several runs either one for all, or a dictionary with
        the same names (1 shot against 5 shots).
    query, supports, truth: instead of an episode, the query image, the K support images (or the only one) and the
        query's true mask, as `FSSAM.segment` takes them. Without episode and images the maps are drawn on a plain
        ground. Each may have a size of its own; the model saw all of them stretched to its square input.

    Returns a widget. See `Explorer` for `selection`, `view`, `attention`, `figure` and `save_html`.
    Raises TypeError for something that is no trace; ValueError for a prediction without one, a batch of several
    queries, images that do not belong to the trace (another number of shots, other support masks), runs that cannot
    be compared, and traces that hold NaN or infinite numbers.
    """
    return Explorer(collect(traced, episode, query, supports, truth))
