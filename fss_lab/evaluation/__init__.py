"""Evaluation: variants of a model scored side by side on the same episodes, in long runs, tables and ablations.

Knows models, data sets and figures; nothing of training and the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "FULL": "variants", "Photographs": "worlds", "ToyWorld": "worlds", "evaluate": "scoring", "table": "tables",
    "vote": "scoring",
}  # fmt: skip
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """A public name on first use: the command line builds its options from this folder and must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
