"""The `fss-lab` command: a thin skin over the library.

A command is one entry of COMMANDS: a line of help, a function that runs it and one that adds its arguments.
Only the former imports what it needs, so that `fss-lab --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fss_lab import __version__


@dataclass(frozen=True)
class Command:
    """help: one line; run: arguments -> exit status, 0 for success; add_arguments: fills the parser."""

    help: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def _doctor(arguments: argparse.Namespace) -> int:
    from fss_lab.doctor import examine

    return examine()


def _positive(text: str) -> int:
    """An argument that must be a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def _pretrain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["sam2", "features"], help="which of the two toy backbones")
    parser.add_argument("--output", type=Path, required=True, help="directory of the log, checkpoint and weights")
    parser.add_argument("--steps", type=_positive, help="optimiser steps (default: those of the shipped weights)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the data and the first weights (default 0)")


def _pretrain(arguments: argparse.Namespace) -> int:
    from fss_lab.pretraining import pretrain_features, pretrain_sam2

    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    run = pretrain_sam2 if arguments.what == "sam2" else pretrain_features
    run(arguments.output, seed=arguments.seed, **steps)
    return 0


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fold", type=int, choices=range(4), required=True, help="0 to 3: whose novel classes are kept out"
    )
    parser.add_argument("--output", type=Path, required=True, help="directory of the log, checkpoint and weights")
    parser.add_argument("--steps", type=_positive, default=250, help="optimiser steps of 8 episodes (default 250)")
    parser.add_argument("--shots", type=_positive, default=1, help="supports per episode (default 1)")
    parser.add_argument("--seed", type=int, default=321, help="chooses the episodes and dropout (default 321)")


def _train(arguments: argparse.Namespace) -> int:
    from fss_lab.training import train

    train(
        arguments.output,
        fold=arguments.fold,
        steps=arguments.steps,
        shots=arguments.shots,
        seed=arguments.seed,
    )
    return 0


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folds", type=int, choices=range(4), nargs="+", default=[0, 1, 2, 3], help="folds (default: all four)"
    )
    parser.add_argument("--shots", type=_positive, default=1, help="supports per episode (default 1)")
    parser.add_argument("--episodes", type=_positive, default=300, help="novel-class episodes a fold (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the episodes (default 0)")
    parser.add_argument("--identity", action="store_true", help="same against another identity in memory, instead")
    parser.add_argument("--output", type=Path, help="also write the report to this Markdown file")


def _evaluate(arguments: argparse.Namespace) -> int:
    from fss_lab.evaluation import report

    text = report(arguments.folds, arguments.shots, arguments.episodes, arguments.seed, identity=arguments.identity)
    print(text)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0


COMMANDS = {
    "doctor": Command("check this installation and say how to repair it", _doctor),
    "pretrain": Command("make a toy backbone from scratch, on random classes", _pretrain, _pretrain_arguments),
    "train": Command("train the toy FSSAM and its baseline on a fold's base classes", _train, _train_arguments),
    "evaluate": Command("score the shipped toy models on novel classes", _evaluate, _evaluate_arguments),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="fss-lab", description="Learn, train and evaluate few-shot segmentation with SAM 2."
    )
    parser.add_argument("--version", action="version", version=f"fss-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; argv: default the process's own. Returns the exit status, 130 after a Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt:
        return 130
