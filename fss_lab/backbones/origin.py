"""Where the numbers of networks come from, and a hash of them: what is written beside what the networks made."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from weakref import WeakKeyDictionary

from torch import nn

from fss_lab.backbones.fingerprint import hash_tensors
from fss_lab.backbones.hub import commit_of
from fss_lab.backbones.patch_tokens import PatchTokens
from fss_lab.backbones.sam2 import Sam2Backbone

Networks = dict[str, dict[str, str]]
"""Of the networks "sam2" and "features": "sha256" of their weights, and where they came "from"."""
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


def origin_of(network: nn.Module | None) -> str | None:
    """Where a network's weights came from, as far as `note_origin` knows."""
    return None if network is None else _ORIGINS.get(network)


def networks_of(sam2: Sam2Backbone, features: nn.Module | None, trained: Collection[str] = ()) -> Networks:
    """What both networks hold besides the parameters `trained` (names of the SAM 2 state dict), and their origins.

    DINOv2's position grid does not count: it is resized after loading, which rounds differently on every machine.
    Neither do the names of DINOv2's tensors, which differ between versions of `transformers`.
    """
    dense = {} if features is None else features.state_dict()
    if isinstance(features, PatchTokens):
        tensors = [tensor for name, tensor in dense.items() if not name.endswith("position_embeddings")]
        dense = {hash_tensors("", {"": tensor}): tensor for tensor in tensors}
    states = {
        "sam2": {name: tensor for name, tensor in sam2.model.state_dict().items() if name not in trained},
        "features": dense,
    }
    sources = {"sam2": origin_of(sam2), "features": origin_of(features)}
    return {
        name: {"sha256": hash_tensors("", state), "from": sources[name] or "unknown files"}
        for name, state in states.items()
    }


def network_origin(network: Mapping[str, str]) -> str:
    """Where a network came from, and the beginning of its hash."""
    return f"{network['from']} (SHA-256 {network['sha256'][:12]})"
