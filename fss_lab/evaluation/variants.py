"""Variants of FSSAM that are set side by side, all made of one model and its baselines without copying a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from fss_lab.errors import InputError
from fss_lab.method import FSSAM
from fss_lab.method.options import CHOICES, Options

Models = dict[str, FSSAM]
FULL = "PPG + IMR + SCMA (FSSAM)"
ADDED = "trained: "  # begins the names of weights that are neither FSSAM's nor the baseline's
PRIOR_ALONE = "prior alone (P_fg cut at ½)"
STEPS: tuple[str, ...] = ("support memory, fine-tuned", PRIOR_ALONE, "PPG", "PPG + IMR", FULL)
"""The rows of `steps` of which each adds one part to the row before."""

ROUNDS = 5
PARTS: dict[str, dict[str, Any]] = {
    PRIOR_ALONE: {"memory": "none", "prior": "foreground"},
    "PPG": {"rounds": 0, "calibration": "off"},
    "PPG + IMR": {"calibration": "off"},
    "PPG + SCMA": {"rounds": 0},
    FULL: {},
}
"""What is switched on; each is FSSAM with these other options."""
IMR = {
    f"IMR {kind}, {r} rounds": {"refinement": kind, "rounds": r}
    for kind in CHOICES["refinement"]
    for r in range(ROUNDS + 1)
}
SCMA = {f"SCMA {mode}": {"calibration": mode} for mode in CHOICES["calibration"]}
PRIORS = {f"prior: {prior}": {"prior": prior} for prior in ("foreground", "discriminative", "truth")}
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "Parts": PARTS, "Rounds of refinement (IMR)": IMR, "Calibration (SCMA)": SCMA, "Prior (PPG)": PRIORS,
}  # fmt: skip
"""The tables of an ablation."""


def steps(models: Models) -> Models:
    """From the paper's starting point to its method; where nothing is fine-tuned, the models and the prior alone."""
    if FULL not in models:
        guessing = next((model for model in models.values() if model.options.guesses), None)
        return models if guessing is None else models | {PRIOR_ALONE: guessing.variant(**PARTS[PRIOR_ALONE])}
    full = models[FULL]
    upper_bound = {"true query mask (upper bound)": full.variant(prior="truth")}
    parts = {name: full.variant(**PARTS[name]) for name in (PRIOR_ALONE, "PPG", "PPG + IMR")}
    return _around({**parts, FULL: full, **upper_bound}, models)


def suite(models: Models) -> Models:
    """Every variant of `GROUPS` once, by the first name it has there, after the support-memory baselines.

    Raises:
        InputError: there is no trained FSSAM.
    """
    if FULL not in models:
        raise InputError("there is nothing trained to take apart; name the weights of your run with --weights")
    options = models[FULL].options
    variants: dict[Options, str] = {}
    for group in GROUPS.values():
        for name, changes in group.items():
            variants.setdefault(settled(options, changes), name)
    return _around({name: models[FULL].variant(**asdict(key)) for key, name in variants.items()}, models)


def settled(options: Options, changes: Mapping[str, Any]) -> Options:
    """The options with changes, written in one way: without rounds it does not matter how they would refine."""
    changed = replace(options, **changes)
    return changed if changed.rounds else replace(changed, refinement="v1")


def _around(variants: Models, models: Models) -> Models:
    """The baselines, variants of the model `FULL`, and the weights that were added."""
    added = {name: model for name, model in models.items() if name.startswith(ADDED)}
    baselines = {name: model for name, model in models.items() if name != FULL and name not in added}
    return baselines | variants | added
