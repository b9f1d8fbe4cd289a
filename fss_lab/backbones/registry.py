"""The networks by name: where their published weights are, and for dense features which class makes them.

A new kind of dense features is a class with `build(size, weights)` in a module of its own, and its entries here.
Imports no network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

_AS_SAVED = ("config.json", "model.safetensors")  # by transformers


@dataclass(frozen=True)
class Published:
    """One set of published weights.

    repo: on the hub. files: what is fetched of it. local: what a person may put into `hub.weights_folder()` instead:
        the file in Meta's own format, from Meta's download page, or a folder with `files`.
    """

    repo: str
    files: tuple[str, ...]
    local: str


@dataclass(frozen=True)
class DenseFeatures:
    """Features for the Pseudo Prompt Generator. network: "module:class"; size: what its `build` takes."""

    network: str
    size: str
    published: Published

    def build(self, weights: str | os.PathLike[str] | None = None) -> Any:
        """The frozen network in evaluation mode, random or with weights.

        Raises MissingPackageError without the package it needs, CheckpointError for weights that do not fit.
        """
        return resolve_name(self.network).build(self.size, weights)


def _dense(network: str, size: str, repo: str, local: str = "") -> DenseFeatures:
    published = Published(f"facebook/{repo}", _AS_SAVED, local or repo)
    return DenseFeatures(f"fss_lab.backbones.{network}", size, published)


_SIZES = ("small", "base", "large", "giant")
FEATURES: dict[str, DenseFeatures] = {  # the paper's is dinov2-base
    **{
        f"dinov2-{size}": _dense("dinov2:Dinov2Features", size, f"dinov2-{size}", f"dinov2_vit{size[0]}14_pretrain.pth")
        for size in _SIZES
    },
    **{
        f"dinov2-with-registers-{size}": _dense("dinov2:Dinov2WithRegisters", size, f"dinov2-with-registers-{size}")
        for size in _SIZES
    },
    **{
        f"dinov3-{size}": _dense("dinov3:Dinov3Features", size, f"dinov3-vit{size[0]}16-pretrain-lvd1689m")
        for size in _SIZES[:3]
    },
}
"""By the name that stands behind the "+" of a pair such as "sam2-small+dinov2-base"."""


def _sam2(version: str, size: str) -> Published:
    file = f"sam{version}_hiera_{size.replace('-', '_')}.pt"
    return Published(f"facebook/sam{version}-hiera-{size}", (file,), file)


PUBLISHED: dict[str, Published] = {  # the paper's is sam2-small
    f"sam{version}-{size}": _sam2(version, size)
    for version in ("2", "2.1")
    for size in ("tiny", "small", "base-plus", "large")
} | {name: features.published for name, features in FEATURES.items()}
"""All weights that `hub.fetch` knows, as their repos hold them on the day of the first download. A commit in the name,
"sam2-small@<commit>", pins them on every machine; a run's `run.yaml` tells the one that it had."""
