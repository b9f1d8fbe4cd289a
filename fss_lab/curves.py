"""The figure of a training run: its losses and its validation scores over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

Row = Mapping[str, float]


def curves(log: Sequence[Row], validation: Sequence[Row] = ()) -> Figure:
    """Loss over steps, and beside it the held-out mIoU in percent if there were validations, the best one marked.

    log: rows with "step" and "loss", as in a run's `log.csv`; validation: rows with "step" and "miou".
    """
    figure = Figure(figsize=(8 if validation else 4.5, 3), layout="constrained")
    axes = figure.subplots(1, 2 if validation else 1, squeeze=False)[0]
    axes[0].plot([row["step"] for row in log], [row["loss"] for row in log], marker=".")
    axes[0].set(title="training", xlabel="step", ylabel="Dice loss")
    if validation:
        steps, scores = [row["step"] for row in validation], [100 * row["miou"] for row in validation]
        best = scores.index(max(scores))
        axes[1].plot(steps, scores, marker=".")
        axes[1].plot(steps[best], scores[best], "o", color="tab:orange", label=f"best: {scores[best]:.1f}")
        axes[1].set(title="held-out base-class episodes", xlabel="step", ylabel="mIoU in %")
        axes[1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure
