"""FSSAM (Xu et al., ICML 2025): prompts (PPG), refinement (IMR), calibration (SCMA), their composition.

Knows the backbones, episodes and images; nothing of data sets and training, and of figures their panels alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fss_lab.method.fssam import FSSAM
    from fss_lab.method.options import Options
    from fss_lab.method.records import Encoded, EpisodeFeatures, LabelMap, Output, Prediction, Support
    from fss_lab.method.trace import Trace

_ROOMS = {"FSSAM": "fssam", "Options": "options", "Trace": "trace"}
__all__ = ["FSSAM", "Encoded", "EpisodeFeatures", "LabelMap", "Options", "Output", "Prediction", "Support", "Trace"]


def __getattr__(name: str) -> Any:
    """A public name on first use: the command line reads `method.options` and must not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'records')}"), name)
