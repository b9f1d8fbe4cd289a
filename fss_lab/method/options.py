"""What an FSSAM can be asked to do: every option once, with its default, its help and what it allows.

Imports nothing heavy: the configuration of a training run and the command line take their options from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from fss_lab.errors import InputError

PRECISIONS = ("float32", "bfloat16")
"""Of the frozen encoders' arithmetic."""
TRAINABLE = ("paper", "memory_encoder", "as_published")
"""Sets of parameters with a name; see `trainable.Trainable.trainable_parameters`."""
PRESENT = 0.5
"""Even odds: from this `Prediction.score` on a class counts as shown, where nothing else is said."""


@dataclass(frozen=True)
class Calibration:
    """A mode of SCMA (`calibration.CalibratedCrossAttention`).

    judges: the supports that judge the keys behind theirs: "all" those of the query memory, the "first" one alone
        whatever stands next (so never with average), or "none" (no bias).
    average: the supports' keys and values become their mean, position by position, else they stand side by side.
    skip_vanished: a support whose mask vanishes on the memory grid is no judge; else it says "not our class" of all.
    """

    judges: str = "none"
    average: bool = False
    skip_vanished: bool = True


CALIBRATIONS = {
    "corrected": Calibration("all", average=True),
    "averaged": Calibration(average=True),
    "as_published": Calibration("first", skip_vanished=False),
    "off": Calibration(),
}
"""corrected: what the paper describes, for any number of shots. averaged: the same without the bias, to tell apart what
averaging the shots adds and what the bias adds. as_published: what the authors' code does; it knows of one support
only, so with several shots it calibrates the second support by the first and nothing else, and averages no shots; equal
to corrected for one shot. off: SAM 2's own attention over all shots side by side."""


def option(default: Any, help: str, *, type: Any = None, **rules: Any) -> Any:
    """A field of a dataclass of options, which the command line offers too (`fss_lab.cli.arguments.add_options`).

    default: MISSING where the option is required. type: of one value, where the default does not tell it. rules: least
    (smallest number allowed), choices, several (a list of values), flags (other than the name), metavar.
    """
    rules |= {"help": help, "type": type or default.__class__}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=rules)
    return field(default=default, metadata=rules)


def check_option(option: Field[Any], value: Any) -> None:
    """Raises InputError for a value that an `option` does not allow."""
    name, rules = option.name, option.metadata
    if type(value) is not rules["type"]:
        raise InputError(f"{name} must be of type {rules['type'].__name__}, got {value!r}")
    if "choices" in rules and value not in rules["choices"]:
        raise InputError(f"{name} must be one of {rules['choices']}, got {value!r}")
    if "least" in rules and not (value >= rules["least"] and math.isfinite(value)):
        raise InputError(f"{name} must be a number of at least {rules['least']}, got {value!r}")


@dataclass(frozen=True)
class Options:
    """What an FSSAM does; the defaults are the paper's method. Raises InputError for a value that is not allowed."""

    memory: str = option(
        "pseudo",
        "pseudo: memories of the supports and of the query with a guess at its mask, FSSAM; support: of the supports "
        "alone, the baseline it starts from, which the options below do not touch; none: the prior cut at one half, "
        "without SAM 2 and with nothing to train",
        choices=("pseudo", "support", "none"),
    )
    prior: str = option(
        "discriminative",
        "mask of the pseudo memory: discriminative or foreground (PPG); truth: the query's own, never refined, an "
        "upper bound",
        choices=("discriminative", "foreground", "truth"),
    )
    rounds: int = option(3, "rounds of memory refinement (IMR)", least=0)
    refinement: str = option("v1", "kind of refinement; v2 stretches its weights to 0..1", choices=("v1", "v2"))
    calibration: str = option("corrected", "support-calibrated attention (SCMA)", choices=tuple(CALIBRATIONS))

    def __post_init__(self) -> None:
        for item in fields(self):
            check_option(item, getattr(self, item.name))

    @property
    def guesses(self) -> bool:
        """Whether a guess at the query's mask is needed, the prior."""
        return self.memory != "support"


CHOICES: dict[str, tuple[str, ...]] = {
    item.name: item.metadata["choices"] for item in fields(Options) if "choices" in item.metadata
}
"""The words that each option allows."""


def options_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `Options` among the settings of a training run."""
    return {item.name: settings[item.name] for item in fields(Options) if item.name in settings}
