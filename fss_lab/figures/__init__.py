"""Figures of episodes, priors, attention and scores: tensors in, matplotlib figures out.

Knows episodes, the method's tensors and the toy world; nothing of models, evaluation and training. A function here
draws what it is given and computes no prediction. The names below serve every notebook, the modules `nbNN` one each.
"""

from fss_lab.figures.panels import contour, heat, overlay
from fss_lab.figures.prediction import (
    attention_figure,
    central_cell,
    episode_figure,
    iou,
    overview_figure,
    priors_figure,
)
from fss_lab.figures.results import results_figure
from fss_lab.figures.roadmap import road_map
from fss_lab.figures.scenes import contact_sheet, toy_world_figure
from fss_lab.figures.style import (
    ATTENTION_MAP,
    DEEP_PRIOR,
    DIFFERENCE_MAP,
    INK,
    PALE,
    PREDICTION,
    PRIOR,
    PRIOR_MAP,
    SMALL,
    SUPPORT,
    TEXT,
    TITLE,
    TRUTH,
    Picture,
    keep,
)

__all__ = [
    "ATTENTION_MAP", "DEEP_PRIOR", "DIFFERENCE_MAP", "INK", "PALE", "PREDICTION", "PRIOR", "PRIOR_MAP", "SMALL",
    "SUPPORT", "TEXT", "TITLE", "TRUTH", "Picture", "attention_figure", "central_cell", "contact_sheet", "contour",
    "episode_figure", "heat", "iou", "keep", "overlay", "overview_figure", "priors_figure", "results_figure",
    "road_map", "toy_world_figure",
]  # fmt: skip
