"""What a frame of a video reads in SAM 2's memory, from a recording (`fss_lab.record_memory`)."""

from __future__ import annotations

import math

import torch
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from fss_lab.backbones.recording import Recording
from fss_lab.errors import InputError
from fss_lab.figures import style
from fss_lab.figures.panels import heat, mark_cell, name_panel, overlay
from fss_lab.figures.style import Picture, chart, colour_bar, legend

DIM = 0.7  # opacity of a map on its frame


def recording_figure(
    recording: Recording, frame: int, row: int | None = None, column: int | None = None, layer: int = -1
) -> Picture:
    """A map for each frame that `frame` remembers, and who gets the attention in all recorded frames.

    row, column: of the cells that read, on the memory grid; None: the mean over all rows or columns. layer: -1 is the
    last. Frames whose image was not encoded meanwhile are grey.
    Raises InputError for a frame that was not recorded, or that read no frame.
    """
    call = recording.of(frame)
    readers = torch.zeros(call.grid, dtype=torch.bool)
    rows, columns = ((slice(None) if x is None else slice(x, x + 1)) for x in (row, column))
    readers[rows, columns] = True
    first, last = readers.nonzero()[[0, -1]].tolist()
    maps = {t: 100 * x for t, x in call.maps(layer, readers).items()}
    if not maps:
        raise InputError(f"frame {frame} read no remembered frame, only object pointers; hide fewer blocks")
    blank = torch.full((3, *(16 * side for side in call.grid)), 128)
    lines = math.ceil((len(maps) + 1) / 4)
    number = range(len(call.q))[layer] + 1
    picture = Picture(9.2, 2.35 * lines + 2.6, f"What frame {frame} reads in its memory (layer {number})")
    panels = picture.add_gridspec(lines + 1, 4)
    axes = [picture.add_subplot(panels[i // 4, i % 4]) for i in range(len(maps) + 1)]
    overlay(axes[0], recording.images.get(frame, blank))
    name_panel(axes[0], f"frame {frame} reads")
    mark_cell(axes[0], tuple(first), call.grid, recording.images.get(frame, blank).shape[-2:], tuple(last))
    norm = PowerNorm(0.5, 0, max(float(x.max()) for x in maps.values()))
    for panel, (t, values) in zip(axes[1:], maps.items(), strict=True):
        image = recording.images.get(t, blank)
        overlay(panel, image)
        drawn = heat(panel, values, style.ATTENTION_MAP, norm, image.shape[-2:])
        drawn.set_alpha(DIM)
        name_panel(panel, f"frame {t}: {float(values.sum()):.0f} %")
    colour_bar(picture, drawn, axes[1:], "attention in percent")
    calls = [call for call in recording.calls if call.frame is not None]
    prompted = max(block.code for other in calls for block in other.blocks if block.code is not None)
    below = picture.add_subplot(panels[lines, :])
    shares: dict[str, list[float]] = {"prompted frames": [], "latest frame": [], "object pointers": []}
    for other in calls:
        weights = other.attention(layer, readers)
        parts = [(block, 100 * float(weights[block.columns].sum())) for block in other.blocks]
        shares["prompted frames"].append(sum(share for block, share in parts if block.code == prompted))
        shares["latest frame"].append(sum(share for block, share in parts if block.code == 0))
        shares["object pointers"].append(sum(share for block, share in parts if block.pointer))
    times = [call.frame for call in calls if call.frame is not None]
    for (name, percent), colour in zip(shares.items(), (style.SUPPORT, style.PREDICTION, style.INK), strict=True):
        below.plot(times, percent, "o-", color=colour, label=name, linewidth=2, markersize=4)
    below.axvline(frame, color=style.PALE, linewidth=6, alpha=0.5, zorder=0)
    below.set(ylim=(-3, 103))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart(below, "frame that reads", "attention in percent")
    legend(picture, *below.get_lines()[:3])
    picture.alt = (
        f"Attention of frame {frame} in layer {number}, in percent: "
        f"{', '.join(f'frame {t} {float(x.sum()):.0f}' for t, x in maps.items())}, "
        f"object pointers {shares['object pointers'][times.index(frame)]:.1f}. Below, the shares in every frame."
    )
    return picture
