"""Failures of the machine during a run, explained: full memory, a full disk, a killed process."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fss_lab.errors import RunError, out_of_memory


@contextmanager
def explained_failures() -> Iterator[None]:
    """Within it, failures of the machine say what to do.

    Raises:
        RunError: memory or the disk of the log is full, or the system killed a process that prepares episodes.
    """
    try:
        yield
    except RunError:
        raise
    except (MemoryError, RuntimeError, EOFError, OSError) as error:
        text = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk is full: free some space and start the run again. The last checkpoint is intact. ({text})"
            ) from error
        if out_of_memory(error):
            raise RunError(
                "there is not enough memory. Raise accumulate (smaller parts of the same batch) or spread the run over "
                "more devices: the run then resumes, with other draws of dropout. For a new run, lower batch_size, "
                "shots or image_size, or take precision bf16-mixed, about half of 32-true. The last checkpoint is "
                f"intact. ({type(error).__name__}: {text})"
            ) from error
        handover = isinstance(error, EOFError | ConnectionError)  # a process died while it handed over an episode
        if handover:
            with suppress(RuntimeError):  # torch notices the death a moment later, and reports it from anywhere
                time.sleep(1)
        if handover or text.startswith("DataLoader worker"):  # only the message tells torch's RuntimeErrors apart
            raise RunError(
                "a process that prepares episodes died, often for lack of memory: lower workers. The last checkpoint "
                f"is intact. ({text})"
            ) from error
        raise
