"""Unpacking a folder of a tar or zip archive: all is looked at before a single file is written, and links never are."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from fss_lab.errors import DataError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)
_KINDS = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "link"} | dict.fromkeys(
    tarfile.REGULAR_TYPES, "file"
)


@dataclass(frozen=True)
class Member:
    """kind: "file", "directory", "link" or "device or pipe". open: gives a file's content."""

    name: str
    size: int
    kind: str
    open: Callable[[], Any]


def unpack(archive: Path, folder: str, into: Path, progress: bool = False) -> Path:
    """Unpack what lies below `folder` in a tar (also compressed) or zip archive, as `into / folder`.

    Nothing is left behind if that fails. Raises DataError for an archive that is damaged or lacks the folder; that has
    a member with an absolute path or one that leads out of it, or below the folder a link or a device; or where the
    disk is too small.
    """
    into.mkdir(parents=True, exist_ok=True)
    aside, target = into / f".{archive.name}.unpacking", into / folder
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    try:
        with _members(archive) as members:
            files = _checked(archive, folder, members)
            if not files:
                raise DataError(f"{archive} holds no {folder}; it is another archive than expected")
            check_space(into, sum(file.size for file in files), f"to unpack {archive.name}")
            for file in tqdm(files, f"unpacking {archive.name}", unit="file", disable=None if progress else True):
                path = aside / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open() as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        target.parent.mkdir(parents=True, exist_ok=True)
        return (aside / folder).rename(target)
    except _DAMAGED as error:
        raise DataError(
            f"{archive} could not be unpacked ({type(error).__name__}: {error}); nothing of it is left in {into}. If "
            "it is damaged, delete it and download it again; if the disk is full, free some space"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise DataError if the disk of `folder` has fewer than `needed` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{needed / 1e9:.2f} GB are needed {what}, but the disk of {folder} has {free / 1e9:.2f} GB left; free "
            "some, or choose a folder on another disk with --root"
        )


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """All members of an archive, which stays open meanwhile."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            yield [
                Member(
                    info.filename,
                    info.file_size,
                    "link" if stat.S_ISLNK(info.external_attr >> 16) else "directory" if info.is_dir() else "file",
                    partial(zipped.open, info),
                )
                for info in zipped.infolist()
            ]
    else:
        with tarfile.open(archive) as tarred:
            yield [
                Member(info.name, info.size, _KINDS.get(info.type, "device or pipe"), partial(tarred.extractfile, info))
                for info in tarred
            ]


def _checked(archive: Path, folder: str, members: list[Member]) -> list[Member]:
    """The files below `folder`."""
    below = []
    for member in members:
        path, problem = PurePosixPath(member.name), ""
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or member.name[1:2] == ":":
            problem = "leads out of its folder"
        elif path.is_relative_to(folder):  # elsewhere nothing is written, so a link there does no harm
            if member.kind == "file":
                below.append(member)
            elif member.kind != "directory":
                problem = f"is a {member.kind}"
        if problem:
            raise DataError(f"{archive} has a member that {problem}: {member.name!r}; nothing was unpacked")
    return below
