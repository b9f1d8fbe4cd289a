"""Training: what a run is, its loop, its files, and what it needs of devices.

Knows models, data sets and evaluation; nothing of notebooks and the command line, which takes its options from
`config`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "PROFILES": "config", "TrainConfig": "config", "profile": "config", "read_config": "facts",
    "TrainResult": "trainer", "base_episodes": "trainer", "load_trained": "trainer", "train": "trainer",
    "trainable_table": "trainer",
}  # fmt: skip
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """A public name on first use: `fss-lab --help` reads `config` and must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
