"""Training FSSAM on a fold's base classes: one plain loop, shared with pre-training."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from fss_lab.checkpoints import save_safetensors
from fss_lab.datasets.pictograms import Pictograms
from fss_lab.episode import collate
from fss_lab.evaluation import evaluate
from fss_lab.losses import dice_loss
from fss_lab.method import FSSAM
from fss_lab.models import load_model

Losses = dict[str, Tensor]  # by name; "loss" is minimised, the others are only logged
LOG_EVERY = 20  # steps


def cosine(step: int, steps: int) -> float:
    """Learning-rate factor: 50 steps of warm-up, then half a cosine down to 0."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))


def poly(step: int, steps: int) -> float:
    """Learning-rate factor (1 - step / steps)^0.9, the paper's."""
    return (1 - step / steps) ** 0.9


def run_loop(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    compute_losses: Callable[[int], Losses],
    directory: Path,
    *,
    steps: int,
    learning_rate: float,
    schedule: Callable[[int, int], float],
    weight_decay: float = 0.0,
    clip: float = math.inf,
    seed: int = 0,
    save_every: int = 100,
) -> None:
    """Minimise the losses of steps 0 .. steps - 1 with AdamW.

    A step's data and dropout depend on nothing but (seed, step), so a run that is started again in the same
    `directory` goes on from its last checkpoint, `last.pt`. The log, means over 20 steps, is `log.csv`.

    Raises FloatingPointError when a loss is not finite, before it reaches the weights.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint = directory / "last.pt"
    parameters = list(parameters)
    optimiser = torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay)
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    started, sums = time.monotonic(), dict[str, float]()
    for step in range(first, steps):
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * schedule(step, steps)
        losses = compute_losses(step)
        if not torch.isfinite(losses["loss"]):
            raise FloatingPointError(f"the loss of step {step} is {losses['loss'].item()}; lower the learning rate")
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        done = step + 1
        if done % LOG_EVERY == 0 or done == steps:
            count = (done - 1) % LOG_EVERY + 1
            means = {name: round(value / count, 4) for name, value in sums.items()}
            _log(
                directory / "log.csv",
                {"step": done, **means, "seconds": round(time.monotonic() - started, 1)},
            )
            sums.clear()
        if done % save_every == 0 or done == steps:
            aside = checkpoint.with_suffix(".part")
            torch.save({"step": done, "model": model.state_dict(), "optimiser": optimiser.state_dict()}, aside)
            os.replace(aside, checkpoint)


def train(
    directory: Path,
    *,
    fold: int,
    steps: int = 250,
    batch_size: int = 8,
    learning_rate: float = 3e-4,
    shots: int = 1,
    seed: int = 321,
    validation_episodes: int = 100,
) -> dict[str, FSSAM]:
    """Train the toy FSSAM of a fold on its base classes, and beside it the support-memory baseline.

    Both start from the same pre-trained weights and see the same episodes. As in the paper (Sec. Implementation
    Details): Dice loss, AdamW without weight decay, poly schedule; memory encoder, memory attention and mask decoder
    learn. Novel classes are never looked at. Writes into `directory`: `log.csv`, `last.pt` and at the end
    `fssam.safetensors` and `baseline.safetensors` (what was trained, in half precision); prints the mIoU of both on
    `validation_episodes` held-out base-class episodes.

    Returns the trained models by name. Raises ValueError for an unknown fold or fewer than 1 shot.
    """
    models = {
        "fssam": load_model("toy", weights="pretrained").freeze().train(),
        "baseline": load_model("toy", weights="pretrained", memory="support").freeze().train(),
    }
    episodes = Pictograms(fold, "base", shots, seed, episodes=steps * batch_size)

    def losses(step: int) -> Losses:
        batch = collate([episodes[step * batch_size + i] for i in range(batch_size)])
        encoded = models["fssam"].encode(batch)  # frozen, the same for both
        each = {name: dice_loss(model.predict(encoded).logits, batch.query_masks) for name, model in models.items()}
        return {"loss": torch.stack(list(each.values())).sum(), **each}

    trained = {name: dict(model.trainable_parameters()) for name, model in models.items()}
    run_loop(
        nn.ModuleDict(models), [p for own in trained.values() for p in own.values()], losses, directory,
        steps=steps, learning_rate=learning_rate, schedule=poly, seed=seed,
    )  # fmt: skip
    for model in models.values():
        model.eval()
    scores = evaluate(models, Pictograms(fold, "base", shots, seed + 1, episodes=validation_episodes))
    for name, own in trained.items():
        print(
            f"fold {fold}, {name}: {100 * scores[name].miou:.1f} mIoU on {validation_episodes} held-out base episodes"
        )
        facts = {
            "fold": fold, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "shots": shots,
            "seed": seed, "validation_miou": round(scores[name].miou, 4), "validation_episodes": validation_episodes,
        }  # fmt: skip
        save_safetensors(
            directory / f"{name}.safetensors",
            {key: parameter.half() for key, parameter in own.items()},
            {key: str(value) for key, value in facts.items()},
        )
    return models


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
