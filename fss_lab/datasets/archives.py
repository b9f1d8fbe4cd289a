"""Unpacking a folder of a tar or zip archive: all is looked at before a single file is written, and links never are."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm.auto import tqdm

from fss_lab.errors import DataError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A regular file of an archive; handle: what the archive knows it by."""

    name: str
    size: int
    handle: Any


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
        with _opened(archive, folder) as (wanted, open_member):
            if not wanted:
                raise DataError(f"{archive} holds no {folder}; it is another archive than expected")
            check_space(into, sum(member.size for member in wanted), f"to unpack {archive.name}")
            bar = tqdm(wanted, f"unpacking {archive.name}", unit="file", disable=None if progress else True)
            for member in bar:
                path = aside / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open_member(member) as source, path.open("wb") as copy:
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
def _opened(archive: Path, folder: str) -> Iterator[tuple[list[Member], Any]]:
    """The checked members of an archive below `folder`, and a function that opens one."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            kinds: list[tuple[str, int, str, Any]] = [
                (info.filename, info.file_size, _zip_kind(info), info) for info in zipped.infolist()
            ]
            yield _checked(archive, folder, kinds), lambda member: zipped.open(member.handle)
    else:
        with tarfile.open(archive) as tarred:
            kinds = [(info.name, info.size, _tar_kind(info), info) for info in tarred]
            yield _checked(archive, folder, kinds), lambda member: _tar_file(tarred, member)


def _checked(archive: Path, folder: str, kinds: list[tuple[str, int, str, Any]]) -> list[Member]:
    wanted = []
    for name, size, kind, handle in kinds:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or name[1:2] == ":":
            raise DataError(f"{archive} has a member that leads out of its folder: {name!r}; nothing was unpacked")
        if not path.is_relative_to(folder):  # is not written, so a link there does no harm
            continue
        if kind not in ("file", "directory"):
            raise DataError(f"{archive} has a member that is a {kind}: {name!r}; nothing was unpacked")
        if kind == "file":
            wanted.append(Member(name, size, handle))
    return wanted


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "link"
    return "directory" if info.is_dir() else "file"


def _tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "link"
    if info.isdir():
        return "directory"
    return "file" if info.isfile() else "device or pipe"


def _tar_file(tarred: tarfile.TarFile, member: Member) -> IO[bytes]:
    source = tarred.extractfile(member.handle)
    assert source is not None  # it is a regular file
    return source
