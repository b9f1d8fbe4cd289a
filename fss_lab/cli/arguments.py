"""Options made from the fields of a record."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any


def add_options(parser: argparse.ArgumentParser, records: Iterable[type]) -> None:
    """An option for each field of dataclasses that has metadata; one that is not given leaves no trace.

    metadata: see `fss_lab.method.options.option`. A field that several records have counts once.
    """
    options = {option.name: option for record in records for option in fields(record) if option.metadata}
    for option in options.values():
        rules = option.metadata
        flags = rules.get("flags", (f"--{option.name.replace('_', '-')}",))
        common: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS}
        common["help"] = (rules["help"] + _default(option.default)).replace("%", "%%")
        common["required"] = option.default is MISSING and option.default_factory is MISSING
        if rules["type"] is bool:
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **common)
        else:
            kind = at_least(rules["type"], rules["least"]) if "least" in rules else rules["type"]
            common |= {"nargs": "+" if rules.get("several") else None, "metavar": rules.get("metavar")}
            parser.add_argument(*flags, type=kind, choices=rules.get("choices"), **common)


def given(arguments: argparse.Namespace, record: type) -> dict[str, Any]:
    """Those options of a record that stand on the command line, by field."""
    names = {option.name for option in fields(record) if option.metadata}
    values = {name: value for name, value in vars(arguments).items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _default(value: Any) -> str:
    """The end of the help."""
    if value is None or value is MISSING:
        return ""
    return f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})"


def at_least(kind: Callable[[str], Any], least: float) -> Callable[[str], Any]:
    """A type of argument: a number that must not be smaller."""

    def number(text: str) -> Any:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text}")
        return value

    number.__name__ = kind.__name__  # argparse names it where the text is no number
    return number
