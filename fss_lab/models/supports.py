"""Supports that last: remembered once, stored, used again in another process."""

from __future__ import annotations

import json
import os

from torch import Tensor

from fss_lab.backbones.checkpoints import load_metadata, load_state
from fss_lab.backbones.origin import network_origin, networks_of
from fss_lab.backbones.sam2 import Memory
from fss_lab.errors import CheckpointError
from fss_lab.method import FSSAM, Support
from fss_lab.method.records import MEMORY, SUPPORT_FORMAT


def load_support(path: str | os.PathLike[str], model: FSSAM) -> Support:
    """A support that `Support.save` wrote, for a model with the same weights, on its device.

    Where the weights came from does not matter, only their numbers. Raises CheckpointError for a file that is missing,
    damaged or no support, and for one of another model, whose origin it names beside this one's.
    """
    if not str(path).endswith(".safetensors"):
        raise CheckpointError(f"{path} is no support; expected the .safetensors file that support.save() wrote")
    metadata, tensors = load_metadata(path), load_state(path)
    if metadata.get("format") != SUPPORT_FORMAT:
        raise CheckpointError(
            f"{path} is no support of this version of fss_lab ({SUPPORT_FORMAT!r}); remember the photo and its mask "
            "again, and save what model.remember() returns"
        )
    _check_networks(path, metadata, model, "features" in tensors)
    _check_shapes(path, tensors, model)
    images = [tensors.pop(f"image.{shot}") for shot in range(len(tensors["masks"]))]
    tensors = {name: tensor.to(model.device) for name, tensor in tensors.items()}
    memory = Memory(*(tensors[name] for name in MEMORY))
    return Support(memory, tensors["masks"].float(), tensors.get("features"), images, model.sam2, model.features)


def _check_networks(path: str | os.PathLike[str], metadata: dict[str, str], model: FSSAM, dense: bool) -> None:
    """Raises CheckpointError where the networks that made the file have other weights than the model's."""
    present = networks_of(model.sam2, model.features)
    if not dense or model.features is None:
        present.pop("features")
    try:
        saved = json.loads(metadata["networks"])
        other = [name for name in present if saved[name]["sha256"] != present[name]["sha256"]]
        listed = "; ".join(f"{n} from {network_origin(saved[n])}, here {network_origin(present[n])}" for n in other)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which networks made it ({error!r}); remember it again") from error
    if other:
        raise CheckpointError(
            f"{path} was remembered by another model, whose memories this one cannot read: {listed}. Load that model, "
            "or remember the photo and its mask again with this one"
        )


def _check_shapes(path: str | os.PathLike[str], tensors: dict[str, Tensor], model: FSSAM) -> None:
    """Raises CheckpointError where a tensor is missing or has not the model's shape."""
    sam2, shots = model.sam2, len(tensors.get("masks", ()))
    size, grid = sam2.image_size, sam2.grid_size
    remembered = (sam2.memory_channels, grid, grid)
    shapes: dict[str, tuple[int, ...]] = {
        "masks": (size, size), "memory": remembered, "position": remembered, "pointer": (sam2.channels,),
        "low_res_logits": (1, size // 4, size // 4),
    }  # fmt: skip
    images = {f"image.{shot}" for shot in range(shots)}
    wrong = {name for name, shape in shapes.items() if name in tensors and tensors[name].shape != (shots, *shape)}
    wrong |= {*shapes, *images} ^ set(tensors) - {"features"}  # missing or unknown
    wrong |= {name for name in images & set(tensors) if tensors[name].ndim != 3 or len(tensors[name]) != 3}
    wrong |= {name for name in tensors if name == "features" and (tensors[name].ndim, len(tensors[name])) != (4, shots)}
    if wrong or not shots:
        raise CheckpointError(
            f"{path} does not fit a model of {size} x {size} pixels: {', '.join(sorted(wrong))} missing, unknown or of "
            "another shape. Load the model with the image_size that remembered it, or remember the photo again"
        )
