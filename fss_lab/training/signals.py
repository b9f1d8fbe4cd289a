"""What a long run needs besides its loop: devices, random numbers, signals, clear failures, and its log."""

from __future__ import annotations

import csv
import errno
import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from filelock import Timeout
from lightning.fabric import Fabric
from torch import Tensor, nn

from fss_lab.errors import RunError
from fss_lab.files import alone, write_atomically
from fss_lab.training.config import TrainConfig

LETTING_GO = 15.0  # seconds until the last process that prepared data for a killed run has noticed


def make_fabric(config: TrainConfig, *, one_process: bool = False) -> Fabric:
    """The devices and precision that a configuration asks for, on this machine, with all its processes launched.

    one_process: on one device, whatever it asks for.
    """
    precision = config.precision
    if precision == "auto":
        native = _accelerator(config.accelerator) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16-mixed" if native else "32-true"
    if one_process:
        return one_device(config.accelerator, precision)
    devices, nodes, strategy = config.devices, config.nodes, config.strategy
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun, and `fabric run` by it, has started the processes already
        devices, nodes, strategy = os.environ["LOCAL_WORLD_SIZE"], int(os.environ["GROUP_WORLD_SIZE"]), "ddp"
    fabric = Fabric(
        accelerator=_accelerator(config.accelerator),
        devices=devices if devices == "auto" else int(devices),
        num_nodes=nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]  # one of the choices of TrainConfig
    )
    if os.environ.get("LT_CLI_USED") != "1":  # `fabric run` sets up what `launch` would
        fabric.launch()
    _check_launcher(fabric)
    return fabric


def one_device(accelerator: str, precision: str = "32-true") -> Fabric:
    """One process on one device. Raises RunError where a launcher has started several."""
    fabric = Fabric(accelerator=_accelerator(accelerator), devices=1, precision=precision)  # type: ignore[arg-type]
    _check_launcher(fabric)
    return fabric


@contextmanager
def only_run_in(directory: Path, fabric: Fabric) -> Iterator[None]:
    """Within it no other run writes into `directory`. Raises RunError, in every process, where one does."""
    with ExitStack() as held:
        problem = ""
        if fabric.is_global_zero:
            try:
                held.enter_context(alone(directory, "run", patience=LETTING_GO))
            except Timeout:
                problem = f"another run is at work in {directory}; wait for it to end, or choose another directory"
            except OSError as error:
                problem = f"{directory} cannot be used ({error}); check the path and the disk, or choose another one"
        if problem := fabric.broadcast(problem):
            raise RunError(problem)
        yield


def precision_of(fabric: Fabric) -> str:
    """What "auto" has become: "32-true" or "bf16-mixed"."""
    return str(fabric.strategy.precision.precision)


def _accelerator(name: str) -> str:
    """auto: CUDA or the CPU; Lightning would take Apple's GPU, which lacks operations that SAM 2 needs."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError('torch finds no CUDA device here; choose accelerator "cpu", or see `fss-lab doctor`')
    return name


def _check_launcher(fabric: Fabric) -> None:
    """Every process would train alone, into the same files, if Fabric knew nothing of those a launcher started."""
    launched = os.environ.get("WORLD_SIZE", "")
    if launched not in ("", str(fabric.world_size)):
        raise RunError(
            f"WORLD_SIZE is {launched}, but this run is one of {fabric.world_size} process(es). Start it with torchrun "
            "or `fabric run`, or give --devices, --nodes and --strategy ddp for as many; pre-training and --replay "
            "take one process. Unset WORLD_SIZE if no launcher set it"
        )


def seed_all(*key: int) -> None:
    """Seed the random numbers of Python, NumPy and torch (all devices) from a key such as (seed, step, rank)."""
    words = np.random.SeedSequence(key).generate_state(2, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]) % 2**32)
    torch.manual_seed(int(words[1]))


def random_states() -> dict[str, Any]:
    """Every random state of this process, in types that a checkpoint may hold."""
    numpy: dict[str, Any] = np.random.get_state(legacy=False)  # type: ignore[assignment]  # as legacy=False says
    own = numpy.pop("state")
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "key": torch.from_numpy(own["key"].astype(np.int64)), "pos": own["pos"]},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what was drawn since `random_states`; CUDA's only where there are as many devices as then."""
    random.setstate(states["python"])
    numpy = dict(states["numpy"])
    numpy["state"] = {"key": numpy.pop("key").numpy().astype(np.uint32), "pos": numpy.pop("pos")}
    np.random.set_state(numpy)
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def mean_of_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean of a tensor over the processes, on each of them."""
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)  # Fabric takes and gives nested ones too
    return mean


def average_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, all in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if fabric.world_size == 1 or not gradients:
        return
    means = mean_of_processes(fabric, torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class StopRequest:
    """Turns the first SIGTERM or Ctrl-C into a wish that the loop reads between two steps; a second Ctrl-C
    interrupts at once. A context manager: afterwards the signals do what they did before."""

    def __init__(self) -> None:
        self.signal: int = 0  # 0: nobody asked
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # nowhere else may Python handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def anywhere(self, fabric: Fabric) -> bool:
        """Whether any process was asked; all must call this together."""
        return mean_of_processes(fabric, torch.tensor(float(self.signal), device=fabric.device)).item() > 0

    def leave(self, main: bool, saved: str) -> NoReturn:
        """Say what was saved and leave: as KeyboardInterrupt after a Ctrl-C, else with exit status 143. Only the main
        process: a launcher would kill it if another one ended with an error."""
        if not main:
            raise SystemExit(0)
        print(f"stopped: {saved}", file=sys.stderr)
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


def out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine was full."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def explained_failures() -> Iterator[None]:
    """Say what to do when the memory of a GPU or of the machine or the disk of the log is full, or the system has
    killed a process that prepares episodes, as RunError."""
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
                "more devices: the run then goes on, with other draws of dropout. For a new run, lower batch_size, "
                "shots or image_size, or take precision bf16-mixed, about half of 32-true. The last checkpoint is "
                f"intact. ({type(error).__name__}: {text})"
            ) from error
        handover = isinstance(error, EOFError | ConnectionError)  # a process died while it handed over an episode
        if handover:
            with suppress(RuntimeError):  # torch notices the death a moment later, and says so from anywhere
                time.sleep(1)
        if handover or text.startswith("DataLoader worker"):  # only the message tells torch's RuntimeErrors apart
            raise RunError(
                "a process that prepares episodes died, often for lack of memory: lower workers. The last checkpoint "
                f"is intact. ({text})"
            ) from error
        raise


class RunLog:
    """Rows of numbers by step: `<name>.csv` in the run's directory, and TensorBoard's files beside them.

    A run that goes on drops the rows that an interrupted one wrote after its checkpoint: after step `first` of the
    log, and after step `validated` of the validations.
    """

    def __init__(self, directory: Path, first: int, validated: int, *, tensorboard: bool) -> None:
        self._directory = directory
        for name, last in {"log": first, "validation": validated}.items():
            _trim(directory / f"{name}.csv", last)
        self._writer = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=first + 1)

    def add(self, name: str, step: int, values: dict[str, float]) -> None:
        """Append a row to `<name>.csv`; its columns are those of the first row."""
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
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        # a killed process may have left half a row, whose later cells are None
        kept = [row for row in reader if None not in row.values() and int(row["step"]) <= last]
    if not kept:
        path.unlink()  # the first row makes it anew
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(kept)
    write_atomically(path, text.getvalue().encode())
