"""Every option of an evaluation with its default and its help, as the command line shows it.

Imports nothing heavy: `fss-lab --help` makes its options from these records. `fss_lab.evaluation.jobs.Settings` and
`fss_lab.evaluation.worlds.World` inherit their fields from here, so an option is declared once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path

from fss_lab.datasets.catalogue import DATASETS
from fss_lab.method.options import PRECISIONS, option
from fss_lab.toyworld.catalogue import TOY_WORLDS

PAIR = "sam2-small+dinov2-base"


def named_weights(text: str) -> tuple[str, str]:
    """PATH or NAME=PATH as (name, path)."""
    name, sign, path = text.partition("=")
    return (name, path) if sign and not set(name) & set("/\\") else ("fssam", text)


def fold_or_file(text: str) -> int | str:
    """The number of a fold, or the path of a file of folds."""
    return int(text) if text.isdecimal() else text


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How to compute. batch_size and threads can change the rounding and are part of the result."""

    threads: int = option(1, "threads of each process", least=1)
    device: str = option("cpu", "cpu, cuda, cuda:1, or mps: Apple's GPU")
    precision: str | None = option(
        None, "of the frozen encoders (default: the model's own, float32)", type=str, choices=PRECISIONS
    )
    batch_size: int = option(8, "episodes at a time", least=1)
    cache_megabytes: int = option(
        0, "memory of each process for features of images seen before", flags=("--cache",), metavar="MB", least=0
    )
    cache_directory: Path | None = option(None, "keep these features on disk, for all processes and runs", type=Path)

    @property
    def cached(self) -> bool:
        """Whether there is a cache."""
        return bool(self.cache_megabytes or self.cache_directory)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldOptions:
    """What is evaluated: episodes, and the models that solve them."""

    dataset: str = option(
        "pictograms",
        "; ".join(
            [f"{name}: {world.about}" for name, world in TOY_WORLDS.items()]
            + [f"{name}: {photographs.title}" for name, photographs in DATASETS.items()]
        ),
        choices=(*TOY_WORLDS, *DATASETS),
    )
    number: int | None = option(
        None, "novel-class episodes a fold (default: 300; photographs: 1000)", type=int, flags=("--episodes",), least=1
    )
    protocol: str | None = option(
        None,
        "draw the episodes from a fixed set of images as this protocol says (default: fresh scenes for each; of "
        "photographs fssam)",
        type=str,
        choices=("fssam", "hsnet"),
    )
    weights: Mapping[str, str] = option(
        {},
        "weights of your own runs instead of the shipped ones; NAME: fssam (default), baseline, or any other, which is "
        "added as a row; {fold} in PATH stands for the fold",
        type=named_weights,
        several=True,
        metavar="[NAME=]PATH",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyOptions(WorldOptions):
    """What only the toy world takes."""

    images: int = option(400, "toy world: images of a protocol's set", least=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class PhotographOptions(WorldOptions):
    """What only photographs take."""

    data_root: Path | None = option(None, "photographs: their folder (default: data/ of the clone)", type=Path)
    skip_bad: bool = option(False, "photographs: leave bad files out and list them")
    model: str | None = option(
        None,
        f"photographs: pair of networks (default: that of your run, else {PAIR}); @COMMIT after a half pins it",
        type=str,
    )
    sam2_checkpoint: str | None = option(
        None, "photographs: your own SAM 2 file instead of the published one", type=str
    )
    features_checkpoint: str | None = option(
        None, "photographs: your own file of dense features instead of the published one", type=str
    )
    image_size: int = option(512, "photographs: side of the square input, in pixels", least=1)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which jobs, and in how many processes."""

    folds: tuple[int | str, ...] | None = option(
        None,
        "numbers of folds (default: all of the data set); of folder also FILE: the classes of each fold, as in train",
        type=fold_or_file,
        several=True,
        metavar="FOLD|FILE",
    )
    shots: tuple[int, ...] = option((1,), "supports per episode", type=int, several=True, least=1)
    seeds: tuple[int, ...] | None = option(
        None,
        "choose the episodes (default: 0, or the protocol's own)",
        type=int,
        flags=("--seeds", "--seed"),
        several=True,
        least=0,
    )
    workers: int = option(1, "processes; the result is the same", least=1)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(RunOptions):
    """Of `fss-lab evaluate` alone."""

    identity: bool = option(False, "same against another identity in memory, instead")
    output: Path | None = option(
        None,
        "FILE.md: also write the text there; or a directory for JSON, CSV, Markdown and a figure, where an interrupted "
        "run goes on; lists of a protocol's episodes lie in its folder episodes, and are used again",
        type=Path,
    )


@dataclass(frozen=True, kw_only=True)
class AblateOptions(RunOptions):
    """Of `fss-lab ablate` alone."""

    shots: tuple[int, ...] = option((1, 5), "supports per episode", type=int, several=True, least=1)
    measured: int | None = option(
        None, "episodes a fold for prior and attention (default: all; 0: leave this out)", type=int, least=0
    )
    output: Path = option(MISSING, "directory of tables and figures, where an interrupted run goes on", type=Path)
