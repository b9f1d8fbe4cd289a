"""Looking into thousands of label maps and photographs once: what is in them, and which of them are bad.

What was seen is kept beside the folder, in `<folder>.index.json`, by size and time of change of each file. Only a file
that is new, has changed or was bad is opened again. The index may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fss_lab.episode import IGNORE
from fss_lab.errors import DataError, FileError, InputError
from fss_lab.files import write_atomically
from fss_lab.images import DECODING_ERRORS, upright_size

FORMAT = 1
REMEDY = {  # by suffix; `prepare` makes no map that is there already, `get` unpacks no folder that is
    ".png": "delete it if it is there, and run `fss-lab data prepare`",
    ".jpg": "unpack it again from the data set's archive",
}
Entry = dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A file that cannot be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


@dataclass(frozen=True)
class LabelMap:
    """size: (height, width). areas: pixels by label, such as 0 for background and class id + 1."""

    size: tuple[int, int]
    areas: Mapping[int, int]


def look_at_label(path: Path) -> Entry:
    """Size and areas of a label map. Raises InputError for a file that is none."""
    image = _open_label(path)
    areas = image.histogram()  # of a palette image: by its indices
    return {"size": [image.height, image.width], "areas": {str(v): n for v, n in enumerate(areas) if n}}


def look_at_photo(path: Path) -> Entry:
    """Size of a photograph as `load_image` gives it, upright, after all of it was decoded."""
    with Image.open(path) as image:
        image.load()
        return {"size": list(upright_size(image))}


def scan(
    folder: Path,
    names: Sequence[str],
    suffix: str,
    look: Callable[[Path], Entry],
    *,
    workers: int | None = None,
    progress: bool = False,
) -> tuple[dict[str, Entry], list[Bad]]:
    """What `look` sees in the files `folder/name + suffix`, in the order of `names`; and those that are bad.

    workers: threads (decoding runs beside Python); None: as many as there are processors, at most 8.
    The index is written even if the scan is interrupted; where it cannot be written, a warning says so.
    """
    index = folder.with_name(f"{folder.name}.index.json")
    kept = _read_index(index)
    stamps = {name: _stamp(folder / f"{name}{suffix}") for name in names}
    # A bad file is looked at again: it may not have been the file's fault.
    known = {name for name, (stamp, entry) in kept.items() if stamp == stamps.get(name) and "bad" not in entry}
    fresh = [name for name, stamp in stamps.items() if stamp and name not in known]
    if fresh:
        threads = workers or min(8, os.cpu_count() or 1)
        pool = ThreadPoolExecutor(threads)
        results = pool.map(lambda name: _look(folder / f"{name}{suffix}", look), fresh)
        with_bar = tqdm(results, folder.name, len(fresh), unit="file", disable=None if progress else True)
        try:
            for name, entry in zip(fresh, with_bar, strict=True):
                kept[name] = [stamps[name], entry]
        finally:  # after a Ctrl-C too
            pool.shutdown(cancel_futures=True)
            _write_index(index, kept)
    entries, bad = {}, []
    for name, stamp in stamps.items():
        entry = kept[name][1] if stamp else {"bad": f"is missing; {REMEDY[suffix]}"}
        if "bad" in entry:
            bad.append(Bad(folder / f"{name}{suffix}", entry["bad"]))
        else:
            entries[name] = entry
    return entries, bad


def scan_labels(
    folder: Path, names: Sequence[str], classes: int, *, workers: int | None = None, progress: bool = False
) -> tuple[dict[str, LabelMap], list[Bad]]:
    """The label maps `folder/name.png` that hold only 0 .. `classes` and 255 (ignore); and those that are bad."""
    entries, bad = scan(folder, names, ".png", look_at_label, workers=workers, progress=progress)
    allowed = {*range(classes + 1), IGNORE}
    maps = {}
    for name, entry in entries.items():
        areas = {int(value): count for value, count in entry["areas"].items()}
        wrong = sorted(set(areas) - allowed)
        if wrong:
            reason = f"holds the labels {wrong[:5]}; expected 0..{classes} and 255 (ignore); {REMEDY['.png']}"
            bad.append(Bad(folder / f"{name}.png", reason))
        else:
            maps[name] = LabelMap((entry["size"][0], entry["size"][1]), areas)
    return maps, bad


def scan_photos(
    folder: Path, maps: Mapping[str, LabelMap], *, workers: int | None = None, progress: bool = False
) -> list[Bad]:
    """The photographs `folder/name.jpg` that are missing, damaged, or of another size than their label map."""
    entries, bad = scan(folder, list(maps), ".jpg", look_at_photo, workers=workers, progress=progress)
    for name, entry in entries.items():
        if tuple(entry["size"]) != maps[name].size:
            bad.append(Bad(folder / f"{name}.jpg", size_mismatch(entry["size"], maps[name].size)))
    return bad


def size_mismatch(photo: Sequence[int], label: Sequence[int]) -> str:
    """What is wrong where a photograph and its label map have other sizes, each (height, width)."""
    return (
        f"is {photo[0]} x {photo[1]} pixels, but its label map {label[0]} x {label[1]} (height x width); "
        f"the photograph: {REMEDY['.jpg']}; the label map: {REMEDY['.png']}"
    )


def refuse(bad: Sequence[Bad], what: str) -> None:
    """Raise DataError that lists bad files, if there are any."""
    if bad:
        listed = "; ".join(map(str, bad[:10])) + (f"; and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise DataError(
            f"{what}: {len(bad)} bad file(s): {listed}. Repair them, or leave them out with --skip-bad (skip_bad=True)"
        )


def read_label(path: Path) -> np.ndarray:
    """(H, W) uint8 labels of a label map. Raises DataError for a file that is none."""
    try:
        return np.array(_open_label(path))  # of a palette image: its indices
    except DECODING_ERRORS as error:
        raise DataError(str(Bad(path, _reason(path, error)))) from error


def _open_label(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    if image.mode not in ("L", "P"):
        raise InputError(f"pixels of kind {image.mode}; expected one label of 0..255 a pixel, palette or grey")
    return image


def _look(path: Path, look: Callable[[Path], Entry]) -> Entry:
    try:
        return look(path)
    except DECODING_ERRORS as error:
        return {"bad": _reason(path, error)}


def _reason(path: Path, error: BaseException) -> str:
    missing = isinstance(error, FileNotFoundError)
    problem = "is missing" if missing else f"cannot be used ({error or type(error).__name__})"
    return f"{problem}; {REMEDY[path.suffix]}"


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change; None for a missing file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _read_index(path: Path) -> dict[str, list[Any]]:
    """Entries by name, each with the stamp of its file; none from a damaged index, for it can be made again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["files"] if content["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_index(path: Path, entries: Mapping[str, Any]) -> None:
    try:
        write_atomically(path, json.dumps({"format": FORMAT, "files": entries}, separators=(",", ":")).encode())
    except FileError as error:
        warnings.warn(f"the files are looked at again next time: {error}", stacklevel=3)
