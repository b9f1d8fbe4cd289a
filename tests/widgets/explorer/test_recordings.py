"""Recordings of a video's memory, as the explorer shows them; made of random queries and keys."""

from __future__ import annotations

import pytest
import torch

import fss_lab
from fss_lab.backbones.recording import Block, MemoryCall, Recording
from fss_lab.errors import InputError
from fss_lab.figures.recording import recording_figure
from fss_lab.widgets import Browse

N, SIDE = 16, 4


@pytest.fixture
def recording() -> Recording:
    """Frames 1 to 3, each reading frame 0 and the tracked ones; no image of frame 1."""
    g = torch.Generator().manual_seed(0)
    calls = []
    for frame in range(1, 4):
        codes = [6, *range(frame - 2, -1, -1)]
        blocks = [Block(t, slice(t * N, (t + 1) * N), False, codes[t]) for t in range(frame)]
        blocks += [Block(t, slice(frame * N + 2 * t, frame * N + 2 * t + 2), True, None) for t in range(frame)]
        q, k = (tuple(torch.randn(1, 1, size, 8, generator=g) for _ in range(2)) for size in (N, frame * (N + 2)))
        calls.append(MemoryCall(frame, tuple(blocks), q, k))
    images = {t: torch.randint(0, 255, (3, 64, 64), generator=g).to(torch.uint8) for t in (0, 2, 3)}
    return Recording(calls, images)


def test_the_figure_says_what_the_recording_holds(recording: Recording) -> None:
    picture = recording_figure(recording, 3, row=1, column=2, layer=0)
    maps = recording.of(3).maps(0, (1, 2))
    for t, values in maps.items():
        assert f"frame {t} {100 * float(values.sum()):.0f}" in picture.alt
    share = sum(recording.of(3).pointers(0, (1, 2)).values())
    assert f"object pointers {100 * share:.1f}" in picture.alt
    *_, chart = [axes for axes in picture.axes if axes.get_lines()]
    lines = {line.get_label(): line.get_ydata() for line in chart.get_lines()}
    assert lines["object pointers"][2] == pytest.approx(100 * share)
    assert lines["prompted frames"][2] == pytest.approx(100 * float(maps[0].sum()))
    assert list(lines["latest frame"])[0] == 0  # frame 1 reads the prompted one only


def test_explore_browses_a_recording(recording: Recording) -> None:
    browse = fss_lab.explore(recording)
    assert isinstance(browse, Browse)
    assert list(browse.controls) == ["frame", "layer", "row", "column"]
    assert browse.show().alt.startswith("Attention of frame 3 in layer 2")
    assert browse.show(frame=1, layer=0, row=3).alt.startswith("Attention of frame 1 in layer 1")


def test_what_cannot_be_shown(recording: Recording) -> None:
    with pytest.raises(InputError, match="no call of frame 9 was recorded"):
        recording_figure(recording, 9)
    call = recording.calls[0]
    bare = MemoryCall(1, call.blocks[1:], call.q, call.k)
    with pytest.raises(InputError, match="read no remembered frame, only object pointers"):
        recording_figure(Recording([*recording.calls[1:], bare]), 1)
    with pytest.raises(InputError, match="holds no frame of a video"):
        fss_lab.explore(Recording())
