"""One process at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import errno
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt

    HELD: type[OSError] = PermissionError

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    HELD: type[OSError] = BlockingIOError

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


PAUSE = 0.2  # seconds between two looks at a lock that another process holds
_NO_LOCKS = (  # a folder that may only be read, and disks of clusters that know no locks
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP,
)  # fmt: skip


@contextmanager
def alone(root: Path, task: str) -> Iterator[None]:
    """Within it no other process does the same task below `root`; waits for one that does, and says so on stderr.

    task: the name of an empty file in `root/.locks`, which stays there. Where nothing can be locked a warning says so,
    and the work goes on.
    """
    path = root / ".locks" / task
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _wait(stack.enter_context(path.open("ab")), path)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{path} cannot be locked ({error}); run no other `fss-lab data` on this folder meanwhile", stacklevel=4
            )
        yield


def _wait(file: IO[bytes], path: Path) -> None:
    """Lock a file, as soon as no other process does."""
    told = False
    while True:
        try:
            return _lock(file)
        except HELD:
            if not told:
                print(f"another process is at work ({path} is locked): waiting for it to end", file=sys.stderr)
            told = True
            time.sleep(PAUSE)
