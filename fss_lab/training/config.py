"""What a training run is: every option with its default and its help, the two profiles, and `run.yaml`.

Imports nothing heavy, because the command line makes its options from `TrainConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from fss_lab.datasets.catalogue import DATASETS
from fss_lab.datasets.folds import FOLDS
from fss_lab.errors import InputError
from fss_lab.method.options import TRAINABLE, Options, check_option, option
from fss_lab.training.optimisers import OPTIMISERS, SCHEDULES


@dataclass(frozen=True)
class TrainConfig(Options):
    """One training run, completely, the method's options first. The defaults are the toy profile; see `profile` for
    the paper's.

    Raises:
        InputError: a value outside what its help allows.
    """

    model: str = option(
        "toy", '"toy", or a pair with published weights such as sam2-small+dinov2-base; @COMMIT after a half pins it'
    )
    weights: str = option(
        "pretrained",
        "start from: pretrained; for toy also fssam or baseline; random: nothing learnt, for trials of speed",
    )
    sam2_checkpoint: str | None = option(None, "for a pair: your own SAM 2 weights, file or directory", type=str)
    features_checkpoint: str | None = option(None, "for a pair: your own DINOv2 weights, file or directory", type=str)
    image_size: int = option(512, "for a pair: side of the square input, in pixels", least=16)
    dataset: str = option("pictograms", f"whose base classes to train on: pictograms, {', '.join(DATASETS)}")
    data_root: str | None = option(None, "folder of the photographs; not given: data/ of the clone", type=str)
    augment: bool = option(True, "photographs: a new view each time (scale, rotate, blur, mirror, crop)")
    skip_bad: bool = option(False, "photographs: leave bad files out and list them, instead of refusing")
    protocol: str = option(
        "fssam",
        "photographs: which may be trained on; fssam leaves out those that show a novel class, hsnet keeps them",
        choices=("fssam", "hsnet"),
    )
    fold: int = option(0, "whose novel classes are kept out: 0 to 3, or as many as the data set has", least=0)
    folds: str | None = option(
        None,
        "folder: YAML or JSON file with the classes that each fold keeps out, in lines such as `0: [mug, shoe]`; not "
        "given: four folds, drawn by the names of the classes",
        type=str,
        metavar="FILE",
    )
    shots: int = option(1, "supports per episode", least=1)
    pool: int = option(0, "go round this many episodes, shuffled each time; 0: never show one twice", least=0)
    trainable: str | tuple[str, ...] = option(
        "paper",
        "paper (memory encoder, memory attention, mask decoder), memory_encoder, as_published (norm scales, "
        "layer-scale gammas and tokens, as the published code), or patterns of parameter names",
        several=True,
    )
    dropout: float | None = option(None, "dropout of the trained parts; not given: SAM 2's own", type=float, least=0)
    steps: int = option(40, "optimiser steps", least=1)
    batch_size: int = option(8, "episodes a step, over all devices and accumulated parts together", least=1)
    accumulate: int = option(1, "parts in which a device works through its share of a step, to save memory", least=1)
    optimiser: str = option("adamw", "adamw, the paper's; sgd has momentum 0.9", choices=tuple(OPTIMISERS))
    learning_rate: float = option(3e-4, "of the optimiser, at the start", least=0)
    weight_decay: float = option(0.0, "of the optimiser, for all parameters", least=0)
    schedule: str = option(
        "poly", "learning rate: poly is (1 - step / steps)^0.9, cosine has a warm-up", choices=tuple(SCHEDULES)
    )
    seed: int = option(321, "chooses the episodes and dropout", least=0)
    precision: str = option(
        "auto",
        "auto: bfloat16 mixed where a CUDA device has it, else float32",
        choices=("auto", "32-true", "bf16-mixed"),
    )
    validate_every: int = option(40, "steps between validations on held-out base-class episodes; 0: never", least=0)
    validation_episodes: int = option(40, "episodes of a validation", least=1)
    validation_seed: int = option(
        10_000, "chooses them (of photographs their classes and supports); the same for all runs compared", least=0
    )
    patience: int = option(0, "stop after this many validations without a better one; 0: never", least=0)
    save_every: int = option(20, "steps between checkpoints", least=1)
    cache: bool = option(False, "remember the frozen features of images (worth it with a pool, or without augment)")
    cache_megabytes: int = option(
        4000, "memory for these features: at full size an image takes 9 MB, with toy models 0.8 MB", least=1
    )
    cache_directory: str | None = option(
        None, "remember them in this folder too, for other processes and runs: 9 MB an image at full size", type=str
    )
    accelerator: str = option("auto", "auto: CUDA where there is one, else the CPU", choices=("auto", "cpu", "cuda"))
    devices: str = option(
        "1", "how many devices of a node; auto: all GPUs, or one CPU process; torchrun chooses itself"
    )
    nodes: int = option(1, "how many machines; start the command on each, see `fabric run` or torchrun", least=1)
    strategy: str = option("auto", "ddp: one process a device, even on the CPU", choices=("auto", "ddp"))
    workers: int = option(0, "processes that prepare episodes for each device; 0: the loop does it itself", least=0)
    tensorboard: bool = option(False, "also write the log for TensorBoard, which needs pip install fss-lab[tracking]")

    def __post_init__(self) -> None:
        for item in fields(self):
            name, value, rules = item.name, getattr(self, item.name), item.metadata
            if name == "trainable" and not isinstance(value, str):
                object.__setattr__(self, name, _patterns(value))
                continue
            if type(value) is int and (rules["type"] is float or name == "devices"):
                value = rules["type"](value)
                object.__setattr__(self, name, value)
            if value is not None or item.default is not None:
                check_option(item, value)
        record = DATASETS.get(self.dataset)
        folds = record.folds if record else FOLDS
        if folds is not None and self.fold >= folds:
            raise InputError(f"fold must be one of {tuple(range(folds))}, got {self.fold!r}")
        if self.memory == "none":
            raise InputError('memory="none" has nothing to train; choose pseudo or support')
        if self.dropout is not None and self.dropout >= 1:
            raise InputError(f"dropout must be below 1, got {self.dropout!r}")
        if self.devices != "auto" and not (self.devices.isdigit() and int(self.devices) > 0):
            raise InputError(f'devices must be "auto" or a number of at least 1, got {self.devices!r}')
        if self.seed == self.validation_seed:
            raise InputError(f"seed and validation_seed must differ, both are {self.seed}: validate on other episodes")
        if self.patience and not self.validate_every:
            raise InputError("patience needs validations: set validate_every, or patience to 0")


def _patterns(value: Any) -> str | tuple[str, ...]:
    """The patterns as a tuple; a list of one word is that word."""
    patterns = tuple(value) if isinstance(value, list | tuple) else ()
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(f"trainable must be a word or one or more patterns of parameter names, got {value!r}")
    return patterns[0] if len(patterns) == 1 and patterns[0] in TRAINABLE else patterns


PROFILES: dict[str, dict[str, Any]] = {
    "toy": {},
    "paper": {
        "model": "sam2-small+dinov2-base",
        "dataset": "pascal",
        "learning_rate": 1e-3,
        "devices": "auto",
        "workers": 4,
        "validate_every": 2000,
        "validation_episodes": 1000,
        "save_every": 500,
    },
}
"""What each profile changes of `TrainConfig`'s defaults. toy: a minute on a laptop; the shipped toy weights came from
it with the changes that their model card lists. paper: the recipe of the paper (Sec. Implementation Details), 2
episodes on each of 4 GPUs."""


def profile(name: str = "toy", **changes: Any) -> TrainConfig:
    """A profile with changes, e.g. `profile("paper", fold=2, devices=4)`.

    The paper's steps follow from its epochs and the images of the fold.

    Raises:
        InputError: the profile is unknown, `TrainConfig` refuses a value, or the paper's profile has no `steps` on
            another data set or protocol.
    """
    if name not in PROFILES:
        raise InputError(f"profile must be one of {tuple(PROFILES)}, got {name!r}")
    options = {**PROFILES[name], **changes}
    if name == "paper" and "steps" not in options:
        dataset, fold = options["dataset"], options.get("fold", 0)
        protocol = options.get("protocol", TrainConfig.protocol)
        record = DATASETS.get(dataset)
        if record is None or record.epochs is None or fold not in range(len(record.published)) or protocol != "fssam":
            raise InputError(
                f"the paper has no number of epochs for {dataset!r}, fold {fold!r}, protocol {protocol!r}; give the "
                "steps"
            )
        batch_size = options.get("batch_size", TrainConfig.batch_size)
        options["steps"] = record.epochs * record.published[fold].training_images // batch_size
    return TrainConfig(**options)
