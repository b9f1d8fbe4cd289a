"""Figures of notebook 12: what the published code does, beside what the paper says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import contour, heat, mask_panel, name_panel
from fss_lab.figures.style import Picture, chart, colour_bar, legend, patch
from fss_lab.method.trace import LayerTrace

LINES = (style.PREDICTION, style.INK, style.PALE)
MARKERS = "os^"


def columns_figure(layers: Mapping[str, LayerTrace]) -> Picture:
    """How much each block of key columns loses by calibration, one panel for each way to calibrate.

    layers: traces of one layer of memory attention for the same episode, by name; the mean over heads, queries and the
    block's keys is drawn, in nats. Raises InputError for no traces, or for one without query memory.
    """
    if not layers or any(layer.columns.query.start == layer.columns.query.stop for layer in layers.values()):
        raise InputError('expected traced layers of models with memory="pseudo"')
    blocks = {name: _blocks(layer) for name, layer in layers.items()}
    lowest = min(bias for biases in blocks.values() for _, _, bias in biases)
    picture = Picture(9.8, 0.9 + 1.5 * len(layers), "What calibration takes away from each block of keys")
    panels = picture.subplots(len(layers), 1, squeeze=False)[:, 0]
    captions = []
    for axes, (name, rows) in zip(panels, blocks.items(), strict=True):
        names, colours, biases = zip(*rows, strict=True)
        axes.bar(range(len(rows)), biases, color=colours, width=0.6)
        for place, bias in enumerate(biases):
            axes.annotate(
                f"{bias:.2f}".replace("-", "−"), (place, bias), xytext=(0, -3), textcoords="offset points",
                ha="center", va="top", fontsize=style.SMALL, color=style.INK,
            )  # fmt: skip
        axes.axhline(0, color=style.INK, linewidth=1)
        axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(1.35 * min(lowest, -0.01), 0))
        axes.set_xticks(range(len(rows)), names, fontsize=style.SMALL, color=style.INK)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=style.SMALL, labelcolor=style.INK)
        axes.set_ylabel("nats", fontsize=style.SMALL, color=style.INK)
        axes.spines[["left", "right", "bottom", "top"]].set_visible(False)
        name_panel(axes, name)
        captions.append(f"{name}: {', '.join(f'{block} {bias:.2f}' for block, _, bias in rows)}")
    parts = {"support": style.SUPPORT, "query memory": style.PRIOR, "pointers": style.PALE}
    legend(picture, *(patch(colour, name) for name, colour in parts.items()))
    picture.alt = f"Mean bias in nats by block of keys. {'; '.join(captions)}."
    return picture


def similarity_figure(image: Tensor, truth: Tensor, maps: Mapping[str, Tensor]) -> Picture:
    """The query with its true mask, and maps c of its memory grid beside it, the truth outlined.

    image: (3, H, W) in 0..255; truth: (H, W), 1 where the object is; maps: (h, w) in 0..1 by name.
    Raises InputError for no maps.
    """
    if not maps:
        raise InputError("there are no maps to draw")
    picture = Picture(2.5 * (len(maps) + 1) + 0.6, 3.3, "How much each cell of the query resembles the support")
    first, *panels = picture.subplots(1, len(maps) + 1)
    mask_panel(first, image, truth, "query and truth", style.TRUTH)
    for axes, (name, values) in zip(panels, maps.items(), strict=True):
        similarities = heat(axes, values, "cividis", Normalize(0, 1), truth.shape)
        contour(axes, truth, style.TRUTH, truth.shape)
        name_panel(axes, name, bold=False)
    colour_bar(picture, similarities, panels, "c: 0 = unlike, 1 = most alike")
    legend(picture, "truth")
    picture.alt = (
        f"The query with its object outlined, and maps of the similarity c for {', '.join(maps)}; the mean of c "
        f"is {', '.join(f'{float(values.mean()):.2f}' for values in maps.values())}."
    )
    return picture


def losses_figure(losses: Mapping[str, Sequence[float]], title: str) -> Picture:
    """The training loss of some runs over the same steps.

    losses: Dice losses by the run's name. Raises InputError for no losses.
    """
    if not losses or not all(losses.values()):
        raise InputError("there are no losses to draw")
    picture = Picture(7.5, 3.6, title)
    axes = picture.subplots()
    for number, (name, values) in enumerate(losses.items()):
        colour, marker = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
        axes.plot(range(1, len(values) + 1), values, label=name, color=colour, marker=marker, markersize=5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart(axes, "step", "Dice loss of the step's batch", grid="y")
    legend(picture, *axes.lines)
    ends = (f"{name} from {values[0]:.2f} to {values[-1]:.2f}" for name, values in losses.items())
    picture.alt = f"{title}: {'; '.join(ends)}."
    return picture


def _blocks(layer: LayerTrace) -> list[tuple[str, str, float]]:
    """Name, colour and mean bias of every block of key columns."""
    columns, cells = layer.columns, layer.q.shape[2]
    starts = range(columns.support.start, columns.support.stop, cells)
    averaged = layer.shot_similarity is not None and layer.shot_similarity.shape[2] > 1
    alone = "mean of the supports" if averaged else "support"
    named = [(alone if len(starts) == 1 else f"support {i}", style.SUPPORT, start) for i, start in enumerate(starts, 1)]
    parts = [(name, colour, slice(start, start + cells)) for name, colour, start in named]
    parts += [("query memory", style.PRIOR, columns.query), ("pointers", style.PALE, columns.pointers)]
    return [(name, colour, float(layer.bias[..., part].mean())) for name, colour, part in parts]
