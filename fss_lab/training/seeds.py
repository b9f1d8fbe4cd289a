"""Random numbers that depend on nothing but a key, and random states that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_all(*key: int) -> None:
    """Seed the random numbers of Python, NumPy and torch (all devices) from a key such as (seed, step, rank)."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]) % 2**32)
    torch.manual_seed(int(words[1]))


def random_states() -> dict[str, Any]:
    """Every random state of this process, in types that a checkpoint can hold."""
    numpy: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]  # as legacy=False says
    generator = numpy.pop("state")
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "key": torch.from_numpy(generator["key"].astype(np.int64)), "pos": generator["pos"]},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Go back to the `random_states` of before; CUDA's only with as many devices as then."""
    random.setstate(states["python"])
    numpy = dict(states["numpy"])
    numpy["state"] = {"key": numpy.pop("key").numpy().astype(np.uint32), "pos": numpy.pop("pos")}
    np.random.set_state(numpy)
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
