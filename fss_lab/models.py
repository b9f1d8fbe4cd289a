"""Ready models by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fss_lab.backbones.dinov2 import SIZES, Dinov2Features
from fss_lab.backbones.sam2 import CONFIGS, Sam2Backbone
from fss_lab.backbones.toy import WEIGHTS, ToyFeatures, build_toy_sam2
from fss_lab.checkpoints import CheckpointError, load_into, load_state
from fss_lab.datasets.pictograms import FOLDS
from fss_lab.method import FSSAM

TOY_WEIGHTS = ("fssam", "baseline", "pretrained")


def load_model(
    name: str = "toy",
    *,
    fold: int = 0,
    weights: str = "fssam",
    sam2_checkpoint: str | Path | None = None,
    features_checkpoint: str | Path | None = None,
    image_size: int = 512,
    **options: Any,
) -> FSSAM:
    """Build a model in evaluation mode on the CPU.

    name: "toy", whose weights ship with the package; or a pair such as "sam2-small+dinov2-base" (SAM 2 or 2.1, tiny …
        large; DINOv2 small … giant) with weights from files of yours.
    fold, weights: for "toy". weights="fssam" is trained on the base classes of `fold` (0..3); "baseline" is the
        support-memory baseline trained equally long (memory="support"); "pretrained" has seen no Pictogram at all.
    sam2_checkpoint, features_checkpoint: for a pair. Meta's .pt files, .safetensors, or for DINOv2 a Hugging Face
        directory; None leaves random weights, for trials of speed and memory.
    image_size: side of the square input of a pair, in pixels.
    options: see `fss_lab.method.Options`, e.g. rounds=0 or calibration="off".

    Raises ValueError for an unknown name, fold or kind of weights; CheckpointError, ValueError or FileNotFoundError
    that name the file for weights that are missing or do not fit.
    """
    if name == "toy":
        if sam2_checkpoint is not None or features_checkpoint is not None:
            raise ValueError(
                'checkpoints are for a pair such as "sam2-small+dinov2-base"; "toy" brings its own weights'
            )
        return _load_toy(fold, weights, options)
    sam2, _, size = name.partition("+dinov2-")
    if sam2 not in CONFIGS or size not in SIZES:
        raise ValueError(
            f'there is no model {name!r}; use "toy" or a pair such as "sam2-small+dinov2-base" of '
            f"{', '.join(CONFIGS)} and dinov2-{', dinov2-'.join(SIZES)}"
        )
    features = Dinov2Features.build(size, features_checkpoint)
    return FSSAM(Sam2Backbone.build(sam2, image_size, sam2_checkpoint), features, **options)


def _load_toy(fold: int, weights: str, options: dict[str, Any]) -> FSSAM:
    if fold not in range(FOLDS):
        raise ValueError(f"fold must be one of 0, 1, 2, 3, got {fold!r}")
    if weights not in TOY_WEIGHTS:
        raise ValueError(f"weights must be one of {TOY_WEIGHTS}, got {weights!r}")
    sam2, features = build_toy_sam2(), ToyFeatures().eval()
    source = WEIGHTS / "toy_features.safetensors"
    load_into(features, load_state(source), source=source)
    source = WEIGHTS / "toy_sam2.safetensors"
    state = load_state(source)
    load_into(sam2.model, state, source=source)
    if weights == "baseline":
        options = {"memory": "support", **options}
    model = FSSAM(sam2, features, **options)
    if weights != "pretrained":
        source = WEIGHTS / f"toy_fold{fold}_{weights}.safetensors"
        trained = load_state(source)
        expected = {key for key, _ in model.trainable_parameters()}
        if set(trained) != expected:
            raise CheckpointError(f"{source} does not hold the trained parameters of the toy model; reinstall fss_lab")
        load_into(sam2.model, state | trained, source=source)
    return model
