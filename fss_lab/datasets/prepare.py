"""Making label maps: SegmentationClassAug from VOC and SBD, and COCO's from its instances.

Each map is written in one step and made only once, so that an interrupted run goes on where it was. None is flushed to
the disk, for 123,000 flushes take long: after a power cut a new map may be empty, and an empty one is made again. One
process at a time makes the maps of a data set (with `workers` of its own); a second one waits.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fss_lab.datasets import coco, pascal
from fss_lab.datasets.folds import voc_palette
from fss_lab.datasets.index import Bad, refuse
from fss_lab.datasets.label_maps import coco_map, voc_map, write_map
from fss_lab.errors import DataError, InputError
from fss_lab.files import alone, write_atomically

RULES = ("last", "smaller")
"""Where instances of different classes overlap: "last" paints them in the order of the annotation file, so that the
later one wins; "smaller" paints from the largest to the smallest, so that the smaller one wins. The published lists do
not say how theirs were painted; "last" is what the plainest program does."""

# A file to make: where, and from what
Task = tuple[Path, Any]


@dataclass(frozen=True)
class Prepared:
    """folder: of the label maps. made: written now; there: were there before; skipped: bad sources left out."""

    folder: Path
    made: int
    there: int
    skipped: tuple[Bad, ...]


def prepare_pascal(
    root: str | Path, *, workers: int | None = None, skip_bad: bool = False, progress: bool = False
) -> Prepared:
    """Make SegmentationClassAug: VOC's own label maps, and SBD's for the images that VOC does not label.

    root: with VOCdevkit/VOC2012 and benchmark_RELEASE/dataset, as `fss-lab data get voc sbd` leaves it. Also puts SBD's
    train_noval.txt beside. Needs scipy. workers: processes; skip_bad: list bad sources instead of refusing.
    Raises DataError for missing folders or bad sources; the other maps are made nevertheless.
    """
    root = Path(root)
    voc, sbd = pascal.voc_root(root), root / "benchmark_RELEASE" / "dataset" / "cls"
    own = {path.stem: path for path in sorted((voc / "SegmentationClass").glob("*.png"))}
    others = {path.stem: path for path in sorted(sbd.glob("[!.]*.mat"))}  # no "._x.mat" that macOS puts into archives
    for found, where, source in ((own, voc / "SegmentationClass", "voc"), (others, sbd, "sbd")):
        if not found:
            raise DataError(f"{where} holds no label maps; run `fss-lab data get {source} --root {root}` first")
    folder = voc / "SegmentationClassAug"
    tasks = [(folder / f"{name}.png", source) for name, source in {**others, **own}.items()]
    with alone(voc, "prepare"):
        _place_list(root, voc)
        _need("scipy.io", "reading SBD's MATLAB files")
        return _make(tasks, voc_map, folder, workers, skip_bad, progress)


def prepare_coco(
    root: str | Path, *, rule: str = "last", workers: int | None = None, skip_bad: bool = False, progress: bool = False
) -> list[Prepared]:
    """Paint COCO's label maps, for train2014 and val2014, from `annotations/instances_*.json`.

    Every image of the annotations gets one; regions annotated as crowds are painted like all others. rule: see `RULES`.
    Needs pycocotools. workers, skip_bad: as in `prepare_pascal`. Raises InputError for another rule, DataError for
    missing, broken or bad annotations, and for maps that were painted by another rule.
    """
    if rule not in RULES:
        raise InputError(f"rule must be one of {RULES}, got {rule!r}")
    root = coco.coco_root(root)
    _need("pycocotools.mask", "painting COCO's instances")
    done = []
    with alone(root, "prepare"):
        _keep_rule(root / "labels" / "rule.json", rule)
        for part in ("train", "val"):
            content = _read_instances(root / "annotations" / f"instances_{part}2014.json")
            folder = root / "labels" / f"{part}2014"
            done.append(_make(_coco_tasks(content, folder, rule), coco_map, folder, workers, skip_bad, progress))
    return done


# ---- COCO's annotations


def _coco_tasks(content: dict[str, Any], folder: Path, rule: str) -> list[Task]:
    """What to paint for each image, in the order of painting."""
    regions: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for each in content["annotations"]:
        regions[each["image_id"]].append(each)
    tasks = []
    for image in content["images"]:
        own = regions[image["id"]]
        if rule == "smaller":
            own = sorted(own, key=lambda each: -each["area"])
        outlines = [(coco.CATEGORIES[each["category_id"]] + 1, each["segmentation"]) for each in own]
        name = Path(image["file_name"]).stem
        tasks.append((folder / f"{name}.png", ((image["height"], image["width"]), outlines)))
    return tasks


def _read_instances(path: Path) -> dict[str, Any]:
    """An annotation file of COCO whose images, annotations and categories fit together."""
    if not path.exists():
        raise DataError(f"{path} is missing; run `fss-lab data get coco` first")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {each["id"]: each["name"] for each in content["categories"]}
        for number, name in names.items():
            if number not in coco.CATEGORIES or coco.CLASS_NAMES[coco.CATEGORIES[number]] != name:
                raise InputError(f"category {number} is {name!r}, which is none of COCO's 80")
        sizes = {each["id"]: (each["file_name"], each["height"], each["width"]) for each in content["images"]}
        for each in content["annotations"]:
            if each["image_id"] not in sizes or each["category_id"] not in names:
                raise InputError(f"annotation {each['id']} is of an image or category that is not listed")
            if not {"segmentation", "area"} <= each.keys():
                raise InputError(f"annotation {each['id']} lacks its segmentation or area")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no file of COCO's instances ({type(error).__name__}: {error}); delete annotations/ and get it "
            "again with `fss-lab data get coco`"
        ) from error
    return content


# ---- for many maps


def _make(
    tasks: Sequence[Task],
    draw: Callable[[Any], np.ndarray | bytes],
    folder: Path,
    workers: int | None,
    skip_bad: bool,
    progress: bool,
) -> Prepared:
    """Write the maps that are not there yet, in `workers` processes."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in os.scandir(folder) if path.stat().st_size}
    todo = [task for task in tasks if task[0].name not in there]
    workers = workers or min(8, os.cpu_count() or 1)
    write = partial(write_map, draw, voc_palette())
    shown = partial(tqdm, total=len(todo), desc=folder.name, unit="map", disable=None if progress else True)
    try:
        if workers == 1 or len(todo) < 100:  # a process takes longer to start than these
            problems = list(shown(map(write, todo)))
        else:
            problems = _in_processes(workers, write, todo, shown)
    except OSError as error:
        raise DataError(
            f"a label map in {folder} could not be written ({error}); free some disk space, or see that you may write "
            "there. What is made is kept: the same command goes on"
        ) from error
    bad = [Bad(*problem) for problem in problems if problem is not None]
    if not skip_bad:
        refuse(bad, f"{folder}: {len(todo) - len(bad)} label maps made")
    return Prepared(folder, len(todo) - len(bad), len(tasks) - len(todo), tuple(bad))


def _in_processes(
    workers: int, write: Callable[[Task], Any], todo: Sequence[Task], shown: Callable[[Iterable[Any]], Iterable[Any]]
) -> list[Any]:
    """What `write` returns for each task, in order; shown: passes results on and draws a progress bar."""
    # "spawn" is what all platforms have, and is safe beside threads
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            return list(shown(pool.map(write, todo, chunksize=16)))
        except BrokenProcessPool as error:
            raise DataError(
                "a process that makes label maps died, often for lack of memory; use fewer --workers. What is made is "
                "kept: the same command goes on"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _place_list(root: Path, voc: Path) -> None:
    """SBD's train_noval.txt from the downloads to where `Pascal5i` reads it."""
    source, target = root / "downloads" / "train_noval.txt", voc / "train_noval.txt"
    if not source.exists() and not target.exists():
        raise DataError(f"{source} is missing; run `fss-lab data get sbd --root {root}` first")
    if source.exists():
        write_atomically(target, source.read_bytes())


def _keep_rule(path: Path, rule: str) -> None:
    """Write down by which rule maps are painted; refuse to mix two."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["overlap"] if path.exists() else rule
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; delete {path.parent} to paint the label maps again") from error
    if before != rule:
        raise DataError(
            f"{path.parent} holds label maps painted with --overlap {before}, not {rule}; delete that folder to paint "
            "them again"
        )
    write_atomically(path, f"{json.dumps({'overlap': rule})}\n".encode())


def _need(module: str, what: str) -> None:
    """Raise DataError where a package is not installed."""
    try:
        import_module(module)
    except ImportError as error:
        raise DataError(f"{what} needs {module.split('.')[0]}: `pip install 'fss-lab[real]'` installs it") from error
