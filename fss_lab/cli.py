"""The `fss-lab` command: a thin skin over the library.

A command is one entry of COMMANDS: a line of help, a function that runs it and one that adds its arguments.
Only the former imports what it needs, so that `fss-lab --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


COMMANDS = {
    "doctor": Command("check this installation and say how to repair it", _doctor),
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
