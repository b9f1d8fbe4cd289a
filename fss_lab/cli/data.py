"""`fss-lab data get | prepare | check`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fss_lab.cli.arguments import positive
from fss_lab.errors import InputError

SOURCES = ("voc", "sbd", "coco")
DATASETS = ("pascal", "coco")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    get = actions.add_parser("get", help="download, check and unpack VOC 2012, SBD or COCO 2014")
    get.add_argument("sources", nargs="+", choices=SOURCES, help="which; PASCAL-5i needs voc and sbd, COCO-20i coco")
    get.add_argument("--manifest", type=Path, help="another list of downloads (default: data/manifest.json)")
    get.add_argument("--remove-archives", action="store_true", help="delete each archive once it is unpacked")
    get.add_argument(
        "--timeout", type=float, default=60, help="seconds without a byte until a connection is broken (default 60)"
    )
    prepare = actions.add_parser("prepare", help="make the label maps of PASCAL-5i or COCO-20i")
    prepare.add_argument(
        "--overlap", choices=["last", "smaller"], default="last",
        help="COCO: which of two overlapping instances wins, the last of the file (default) or the smaller",
    )  # fmt: skip
    check = actions.add_parser("check", help="count the images of each fold, and list what is wrong")
    check.add_argument("--labels-only", action="store_true", help="without looking at the photographs")
    for action, verb in ((prepare, "make"), (check, "check")):
        action.add_argument(
            "datasets", nargs="*", metavar="dataset", help=f"pascal, coco (default: {verb} what is there)"
        )
        action.add_argument("--skip-bad", action="store_true", help="leave bad files out, and list them")
        action.add_argument("--workers", type=positive, help="how many at once (default: the processors, at most 8)")
    for action in (get, prepare, check):
        action.add_argument("--root", type=Path, help="folder of the data (default: data/ of the clone)")


def run(arguments: argparse.Namespace) -> int:
    """Do one action; status 1 if the check found something wrong."""
    from fss_lab.datasets.catalogue import data_folder

    root = data_folder() if arguments.root is None else arguments.root
    return {"get": _get, "prepare": _prepare, "check": _check}[arguments.action](arguments, root)


def _get(arguments: argparse.Namespace, root: Path) -> int:
    from fss_lab.datasets.catalogue import data_folder
    from fss_lab.datasets.downloads import Patience, get, read_manifest

    manifest = read_manifest(arguments.manifest or data_folder() / "manifest.json")
    missing = [source for source in arguments.sources if not manifest.get(source)]
    if missing:
        raise InputError(f"the manifest lists no downloads of {', '.join(missing)}")
    downloads = [each for source in arguments.sources for each in manifest[source]]
    places = get(
        downloads, root, patience=Patience(arguments.timeout), remove_archives=arguments.remove_archives, progress=True
    )
    for place in places:
        print(f"ready: {place}")
    return 0


def _prepare(arguments: argparse.Namespace, root: Path) -> int:
    from fss_lab.datasets.prepare import prepare_coco, prepare_pascal

    common: dict[str, Any] = {"workers": arguments.workers, "skip_bad": arguments.skip_bad, "progress": True}
    for dataset in _chosen(arguments, root):
        if dataset == "pascal":
            done = [prepare_pascal(root, **common)]
        else:
            done = prepare_coco(root, rule=arguments.overlap, **common)
        for each in done:
            print(f"{each.folder}: {each.made} label maps made, {each.there} were there")
            for bad in each.skipped:
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

    unknown = [name for name in arguments.datasets if name not in DATASETS]
    if unknown:
        raise InputError(f"there is no data set {unknown[0]!r} to {arguments.action}; there is {', '.join(DATASETS)}")
    return arguments.datasets or present(root)
