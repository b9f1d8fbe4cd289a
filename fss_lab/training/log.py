"""The log of a run: rows of numbers by step, in CSV files and on request for TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

from fss_lab.errors import MissingPackageError
from fss_lab.files import write_atomically
from fss_lab.training.run import Progress


class RunLog:
    """Rows of numbers by step: `<name>.csv` in the run's directory, and TensorBoard's files in `tensorboard/`.

    Rows that an interrupted run wrote after its last checkpoint are dropped.

    Args:
        progress: of that checkpoint.
        main: whether this is the main process; the others write nothing.

    Raises:
        MissingPackageError: `tensorboard` without its package.
    """

    def __init__(self, directory: Path, progress: Progress, *, tensorboard: bool = False, main: bool = True) -> None:
        self._directory, self._main, self._writer = directory, main, None
        if not main:
            return
        for name, last in {"log": progress.step, "validation": progress.validated}.items():
            _trim(directory / f"{name}.csv", last)
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingPackageError(
                    '--tensorboard needs the package tensorboard: pip install "fss-lab[tracking]", or --no-tensorboard'
                ) from error

            self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=progress.step + 1)

    def add(self, name: str, step: int, values: dict[str, float]) -> None:
        """Append a row to `<name>.csv`; its columns are those of the first row."""
        if not self._main:
            return
        path = self._directory / f"{name}.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", *values])
            if new:
                writer.writeheader()
            writer.writerow({"step": step, **{key: f"{value:.6g}" for key, value in values.items()}})
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(f"{name}/{key}", value, step)
            self._writer.flush()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log; none where there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _trim(path: Path, last: int) -> None:
    """Drop the rows after step `last`, and half a row that a killed process may have left."""
    if not path.exists():
        return
    head, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    rows = [line for line in lines if line.endswith(b"\r\n") and int(line.partition(b",")[0]) <= last]
    if rows:
        write_atomically(path, b"".join([head, *rows]))
    else:
        path.unlink()  # the first row makes it anew
