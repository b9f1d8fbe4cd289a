"""What the explorer shows: traced forward passes, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fss_lab.errors import InputError
from fss_lab.method import Prediction, Trace
from fss_lab.method.prompts import resize
from fss_lab.metrics import coverage


@dataclass(frozen=True)
class Run:
    """One traced forward pass (batch 1), by the name under which it is compared."""

    name: str
    trace: Trace
    traced: Prediction | None = None  # whose trace it is; without it nothing can be computed again

    @property
    def query(self) -> Tensor | None:
        """(3, H, W) in 0..255; None for a pass over tensors, as `supports` and `truth`."""
        return None if self.trace.inputs is None else self.trace.inputs.query

    @property
    def supports(self) -> list[Tensor] | None:
        """K of (3, H, W) in 0..255."""
        return None if self.trace.inputs is None else self.trace.inputs.supports

    @property
    def truth(self) -> Tensor | None:
        """(H, W) of 0, 1, 255; None where nobody knows it."""
        return None if self.trace.inputs is None else self.trace.inputs.truth

    @property
    def class_name(self) -> str:
        """What the episode asks for; empty where nobody says."""
        return "" if self.trace.inputs is None else _text(self.trace.inputs.class_name)

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
        covered = coverage(mask, self.grid)
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


def collect(traced: Trace | Prediction | Mapping[str, Trace | Prediction]) -> list[Run]:
    """The runs that `explore` is asked for; arguments and errors as there."""
    named = dict(traced) if isinstance(traced, Mapping) else {"": traced}
    if not named:
        raise InputError("there is nothing to explore: the dictionary of traces is empty")
    runs = [
        Run(_text(name), _trace_of(name, item), item if isinstance(item, Prediction) else None)
        for name, item in named.items()
    ]
    for number, run in enumerate(runs):
        _check(run)
        if run.name in [other.name for other in runs[:number]]:
            raise InputError(f"two traces are named {run.name!r}; give each a name of its own")
        if run.grid != runs[0].grid or len(run.trace.layers) != len(runs[0].trace.layers):
            raise InputError(
                f"{_of(run)} has {len(run.trace.layers)} layers on a grid of {run.grid[0]} x {run.grid[1]}, "
                f"{_of(runs[0])} {len(runs[0].trace.layers)} on {runs[0].grid[0]} x {runs[0].grid[1]}; "
                "only runs of like models can be compared"
            )
    return runs


def _text(name: object) -> str:
    """A name as text that can be drawn, sent and saved: file names may hold bytes that no text has."""
    return str(name).encode(errors="replace").decode()


def _trace_of(name: str, traced: Trace | Prediction) -> Trace:
    trace = traced.trace if isinstance(traced, Prediction) else traced
    if trace is None:
        raise InputError("this prediction has no trace; make it with model.segment(..., trace=True)")
    if not isinstance(trace, Trace):
        which = f" for {name!r}" if name else ""
        raise TypeError(
            f"expected a Trace or a Prediction{which}, got {type(traced).__name__}; "
            "make one with model.segment(..., trace=True)"
        )
    return trace


def _check(run: Run) -> None:
    """Raises InputError for what would be drawn wrongly."""
    batch = len(run.trace.attended)
    if batch != 1:
        raise InputError(f"{_of(run)} holds a batch of {batch} queries; trace one: model.segment(episode, trace=True)")
    for number, layer in enumerate(run.trace.layers, start=1):
        for name in ("q", "k", "calibration", "bias"):
            values = getattr(layer, name)
            if values is not None and not torch.isfinite(values).all():
                raise InputError(
                    f"layer {number} of {_of(run)} holds NaN or infinite numbers in `{name}`, so its attention means "
                    "nothing; look for the first step of the trace that has them, often weights that diverged"
                )


def _of(run: Run) -> str:
    return f"the trace {run.name!r}" if run.name else "the trace"
