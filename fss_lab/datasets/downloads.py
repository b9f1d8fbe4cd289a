"""Downloading data sets: resumed where they broke off, checked by MD5 and SHA-256, unpacked safely and in one step.

An archive lands in `downloads/NAME`, unfinished as `NAME.part`, and is checked before every use. It is unpacked aside:
the folder exists whole or not at all. A process that wants a file which another one is getting waits.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from fss_lab.datasets.archives import check_space, unpack
from fss_lab.errors import DataError, InputError
from fss_lab.files import alone

FORMAT = 1
BLOCK = 2**20
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers after which a server is asked again
_BROKEN = (OSError, http.client.HTTPException)  # time-outs, resets, TLS, no route; of our own file: DataError


@dataclass(frozen=True)
class Download:
    """A file of the manifest. urls: mirrors, tried in order. bytes: None where unknown.

    folder: what of an archive is kept, e.g. "VOCdevkit/VOC2012"; None: the file is used as it is. into: where below
    the root that folder is put.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int | None
    md5: str
    sha256: str
    folder: str | None
    into: str


@dataclass(frozen=True)
class Patience:
    """timeout: seconds without a byte after which a connection counts as broken. tries: broken ones in a row without
    any new byte before the next mirror. pause: seconds before the second try, doubled each time."""

    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0


PATIENCE = Patience()


def read_manifest(path: str | Path) -> dict[str, list[Download]]:
    """The downloads of each source ("voc", "sbd", "coco"). Raises DataError for a file that is no manifest."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputError(f"format {content['format']}, expected {FORMAT}")
        manifest = {
            source: [Download(**{**entry, "urls": tuple(entry["urls"])}) for entry in downloads]
            for source, downloads in content["sources"].items()
        }
        for download in (download for downloads in manifest.values() for download in downloads):
            if Path(download.name).name != download.name or not download.urls:
                raise InputError(f"{download.name!r} must be a file name and have urls")
            for below in map(PurePosixPath, (download.into, download.folder or "")):
                if below.is_absolute() or ".." in below.parts or "\\" in str(below) or ":" in str(below):
                    raise InputError(f"{str(below)!r} leads out of the data folder; `into` and `folder` lie below it")
            if not all(url.startswith(("http://", "https://")) for url in download.urls):
                raise InputError(f"the urls of {download.name} must begin with http:// or https://")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no manifest of downloads ({type(error).__name__}: {error})") from error
    return manifest


def get(
    downloads: Sequence[Download],
    root: str | Path,
    *,
    patience: Patience = PATIENCE,
    remove_archives: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Download, check and unpack what is not there yet; returns where it lies.

    An archive that is there is checked again, and not downloaded again. A folder that is there counts as unpacked.
    remove_archives: delete each archive once it is unpacked.
    Raises DataError that explains what could not be downloaded, checked or unpacked.
    """
    root, places = Path(root), []
    for download in downloads:
        archive = root / "downloads" / download.name
        target = archive if download.folder is None else root / download.into / download.folder
        places.append(target)
        with alone(root, download.name):
            if archive.exists():
                if problem := _mismatch(archive, download, progress):
                    raise DataError(
                        f"{archive} is not the file of the manifest: {problem}. It is damaged, or the server has put "
                        "another file in its place; it is not used. Delete it to download it again; if that ends here "
                        f"too, get the file elsewhere and put it there as {archive.name}"
                    )
            elif not target.exists():
                fetch(download, archive.parent, patience, progress)
            if download.folder is not None and not target.exists():
                unpack(archive, download.folder, root / download.into, progress)
            if download.folder is not None and remove_archives:
                archive.unlink(missing_ok=True)
    return places


def _mismatch(path: Path, download: Download, progress: bool) -> str:
    """What is wrong with a file's content; nothing: an empty text."""
    size = path.stat().st_size
    if download.bytes not in (None, size):
        return f"it has {size} bytes, expected {download.bytes}"
    wanted = {"MD5": download.md5, "SHA-256": download.sha256}
    digests = {"MD5": hashlib.md5(usedforsecurity=False), "SHA-256": hashlib.sha256()}
    with path.open("rb") as file, _bar(f"checking {path.name}", size, progress) as bar:
        while block := file.read(BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    actual = {kind: digest.hexdigest() for kind, digest in digests.items()}
    return "; ".join(f"its {k} is {actual[k]}, expected {wanted[k]}" for k in wanted if actual[k] != wanted[k])


def fetch(download: Download, folder: Path, patience: Patience, progress: bool = False) -> Path:
    """Download one file into `folder`, going on with what is there of it, and check it.

    Raises DataError if no mirror gave the whole and right file, or the disk is too small. What was received is kept as
    NAME.part for the next time, unless its checksum is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, failures = folder / f"{download.name}.part", []
    for url in download.urls:
        try:
            with _bar(download.name, download.bytes, progress) as bar:
                _fetch_from(url, part, download, patience, bar)
            problem = _mismatch(part, download, progress)
            if problem:
                part.unlink()  # wrong bytes are no beginning of the right file
                raise _MirrorError(f"what it sent is not the file of the manifest: {problem}")
            return part.rename(folder / download.name)
        except _MirrorError as error:
            failures.append(f"{url}: {error}")
    kept = f" {_size(part)} bytes of it are kept: the same command goes on from there." if part.exists() else ""
    raise DataError(
        f"{download.name} could not be downloaded: {'; '.join(failures)}.{kept} Look at the network, try again later, "
        f"or get the file elsewhere and put it there as {folder / download.name}"
    )


class _MirrorError(Exception):
    """This mirror does not give the file; the next one may."""


def _fetch_from(url: str, part: Path, download: Download, patience: Patience, bar: Any) -> None:
    """Complete `part` from one mirror, with as many connections as that takes."""
    failures = 0
    while True:
        before = _size(part)
        if before and before == download.bytes:
            return
        try:
            return _transfer(url, part, download, patience.timeout, bar)
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:  # there is nothing after what we have: all of it, or of another file
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                part.unlink()
            elif error.code not in BUSY:
                raise _MirrorError(f"the server answers {error.code} {error.reason}") from error
            problem: Exception = error
        except _BROKEN as error:
            problem = error
        failures = 1 if _size(part) > before else failures + 1
        if failures >= patience.tries:
            raise _MirrorError(f"{getattr(problem, 'reason', problem) or type(problem).__name__}") from problem
        time.sleep(patience.pause * 2 ** (failures - 1))


def _transfer(url: str, part: Path, download: Download, timeout: float, bar: Any) -> None:
    """One connection: append to `part` what it lacks. Raises one of `_BROKEN` if the connection ends early."""
    start = _size(part)
    headers = {"User-Agent": "fss-lab"} | ({"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # the server sends all of it
        length = answer.headers.get("Content-Length")
        total = download.bytes if length is None else start + int(length)
        if None not in (total, download.bytes) and total != download.bytes:
            raise _MirrorError(f"the server's file has {total} bytes, expected {download.bytes}")
        if total is not None:
            check_space(part.parent, total - start, f"to download {download.name}")
        bar.total, bar.n = total, start
        with _on_disk(part):
            file = part.open("ab" if start else "wb", buffering=0)  # nothing is left to fail when it is closed
        with file:
            while block := answer.read1(BLOCK):  # what has come, without waiting for a full block
                bar.update(len(block))
                rest = memoryview(block)
                with _on_disk(part):
                    while rest:
                        rest = rest[file.write(rest) :]
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection ended after {_size(part)} of {total} bytes")


@contextmanager
def _on_disk(part: Path) -> Iterator[None]:
    """Raises DataError where the file cannot be written, so that a full disk is not taken for a broken connection."""
    try:
        yield
    except OSError as error:
        advice = "free some disk space" if error.errno == errno.ENOSPC else "look at the disk and who may write there"
        raise DataError(f"{part} cannot be written ({error}); {advice}, and run the same command again") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(what: str, total: int | None, progress: bool) -> Any:
    return tqdm(
        total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1000, disable=None if progress else True
    )
