"""The command `fss-lab`: a thin skin over the library. Knows everything; nothing knows it."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, see `fss_lab.cli.commands.main`."""
    from fss_lab.cli import commands

    return commands.main(argv)
