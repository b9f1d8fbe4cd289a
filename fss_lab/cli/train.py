"""`fss-lab train`: its options are the fields of `TrainConfig`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fss_lab.cli.arguments import add_options, given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fss_lab.training.config import PROFILES, TrainConfig

    parser.add_argument(
        "--output", type=Path, help="directory of the run; one that holds this run already continues it"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--profile", choices=PROFILES, help="which defaults (default: toy)")
    source.add_argument("--config", type=Path, help="repeat the run of this run.yaml; other options change it")
    add_options(parser, [TrainConfig])
    changes = ", ".join(f"{name} {value}" for name, value in PROFILES["paper"].items())
    parser.epilog = (
        f"The paper's profile changes: {changes}; the steps follow from its epochs. The defaults above are those of "
        "the toy profile, made for two CPU cores and a minute. Several devices: --devices 4; or `torchrun "
        "--nproc-per-node 4 -m fss_lab train ...` or `fabric run --devices 4 -- $(which fss-lab) train ...`, which "
        "then say how many processes there are."
    )


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from fss_lab.training.config import TrainConfig, profile
    from fss_lab.training.facts import read_config
    from fss_lab.training.trainer import train

    if arguments.output is None:
        print("fss-lab train: --output DIRECTORY is missing: where the run keeps its files", file=sys.stderr)
        return 2
    changes = given(arguments, TrainConfig)
    if arguments.config is None:
        config = profile(arguments.profile or "toy", **changes)
    else:
        config = replace(read_config(arguments.config), **changes)
    train(config, arguments.output)
    return 0
