"""What was evaluated how: written down beside every number, and compared before numbers are added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fss_lab import __version__
from fss_lab.backbones.fingerprint import environment, hash_tensors
from fss_lab.datasets.protocols import benchmark
from fss_lab.episode import Episodes
from fss_lab.errors import InputError
from fss_lab.evaluation.options import ComputeOptions
from fss_lab.evaluation.scoring import check_shared_encoders, weights_digest
from fss_lab.method import FSSAM
from fss_lab.models.provenance import origins

Facts = dict[str, Any]


def facts_of(episodes: Episodes, models: Mapping[str, FSSAM], settings: ComputeOptions) -> Facts:
    """All that decides an evaluation's numbers: episodes and their hash, models and their weights, settings, versions.

    Raises:
        InputError: there are no models, or their encoders differ.
    """
    check_shared_encoders(models)
    listed = getattr(episodes, "list", None)
    if listed is not None:
        origin = {key: value for key, value in asdict(listed).items() if key != "episodes"}
        names = {str(c): episodes.images.class_name(c) for c in episodes.classes}  # type: ignore[attr-defined]
        data = {**origin, "protocol": str(benchmark(listed.protocol)), "list": listed.digest, "class_names": names}
        data |= getattr(episodes.images, "facts", {})  # type: ignore[attr-defined]
    else:  # a data set that makes its episodes: what it is made from
        kinds = (str, int, float, tuple, type(None))
        origin = {key: value for key, value in vars(episodes).items() if isinstance(value, kinds)}
        data = {**origin, "protocol": "fresh scenes (each episode has images of its own; IoU at the label's own size; "
                "several shots: fused by the model)", "images": type(episodes).__name__}  # fmt: skip
    digests: dict[tuple[int, int], str] = {}  # variants share their networks
    variants = {}
    for name, model in models.items():
        key = (id(model.sam2), id(model.features))
        if key not in digests:
            digests[key] = weights_digest(model)
        variants[name] = {"weights": digests[key], **asdict(model.options)}
    first = next(iter(models.values()))
    encoders = settings.precision or first.precision
    kind = torch.device(settings.device).type
    precision = str(first.sam2.mean.dtype).removeprefix("torch.")
    if encoders != precision:
        precision += f", encoders {encoders}"
    elsewhere = {"torch", "device", "threads"}
    machine = {k: v for k, v in environment(torch.device(settings.device)).items() if k not in elsewhere}
    facts = {
        **data,
        "classes": episodes.classes,
        "episodes": len(episodes),
        "pixels": _pixels(episodes),
        "models": variants,
        "networks": origins(first),
        "batch_size": settings.batch_size,
        "threads": settings.threads,
        "device": kind,  # the card's name is in "machine"
        "precision": precision,
        "chunk": first.chunk or (1 if settings.cached or kind == "cpu" else "batch"),  # as `FSSAM` encodes
        "machine": machine,
        "fss_lab": __version__,
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(facts))  # as it will be read back: lists, no tuples


def _pixels(episodes: Episodes) -> str:
    """Twelve digits of a hash of the first episodes' images and masks: it changes when the same names show others."""
    tensors: dict[str, torch.Tensor] = {}
    for index in range(min(2, len(episodes))):
        tensors |= {f"{index} {k}": v for k, v in vars(episodes[index]).items() if isinstance(v, torch.Tensor)}
    return hash_tensors("", tensors)[:12]


def read_checked(path: Path, facts: Facts, key: str) -> dict[str, Any]:
    """What a file of an earlier run holds under `key`.

    Raises:
        InputError: it is damaged or of another evaluation.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        there, values = dict(content["facts"]), dict(content[key])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, its part is then done again") from error
    if changes := _differences(there, facts):
        raise InputError(
            f"{path} holds counts of another evaluation: {'; '.join(changes)}. Choose another directory, or remove "
            "this one to start again"
        )
    return values


def _differences(there: Facts, here: Facts) -> list[str]:
    """What two evaluations differ in, in words."""
    if "models" in there and set(there["models"]) != set(here["models"]):
        return [f"models {list(there['models'])}, not {list(here['models'])}"]
    before, now = _flat(there), _flat(here)
    return [f"{key} {before.get(key)!r}, not {value!r}" for key, value in now.items() if before.get(key) != value]


def _flat(facts: Facts) -> Facts:
    """With the models' facts beside the others; without the networks' files, which may move: their digests count."""
    models = facts.get("models", {}).items()
    flat = {f"{key} of {name!r}": value for name, model in models for key, value in model.items()}
    return {key: value for key, value in facts.items() if key not in ("models", "networks")} | flat
