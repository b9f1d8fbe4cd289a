"""From a name to a ready model: published and shipped weights, those of training runs, and where they came from.

Knows networks and the method; nothing of episodes, evaluation or training.
"""

from fss_lab.models.load import load_model

__all__ = ["load_model"]
