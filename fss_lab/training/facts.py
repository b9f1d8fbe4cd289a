"""What a run says about itself: `run.yaml`, the facts in its checkpoints, and whether two runs are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fss_lab import __version__
from fss_lab.errors import RunError
from fss_lab.files import read_yaml
from fss_lab.models.provenance import Facts, Networks, check_same_networks, network_origin, without_commits
from fss_lab.training.config import TrainConfig

HARMLESS = (
    "accelerator", "devices", "nodes", "strategy", "accumulate", "workers", "save_every", "cache", "cache_megabytes",
    "cache_directory", "tensorboard", "data_root", "folds",
)  # fmt: skip
"""What may differ when a run is resumed, because it changes neither the data nor the method. The numbers do change:
devices, nodes and accumulate cut a step into other parts, with other draws of dropout; accelerator changes the rounding
and, with precision auto, the precision; on a GPU a cache encodes image by image, which rounds differently. The others
change nothing; of a folder with classes of your own its photos and folds are compared themselves, see `Facts.data`."""


def read_config(path: str | Path) -> TrainConfig:
    """The configuration in a `run.yaml`.

    Raises:
        RunError: the file is missing or holds something else.
    """
    options = read_facts(path).options
    unknown = [name for name in options if name not in TrainConfig.__dataclass_fields__]
    if unknown:
        raise RunError(f"{path} names options that `fss-lab train --help` does not know: {', '.join(unknown)}")
    try:
        return TrainConfig(**options)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def read_facts(path: str | Path) -> Facts:
    """What `to_yaml` wrote, without the frozen networks.

    Raises:
        RunError: the file is missing or holds something else.
    """
    # PyYAML's and OmegaConf's errors have no common base below Exception; the cause is kept.
    try:
        content = read_yaml(path)
    except Exception as error:
        raise RunError(f"{path} cannot be read as the run.yaml of a run: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is no run.yaml: expected lines such as `fold: 0`")
    return Facts({str(name): value for name, value in content.items()})


def facts_of(
    config: TrainConfig | Mapping[str, Any], frozen: Networks | None = None, data: Mapping[str, Any] | None = None
) -> Facts:
    """The configuration as plain numbers, strings and lists, the frozen networks that it trains with, and the facts of
    its images."""
    options = asdict(config) if isinstance(config, TrainConfig) else config
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return Facts(plain, frozen or {}, dict(data or {}))


def to_yaml(facts: Facts) -> str:
    """The text of a `run.yaml`; frozen networks and facts of the data, which are no options, as comments."""
    from omegaconf import OmegaConf

    networks = [f"{name} from {network_origin(network)}" for name, network in facts.frozen.items()]
    data = [f"data, {name}: {json.dumps(value)}" for name, value in facts.data.items()]
    comments = "".join(f"# {line}\n" for line in (f"fss-lab {__version__}", *networks, *data))
    return comments + OmegaConf.to_yaml(OmegaConf.create(dict(facts.options)))


def check_same_run(saved: Facts, facts: Facts, source: str | Path) -> None:
    """Compare a run with the one that wrote the file `source`, except for its `HARMLESS` options.

    An option that a run of an earlier version did not have counts as its default. If the file names its frozen
    networks, their weight files may have moved, and `model` may name other commits.

    Raises:
        RunError: an option or a frozen network differs; the message names all of them.
    """
    defaults: dict[str, Any] = {name: field.default for name, field in TrainConfig.__dataclass_fields__.items()}
    before = {name: defaults[name] for name in facts.options if name in defaults} | dict(saved.options)
    now = dict(facts.options)
    harmless: tuple[str, ...] = HARMLESS
    if saved.frozen:
        harmless += "sam2_checkpoint", "features_checkpoint"
        before, now = ({**options, "model": without_commits(options.get("model", ""))} for options in (before, now))
    if saved.data and facts.data:
        before, now = before | dict(saved.data), now | dict(facts.data)
        harmless = tuple(name for name in harmless if name not in facts.data)
    names = [name for name in before | now if name not in harmless]
    differing = [name for name in names if before.get(name) != now.get(name)]
    if differing:
        listed = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in differing)
        raise RunError(
            f"{source} belongs to another run: {listed}. Use the same options (run.yaml has them) to resume it, or "
            "another directory for a new run"
        )
    if saved.frozen and facts.frozen:
        check_same_networks(saved.frozen, facts.frozen, source)
