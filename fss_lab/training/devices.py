"""The devices of a run: one process on each, and means over all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fss_lab.errors import RunError
from fss_lab.training.config import TrainConfig


def make_fabric(config: TrainConfig) -> Fabric:
    """The configured devices and precision on this machine, with all processes launched.

    Raises:
        RunError: there is no such device, or a launcher started another number of processes.
    """
    precision = config.precision
    if precision == "auto":
        native = _accelerator(config.accelerator) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16-mixed" if native else "32-true"
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


def one_device(accelerator: str) -> Fabric:
    """One process on one device.

    Raises:
        RunError: there is no such device, or a launcher started several processes.
    """
    fabric = Fabric(accelerator=_accelerator(accelerator), devices=1)
    _check_launcher(fabric)
    return fabric


def precision_of(fabric: Fabric) -> str:
    """The precision in use, also where "auto" chose it: "32-true" or "bf16-mixed"."""
    return str(fabric.strategy.precision.precision)


def _accelerator(name: str) -> str:
    """auto: CUDA or the CPU; Lightning would take Apple's GPU, which lacks operations that SAM 2 needs."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError('torch finds no CUDA device here; choose accelerator "cpu", or see `fss-lab doctor`')
    return name


def _check_launcher(fabric: Fabric) -> None:
    """Raise RunError if a launcher started processes that Fabric does not know: all would train alone, into the same
    files."""
    launched = os.environ.get("WORLD_SIZE", "")
    if launched not in ("", str(fabric.world_size)):
        raise RunError(
            f"WORLD_SIZE is {launched}, but this run is one of {fabric.world_size} process(es). Start it with torchrun "
            "or `fabric run`, or give --devices, --nodes and --strategy ddp for as many; pre-training runs in one "
            "process. Unset WORLD_SIZE if no launcher set it"
        )


def mean_of_processes(fabric: Fabric, values: Tensor) -> Tensor:
    """The mean of a tensor over the processes, on each of them."""
    mean = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)  # Fabric takes and gives nested ones too
    return mean


def sum_of_processes(fabric: Fabric, values: np.ndarray) -> np.ndarray:
    """The sum of an array over the processes, on each of them."""
    total = fabric.all_reduce(torch.from_numpy(values).to(fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total.cpu().numpy()


def average_gradients(fabric: Fabric, parameters: Sequence[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, all in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if fabric.world_size == 1 or not gradients:
        return
    means = mean_of_processes(fabric, torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
