"""Checkpoints of the authors' published program: import them, and see what their training changed.

That program opens one autocast context for the whole run, in which PyTorch caches the low-precision copies of the
weights without a graph. As measured, its training then updates norm scales, layer-scale gammas and tokens alone, and
no Linear or Conv weight. `load_authors_checkpoint` tells whether a given file shows this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fss_lab.backbones.checkpoints import load_into, load_state
from fss_lab.backbones.dinov2 import Dinov2Features
from fss_lab.backbones.hub import fetch
from fss_lab.backbones.origin import note_origin
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.errors import CheckpointError
from fss_lab.method import FSSAM

SIZE_OF_BLOCKS = {12: "tiny", 16: "small", 24: "base-plus", 48: "large"}
"""Blocks of SAM 2's image encoder -> its size."""


@dataclass(frozen=True)
class Change:
    """How one group of weights differs from SAM 2's: numbers of tensors and of single parameters, all and changed, and
    the largest absolute difference."""

    tensors: int
    tensors_changed: int
    parameters: int
    parameters_changed: int
    largest: float


@dataclass(frozen=True)
class AuthorsReport:
    """What a checkpoint holds, and how it differs from the SAM 2 checkpoint that it was trained from.

    path: of the checkpoint. sam2: name of its SAM 2. dinov2: its DINOv2, in words. ignored: entries that are neither
    SAM 2's nor DINOv2's. compared_with: the SAM 2 checkpoint, or None.
    linear: Linear and Conv weights and biases of the trained modules; scales: everything else in them (norm scales,
    layer-scale gammas, tokens); frozen: the rest of SAM 2. All three are None without a comparison.
    """

    path: str
    sam2: str
    dinov2: str
    ignored: tuple[str, ...]
    compared_with: str | None = None
    linear: Change | None = None
    scales: Change | None = None
    frozen: Change | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.sam2}, {self.dinov2}"]
        if self.ignored:
            lines.append(f"{len(self.ignored)} entries ignored: {', '.join(self.ignored[:5])}")
        if self.linear is None or self.scales is None or self.frozen is None:
            return "\n".join([*lines, "not compared with the SAM 2 checkpoint"])
        lines.append(f"changed against {self.compared_with}:")
        groups = ("trained modules: Linear and Conv", "trained modules: scales and tokens", "frozen modules")
        for name, change in zip(groups, (self.linear, self.scales, self.frozen), strict=True):
            lines.append(
                f"  {name:<35} {change.tensors_changed:>4} of {change.tensors:>4} tensors, "
                f"{change.parameters_changed:>11,} of {change.parameters:>11,} numbers, by at most {change.largest:.2g}"
            )
        return "\n".join([*lines, self._verdict(self.linear, self.scales, self.frozen)])

    @staticmethod
    def _verdict(linear: Change, scales: Change, frozen: Change) -> str:
        if frozen.tensors_changed:
            return "Frozen modules differ too: this was trained from another SAM 2 checkpoint, or trained otherwise."
        if linear.tensors_changed:
            return "Linear and Conv weights differ from SAM 2's: they were trained."
        if scales.tensors_changed:
            return "Every Linear and Conv weight is SAM 2's own: training changed only scales and tokens."
        return "Nothing differs from SAM 2: this holds no training at all."


def load_authors_checkpoint(
    path: str | os.PathLike[str],
    *,
    sam2_checkpoint: str | Path | None = None,
    features_checkpoint: str | Path | None = None,
    compare: bool = True,
    image_size: int = 512,
    **options: Any,
) -> tuple[FSSAM, AuthorsReport]:
    """Import a checkpoint of the authors' program: {'epoch', 'state_dict', 'optimizer'} with the keys `sam2.*` and
    `dino.*`, all of them possibly prefixed `module.`. No code in the file is run.

    path: the file, .pth or .pt. SAM 2's size and version and DINOv2's size follow from it.
    sam2_checkpoint: the SAM 2 checkpoint that it was trained from, to compare with; default: the published one of
        that size (`fss_lab.backbones.hub.fetch`). compare=False: compare with nothing.
    features_checkpoint: DINOv2 weights in case the file has none; default: the published dinov2-base.
    image_size: side of the square input, in pixels. options: see `fss_lab.method.Options`; the defaults are the
        method as described, and calibration="as_published" is what the program computes with several shots.
    Returns the model, on the CPU in evaluation mode, and the report; print it.
    Raises CheckpointError for a file that is missing, damaged, or holds something else, and for weights that cannot be
    fetched; InputError for an unknown option.
    """
    whole = load_state(path)
    state = _part(whole, "sam2.")
    name = _sam2_name(state, path)
    reference = sam2_checkpoint if compare else None
    if compare and reference is None:
        try:
            reference = fetch(name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path} cannot be compared with the SAM 2 that it was trained from, but compare=False imports it "
                f"without that: {error}"
            ) from error
    sam2 = Sam2Backbone.build(name, image_size, reference)
    before = {key: tensor.clone() for key, tensor in sam2.model.state_dict().items()}
    load_into(sam2.model, state, source=path)

    dino = _part(whole, "dino.")
    if dino:
        source, features = path, Dinov2Features.from_state(dino, path)
    else:
        source = fetch("dinov2-base") if features_checkpoint is None else features_checkpoint
        features = Dinov2Features.load(source)
    note_origin(sam2, name, path)
    note_origin(features, "dinov2-base", source)
    model = FSSAM(sam2, features, **options)
    layers = len(features.model.encoder.layer)
    report = AuthorsReport(
        path=str(path),
        sam2=name,
        dinov2=f"DINOv2 of {layers} layers, {features.channels} channels" + ("" if dino else " (from elsewhere)"),
        ignored=tuple(key for key in whole if not key.startswith(("sam2.", "dino."))),
    )
    return model, report if reference is None else _compared(report, model, before, str(reference))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _sam2_name(state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> str:
    """Which SAM 2 this is, a key of `fss_lab.backbones.sam2_config.CONFIGS`."""
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    if len(blocks) not in SIZE_OF_BLOCKS:
        raise CheckpointError(
            f"{path} is no checkpoint of the authors' program: expected the entries sam2.* of a SAM 2 with "
            f"{', '.join(map(str, SIZE_OF_BLOCKS))} image-encoder blocks, and dino.*; found {len(blocks)} blocks among "
            f"{len(state)} entries sam2.*. For Meta's own files use load_model(..., sam2_checkpoint=...)"
        )
    version = "2.1" if "no_obj_embed_spatial" in state else "2"
    return f"sam{version}-{SIZE_OF_BLOCKS[len(blocks)]}"


def _compared(report: AuthorsReport, model: FSSAM, before: Mapping[str, Tensor], reference: str) -> AuthorsReport:
    """The report with the differences between the model's SAM 2 and the state `before`."""
    trained = {name for name, _ in model.trainable_parameters("paper")}
    scales = {name for name, _ in model.trainable_parameters("as_published")}
    after = model.sam2.model.state_dict()
    return replace(
        report,
        compared_with=reference,
        linear=_change(before, after, trained - scales),
        scales=_change(before, after, scales),
        frozen=_change(before, after, set(after) - trained),
    )


def _change(before: Mapping[str, Tensor], after: Mapping[str, Tensor], names: set[str]) -> Change:
    differences = [(after[name].float() - before[name].float()).abs() for name in names]
    return Change(
        tensors=len(differences),
        tensors_changed=sum(bool(difference.any()) for difference in differences),
        parameters=sum(difference.numel() for difference in differences),
        parameters_changed=sum(int(difference.count_nonzero()) for difference in differences),
        largest=max((float(difference.max()) for difference in differences), default=0.0),
    )
