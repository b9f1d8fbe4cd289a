"""Optimisers and learning-rate schedules by name: `TrainConfig` offers what these two registries hold.

Imports nothing heavy, because the command line takes its choices from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def adamw(parameters: Iterable[Tensor], learning_rate: float, weight_decay: float) -> Optimizer:
    """AdamW with torch's betas, the paper's."""
    from torch.optim import AdamW

    return AdamW(parameters, learning_rate, weight_decay=weight_decay)


def sgd(parameters: Iterable[Tensor], learning_rate: float, weight_decay: float) -> Optimizer:
    """Stochastic gradient descent with momentum 0.9."""
    from torch.optim import SGD

    return SGD(parameters, learning_rate, momentum=0.9, weight_decay=weight_decay)


def poly(step: int, steps: int) -> float:
    """Learning-rate factor (1 - step / steps)^0.9, the paper's."""
    return (1 - step / steps) ** 0.9


def cosine(step: int, steps: int) -> float:
    """Learning-rate factor: 50 steps of warm-up, then half a cosine down to 0."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))


Schedule = Callable[[int, int], float]
"""(step, steps) -> factor in 0..1 on the learning rate."""
OPTIMISERS: dict[str, Callable[[Iterable[Tensor], float, float], Optimizer]] = {"adamw": adamw, "sgd": sgd}
"""Each is called with the parameters, the full learning rate and the weight decay."""
SCHEDULES: dict[str, Schedule] = {"poly": poly, "cosine": cosine}
