"""One process at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import errno
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PAUSE = 0.2  # seconds between two looks at a lock that another process holds
_NO_LOCKS = (  # a folder that may only be read, and disks of clusters that know no locks
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP,
)  # fmt: skip


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
