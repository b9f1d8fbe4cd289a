"""From a name or a YAML file to a stock SAM 2 model of any size, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from fss_lab.errors import InputError
from fss_lab.files import read_yaml

STRIDE = 16  # pixels per cell of the memory grid

CONFIGS = {
    f"sam{version}-{name}": f"configs/sam{version}/sam{version}_hiera_{letter}.yaml"
    for version in ("2", "2.1")
    for name, letter in (("tiny", "t"), ("small", "s"), ("base-plus", "b+"), ("large", "l"))
}
"""Short names of the published sizes, and the configurations that ship inside the `sam2` package."""


def stock_model(config: str | Path, image_size: int | None = None) -> SAM2Base:
    """SAM 2 with random weights; config, image_size: as in `fss_lab.backbones.sam2.Sam2Backbone.build`.

    Raises FileNotFoundError for an unknown name, InputError for another size or a file that is no SAM 2 configuration.
    """
    settings = read_config(config)
    size = settings.image_size if image_size is None else image_size
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0 or size % STRIDE:
        raise InputError(f"image_size must be a positive multiple of {STRIDE} pixels, got {size!r}")
    settings.image_size = size
    # The same settings for every size: rotary tables of the memory grid, no compilation behind our back.
    settings.compile_image_encoder = False
    for section in _sections(settings):
        if "feat_sizes" in section:
            section.feat_sizes = [size // STRIDE, size // STRIDE]
    return instantiate(settings, _recursive_=True)


def read_config(config: str | Path) -> DictConfig:
    """The `model` section of a SAM 2 configuration: a key of `CONFIGS` or the path of a YAML file.

    Raises FileNotFoundError for an unknown name, InputError for a file that is no SAM 2 configuration.
    """
    path = Path(str(files("sam2"))) / CONFIGS[str(config)] if str(config) in CONFIGS else Path(config)
    if not path.is_file():
        raise FileNotFoundError(
            f"no SAM 2 configuration {str(config)!r}: give the path of a YAML or one of {list(CONFIGS)}"
        )
    try:
        # PyYAML's and OmegaConf's errors have no common base below Exception; the cause is kept.
        settings = OmegaConf.create(read_yaml(path))
    except Exception as error:
        raise InputError(f"{path} is not a readable YAML file: {error}") from error
    if not isinstance(settings, DictConfig) or "model" not in settings or "image_size" not in settings.model:
        raise InputError(f"{path} is not a SAM 2 configuration: it has no `model` section with an `image_size`")
    for section in _sections(settings.model):
        if "_target_" in section and not _is_network(str(section["_target_"])):
            raise InputError(f"{path} asks for {section['_target_']!r}; only classes of the sam2 package are allowed")
    return settings.model


def _is_network(target: str) -> bool:
    """Whether this names a network of SAM 2's own; a name can start with sam2 and lead to what sam2 imports."""
    try:
        network = get_class(target) if target.startswith("sam2.modeling.") else None
    except Exception:  # hydra raises many kinds for names that lead nowhere or to something else than a class
        return False
    return network is not None and issubclass(network, nn.Module) and network.__module__.startswith("sam2.modeling.")


def _sections(node: Any) -> Iterator[DictConfig]:
    """All mappings of a configuration, those in lists too."""
    if isinstance(node, DictConfig):
        yield node
    if isinstance(node, DictConfig | ListConfig):
        for child in node.values() if isinstance(node, DictConfig) else node:
            yield from _sections(child)
