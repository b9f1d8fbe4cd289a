"""Figures of notebook 07: several shots, what each part adds, and where failures come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import map_panel, name_panel
from fss_lab.figures.prediction import iou, prediction_panel, support_panel, truth_panel
from fss_lab.figures.style import Picture, chart, colour_bar, interval_row, legend, truth_line
from fss_lab.method.trace import Trace
from fss_lab.metrics import Interval

Failure = tuple[Episode, Tensor, Tensor, Tensor]
"""An episode, its prior P_fg (h, w) in 0..1, the mask (H, W) of FSSAM, and that with the true mask as prior."""


def shots_figure(episode: Episode, trace: Trace) -> Picture:
    """Every support, the prior that it alone gives, and the mean of these priors (Sec. PPG of the paper).

    trace: of the episode's query (batch 1). Raises InputError for a trace without priors.
    """
    if trace.priors is None:
        raise InputError('this trace has no priors; trace a model with memory="pseudo" and a feature extractor')
    priors = [*trace.priors.discriminative_per_shot[0], trace.priors.discriminative[0, 0]]  # K + 1 of H, W
    scores = [100 * iou(prior.cpu() > 0.5, episode.query_mask) for prior in priors]
    shots = episode.shots
    title = f"Find the {episode.class_name}: {shots} support{'s' * (shots > 1)}, the prior P_d of each, and their mean"
    picture = Picture(min(8.6, 2.6 + 1.9 * (shots + 1)), 4.3 if shots > 2 else 5.2, title)
    axes = picture.subplots(2, shots + 1)
    for shot in range(shots):
        support_panel(axes[0, shot], episode, f"support {shot + 1}", shot=shot)
    truth_panel(axes[0, -1], episode, "query")
    for number, (panel, prior, score) in enumerate(zip(axes[1], priors, scores, strict=True), start=1):
        name = f"{'mean' if number > shots else f'prior {number}'}\nIoU {score:.0f} %"
        drawn = map_panel(panel, prior, name, style.PRIOR_MAP, Normalize(0, 1), episode.query_mask, style.DEEP_PRIOR)
    colour_bar(picture, drawn, [axes[1, -1]], "P_d, 0 to 1")
    legend(picture, "support mask", truth_line("truth, hidden from the model"))
    percents = ", ".join(f"{score:.0f}" for score in scores[:-1])
    picture.alt = (
        f"{shots} support images of the class {episode.class_name} and the prior P_d that each gives for the query. "
        f"Cut at 0.5 they overlap the truth with an IoU of {percents} %, their mean with {scores[-1]:.0f} %."
    )
    return picture


def gains_figure(gains: Mapping[str, Mapping[str, Interval]], title: str) -> Picture:
    """What steps add, with their paired intervals, beside a line at 0; one panel for each setting.

    gains: by setting (such as "1-shot"), then by step; in 0..1. Raises InputError for none.
    """
    if not gains or not all(gains.values()):
        raise InputError("there are no gains to draw")
    names = list(dict.fromkeys(name for steps in gains.values() for name in steps))
    picture = Picture(9.5, 1.6 + 0.42 * len(names), title)
    captions = []
    panels = picture.subplots(1, len(gains), squeeze=False, sharex=True)[0]
    for axes, (setting, steps) in zip(panels, gains.items(), strict=True):
        axes.axvline(0, color=style.INK, linewidth=1)
        for row, name in enumerate(names):
            if name not in steps:
                continue
            _, low, high = steps[name]
            colour, marker = (style.PREDICTION, "o") if low > 0 else (style.INK, "X") if high < 0 else (style.PALE, "D")
            estimate, low, high = interval_row(axes, row, steps[name], colour, marker)
            backing = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
            text = {"textcoords": "offset points", "ha": "center", "fontsize": style.SMALL, "bbox": backing}
            axes.annotate(f"{estimate:+.1f}", (estimate, row), (0, 9), **text)
            captions.append(f"{setting}, {' '.join(name.split())}: {estimate:+.1f} [{low:+.1f}, {high:+.1f}]")
        axes.set(ylim=(len(names) - 0.5, -0.7))
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [])
        name_panel(axes, setting)
        chart(axes, "points of mIoU; line: 95 % interval", grid="x")
    colours = (style.PREDICTION, style.INK, style.PALE)
    effects = zip(colours, "oXD", ("interval above 0", "interval below 0", "interval contains 0"), strict=True)
    legend(picture, *(Line2D([], [], color=c, marker=m, linewidth=3, label=effect) for c, m, effect in effects))
    picture.alt = f"{title}. Points of mIoU: {'; '.join(captions)}."
    return picture


def prior_matters_figure(priors: Sequence[float], scores: Sequence[float], perfect: Sequence[float]) -> Picture:
    """Each episode's IoU over that of the prior alone, and above it what the true mask in its place would give.

    priors: IoU of P_fg cut at ½; scores: IoU of FSSAM; perfect: IoU with the true mask. N each, in 0..1.
    Raises InputError for unequal numbers or none.
    """
    if not len(priors) == len(scores) == len(perfect) or not len(priors):
        raise InputError(f"expected equal numbers, got {len(priors)}, {len(scores)} and {len(perfect)}")
    x, y, top = (100 * np.asarray(values, dtype=float) for values in (priors, scores, perfect))
    picture = Picture(7.5, 4.8, "Does a better prior give a better mask?")
    axes = picture.subplots()
    axes.vlines(x, y, top, color=style.PALE, linewidth=1)
    axes.plot([0, 100], [0, 100], "--", color=style.INK, linewidth=1, label="as good as the prior alone")
    axes.plot(x, top, "^", color=style.TRUTH, markersize=7, label="with the true mask as prior")
    axes.plot(x, y, "o", color=style.PREDICTION, markersize=8, label="FSSAM, with its own prior")
    axes.set(xlim=(-3, 103), ylim=(-3, 103))
    chart(axes, "IoU of the prior alone in percent", "IoU of the final mask in percent")
    picture.legend(loc="outside lower center", ncols=3, fontsize=style.SMALL, frameon=False)
    correlation = f"{np.corrcoef(x, y)[0, 1]:.2f}" if len(x) > 1 and x.std() and y.std() else "not defined"
    picture.alt = (
        f"{len(x)} episodes: IoU of the final mask over that of the prior alone, correlation {correlation}. It is "
        f"higher in {int((y > x).sum())} of them. The "
        f"median IoU is {np.median(y):.0f} %, and {np.median(top):.0f} % with the true mask as prior."
    )
    return picture


def failures_figure(failures: Sequence[Failure], title: str) -> Picture:
    """One row for each failure: support, query, prior, FSSAM's mask, and its mask with the truth as prior.

    Raises InputError for none.
    """
    if not failures:
        raise InputError("there is no failure to draw")
    picture = Picture(7.3, 1.15 + 1.58 * len(failures), f"{title}, and the IoU of each mask")
    captions, rows = [], picture.subplots(len(failures), 5, squeeze=False)
    for row, (episode, prior, mask, perfect) in zip(rows, failures, strict=True):
        support_panel(row[0], episode, f"support: {episode.class_name}")
        truth_panel(row[1], episode, "query and truth")
        truth, scale = episode.query_mask, Normalize(0, 1)
        map_panel(row[2], prior, "prior P_fg", style.PRIOR_MAP, scale, truth, style.DEEP_PRIOR)
        scores = [100 * iou(answer.cpu(), episode.query_mask) for answer in (mask, perfect)]
        for axes, answer, name, score in zip(row[3:], (mask, perfect), ("FSSAM", "true prior"), scores, strict=True):
            prediction_panel(axes, episode, answer, f"{name}: {score:.0f} %")
        captions.append(f"{episode.class_name}: {scores[0]:.0f} %, with the true prior {scores[1]:.0f} %")
    legend(picture, "support mask", "truth", "prediction")
    picture.alt = f"{title}. One row each, with the IoU of the prediction. {'; '.join(captions)}."
    return picture
