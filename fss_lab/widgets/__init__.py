"""What a reader can press in a notebook: figures to browse, masks to draw, and the attention explorer.

Knows figures and predictions; nothing of evaluation, training and the course.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {"Browse": "browse", "MaskPainter": "painter", "explore": "explorer"}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """A public name on first use, so that none of them waits for the others' libraries."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
