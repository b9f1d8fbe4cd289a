"""`fss-lab data get | prepare | check`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fss_lab.cli.arguments import at_least
from fss_lab.datasets.catalogue import DATASETS, data_folder
from fss_lab.errors import InputError

SOURCES = tuple(dict.fromkeys(source for record in DATASETS.values() for source in record.sources))
CHOICES = {"prepare": tuple(name for name, record in DATASETS.items() if record.maker), "check": tuple(DATASETS)}
"""The data sets that each action takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    get = actions.add_parser("get", help=f"download, check and unpack {', '.join(SOURCES)}")
    needed = "; ".join(f"{name} needs {' and '.join(DATASETS[name].sources)}" for name in CHOICES["prepare"])
    get.add_argument("sources", nargs="+", choices=SOURCES, help=f"which; {needed}")
    get.add_argument("--manifest", type=Path, help="another list of downloads (default: data/manifest.json)")
    get.add_argument("--remove-archives", action="store_true", help="delete each archive once it is unpacked")
    get.add_argument(
        "--timeout", type=float, default=60, help="seconds without a byte until a connection is broken (default 60)"
    )
    prepare = actions.add_parser("prepare", help=f"make the label maps of {' or '.join(CHOICES['prepare'])}")
    prepare.add_argument(
        "--overlap", choices=["last", "smaller"], default="last",
        help="COCO: which of two overlapping instances wins, the last of the file (default) or the smaller",
    )  # fmt: skip
    check = actions.add_parser("check", help="count the images of each fold, and list what is wrong")
    check.add_argument("--labels-only", action="store_true", help="without looking at the photographs")
    for action, name in ((prepare, "prepare"), (check, "check")):
        listed = ", ".join(CHOICES[name])
        action.add_argument("datasets", nargs="*", metavar="dataset", help=f"{listed} (default: all that are there)")
        action.add_argument("--skip-bad", action="store_true", help="leave bad files out, and list them")
        action.add_argument(
            "--workers", type=at_least(int, 1), help="how many at once (default: the processors, at most 8)"
        )
    for action in (get, prepare, check):
        action.add_argument("--root", type=Path, help="folder of the data (default: data/ of the clone)")


def run(arguments: argparse.Namespace) -> int:
    """Do one action; status 1 if the check found something wrong."""
    root = data_folder() if arguments.root is None else arguments.root
    return {"get": _get, "prepare": _prepare, "check": _check}[arguments.action](arguments, root)


def _get(arguments: argparse.Namespace, root: Path) -> int:
    from fss_lab.datasets.downloads import Patience, get, read_manifest

    manifest = read_manifest(arguments.manifest or data_folder() / "manifest.json")
    missing = [source for source in arguments.sources if not manifest.get(source)]
    if missing:
        raise InputError(f"the manifest lists no downloads of {', '.join(missing)}")
    downloads = [download for source in arguments.sources for download in manifest[source]]
    places = get(
        downloads, root, patience=Patience(arguments.timeout), remove_archives=arguments.remove_archives, progress=True
    )
    for place in places:
        print(f"ready: {place}")
    return 0


def _prepare(arguments: argparse.Namespace, root: Path) -> int:
    common: dict[str, Any] = {"workers": arguments.workers, "skip_bad": arguments.skip_bad, "progress": True}
    for dataset in _chosen(arguments, root):
        rule = {"rule": arguments.overlap} if DATASETS[dataset].overlaps else {}
        for prepared in DATASETS[dataset].prepare(root, **rule, **common):
            print(f"{prepared.folder}: {prepared.made} label maps made, {prepared.there} were there")
            for bad in prepared.skipped:
                print(f"  skipped: {bad}")
    return 0


def _check(arguments: argparse.Namespace, root: Path) -> int:
    from fss_lab.datasets.check import check

    results = [
        check(
            dataset, root, labels_only=arguments.labels_only, skip_bad=arguments.skip_bad, workers=arguments.workers,
            progress=True,
        )
        for dataset in _chosen(arguments, root)
    ]  # fmt: skip
    print("\n\n".join(result.text() for result in results))
    return 1 if any(result.wrong for result in results) else 0


def _chosen(arguments: argparse.Namespace, root: Path) -> list[str]:
    from fss_lab.datasets.check import present

    choices = CHOICES[arguments.action]
    unknown = [name for name in arguments.datasets if name not in choices]
    if unknown:
        raise InputError(f"there is no data set {unknown[0]!r} to {arguments.action}; there is {', '.join(choices)}")
    return arguments.datasets or present(root, [name for name in choices if DATASETS[name].looked_for])
