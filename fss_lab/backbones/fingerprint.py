"""What decides the last bit of a network's output: its weights and settings, and the machine that computes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn


def fingerprint(network: nn.Module) -> str:
    """A hash of all that decides a network's output: its modules' types and plain settings, parameters and buffers."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    return hash_tensors(module_settings(network), tensors)


def module_settings(network: nn.Module) -> str:
    """The types and plain settings of a network's modules, by name."""
    modules = []
    for name, module in network.named_modules():
        settings = sorted((k, repr(v)) for k, v in vars(module).items() if k != "training" and _is_plain(v))
        modules.append([name, type(module).__qualname__, settings])
    return json.dumps(modules)


def environment(device: torch.device) -> dict[str, Any]:
    """What changes the last bits of a result on a device without being an argument of anything."""
    settings: dict[str, Any] = {
        "torch": torch.__version__,
        "device": device.type,
        "matmul": torch.get_float32_matmul_precision(),
    }
    if device.type == "cpu":
        settings["capability"] = torch.backends.cpu.get_cpu_capability()
        settings["threads"] = torch.get_num_threads()
    if device.type == "cuda":
        settings["card"] = torch.cuda.get_device_name(device)
        settings["tf32"] = [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32]
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        settings["autocast"] = str(torch.get_autocast_dtype(device.type))
    return settings


def hash_tensors(context: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 over a text and over names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(context.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    """Whether the text of a value says all of it: objects would tell their address, which differs by process."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
