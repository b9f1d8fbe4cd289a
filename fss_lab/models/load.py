"""Ready models by name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from fss_lab.backbones.checkpoints import load_into, load_state
from fss_lab.backbones.hub import fetch
from fss_lab.backbones.origin import note_origin
from fss_lab.backbones.registry import FEATURES
from fss_lab.backbones.sam2 import Sam2Backbone
from fss_lab.backbones.sam2_config import CONFIGS
from fss_lab.backbones.toy import WEIGHTS, ToyFeatures, build_toy_sam2, unpack
from fss_lab.errors import CheckpointError, InputError
from fss_lab.method import FSSAM, Options
from fss_lab.method.presence import Presence

TOY_WEIGHTS = ("fssam", "baseline", "pretrained")
TOY_FOLDS = range(4)  # whose trained weights ship


def load_model(
    name: str = "toy",
    *,
    fold: int = 0,
    weights: str | None = "default",
    sam2_checkpoint: str | Path | None = None,
    features_checkpoint: str | Path | None = None,
    image_size: int = 512,
    **options: Any,
) -> FSSAM:
    """Build a model in evaluation mode on the CPU.

    name: "toy", whose weights ship with the package; or a pair such as "sam2-small+dinov2-base": SAM 2 or 2.1 of a
        size in `sam2_config.CONFIGS`, and dense features of `registry.FEATURES` in `fss_lab.backbones` (DINOv2 with or
        without registers, DINOv3). "sam2-small@<commit>+dinov2-base@<commit>" pins what comes from the hub.
    fold: for "toy", 0..3, whose novel classes were kept out of training.
    weights: None or "random": no trained ones, for trials of speed and memory. For "toy": "fssam" (the default) is
        trained on the base classes of `fold`; "baseline" is the support-memory baseline trained equally long
        (memory="support"); "pretrained" has seen no Pictogram at all. For a pair: "pretrained" (the default) are
        Meta's published weights, which know nothing of few-shot segmentation yet; they come from the Hugging Face
        hub, once (`fss_lab.backbones.hub.fetch`).
    sam2_checkpoint, features_checkpoint: for a pair, files of yours instead: Meta's .pt files or .safetensors of SAM 2
        and DINOv2, or a directory as transformers saves it (of SAM 2 a `Sam2VideoModel`).
    image_size: side of the square input of a pair, in pixels.
    options: see `fss_lab.method.Options`, e.g. rounds=0 or calibration="off"; and precision="bfloat16" for the frozen
        encoders, see `FSSAM`.

    Raises InputError for an unknown name, fold or kind of weights; CheckpointError, InputError or FileNotFoundError
    that name the file for weights that are missing, cannot be fetched or do not fit.
    """
    weights = None if weights == "random" else weights
    if name == "toy":
        if sam2_checkpoint is not None or features_checkpoint is not None:
            raise InputError(
                'checkpoints are for a pair such as "sam2-small+dinov2-base"; "toy" brings its own weights'
            )
        return _load_toy(fold, "fssam" if weights == "default" else weights, options)
    sam2, _, dense = (part.partition("@") for part in name.partition("+"))
    if sam2[0] not in CONFIGS or dense[0] not in FEATURES:
        close = get_close_matches(name, ["toy", *(f"{one}+{other}" for one in CONFIGS for other in FEATURES)], 1)
        meant = f"; did you mean {close[0]!r}?" if close else ";"
        raise InputError(
            f'there is no model {name!r}{meant} use "toy" or a pair such as "sam2-small+dinov2-base" of '
            f"{', '.join(CONFIGS)} and {', '.join(FEATURES)}"
        )
    weights = "pretrained" if weights == "default" else weights
    if weights not in ("pretrained", None):
        raise InputError(
            f"weights of {name} are pretrained or random, got {weights!r}; for those trained for few-shot segmentation "
            "see fss_lab.load_authors_checkpoint and fss_lab.training.trainer.load_trained"
        )
    # both files first: a missing one is told before minutes go into building the other network
    sam2_source = _source(*sam2[::2], sam2_checkpoint, weights)
    features_source = _source(*dense[::2], features_checkpoint, weights)
    features = FEATURES[dense[0]].build(features_source)
    backbone = Sam2Backbone.build(sam2[0], image_size, sam2_source)
    note_origin(features, dense[0], features_source)
    note_origin(backbone, sam2[0], sam2_source)
    return FSSAM(backbone, features, **options)


def usable_device(name: str) -> torch.device:
    """A device that torch has here: "cpu", "cuda", "cuda:1", "mps", ...

    Raises InputError for one that torch does not know or that this machine lacks.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"there is no device {name!r}; expected cpu, cuda, cuda:1, mps, ...") from error
    remedy = 'choose device "cpu", or see `fss-lab doctor`'
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"torch finds {torch.cuda.device_count()} CUDA devices here, and no {name}; {remedy}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a build without it says so in its own way
        reason = str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")
        raise InputError(f"torch cannot use the device {name} here ({reason}); {remedy}") from error
    return device


def _source(name: str, revision: str, given: str | Path | None, weights: str | None) -> str | Path | None:
    """The file of one half of a pair: the given one, the published one, or None for random weights."""
    if revision and (given is not None or weights is None):
        raise InputError(f"{name}@{revision} asks for weights from the hub; leave @{revision} out with other weights")
    if given is not None:
        return given
    return None if weights is None else fetch(name, revision or None)


def _load_toy(fold: int, weights: str | None, options: dict[str, Any]) -> FSSAM:
    if fold not in TOY_FOLDS:
        raise InputError(f"fold must be one of 0, 1, 2, 3, got {fold!r}")
    if weights not in (*TOY_WEIGHTS, None):
        raise InputError(
            f"weights of the toy model are {', '.join(TOY_WEIGHTS)} or random, got {weights!r}; files of "
            "your own runs go to `fss-lab evaluate --weights` or fss_lab.evaluation.ToyWorld.load"
        )
    sam2, features = build_toy_sam2(), ToyFeatures().eval()
    for network, name in ((features, "toy_features.safetensors"), (sam2, "toy_sam2.safetensors")):
        note_origin(network, "toy", None if weights is None else name)
        if weights is not None:
            state = unpack(load_state(WEIGHTS / name))
            load_into(sam2.model if network is sam2 else features, state, source=WEIGHTS / name)
    if weights == "baseline":
        options = {"memory": "support", **options}
    model = FSSAM(sam2, features, **options)
    model.click_warning = "the toy model was trained to remember, not to answer clicks: its masks here mean little"
    if weights in ("fssam", "baseline"):
        source = WEIGHTS / f"toy_fold{fold}_{weights}.safetensors"
        trained = load_state(source)
        expected = {key for key, _ in model.trainable_parameters()}
        if set(trained) != expected:
            raise CheckpointError(f"{source} does not hold the trained parameters of the toy model; reinstall fss_lab")
        load_into(sam2.model, sam2.model.state_dict() | trained, source=source)
    if weights == "fssam" and model.options == Options():
        model.presence = Presence.load(WEIGHTS / "toy_presence.json")
    return model
