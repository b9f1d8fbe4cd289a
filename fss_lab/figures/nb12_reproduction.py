"""Figures of notebook 12: what the published code does, beside what the paper says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fss_lab.figures.style import (
    INK,
    PALE,
    PREDICTION,
    PRIOR,
    SMALL,
    SUPPORT,
    TEXT,
    TRUTH,
    Picture,
    colour_bar,
    contour,
    heat,
    legend,
    name_panel,
    overlay,
    patch,
)  # fmt: skip
from fss_lab.method.trace import LayerTrace

LINES = (PREDICTION, INK, PALE)
MARKERS = "os^"


def columns_figure(layers: Mapping[str, LayerTrace]) -> Picture:
    """How much each block of key columns loses by calibration, one panel for each way to calibrate.

    layers: traces of one layer of memory attention for the same episode, by name; the mean over heads, queries and the
    block's keys is drawn, in nats. Raises ValueError for no traces, or for one without query memory.
    """
    if not layers or any(layer.columns.query.start == layer.columns.query.stop for layer in layers.values()):
        raise ValueError('expected traced layers of models with memory="pseudo"')
    blocks = {name: _blocks(layer) for name, layer in layers.items()}
    lowest = min(bias for own in blocks.values() for _, _, bias in own)
    picture = Picture(9.8, 0.9 + 1.5 * len(layers), "What calibration takes away from each block of keys")
    panels = picture.subplots(len(layers), 1, squeeze=False)[:, 0]
    told = []
    for axes, (name, own) in zip(panels, blocks.items(), strict=True):
        names, colours, biases = zip(*own, strict=True)
        axes.bar(range(len(own)), biases, color=colours, width=0.6)
        for place, bias in enumerate(biases):
            axes.annotate(
                f"{bias:.2f}".replace("-", "−"), (place, bias), xytext=(0, -3), textcoords="offset points",
                ha="center", va="top", fontsize=SMALL, color=INK,
            )  # fmt: skip
        axes.axhline(0, color=INK, linewidth=1)
        axes.set(xlim=(-0.6, len(own) - 0.4), ylim=(1.35 * min(lowest, -0.01), 0))
        axes.set_xticks(range(len(own)), names, fontsize=SMALL, color=INK)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
        axes.set_ylabel("nats", fontsize=SMALL, color=INK)
        axes.spines[["left", "right", "bottom", "top"]].set_visible(False)
        name_panel(axes, name, INK)
        told.append(f"{name}: {', '.join(f'{block} {bias:.2f}' for block, _, bias in own)}")
    legend(picture, *(patch(c, n) for c, n in ((SUPPORT, "support"), (PRIOR, "query memory"), (PALE, "pointers"))))
    picture.alt = f"Mean bias in nats by block of keys. {'; '.join(told)}."
    return picture


def similarity_figure(image: Tensor, truth: Tensor, maps: Mapping[str, Tensor]) -> Picture:
    """The query with its true mask, and maps c of its memory grid beside it, the truth outlined.

    image: (3, H, W) in 0..255; truth: (H, W), 1 where the object is; maps: (h, w) in 0..1 by name.
    Raises ValueError for no maps.
    """
    if not maps:
        raise ValueError("there are no maps to draw")
    picture = Picture(2.5 * (len(maps) + 1) + 0.6, 3.3, "How much each cell of the query resembles the support")
    first, *panels = picture.subplots(1, len(maps) + 1)
    overlay(first, image, truth, TRUTH)
    name_panel(first, "query and truth", TRUTH)
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        shown = heat(axes, values, "cividis", Normalize(0, 1), truth.shape)
        contour(axes, truth, TRUTH, truth.shape)
        name_panel(axes, name, INK, bold=False)
    colour_bar(picture, shown, panels, "c: 0 = unlike, 1 = most alike")
    legend(picture, patch(TRUTH, "truth"))
    picture.alt = (
        f"The query with its object outlined, and maps of the similarity c for {', '.join(maps)}; the mean of c "
        f"is {', '.join(f'{float(values.mean()):.2f}' for values in maps.values())}."
    )
    return picture


def losses_figure(losses: Mapping[str, Sequence[float]], title: str) -> Picture:
    """The training loss of some runs over the same steps.

    losses: Dice losses by the run's name. Raises ValueError for no losses.
    """
    if not losses or not all(losses.values()):
        raise ValueError("there are no losses to draw")
    picture = Picture(7.5, 3.6, title)
    axes = picture.subplots()
    for number, (name, values) in enumerate(losses.items()):
        colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
        axes.plot(range(1, len(values) + 1), values, label=name, color=colour, marker=marker, markersize=5)
    axes.set_xlabel("step", fontsize=TEXT, color=INK)
    axes.set_ylabel("Dice loss of the step's batch", fontsize=TEXT, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    axes.grid(axis="y", color="#E6E6E6")
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside lower center", ncols=len(losses), frameon=False, fontsize=SMALL, labelcolor=INK)
    ends = (f"{name} from {values[0]:.2f} to {values[-1]:.2f}" for name, values in losses.items())
    picture.alt = f"{title}: {'; '.join(ends)}."
    return picture


def _blocks(layer: LayerTrace) -> list[tuple[str, str, float]]:
    """Name, colour and mean bias of every block of key columns."""
    columns, cells = layer.columns, layer.q.shape[2]
    starts = range(columns.support.start, columns.support.stop, cells)
    averaged = layer.shot_similarity is not None and layer.shot_similarity.shape[2] > 1
    alone = "mean of the supports" if averaged else "support"
    named = [(alone if len(starts) == 1 else f"support {i}", SUPPORT, start) for i, start in enumerate(starts, 1)]
    found = [(name, colour, slice(start, start + cells)) for name, colour, start in named]
    found += [("query memory", PRIOR, columns.query), ("pointers", PALE, columns.pointers)]
    return [(name, colour, float(layer.bias[..., part].mean())) for name, colour, part in found]
