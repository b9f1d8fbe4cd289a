"""What a user can put right: errors whose message names what was given, what was expected and what to do.

The command line shows the message of a `UserError` and a traceback of everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """The message says all: what is wrong, and what to do about it."""


class InputError(UserError, ValueError):
    """An argument or option with a value outside what it allows."""


class FileError(UserError, OSError):
    """A file that cannot be written or is missing."""


class ImageError(UserError, ValueError):
    """An image or mask that cannot be read, or cannot be read in one way only."""


class DataError(UserError, ValueError):
    """Data that are missing, damaged or do not fit together; the message names the file and says what to do."""


class CheckpointError(UserError, RuntimeError):
    """A weight file that cannot be written, read, or does not fit the model."""


class RunError(UserError, RuntimeError):
    """A run that cannot start, go on or be repeated; the message says why and what to do."""


class NotFiniteError(RunError, FloatingPointError):
    """A loss or gradient that is infinite or no number."""


class MissingPackageError(UserError, ImportError):
    """A package of one of the extras in pyproject.toml is needed and not installed."""


@contextmanager
def needs(purpose: str, extra: str) -> Iterator[None]:
    """Around imports of an extra's packages. Raises MissingPackageError, which names the extra, where one fails."""
    try:
        yield
    except ImportError as error:
        problem = f"{purpose} needs {error.name}, which cannot be imported ({error})"
        raise MissingPackageError(f'{problem}: pip install "fss-lab[{extra}]"') from error


class CourseError(UserError, ValueError):
    """A notebook that breaks a rule of the course, or cannot be read."""


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine was full."""
    from torch import OutOfMemoryError

    return isinstance(error, MemoryError | OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
