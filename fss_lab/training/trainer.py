"""Training FSSAM, or the baseline it starts from, on a fold's base classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm.auto import tqdm

from fss_lab.backbones.cache import FeatureCache
from fss_lab.backbones.checkpoints import load_metadata, load_run_file, load_state, load_tensors, save_safetensors
from fss_lab.backbones.toy import IMAGE_SIZE
from fss_lab.datasets.augmentation import Augmentation
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.protocols import BENCHMARKS, ListedEpisodes, draw_episodes
from fss_lab.datasets.training_episodes import TrainingEpisodes
from fss_lab.episode import EpisodeBatch, Episodes, Subset
from fss_lab.errors import CheckpointError
from fss_lab.evaluation.scoring import evaluate
from fss_lab.figures.results import curves_figure
from fss_lab.files import write_atomically
from fss_lab.method import FSSAM
from fss_lab.method.options import options_of
from fss_lab.metrics import SegmentationScore
from fss_lab.models.load import load_model
from fss_lab.models.provenance import Facts, check_frozen, frozen_networks
from fss_lab.toyworld.pictograms import Pictograms
from fss_lab.training.batches import EpisodeBatches
from fss_lab.training.checkpoints import only_run_in
from fss_lab.training.config import TrainConfig
from fss_lab.training.devices import make_fabric, precision_of, sum_of_processes
from fss_lab.training.facts import check_same_run, facts_of, read_config
from fss_lab.training.log import read_log
from fss_lab.training.loop import run_loop
from fss_lab.training.losses import dice_loss
from fss_lab.training.optimisers import OPTIMISERS, SCHEDULES
from fss_lab.training.run import Learner, Losses, Progress, Run, Validation
from fss_lab.training.seeds import seed_all


@dataclass(frozen=True)
class TrainResult:
    """model: with its best weights, in evaluation mode. progress: where the run ended, and its best score (mIoU on
    held-out base-class episodes, in 0..1) if there were validations. weights: the file of the trained parameters."""

    model: FSSAM
    progress: Progress
    weights: Path


def train(config: TrainConfig, directory: str | Path) -> TrainResult:
    """Train one model as `config` says, or resume the run in `directory` (Sec. Implementation Details).

    The loss is Dice; the frozen networks run without gradient. The best weights are those with the highest mIoU on
    episodes of base classes drawn with another seed; novel classes are never looked at. Writes into `directory`:
    `run.yaml`, `log.csv`, `validation.csv`, `last.pt`, `best.pt`, on request `tensorboard/`, and at the end
    `weights.safetensors` (what was trained, in half precision; see `load_trained`) and `curves.png`. With several
    processes, all return.

    Raises:
        InputError: a data set, fold, pattern or batch size that cannot be.
        RunError: the directory is another run's or in use, a device is missing, memory or the disk is full.
        CheckpointError, FileError: a weight file or checkpoint cannot be read or written.
        NotFiniteError: a loss or gradient is not finite; it has not reached the weights.
        MissingPackageError: an option needs a package that is not installed.
    """
    directory = Path(directory)
    total = config.steps * config.batch_size
    data = base_episodes(config, min(total, config.pool or total), config.seed)
    fabric = make_fabric(config)
    model = _build(config, fabric.device)
    fabric.print(trainable_table(model))
    fabric.print(f"{fabric.world_size} process(es) on {fabric.device.type}, precision {precision_of(fabric)}")
    trained = dict(model.trainable_parameters(config.trainable))
    cached = config.cache or config.cache_directory
    cache = FeatureCache(config.cache_megabytes * 10**6, config.cache_directory) if cached else None
    batches = EpisodeBatches(
        data, config.batch_size, config.steps, accumulate=config.accumulate, rank=fabric.global_rank,
        processes=fabric.world_size, workers=config.workers, seed=config.seed,
    )  # fmt: skip
    facts = facts_of(config, frozen_networks(model, trained), getattr(getattr(data, "images", None), "facts", {}))
    run = Run(
        directory, facts, config.steps, seed=config.seed,
        accumulate=config.accumulate, save_every=config.save_every, tensorboard=config.tensorboard,
    )  # fmt: skip
    learner = Learner(
        lambda batch: episode_losses(model, batch, cache), list(trained.values()), trained,
        OPTIMISERS[config.optimiser](trained.values(), config.learning_rate, config.weight_decay),
        SCHEDULES[config.schedule],
    )  # fmt: skip
    with only_run_in(directory, fabric):
        progress = run_loop(fabric, run, learner, batches, _validation(fabric, model, config, cache))
        return _finish(fabric, run, config, model, learner, progress)


def episode_losses(model: FSSAM, batch: EpisodeBatch, cache: FeatureCache | None = None) -> Losses:
    """The Dice loss of a batch of episodes, at the model's image size; pixels of 255 count as background.

    cache: of the frozen features of images.
    """
    encoded = model.encode(batch, cache, priors=model.options.guesses)
    assert encoded.query_masks is not None
    return {"loss": dice_loss(model.predict(encoded).logits, encoded.query_masks.squeeze(1).bool())}


def base_episodes(config: TrainConfig, episodes: int, seed: int, held_out: bool = False) -> Episodes:
    """Episodes of the base classes of the configured fold.

    held_out: to validate on. For photographs these come from images of the data set's "val" list that show no novel
    class, so that no image of training or of the test is among them, drawn as in the fssam protocol and not augmented.
    In Pictograms every seed has its own scenes.

    Raises:
        InputError, DataError: an unknown data set, or one that lacks images.
    """
    if config.dataset == "pictograms":
        return Pictograms(config.fold, "base", config.shots, seed, episodes=episodes)
    part = "val" if held_out else "train"
    images = open_photos(
        config.dataset, config.data_root, config.fold, "base", part=part, skip_bad=config.skip_bad,
        protocol="fssam" if held_out else config.protocol, folds=config.folds,
    )  # fmt: skip
    size = IMAGE_SIZE if config.model == "toy" else config.image_size
    if held_out:
        return ListedEpisodes(draw_episodes(BENCHMARKS["fssam"], images, config.shots, episodes, seed), images, size)
    record = DATASETS[config.dataset]
    augmentation = Augmentation(size, record.scales, shrink=record.any_size) if config.augment else None
    return TrainingEpisodes(images, config.shots, seed, episodes=episodes, size=size, augmentation=augmentation)


def trainable_table(model: FSSAM) -> str:
    """How many parameters of each part of SAM 2 require a gradient, and the dense features, as a text table."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.sam2.model.named_parameters():
        part = name.split(".")[0] if "." in name else "single tensors"
        parts.setdefault(part, []).append(parameter)
    if model.features is not None:
        parts["dense features"] = list(model.features.parameters())
    parts["together"] = [parameter for parameters in parts.values() for parameter in parameters]
    lines = [f"{'module':<22} {'trained':>12} {'of':>12} parameters"]
    for part, parameters in parts.items():
        count = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        lines.append(f"{part:<22} {count:>12,} {sum(parameter.numel() for parameter in parameters):>12,}")
    return "\n".join(lines)


def load_trained(directory: str | Path) -> FSSAM:
    """The model of a finished run, from its `run.yaml` and `weights.safetensors`, on the CPU in evaluation mode.

    Raises:
        RunError: a file is missing, of another run, or was trained with other frozen networks than there are now.
        CheckpointError: the weights cannot be read or do not fit the model.
    """
    directory = Path(directory)
    config, path = read_config(directory / "run.yaml"), directory / "weights.safetensors"
    metadata = load_metadata(path)
    if "config" not in metadata:
        raise CheckpointError(f"{path} was not written by `fss_lab.training.train`; `load_model` takes other weights")
    plain = json.loads(metadata["config"])
    check_same_run(Facts.of(plain), facts_of(config), path)
    model = _build(config, torch.device("cpu")).requires_grad_(False).eval()
    trained = dict(model.trainable_parameters(config.trainable))
    check_frozen(plain, model, trained, path)
    load_tensors(trained, load_state(path), source=path)
    return model


def _build(config: TrainConfig, device: torch.device) -> FSSAM:
    """The configured model in training mode, its trained parameters requiring gradients."""
    seed_all(config.seed)
    model = load_model(
        config.model, fold=config.fold, weights=config.weights, sam2_checkpoint=config.sam2_checkpoint,
        features_checkpoint=config.features_checkpoint, image_size=config.image_size, **options_of(vars(config)),
    )  # fmt: skip
    if config.dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.dropout
            elif hasattr(module, "dropout_p"):
                vars(module)["dropout_p"] = config.dropout  # SAM 2's attention; a plain number in it
    return model.to(device).freeze(config.trainable).train()


def _validation(fabric: Fabric, model: FSSAM, config: TrainConfig, cache: FeatureCache | None) -> Validation | None:
    """The configured scores on held-out base-class episodes, shared out among the processes."""
    if not config.validate_every:
        return None
    data = base_episodes(config, config.validation_episodes, config.validation_seed, True)
    share = Subset(data, range(fabric.global_rank, len(data), fabric.world_size))
    at_once = config.batch_size // (fabric.world_size * config.accumulate)  # as many as fit in training
    warned = False

    def scores() -> dict[str, float]:
        nonlocal warned
        model.eval()
        with fabric.autocast():
            part = evaluate({"": model}, share, batch_size=at_once, cache=cache)[""]
        model.train()
        score = SegmentationScore(data.classes, part.counts)  # all processes count the same classes
        whole = score.over_processes(lambda sums: sum_of_processes(fabric, sums))
        if whole.untested and not warned and fabric.is_global_zero:
            warned = True
            tqdm.write(
                f"the validation episodes show {len(data.classes) - len(whole.untested)} of {len(data.classes)} base "
                "classes, and their mIoU is the mean over these; more --validation-episodes show all"
            )
        return {"miou": whole.of_tested().miou, "fb_iou": whole.fb_iou}

    return Validation(scores, config.validate_every, config.patience)


def _finish(
    fabric: Fabric, run: Run, config: TrainConfig, model: FSSAM, learner: Learner, progress: Progress
) -> TrainResult:
    """Give the model its best weights, and write `weights.safetensors` and `curves.png`."""
    directory, weights = run.directory, run.directory / "weights.safetensors"
    if progress.best_step >= 0:
        best = directory / "best.pt"
        advice = f"{directory / 'last.pt'} has the weights of the last step, `fss-lab evaluate --weights` takes it too"
        load_tensors(learner.state, load_run_file(best, advice=advice)["model"], source=best)
    if fabric.is_global_zero:
        step = progress.best_step if progress.best_step >= 0 else progress.step
        metadata = {"config": json.dumps(run.facts.plain()), "fold": str(config.fold), "step": str(step)}
        if progress.best_step >= 0:
            metadata["validation_miou"] = f"{progress.best_score:.4f}"
        save_safetensors(weights, {name: tensor.half() for name, tensor in learner.state.items()}, metadata)
        log, validation = (read_log(directory / f"{name}.csv") for name in ("log", "validation"))
        if log:  # unless somebody has removed it
            write_atomically(directory / "curves.png", curves_figure(log, validation).png())
        if validation:
            fabric.print(
                f"mIoU on {config.validation_episodes} held-out base-class episodes: {100 * validation[0]['miou']:.1f} "
                f"after step {validation[0]['step']:.0f}, best {100 * progress.best_score:.1f} after step {step}; see "
                f"{directory / 'curves.png'}"
            )
    fabric.barrier()
    return TrainResult(model.eval(), progress, weights)
