"""The `fss-lab` command: a thin skin over the library.

Only running a command imports what it needs, so that `fss-lab --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fss_lab import __version__
from fss_lab.cli import course, data, evaluate, segment, train
from fss_lab.errors import UserError


@dataclass(frozen=True)
class Command:
    """One line of help, how to run it and fill its parser, and whether it goes on with what an interrupted one left in
    its --output."""

    help: str
    run: Callable[[argparse.Namespace], int]  # returns the exit status
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    goes_on: bool = False


def _doctor(arguments: argparse.Namespace) -> int:
    from fss_lab.cli.doctor import examine

    return examine(arguments.thorough)


def _add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--thorough", action="store_true", help="import every package, which takes longer")


COMMANDS = {
    "doctor": Command("check this installation and say how to repair it", _doctor, _add_doctor_arguments),
    "segment": Command(
        "segment photos on this disk as labelled photos show: masks, overlays, COCO file, scores",
        segment.run,
        segment.add_arguments,
        True,
    ),
    "train": Command(
        "train FSSAM, or with --memory support its baseline, on a fold's base classes",
        train.run,
        train.add_arguments,
        True,
    ),
    "data": Command("get, prepare and check data sets of photographs", data.run, data.add_arguments),
    "evaluate": Command(
        "score the shipped toy models on novel classes, or your own on photographs",
        evaluate.evaluate,
        evaluate.add_evaluate_arguments,
        True,
    ),
    "ablate": Command(
        "score every part and variant of the method, and measure IMR and SCMA",
        evaluate.ablate,
        evaluate.add_ablate_arguments,
        True,
    ),
    "course": Command(
        "make the student edition, refresh the notebooks, build the web site", course.run, course.add_arguments
    ),
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
    """Run one command; argv: default the process's own. Returns the exit status, 130 after a Ctrl-C.

    A `UserError`, or what the system says of a file, is one line on stderr and status 1; with FSS_LAB_DEBUG=1 in the
    environment, and for every other error, it is raised.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads would spin, and starve a busy machine
    arguments = build_parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt:
        output = getattr(arguments, "output", None)
        goes_on = COMMANDS[arguments.command].goes_on and output and output.is_dir()
        kept = f"; the same command goes on with what is in {output}" if goes_on else ""
        print(f"fss-lab {arguments.command}: interrupted{kept}", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if os.environ.get("FSS_LAB_DEBUG") == "1":
            raise
        print(f"fss-lab {arguments.command}: error: {error}", file=sys.stderr)
        return 1
