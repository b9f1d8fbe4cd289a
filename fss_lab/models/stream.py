"""Segment any number of photos into a folder: flat memory, every file whole or absent, an interrupted call continues.

<name>.png            mask, 0 and 255; of several classes their numbers 1, 2, ... with PASCAL VOC's colours
<name>_overlay.jpg    the photo with the mask on it
segments.json         all masks in COCO's format, with scores: run lengths as a list of counts, box, area
scores.csv            for each photo and class: score, whether it is present, pixels, share of the photo
progress.jsonl        what is done: settings, then a line for each photo, from which the last two are made
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from fss_lab.backbones.fingerprint import hash_tensors
from fss_lab.backbones.origin import network_origin, networks_of
from fss_lab.datasets.queries import Query
from fss_lab.errors import FileError, RunError, UserError, out_of_memory
from fss_lab.files import alone, remove_leftovers, write_atomically
from fss_lab.images import load_image
from fss_lab.method import FSSAM
from fss_lab.method.options import PRESENT
from fss_lab.method.pictures import save_png
from fss_lab.method.records import LabelMap, Support

FORMATS = ("mask", "overlay", "coco", "csv")
"""What can be written."""


@dataclass
class Summary:
    """What a call did. done: photos segmented now. before: those that an earlier call had done. absent: names of photos
    without any of the classes, of both. failed: in words what could not be read."""

    done: int = 0
    before: int = 0
    absent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def segment_into(
    output: Path,
    model: FSSAM,
    supports: Mapping[str, Support],
    queries: Sequence[Query],
    *,
    formats: Sequence[str] = FORMATS,
    min_score: float = PRESENT,
    overwrite: bool = False,
) -> Summary:
    """Segment photos into the folder `output`, see the text of this module; the same call again does what is left.

    supports: by class, at most 254. queries: see `fss_lab.datasets.queries.list_queries`. formats: of `FORMATS`.
    min_score: in 0..1; a class with a smaller score of presence gets an empty mask. overwrite: begin anew.
    Raises RunError where `output` was begun with other settings or photos of the same names, or holds files that this
    would replace; FileError where nothing can be written. What cannot be read is left out, see `Summary.failed`.
    """
    if output.exists() and not output.is_dir():
        raise FileError(f"{output} is a file; --output names a folder")
    with alone(output, "segment"):
        journal = _Journal(output, _settings(model, supports, formats, min_score), queries, formats, overwrite)
        todo = [query for query in queries if not journal.has(query)]
        summary = Summary(before=len(queries) - len(todo))
        bar = tqdm(total=len(queries), initial=summary.before, unit="photo", disable=None)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, bar:
            writing = None
            for query, image in _one_ahead(reader, todo):
                try:
                    segmented = model.segment_classes(image(), supports, threshold=min_score)
                except (UserError, OSError, MemoryError, RuntimeError) as error:
                    if not isinstance(error, UserError | OSError) and not out_of_memory(error):
                        raise
                    summary.failed.append(_reason(query, error))
                    tqdm.write(f"skipped: {summary.failed[-1]}", file=sys.stderr)
                    continue
                if writing:
                    writing.result()
                writing = writer.submit(_write, journal, query, segmented, min_score)
                summary.done += 1
                bar.update()
            if writing:
                writing.result()
        names = list(supports)
        for format, (name, lines) in {"coco": ("segments.json", _coco), "csv": ("scores.csv", _csv)}.items():
            if format in formats:
                write_atomically(output / name, lines(journal, names))
        chosen = {query.stem for query in queries}
        summary.absent = [
            photo["name"]
            for photo in journal.photos()
            if photo["stem"] in chosen and not any(region["present"] for region in photo["classes"].values())
        ]
    return summary


class _Journal:
    """What is done in a folder of masks: a line of settings, then a line for each photo, in the order of their end."""

    def __init__(
        self, output: Path, settings: dict[str, str], queries: Sequence[Query], formats: Sequence[str], overwrite: bool
    ) -> None:
        self.output, self.path, self.formats = output, output / "progress.jsonl", formats
        self._done: dict[str, tuple[int, list[Any]]] = {}  # place of a photo's line, and which file it was
        if overwrite:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            taken = [path for query in queries for path in _targets(output, query, formats) if path.exists()]
            if taken and not overwrite:
                raise RunError(
                    f"{taken[0]} exists already, and no earlier call to segment has written it; choose another "
                    "--output, or replace such files with --overwrite"
                )
            write_atomically(self.path, _line(settings))
        self._read(settings)
        for query in queries:
            if (before := self._done.get(query.stem)) and before[1][0] != _identity(query)[0]:
                raise RunError(
                    f"{output} has the masks of {before[1][0]}, whose name {query.path} has too; choose another "
                    "--output, or begin anew with --overwrite"
                )
        for folder in {output / Path(query.stem).parent for query in queries} | {output}:
            remove_leftovers(folder)

    def _read(self, settings: dict[str, str]) -> None:
        with open(self.path, "rb") as file:
            try:
                begun = dict(json.loads(head := file.readline()))
            except ValueError as error:
                raise RunError(f"{self.path} cannot be read ({error}); begin anew with --overwrite") from error
            differing = [
                f"{name}: {begun.get(name, 'none')}, now {settings.get(name, 'none')}"
                for name in begun | settings
                if begun.get(name) != settings.get(name)
            ]
            if differing:
                raise RunError(
                    f"{self.output} was begun with other settings: {'; '.join(differing)}. Choose another --output, or "
                    "begin anew with --overwrite"
                )
            end = len(head)
            for line in file:
                try:
                    photo = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                self._done[photo["stem"]] = end, photo["source"]
                end += len(line)
        os.truncate(self.path, end)  # without what a killed call left of a line

    def has(self, query: Query) -> bool:
        """Whether this very file was segmented; not if it has changed since, or its pictures have gone."""
        known = query.stem in self._done and self._done[query.stem][1] == _identity(query)
        return known and all(path.exists() for path in _targets(self.output, query, self.formats))

    def add(self, photo: dict[str, Any]) -> None:
        """Raises FileError where nothing can be written."""
        line = _line(photo)
        try:
            with open(self.path, "ab") as file:
                place = file.tell()
                file.write(line)
        except OSError as error:
            raise FileError(f"{self.path} could not be written ({error}); the same call goes on from there") from error
        self._done[photo["stem"]] = place, photo["source"]

    def photos(self) -> Iterator[dict[str, Any]]:
        """All photos in the order of their names."""
        with open(self.path, "rb") as file:
            for _, (place, _) in sorted(self._done.items()):
                file.seek(place)
                yield json.loads(file.readline())


def _identity(query: Query) -> list[Any]:
    """Path, size and time of a file; of one that cannot be looked at only the path, for reading it says why."""
    path = os.path.realpath(query.path)
    with suppress(OSError):
        state = os.stat(path)
        return [path, state.st_size, state.st_mtime_ns]
    return [path]


def _targets(output: Path, query: Query, formats: Sequence[str]) -> list[Path]:
    """The pictures of a query."""
    endings = {"mask": ".png", "overlay": "_overlay.jpg"}
    return [output / f"{query.stem}{ending}" for format, ending in endings.items() if format in formats]


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _settings(
    model: FSSAM, supports: Mapping[str, Support], formats: Sequence[str], min_score: float
) -> dict[str, str]:
    """All that decides what is written, in words that can be compared."""
    settings = {name: network_origin(network) for name, network in networks_of(model.sam2, model.features).items()}
    settings |= {
        "options": str(model.options),
        "presence": str(model.presence),
        "smallest score": str(min_score),
        "formats": " ".join(sorted(formats)),
        "classes": ", ".join(supports),
    }
    for name, support in supports.items():
        tensors = {"masks": support.masks} | {f"image {i}": image for i, image in enumerate(support.images)}
        settings[f"class {name}"] = f"{len(support)} supports (SHA-256 {hash_tensors('', tensors)[:12]})"
    return settings


def _one_ahead(pool: ThreadPoolExecutor, queries: Sequence[Query]) -> Iterator[tuple[Query, Callable[[], Tensor]]]:
    """Each query with the call that gives its image, (3, H, W); the next one is read meanwhile."""
    images = (pool.submit(load_image, query.path) for query in queries)
    following = next(images, None)
    for query in queries:
        image, following = following, next(images, None)
        assert image is not None
        yield query, image.result


def _reason(query: Query, error: BaseException) -> str:
    if out_of_memory(error):
        return f"{query.path} is too large for the memory; reduce it in an image editor"
    return str(error) if str(query.path) in str(error) else f"{query.path}: {error}"


# -- what is written --


def _write(journal: _Journal, query: Query, segmented: LabelMap, min_score: float) -> None:
    """The pictures of a photo, then its line in the journal."""
    labels, regions = segmented.labels.numpy(), {}
    for number, (name, score) in enumerate(segmented.scores.items(), 1):
        regions[name] = {"score": round(score, 4), "present": score >= min_score, **_region(labels == number)}
    for path in _targets(journal.output, query, journal.formats):
        if path.suffix == ".png":
            save_png(path, labels if len(regions) > 1 else labels * np.uint8(255), palette=len(regions) > 1)
        else:
            segmented.overlay().save(picture := io.BytesIO(), "JPEG", quality=90)
            write_atomically(path, picture.getvalue())
    photo = {"stem": query.stem, "name": query.name, "source": _identity(query), "size": list(labels.shape)}
    journal.add({**photo, "classes": regions})


def _region(mask: np.ndarray) -> dict[str, Any]:
    """Area, box and run lengths of a mask (H, W) as COCO has them: down the columns, beginning with background."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [0, 0, 0, 0]
    if rows.size:
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {"area": int(flat.sum()), "bbox": [int(side) for side in box], "counts": [0, *counts] if flat[0] else counts}


def _coco(journal: _Journal, names: Sequence[str]) -> Iterator[bytes]:
    """segments.json, photo by photo: more than the memory holds can be written."""
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    yield b'{"info":{"description":"masks by fss_lab"},"categories":' + _line(categories)[:-1] + b',"images":['
    for number, photo in enumerate(journal.photos(), 1):
        height, width = photo["size"]
        image = {"id": number, "file_name": photo["name"], "height": height, "width": width}
        yield b"," * (number > 1) + b"\n" + _line(image)[:-1]
    yield b'],"annotations":['
    count = 0
    for number, photo in enumerate(journal.photos(), 1):
        for category, region in enumerate(photo["classes"].values(), 1):
            if region["area"]:
                count += 1
                annotation: dict[str, Any] = {"id": count, "image_id": number, "category_id": category, "iscrowd": 0}
                annotation |= {key: region[key] for key in ("score", "area", "bbox")}
                annotation["segmentation"] = {"size": photo["size"], "counts": region["counts"]}
                yield b"," * (count > 1) + b"\n" + _line(annotation)[:-1]
    yield b"]}\n"


def _csv(journal: _Journal, names: Sequence[str]) -> Iterator[bytes]:
    yield b"photo,class,score,present,pixels,share\n"
    for photo in journal.photos():
        for name in names:
            region = photo["classes"][name]
            share = region["area"] / (photo["size"][0] * photo["size"][1])
            row = [photo["name"], name, region["score"], int(region["present"]), region["area"], f"{share:.4f}"]
            csv.writer(text := io.StringIO(), lineterminator="\n").writerow(row)
            yield text.getvalue().encode("utf-8", "surrogateescape")
