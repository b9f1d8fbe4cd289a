"""Files: written in one step, and one process at a time, with a lock that the system takes back however it ends."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fss_lab.errors import FileError

PAUSE = 0.2  # seconds between two looks at a lock that another process holds
_NO_LOCKS = (  # a folder that may only be read, and disks of clusters that know no locks
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP,
)  # fmt: skip


def write_atomically(path: str | os.PathLike[str], content: bytes | Iterable[bytes]) -> None:
    """Write a file in one step: aside, flushed to the disk, renamed. The folder is created if need be.

    content: all of it, or its parts, of which only one is in memory at a time.
    Raises FileError where it cannot be written; then `path` is as it was and nothing else is left behind.
    """
    path = Path(path)
    # beside the target, because only a rename within one file system is atomic
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "xb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                file.flush()
                os.fsync(file.fileno())
            _replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)  # gone already after the rename
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = f", {len(content) / 1e6:.1f} MB are needed" if isinstance(content, bytes) else ""
            advice = f"free some disk space{needed}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "choose a folder you may write to, and close programs that have the file open"
        else:
            advice = "check the path and the disk"
        raise FileError(
            f"{path} could not be written ({error}); {advice}. A file that was there before is unchanged"
        ) from error


def _replace(aside: Path, path: Path) -> None:
    """Rename; again for a second where that is refused, for Windows' virus scanners hold new files for a moment."""
    for pause in (0.05, 0.1, 0.2, 0.3, 0.4):
        try:
            return os.replace(aside, path)
        except PermissionError:
            time.sleep(pause)
    os.replace(aside, path)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The content of a YAML file, as plain numbers, strings, lists and dicts.

    Aliases and interpolations such as ${oc.env:HOME} are refused: they can fill the memory or read the environment.
    Raises ValueError for them, OSError for a file that cannot be read, and whatever PyYAML and OmegaConf raise.
    """
    import yaml
    from omegaconf import OmegaConf

    text = Path(path).read_text(encoding="utf-8")
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("it contains a YAML alias (*name), which is not allowed; write the value out")
    content = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if "${" in json.dumps(content, default=str):
        raise ValueError("it contains an interpolation (${...}), which is not allowed; write the value out")
    return content


def impostor(path: Path) -> str:
    """What a file is that was saved in place of an image or of weights, and what to do; else ""."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, a few lines in place of the file: run `git lfs pull` in its repository"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, such as an error or a login page of the server that was to send the file"
    return ""


def remove_leftovers(directory: Path) -> None:
    """Delete what a process that was killed while writing left in `directory`; no other may be writing there."""
    for aside in directory.glob(".*." + "[0-9a-f]" * 32 + ".tmp"):
        aside.unlink()


@contextmanager
def alone(root: Path, task: str, patience: float = math.inf) -> Iterator[None]:
    """Within it no other process does the same task below `root`; waits for one that does, and says so on stderr.

    task: the name of an empty file in `root/.locks`. Where nothing can be locked a warning says so, and work goes on.
    Raises filelock.Timeout if the other process has not ended after `patience` seconds, and OSError for a root that
    cannot hold a file.
    """
    path = root / ".locks" / task
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path, patience))
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{path} cannot be locked ({error}); let no other process work in {root} meanwhile", stacklevel=4
            )
        yield


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    lock = FileLock(path, mode=0o666)  # those who share the folder share its locks
    try:
        lock.acquire(timeout=0)
    except Timeout:
        limit = "" if patience == math.inf else f", for {patience:.0f} s at most"
        print(f"another process is at work ({path} is locked): waiting for it to end{limit}", file=sys.stderr)
        lock.acquire(timeout=-1 if patience == math.inf else patience, poll_interval=PAUSE)
    try:
        yield
    finally:
        lock.release()
