"""Making the label maps of a data set, in several processes; `pascal.prepare` and `coco.prepare` say from what.

Each map is written in one step and made only once, so that an interrupted run goes on where it was. None is flushed to
the disk, for 123,000 flushes take long: after a power cut a new map may be empty, and an empty one is made again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fss_lab.datasets.index import Bad, refuse
from fss_lab.datasets.label_maps import write_map
from fss_lab.errors import DataError
from fss_lab.images.masks import voc_colours

# A file to make: where, and from what
Task = tuple[Path, Any]


@dataclass(frozen=True)
class Prepared:
    """folder: of the label maps. made: written now; there: were there before; skipped: bad sources left out."""

    folder: Path
    made: int
    there: int
    skipped: tuple[Bad, ...]


def make_maps(
    tasks: Sequence[Task],
    draw: Callable[[Any], np.ndarray | bytes],
    folder: Path,
    workers: int | None,
    skip_bad: bool,
    progress: bool,
) -> Prepared:
    """Write the maps that are not there yet, in `workers` processes.

    draw: makes a map, or its file's bytes, from the second half of a task. skip_bad: list bad sources instead of
    refusing. Raises DataError for bad sources (the other maps are made nevertheless), and for maps that cannot be
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.name for path in os.scandir(folder) if path.stat().st_size}
    todo = [task for task in tasks if task[0].name not in there]
    workers = workers or min(8, os.cpu_count() or 1)
    write = partial(write_map, draw, voc_colours().ravel().tolist())
    with_bar = partial(tqdm, total=len(todo), desc=folder.name, unit="map", disable=None if progress else True)
    try:
        if workers == 1 or len(todo) < 100:  # a process takes longer to start than these
            problems = list(with_bar(map(write, todo)))
        else:
            problems = _in_processes(workers, write, todo, with_bar)
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
    workers: int, write: Callable[[Task], Any], todo: Sequence[Task], with_bar: Callable[[Iterable[Any]], Iterable[Any]]
) -> list[Any]:
    """What `write` returns for each task, in order; with_bar: passes results on and draws a progress bar."""
    # "spawn" is what all platforms have, and is safe beside threads
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            return list(with_bar(pool.map(write, todo, chunksize=16)))
        except BrokenProcessPool as error:
            raise DataError(
                "a process that makes label maps died, often for lack of memory; use fewer --workers. What is made is "
                "kept: the same command goes on"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
