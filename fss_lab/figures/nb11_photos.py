"""Figures of notebook 11: photographs of any size, what was marked in one and what was found in the others; scores of
presence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import contour, mask_panel, name_panel, overlay
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import Picture, chart, legend, patch

HEIGHT = 2.3  # of a panel, in inches
WIDEST, GAP = 9.9, 0.15  # of the whole figure, and beside each panel
DRAWN = 1000  # pixels of a photo's longer side: panels are smaller, and a telephone's 4,000 would take gigabytes
Marked = tuple[Tensor, Tensor | np.ndarray]  # a photo and its mask


def photos_figure(
    supports: Sequence[Marked] | Mapping[str, Marked],
    answers: Mapping[str, tuple[Tensor, Tensor]],
    title: str,
    truths: Sequence[Tensor] | None = None,
) -> Picture:
    """Supports with their masks in blue, then queries with the masks that were found in vermilion.

    supports: images (3, H, W) and masks (H, W), a mapping gives them names. answers: the query (3, H, W) and its
    predicted mask (H, W), by name.
    truths: the queries' own masks (H, W), outlined in green where they are known; the names then tell the IoU.
    Raises InputError for nothing to show, or another number of truths.
    """
    if not supports and not answers:
        raise InputError("there are no photographs to show")
    if truths is not None and len(truths) != len(answers):
        raise InputError(f"expected a truth for each of {len(answers)} answers, got {len(truths)}")
    if not isinstance(supports, Mapping):
        supports = {f"support {number}" if len(supports) > 1 else "support": s for number, s in enumerate(supports, 1)}
    shapes = [image.shape for image, _ in [*supports.values(), *answers.values()]]
    ratios = [shape[2] / shape[1] for shape in shapes]
    height = min(HEIGHT, (WIDEST - GAP * len(ratios)) / sum(ratios))
    picture = Picture(max(height * sum(ratios) + GAP * len(ratios), 4.5), height + 1.1, title)
    panels = iter(picture.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0])
    captions = []
    for name, (image, mask) in supports.items():
        axes = next(panels)
        mask_panel(axes, _small(image), _small(torch.as_tensor(mask)), name, style.SUPPORT)
    for number, (name, (image, mask)) in enumerate(answers.items()):
        axes = next(panels)
        overlay(axes, _small(image), _small(mask), style.PREDICTION)
        if truths is not None:
            contour(axes, _small(truths[number]), style.TRUTH)
            name = f"{name}: {100 * iou(mask, truths[number]):.0f} %"
        name_panel(axes, name, style.PREDICTION)
        captions.append(f"{name}, {100 * float((mask == 1).float().mean()):.0f} % of the picture marked")
    entries = [patch(style.SUPPORT, "marked by you")] * bool(supports)
    entries += [patch(style.PREDICTION, "found")] * bool(answers)
    entries += [patch(style.TRUTH, "truth; the number is the IoU")] * (truths is not None)
    legend(picture, *entries)
    picture.alt = f"{title}. Masks drawn on: {', '.join(supports) or 'none'}; answers: {'; '.join(captions) or 'none'}."
    return picture


def presence_figure(present: Tensor, absent: Tensor, threshold: float, title: str) -> Picture:
    """Scores of queries that show the class and of others with a threshold, and the ROC curve of all thresholds.

    present: (N,), absent: (M,), threshold: scores in 0..1; from the threshold on a query counts as showing the class.
    Raises InputError for no scores of either kind.
    """
    if not len(present) or not len(absent):
        raise InputError(f"expected scores of both kinds, got {len(present)} and {len(absent)}")
    picture = Picture(9.8, 3.6, title)
    left, right = picture.subplots(1, 2, width_ratios=(1.6, 1))
    for row, (scores, colour) in enumerate(((absent, style.PREDICTION), (present, style.TRUTH))):
        height = row + torch.linspace(-0.25, 0.25, 5).repeat(len(scores))[: len(scores)]  # apart where scores are equal
        left.plot(scores, height, "o", color=colour, alpha=0.6, markersize=6)
    left.axvline(threshold, color=style.INK, linestyle="--")
    left.set(xlim=(-0.03, 1.03), ylim=(-0.5, 1.5))
    left.set_yticks([0, 1], ["not shown", "shown"])
    cuts = torch.cat([torch.tensor([2.0]), torch.cat([present, absent]).sort(descending=True).values])
    hits, alarms = ((scores[:, None] >= cuts).float().mean(0) for scores in (present, absent))
    area = float(torch.trapezoid(hits, alarms))
    hit, alarm = (float((scores >= threshold).float().mean()) for scores in (present, absent))
    right.plot([0, 1], [0, 1], color=style.PALE, linestyle=":")
    right.plot(alarms, hits, color=style.INK, linewidth=2)
    right.plot(alarm, hit, "o", color=style.INK, markersize=9)
    right.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    name_panel(left, f"threshold {threshold:g}: {1 - hit:.0%} missed, {alarm:.0%} false alarms", bold=False)
    name_panel(right, f"ROC curve, area {area:.2f}", bold=False)
    chart(left, "score of presence", grid="x")
    chart(right, "false alarms", "shown and noticed")
    picture.alt = (
        f"{title}. {len(present)} queries that show the class have scores from {present.min():.2f} to "
        f"{present.max():.2f}, {len(absent)} that do not from {absent.min():.2f} to {absent.max():.2f}. At the "
        f"threshold {threshold:g}, {1 - hit:.0%} are missed and {alarm:.0%} are false alarms; the area under the ROC "
        f"curve is {area:.2f}."
    )
    return picture


def _small(pixels: Tensor) -> Tensor:
    """Every n-th pixel of (..., H, W), at most `DRAWN` a side."""
    step = -(-max(pixels.shape[-2:]) // DRAWN)
    return pixels[..., ::step, ::step]
