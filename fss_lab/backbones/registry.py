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
    revision: branch, tag or commit of the repo. "main" is whatever the repo holds on the day of the first download, and
        stays that on this machine; a commit hash pins the weights on every machine. `hub.commit_of` tells the one that
        you have, and so does every run's `run.yaml`.
    """

    repo: str
    files: tuple[str, ...]
    local: str
    revision: str = "main"


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


def _sam2(version: str, size: str, revision: str = "main") -> Published:
    file = f"sam{version}_hiera_{size.replace('-', '_')}.pt"
    return Published(f"facebook/sam{version}-hiera-{size}", (file,), file, revision)


def _dinov2(size: str, revision: str = "main") -> DenseFeatures:
    file = f"dinov2_vit{size[0]}14_pretrain.pth"
    published = Published(f"facebook/dinov2-{size}", _AS_SAVED, file, revision)
    return DenseFeatures("fss_lab.backbones.dinov2:Dinov2Features", size, published)


def _dinov2_with_registers(size: str, revision: str = "main") -> DenseFeatures:
    repo = f"dinov2-with-registers-{size}"
    published = Published(f"facebook/{repo}", _AS_SAVED, repo, revision)
    return DenseFeatures("fss_lab.backbones.dinov2:Dinov2WithRegisters", size, published)


def _dinov3(size: str, revision: str = "main") -> DenseFeatures:
    repo = f"dinov3-vit{size[0]}16-pretrain-lvd1689m"
    published = Published(f"facebook/{repo}", _AS_SAVED, repo, revision)
    return DenseFeatures("fss_lab.backbones.dinov3:Dinov3Features", size, published)


FEATURES: dict[str, DenseFeatures] = {
    "dinov2-small": _dinov2("small"),
    "dinov2-base": _dinov2("base"),  # the paper's
    "dinov2-large": _dinov2("large"),
    "dinov2-giant": _dinov2("giant"),
    "dinov2-with-registers-small": _dinov2_with_registers("small"),
    "dinov2-with-registers-base": _dinov2_with_registers("base"),
    "dinov2-with-registers-large": _dinov2_with_registers("large"),
    "dinov2-with-registers-giant": _dinov2_with_registers("giant"),
    "dinov3-small": _dinov3("small"),
    "dinov3-base": _dinov3("base"),
    "dinov3-large": _dinov3("large"),
}
"""By the name that stands behind the "+" of a pair such as "sam2-small+dinov2-base"."""

PUBLISHED: dict[str, Published] = {
    "sam2-tiny": _sam2("2", "tiny"),
    "sam2-small": _sam2("2", "small"),  # the paper's
    "sam2-base-plus": _sam2("2", "base-plus"),
    "sam2-large": _sam2("2", "large"),
    "sam2.1-tiny": _sam2("2.1", "tiny"),
    "sam2.1-small": _sam2("2.1", "small"),
    "sam2.1-base-plus": _sam2("2.1", "base-plus"),
    "sam2.1-large": _sam2("2.1", "large"),
    **{name: features.published for name, features in FEATURES.items()},
}
"""All weights that `hub.fetch` knows. Every revision is "main". To pin one, name it in the call ("sam2-small@<commit>")
or put it here as the last argument."""
