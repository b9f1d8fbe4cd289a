"""Saving and loading weights: never half a file, never code from a pickle, never a silent mismatch."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from fss_lab.errors import CheckpointError
from fss_lab.files import impostor, write_atomically

_ADVICE = "download it again and compare its checksum, or save the state dict alone from the program that made it"
_PICKLED = (".pt", ".pth", ".bin")
RUN_FORMAT = "fss_lab training run 1"
_FORMATS = {  # by the beginnings of names that only these have
    ("vision_encoder.", "shared_image_embedding."): "weights of SAM 2 in the format of the transformers library",
    ("vision_model.", "text_model."): "weights of a vision transformer in the format of the transformers library",
    ("encoder.layer.", "embeddings."): "weights of DINOv2 in the format of the transformers library",
    ("blocks.", "cls_token", "patch_embed."): "weights of a vision transformer such as DINOv2, in its authors' format",
    ("image_encoder.trunk.", "memory_attention."): "weights of SAM 2 in Meta's format",
}
_SINCE_SAM21 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.")


def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to `path` in one step: whoever looks sees the old file or the whole new one.

    The folder is created if need be. metadata: strings about the file, read back by `load_metadata`.
    Raises TypeError for metadata that are not strings, FileError where the file cannot be written (disk
    full, no permission); then `path` is as it was and nothing else is left behind.
    """
    path = Path(path)
    metadata = dict(metadata or {})
    if not all(isinstance(item, str) for pair in metadata.items() for item in pair):
        raise TypeError(f"metadata must map strings to strings, got {metadata}; use json.dumps for other values")
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata
    )
    write_atomically(path, content)


def save_run(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a checkpoint of a run: tensors, numbers, strings, and lists, tuples and dicts of them.

    Raises FileError where the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": RUN_FORMAT, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def load_run_file(
    path: str | os.PathLike[str], *, keys: Iterable[str] = (), advice: str = "use an undamaged file of the run"
) -> dict[str, Any]:
    """Read what `save_run` wrote, on the CPU and without running any code in it.

    keys: what it must hold. advice: what to do about a damaged file, for the message. Raises CheckpointError for a
    file that is missing, damaged, cut short, or no checkpoint of a run.
    """
    path = _existing(path)
    content = _read_pickle(path, advice)
    if not isinstance(content, dict) or content.get("format") != RUN_FORMAT:
        raise CheckpointError(
            f"{path} is no checkpoint of a run of this version of fss_lab ({RUN_FORMAT!r}); it may hold weights alone "
            "or come from another version or program. Choose another directory for a new run"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise CheckpointError(f"{path} lacks {_listed(missing)}: {advice}")
    return content


def load_tensors(target: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str | os.PathLike[str]) -> None:
    """Copy tensors of the same names and shapes into `target`'s, in place; all must be there, and nothing else.

    Raises CheckpointError that lists missing, unexpected and differently shaped entries, and for numbers that are not
    finite; `target` is then as it was.
    """
    _check_fit(target, state, source, "the tensors of this run")
    _check_finite(state, source)
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(state[name])


def load_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, or from .pt, .pth or .bin as `torch.save` writes it, on the CPU.

    {'model': …} and {'state_dict': …} are unwrapped, the prefix 'module.' of DataParallel is dropped, half
    precision is converted to float32. Pickles are read with weights_only=True, so no code in them runs.
    Raises CheckpointError for a file that is missing, damaged, cut short, or holds something else, also weights that
    are not finite.
    """
    path = _existing(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds no state dict but {_describe(content)}; expected named tensors, as "
            "torch.save(model.state_dict(), path) writes them"
        )
    foreign = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise CheckpointError(
            f"{path} holds entries that are no tensors: {_listed(foreign)}; save the state dict alone: "
            "torch.save(model.state_dict(), path)"
        )
    state = dict(content)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    _check_finite(state, path)
    half = (torch.float16, torch.bfloat16)
    return {name: tensor.float() if tensor.dtype in half else tensor for name, tensor in state.items()}


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What a file says about itself: the metadata of a .safetensors file; of a run's checkpoint (last.pt, best.pt) its
    configuration and fold, as the run's weights.safetensors has them; of other files nothing.

    Raises CheckpointError for a file that is missing, damaged or cut short.
    """
    path = _existing(path)
    if path.suffix != ".safetensors":
        content = _read_pickle(path)
        if not isinstance(content, dict) or content.get("format") != RUN_FORMAT:
            return {}
        facts = content["facts"]
        return {"config": json.dumps(facts)} | ({"fold": str(facts["fold"])} if "fold" in facts else {})
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, source: str | os.PathLike[str]) -> None:
    """Load a state dict into a module; every parameter and buffer must be there, and nothing else.

    source: where the state came from, for the message. Raises CheckpointError that lists all missing,
    unexpected and differently shaped entries; the module is then unchanged.
    """
    _check_fit(module.state_dict(), state, source, type(module).__name__)
    module.load_state_dict(state)


def _check_fit(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str | os.PathLike[str], what: str
) -> None:
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    differences = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if differences:
        raise CheckpointError(
            f"{source} does not fit {what}. {_format(expected, state) or '; '.join(differences)}. "
            "Use the configuration (size, version) that these weights were made for, or other weights"
        )


def _format(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """In one sentence, what weights these are if they are of another kind or version altogether; "" if not."""
    other = {name for name in state if name not in expected}
    missing = {name for name in expected if name not in state}
    for holders, version, wanted in ((other, "2.1", "2"), (missing, "2", "2.1")):
        if holders and all(name.startswith(_SINCE_SAM21) for name in holders) and not (other and missing):
            return (
                f"It holds weights of SAM {version}, and the model is a SAM {wanted}: choose a sam{version}-... model"
            )
    for beginnings, kind in _FORMATS.items():
        if any(name.startswith(beginnings) for name in other) and not any(n.startswith(beginnings) for n in expected):
            return f"It holds {kind}, which this model does not read; its names start like {_listed(list(state), 3)}"
    return ""


def _check_finite(state: Mapping[str, Tensor], source: str | os.PathLike[str]) -> None:
    damaged = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if damaged:
        raise CheckpointError(
            f"{source} holds NaN or infinite numbers in {_listed(damaged, 5)}; every mask would be empty. The training "
            "that wrote it has diverged, or the file is damaged: use an earlier checkpoint"
        )


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a directory, expected a weight file; name the file in it")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist (looked from {Path.cwd()}); check the path or download it")
    if path.suffix != ".safetensors" and path.suffix not in _PICKLED:
        raise CheckpointError(f"{path} is no weight file; expected .safetensors, {', '.join(_PICKLED)}")
    return path


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path, advice: str = _ADVICE) -> object:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make the unpickler raise almost anything
        raise _damaged(path, error, advice) from error


def _numpy_scalars() -> list[Any]:
    """What the pickle of a numpy number calls, e.g. of an accuracy beside the weights; none of it runs other code."""
    make: Any = np.float64(0).__reduce__()[0]

    def scalar_of(module: str) -> Callable[..., Any]:
        def scalar(*arguments: Any) -> Any:
            return make(*arguments)

        scalar.__module__, scalar.__qualname__ = module, "scalar"
        return scalar

    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and from numpy 2 on
    return [*map(scalar_of, modules), np.dtype, *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}]


def _damaged(path: Path, error: Exception, advice: str = _ADVICE) -> CheckpointError:
    # torch wraps the reason into advice to load with weights_only=False, which is the last thing to do here
    text = str(error).split("WeightsUnpickler error: ")[-1].strip() or type(error).__name__
    reason = impostor(path) or text.splitlines()[0].split(". ")[0].rstrip(".")
    return CheckpointError(
        f"{path} ({path.stat().st_size} bytes) is no readable checkpoint: {reason}. It may be cut short, "
        f"damaged, of another format, or hold pickled code, which is never run: {advice}"
    )


def _describe(content: object) -> str:
    return "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _listed(names: list[str], most: int = 50) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
