"""Which frozen networks weights were trained with: written down with the run, compared when its weights are used.

A run trains some modules of SAM 2. All else comes from the published files again when its weights are loaded, and must
hold the same numbers as then. A branch of the hub may have moved, or a file of one's own been replaced: both load
without a complaint, and then give worse masks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fss_lab.backbones.origin import Networks, network_origin, networks_of, origin_of
from fss_lab.errors import RunError
from fss_lab.method import FSSAM


@dataclass(frozen=True)
class Facts:
    """What a run's files say about the run: its options, and the frozen networks that it trained with.

    options: plain numbers, strings and lists. frozen: empty for pre-training and in files of early versions. data: what
    else decides the episodes, `ImageSet.facts`; empty where the options say it all.
    """

    options: Mapping[str, Any]
    frozen: Networks = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Facts:
        """From a file's plain dictionary, in which frozen networks and data are entries beside the options."""
        options = {name: value for name, value in plain.items() if name not in ("frozen", "data")}
        return cls(options, plain.get("frozen", {}), plain.get("data", {}))

    def plain(self) -> dict[str, Any]:
        """The dictionary for a file, see `of`."""
        beside = {"frozen": self.frozen, "data": dict(self.data)}
        return dict(self.options) | {name: value for name, value in beside.items() if value}


def origins(model: FSSAM) -> dict[str, str]:
    """Where the weights of "sam2" and "features" came from, as far as `note_origin` knows."""
    sources = {"sam2": origin_of(model.sam2), "features": origin_of(model.features)}
    return {name: source for name, source in sources.items() if source is not None}


def frozen_networks(model: FSSAM, trained: Collection[str]) -> Networks:
    """As `networks_of`: what "sam2" and "features" hold besides the parameters `trained`, and their origins."""
    return networks_of(model.sam2, model.features, trained)


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


def check_same_networks(saved: Networks, present: Networks, source: str | Path) -> None:
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
