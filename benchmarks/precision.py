"""Ways to run the frozen encoders on a CPU, their gain and their price: python benchmarks/precision.py [--compile]

Gain: CPU seconds of both encoders on one image at full size with random weights, measured in turns. Price: the relative
error of the features there; and with the shipped toy model, treated the same way, how many masks change by how much and
what that does to the mIoU on novel classes. `speed.py` beside it measures everything else.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from speed import Fold, build, in_turns, median, processor
from torch import Tensor, nn

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.episode import collate
from fss_lab.metrics import SegmentationScore, iou

PAIR = "sam2-small+dinov2-base"
OTHERS = ("sam2-small+dinov2-with-registers-base", "sam2-small+dinov2-small")  # other features: no error can be given


@dataclass(frozen=True)
class Way:
    """How to prepare a model, and what to run it in."""

    prepare: Callable[[FSSAM], FSSAM] = copy.deepcopy
    context: Callable[[], AbstractContextManager[Any]] = nullcontext


def lowered(model: FSSAM) -> FSSAM:
    """`precision="bfloat16"`."""
    model = model.variant()
    model.precision = "bfloat16"
    return model


def channels_last(model: FSSAM) -> FSSAM:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def int8(model: FSSAM) -> FSSAM:
    """8-bit weights of every linear layer; activations are quantised as they come."""
    model = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but what torch itself has
        for parent, name in _encoders(model):
            lower = torch.ao.quantization.quantize_dynamic(getattr(parent, name), {nn.Linear}, dtype=torch.qint8)
            setattr(parent, name, lower)
    return model


def compiled(model: FSSAM) -> FSSAM:
    model = copy.deepcopy(model)
    for parent, name in _encoders(model):
        getattr(parent, name).compile()
    return model


def _encoders(model: FSSAM) -> list[tuple[nn.Module, str]]:
    """Both encoders as attributes of their parents."""
    features = (model.features, "model") if hasattr(model.features, "model") else (model, "features")
    return [(model.sam2.model, "image_encoder"), features]


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


WAYS = {
    "float32": Way(),
    "inference mode": Way(context=torch.inference_mode),
    "channels-last": Way(channels_last),
    'bfloat16, precision="bfloat16"': Way(lowered),
    "bfloat16, autocast round everything": Way(context=_autocast),
    "int8, linear layers, dynamic": Way(int8),
}
COMPILED = {"torch.compile": Way(compiled), "torch.compile and bfloat16": Way(lambda model: compiled(lowered(model)))}


def full_size(ways: dict[str, Way], rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds an image, and the relative error of the features of SAM 2 (the worst level) and DINOv2."""
    images = list(Fold(1, 2, 512).images[:1])
    models = {name: way.prepare(build(PAIR)) for name, way in ways.items()}
    contexts = {name: way.context for name, way in ways.items()}
    models |= {name: build(name) for name in OTHERS}

    @torch.no_grad()
    def run(name: str) -> dict[str, Tensor]:
        with contexts.get(name, nullcontext)():
            return models[name]._run_encoders(images, chunk=1, dense=True)

    features = {name: run(name) for name in models}  # also compiles
    times = in_turns({name: lambda _, name=name: run(name) for name in models}, rounds, torch.device("cpu"))
    rows = {name: {"seconds": median(values)} for name, values in times.items()}
    for name in ways:
        errors = {part: _error(features[name][part], exact) for part, exact in features["float32"].items()}
        rows[name] |= {"error of DINOv2": errors.pop("dense"), "error of SAM 2": max(errors.values())}
    return rows


def _error(found: Tensor, exact: Tensor) -> float:
    return ((found.float() - exact).norm() / exact.norm()).item()


def toy(ways: dict[str, Way], episodes: int) -> dict[str, dict[str, float]]:
    """Of the shipped toy models on novel classes of all folds: pixels and masks that change, and the mIoU."""
    rows: dict[str, dict[str, float]] = {name: {"pixels": 0.0, "IoU with float32": 0.0, "mIoU": 0.0} for name in ways}
    for fold in range(4):
        models = {name: way.prepare(load_model("toy", fold=fold)) for name, way in ways.items()}
        data = Pictograms(fold, episodes=episodes // 4)
        scores = {name: SegmentationScore(data.classes) for name in ways}
        for index in range(len(data)):
            episode, exact = data[index], None
            for name, way in ways.items():
                with torch.no_grad(), way.context():
                    mask = models[name](collate([episode])).logits[0] > 0
                exact = mask if exact is None else exact
                rows[name]["pixels"] += (mask != exact).float().mean().item() / episodes
                same = 1.0 if mask.equal(exact) else iou(mask, exact.to(torch.uint8)).item()  # also for no mask at all
                rows[name]["IoU with float32"] += same / episodes
                scores[name].update(mask, episode.query_mask, episode.class_id)
        for name in ways:
            rows[name]["mIoU"] += 100 * scores[name].of_tested().miou / 4
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is measured (default 3)")
    parser.add_argument("--episodes", type=int, default=400, help="of the toy, all folds together (default 400)")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument("--part", choices=("full size", "toy"), help="one of the two tables (default: both)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{processor()}, {arguments.threads} thread(s), torch {torch.__version__}, {arguments.rounds} rounds\n")
    if arguments.part != "toy":
        columns = ("seconds", "error of SAM 2", "error of DINOv2")
        print(f"| encoders | {' | '.join(columns)} | over float32 |\n|---|---|---|---|---|", flush=True)
        rows = full_size({**WAYS, **(COMPILED if arguments.compile else {})}, arguments.rounds)
        for name, row in rows.items():
            cells = " | ".join(f"{row[column]:.2g}" if column in row else "" for column in columns)
            print(f"| {name} | {cells} | {row['seconds'] / rows['float32']['seconds']:.2f} |", flush=True)
    if arguments.part != "full size":
        print("\n| toy | pixels that change | IoU with float32's masks | mIoU |\n|---|---|---|---|")
        for name, row in toy(WAYS, arguments.episodes).items():
            print(f"| {name} | {row['pixels']:.1e} | {row['IoU with float32']:.4f} | {row['mIoU']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
