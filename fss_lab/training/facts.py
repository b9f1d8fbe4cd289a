"""What a run says about itself: `run.yaml`, the facts in its checkpoints, and whether two runs are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fss_lab.errors import RunError
from fss_lab.models.provenance import check_same_networks, network_origin, without_commits
from fss_lab.training.config import TrainConfig

HARMLESS = (
    "accelerator", "devices", "nodes", "strategy", "accumulate", "workers", "save_every", "cache", "cache_megabytes",
    "cache_directory", "tensorboard", "data_root",
)  # fmt: skip
"""What may differ when a run is continued, because it changes neither the data nor the method. The numbers do change:
devices, nodes and accumulate cut a step into other parts, with other draws of dropout; accelerator changes the rounding
and, with precision auto, the precision; on a GPU a cache encodes image by image, which rounds in another way. The
others change nothing."""


def read_config(path: str | Path) -> TrainConfig:
    """The configuration in a `run.yaml`. Raises RunError for a file that is missing or holds something else."""
    content = read_facts(path)
    unknown = [name for name in content if name not in TrainConfig.__dataclass_fields__]
    if unknown:
        raise RunError(f"{path} names options that `fss-lab train --help` does not know: {', '.join(unknown)}")
    try:
        return TrainConfig(**content)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error


def read_facts(path: str | Path) -> dict[str, Any]:
    """What `to_yaml` wrote. Raises RunError for a file that is missing or holds something else."""
    from omegaconf import OmegaConf

    # PyYAML's and OmegaConf's errors have no common base below Exception; the cause is kept.
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as error:
        raise RunError(f"{path} cannot be read as the run.yaml of a run: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is no run.yaml: expected lines such as `fold: 0`")
    return {str(name): value for name, value in content.items()}


def facts_of(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain numbers, strings and lists, for YAML and checkpoints."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}


def to_yaml(facts: Mapping[str, Any]) -> str:
    """The text of a `run.yaml`; the frozen networks, which are no option, as comments."""
    from omegaconf import OmegaConf

    from fss_lab import __version__

    lines = [
        f"fss-lab {__version__}",
        *(f"{name} from {network_origin(it)}" for name, it in facts.get("frozen", {}).items()),
    ]
    options = {name: value for name, value in facts.items() if name != "frozen"}
    return "".join(f"# {line}\n" for line in lines) + OmegaConf.to_yaml(OmegaConf.create(options))


def check_same_run(saved: Mapping[str, Any], facts: Mapping[str, Any], source: str | Path) -> None:
    """Raise RunError that names every field in which two descriptions differ, `HARMLESS` ones apart; and as
    `check_same_networks` if both tell what their frozen networks hold.

    An option that a run of an earlier version did not have counts as its default. Once a run has told what its frozen
    networks hold, their files may lie elsewhere, and `model` may name other commits.
    """
    options = TrainConfig.__dataclass_fields__
    saved = {**{name: options[name].default for name in facts if name in options}, **saved}
    free: tuple[str, ...] = (*HARMLESS, "frozen")
    if saved.get("frozen"):
        free += "sam2_checkpoint", "features_checkpoint"
        saved, facts = ({**each, "model": without_commits(each.get("model", ""))} for each in (saved, facts))
    names = [name for name in {**saved, **facts} if name not in free]
    differing = [name for name in names if saved.get(name) != facts.get(name)]
    if differing:
        listed = "; ".join(f"{name} was {saved.get(name)!r}, now {facts.get(name)!r}" for name in differing)
        raise RunError(
            f"{source} belongs to another run: {listed}. Use the same options (run.yaml has them) to continue it, or "
            "another directory for a new run"
        )
    if saved.get("frozen") and facts.get("frozen"):
        check_same_networks(saved["frozen"], facts["frozen"], source)
