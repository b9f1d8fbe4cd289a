"""What the explorer shows: traced forward passes with their images, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.episode import Episode
from fss_lab.images import Source, as_list, load_image, load_mask
from fss_lab.method import Prediction
from fss_lab.method.prompts import resize
from fss_lab.method.trace import LayerTrace, Trace

SAME = 0.7  # IoU of two masks from which on they are taken for one, however it was resized


@dataclass(frozen=True)
class Run:
    """One traced forward pass (batch 1) and what there is to draw it on.

    query: (3, H, W) in 0..255, or None. supports: K of (3, H, W), or None. truth: (H, W) of 0, 1, 255, or None.
    """

    name: str
    trace: Trace
    query: Tensor | None = None
    supports: list[Tensor] | None = None
    truth: Tensor | None = None
    class_name: str = ""

    @property
    def grid(self) -> tuple[int, int]:
        """h, w of the memory."""
        height, width = self.trace.support_masks_attention.shape[-2:]
        return height, width

    @property
    def shots(self) -> int:
        """K, the number of supports."""
        return self.trace.support_masks.shape[1]

    @property
    def blocks(self) -> int:
        """How many support memories the attention read: 1 if the shots were averaged, else K."""
        support = self.trace.layers[0].columns.support
        return (support.stop - support.start) // (self.grid[0] * self.grid[1])

    @property
    def has_query_memory(self) -> bool:
        """False for memory="support"."""
        return self.trace.pseudo_memory is not None

    @cached_property
    def prediction(self) -> Tensor:
        """The mask that the run answered, bool (S, S) at the model's input size."""
        size = self.trace.support_masks.shape[-2:]
        logits = F.interpolate(self.trace.decoded.low_res_logits.float(), size, mode="bilinear", align_corners=False)
        return logits[0, 0].cpu() > 0

    @cached_property
    def foreground(self) -> tuple[str, Tensor]:
        """What counts as the query's object, and where it is: its name and a bool map (h, w).

        The truth if it is known, else the prediction. A cell belongs to the object if at least half of it does; an
        object smaller than that has all the cells that it touches.
        """
        name, mask = ("prediction", self.prediction) if self.truth is None else ("truth", self.truth == 1)
        covered = F.adaptive_avg_pool2d(mask.float()[None, None], self.grid)[0, 0]
        inside = covered >= 0.5
        return name, inside if inside.any() else covered > 0

    @cached_property
    def priors(self) -> list[tuple[str, Tensor]]:
        """The query memory's prior before refinement and after each round: names and maps (h, w) in 0..1."""
        if self.trace.pseudo_prior is None:
            return []
        before = resize(self.trace.pseudo_prior.float(), self.grid)
        maps = [before, *(done.prior for done in self.trace.rounds)]
        names = ["before refinement", *(f"after round {i}" for i in range(1, len(maps)))]
        return [(name, values[0, 0].detach().float().cpu()) for name, values in zip(names, maps, strict=True)]

    def biased(self, layer: LayerTrace) -> slice | None:
        """The columns that the calibration reaches: the query memory ("as_published" with several shots: the second
        support's); None without calibration."""
        cells = self.grid[0] * self.grid[1]
        return None if layer.calibration is None else slice(cells, 2 * cells)


def collect(
    traced: Trace | Prediction | Mapping[str, Trace | Prediction],
    episode: Episode | Mapping[str, Episode] | None,
    query: Source | None,
    supports: Source | Sequence[Source] | None,
    truth: Source | None,
) -> list[Run]:
    """The runs that `explore` is asked for. Arguments and errors: `fss_lab.widgets.explorer.explore`."""
    named = dict(traced) if isinstance(traced, Mapping) else {"": traced}
    if not named:
        raise ValueError("there is nothing to explore: the dictionary of traces is empty")
    given = [what for what, value in (("query", query), ("supports", supports), ("truth", truth)) if value is not None]
    if episode is not None and given:
        raise ValueError(f"give either an episode or {', '.join(given)}: an episode brings its own images")
    if isinstance(episode, Mapping) and episode.keys() != named.keys():
        raise ValueError(f"the episodes are named {list(episode)}, the traces {list(named)}; give both the same names")

    image = None if query is None else load_image(query)
    shown = None if supports is None else [load_image(support) for support in as_list(supports, dims=3)]
    mask = None if truth is None else load_mask(truth)
    runs = []
    for name, each in named.items():
        trace = _trace_of(name, each)
        own = episode[name] if isinstance(episode, Mapping) else episode
        if own is None:
            run = Run(_text(name), trace, image, shown, mask)
        elif isinstance(own, Episode):
            supports_of, called = list(own.support_images), _text(own.class_name)
            run = Run(_text(name), trace, own.query_image, supports_of, own.query_mask, called)
        else:
            raise TypeError(f"expected episode to be an Episode, got {type(own).__name__}")
        _check(run)
        if own is not None:
            _check_supports(run, own.support_masks)
        runs.append(run)
    for number, run in enumerate(runs[1:], start=1):
        if run.name in [other.name for other in runs[:number]]:
            raise ValueError(f"two traces are named {run.name!r}; give each a name of its own")
        if run.grid != runs[0].grid or len(run.trace.layers) != len(runs[0].trace.layers):
            raise ValueError(
                f"{_of(run)} has {len(run.trace.layers)} layers on a grid of {run.grid[0]} x {run.grid[1]}, "
                f"{_of(runs[0])} {len(runs[0].trace.layers)} on {runs[0].grid[0]} x {runs[0].grid[1]}; "
                "only runs of like models can be compared"
            )
    return runs


def _text(name: object) -> str:
    """A name as text that can be drawn, sent and saved: file names may hold bytes that no text has."""
    return str(name).encode(errors="replace").decode()


def _trace_of(name: str, traced: Trace | Prediction) -> Trace:
    if isinstance(traced, Prediction):
        if traced.trace is None:
            raise ValueError("this prediction has no trace; make it with model.segment(..., trace=True)")
        traced = traced.trace
    if not isinstance(traced, Trace):
        which = f" for {name!r}" if name else ""
        raise TypeError(
            f"expected a Trace or a Prediction{which}, got {type(traced).__name__}; "
            "make one with model.segment(..., trace=True)"
        )
    return traced


def _check(run: Run) -> None:
    """Refuse what would be drawn wrongly. Raises ValueError."""
    batch = len(run.trace.attended)
    if batch != 1:
        raise ValueError(f"{_of(run)} holds a batch of {batch} queries; trace one: model.segment(episode, trace=True)")
    if run.supports is not None and len(run.supports) != run.shots:
        raise ValueError(
            f"{_of(run)} was made with {run.shots} support(s), but {len(run.supports)} images were given; "
            "give the episode that was segmented"
        )
    if run.truth is not None and run.query is not None and run.truth.shape != run.query.shape[-2:]:
        raise ValueError(
            f"the truth has {tuple(run.truth.shape)} pixels, the query image {tuple(run.query.shape[-2:])}; "
            "give the mask of this image"
        )
    for number, layer in enumerate(run.trace.layers, start=1):
        for name in ("q", "k", "calibration", "bias"):
            values = getattr(layer, name)
            if values is not None and not torch.isfinite(values).all():
                raise ValueError(
                    f"layer {number} of {_of(run)} holds NaN or infinite numbers in `{name}`, so its attention means "
                    "nothing; look for the first step of the trace that has them, often weights that diverged"
                )


def _check_supports(run: Run, masks: Tensor) -> None:
    """Refuse an episode with other supports than the trace's. masks: its support masks (K, H, W). Raises ValueError."""
    used = run.trace.support_masks[0].cpu() == 1  # K, S, S
    given = F.interpolate((masks == 1).float().cpu().unsqueeze(0), used.shape[-2:], mode="nearest")[0] == 1
    common, either = (found.flatten(1).sum(1) for found in (used & given, used | given))
    others = (common < SAME * either).nonzero().flatten().tolist()
    if others:
        raise ValueError(
            f"{_of(run)} was made with another mask for support {others[0]} than the episode has; give the episode "
            "that was segmented, or the images: query=..., supports=[...]"
        )


def _of(run: Run) -> str:
    return f"the trace {run.name!r}" if run.name else "the trace"
