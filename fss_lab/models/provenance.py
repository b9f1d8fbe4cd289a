"""Which frozen networks weights were trained with: written down with the run, compared when its weights are used.

A run trains some modules of SAM 2. All else comes from the published files again when its weights are loaded, and must
hold the same numbers as then. A branch of the hub may have moved, or a file of one's own been replaced: both load
without a complaint, and then give worse masks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from fss_lab.backbones.fingerprint import hash_tensors
from fss_lab.backbones.hub import commit_of
from fss_lab.backbones.patch_tokens import PatchTokens
from fss_lab.errors import RunError
from fss_lab.method import FSSAM

Frozen = dict[str, dict[str, str]]
"""Of the networks "sam2" and "features": "sha256" of their frozen weights, and where they came "from"."""


@dataclass(frozen=True)
class Facts:
    """What a run's files say about the run: its options, and the frozen networks that it trained with.

    options: plain numbers, strings and lists. frozen: empty for pre-training and in files of early versions.
    """

    options: Mapping[str, Any]
    frozen: Frozen = field(default_factory=dict)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Facts:
        """From a file's plain dictionary, in which the frozen networks are an entry beside the options."""
        return cls({name: value for name, value in plain.items() if name != "frozen"}, plain.get("frozen", {}))

    def plain(self) -> dict[str, Any]:
        """The dictionary for a file, see `of`."""
        return {**self.options, "frozen": self.frozen} if self.frozen else dict(self.options)


_ORIGINS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def note_origin(network: nn.Module, name: str, source: str | os.PathLike[str] | None) -> None:
    """Remember where a network's weights came from.

    name: as in `fss_lab.backbones.registry.PUBLISHED`. source: the file or directory, None for random weights; one in
    huggingface_hub's cache becomes "name@commit", with which `load_model` pins it.
    """
    try:
        _ORIGINS[network] = "random numbers" if source is None else f"{name}@{commit_of(source)}"
    except ValueError:  # a file that lies elsewhere
        _ORIGINS[network] = str(source)


def share_origin(copy: nn.Module, network: nn.Module) -> None:
    """Remember of a copy what is known of the network."""
    if network in _ORIGINS:
        _ORIGINS[copy] = _ORIGINS[network]


def origins(model: FSSAM) -> dict[str, str]:
    """Where the weights of "sam2" and "features" came from, as far as `note_origin` knows."""
    networks = {"sam2": model.sam2, "features": model.features}
    return {
        name: _ORIGINS[network] for name, network in networks.items() if network is not None and network in _ORIGINS
    }


def frozen_networks(model: FSSAM, trained: Collection[str]) -> Frozen:
    """What "sam2" and "features" hold besides the parameters `trained` (names of the SAM 2 state dict), and its origin.

    DINOv2's position grid does not count: it is resized after loading, which rounds differently on every machine.
    Neither do the names of DINOv2's tensors, which differ between versions of `transformers`.
    """
    features = {} if model.features is None else model.features.state_dict()
    if isinstance(model.features, PatchTokens):
        tensors = [tensor for name, tensor in features.items() if not name.endswith("position_embeddings")]
        features = {hash_tensors("", {"": tensor}): tensor for tensor in tensors}
    states = {
        "sam2": {name: tensor for name, tensor in model.sam2.model.state_dict().items() if name not in trained},
        "features": features,
    }
    sources = origins(model)
    return {
        name: {"sha256": hash_tensors("", state), "from": sources.get(name, "unknown files")}
        for name, state in states.items()
    }


def check_frozen(run: Mapping[str, Any], model: FSSAM, trained: Collection[str], source: str | Path) -> None:
    """Compare the frozen networks that weights were trained with to the model's; nothing if the file has none.

    run: the plain `Facts` in the weights' file. trained: names of the weights. source: their file.

    Raises:
        RunError: they differ.
    """
    if frozen := Facts.of(run).frozen:
        check_same_networks(frozen, frozen_networks(model, trained), source)


def without_commits(model: str) -> str:
    """The pair "sam2-small@<commit>+dinov2-base@<commit>" as "sam2-small+dinov2-base"."""
    return re.sub(r"@[^+]*", "", model)


def check_same_networks(saved: Frozen, present: Frozen, source: str | Path) -> None:
    """Compare the frozen networks that the file `source` was trained with to the present ones.

    Raises:
        RunError: they differ.
    """
    differing = [name for name, network in saved.items() if network["sha256"] != present[name]["sha256"]]
    if differing:
        listed = "; ".join(
            f"{name} from {network_origin(saved[name])}, now from {network_origin(present[name])}" for name in differing
        )
        raise RunError(
            f"{source} was trained with other frozen networks, and fits no others: {listed}. Give those it was trained "
            "with: a commit of the hub as in --model sam2-small@COMMIT+dinov2-base@COMMIT (`model:` in run.yaml), a "
            "file with --sam2-checkpoint or --features-checkpoint. Those of the toy model come with fss_lab's version"
        )


def network_origin(network: Mapping[str, str]) -> str:
    """Where a frozen network came from, and the beginning of its hash."""
    return f"{network['from']} (SHA-256 {network['sha256'][:12]})"
