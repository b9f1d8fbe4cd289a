"""Times at full size on a CPU, with random weights: python benchmarks/speed.py [--growth] [--json speed.json]

Times are CPU seconds, which other programs on the machine hardly change; with one thread they are what a clock shows on
a quiet machine. What is compared is measured in turns, round after round, so that a change of pace hurts all alike;
reported are medians, and ratios to the floor, the two encoders alone. Tests never run this. `precision.py` beside it
compares ways to run the encoders, `gpu.py` measures a card.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fss_lab import FSSAM, Episode, __version__, load_model
from fss_lab.backbones.cache import FeatureCache
from fss_lab.episode import EpisodeBatch, collate
from fss_lab.evaluation.scoring import evaluate
from fss_lab.training.losses import dice_loss

FOLD_EPISODES, FOLD_IMAGES = 1000, 364  # fold 0 of PASCAL-5i
SIZES, SHOTS = (256, 512, 768, 1024), (2, 5)  # what --growth measures

Rows = dict[str, float]
Task = Callable[[], object]


class Fold:
    """Episodes over few images, as a benchmark has them: queries in order, wrapping, each with another as support."""

    classes = (0,)

    def __init__(self, episodes: int, images: int, size: int, shots: int = 1) -> None:
        self.shots = shots
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
        self.mask = torch.zeros(size, size, dtype=torch.uint8)
        self.mask[size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
        self.supports = torch.randint(1, images, (episodes,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.supports)

    def __getitem__(self, index: int) -> Episode:
        query = index % len(self.images)
        first = query + self.supports[index]
        supports = self.images[[(first + shot) % len(self.images) for shot in range(self.shots)]]
        return Episode(self.images[query], self.mask, supports, self.mask.expand(self.shots, -1, -1), 0, "random")

    def part(self, number: int, parts: int) -> Fold:
        """Part `number` of `parts`, of the same images."""
        other = copy.copy(self)
        first, last = (len(self) * i // parts for i in (number, number + 1))
        other.supports = self.supports[first:last]
        other.images = self.images.roll(-first, 0)
        return other


def build(name: str, size: int = 512) -> FSSAM:
    """A frozen model with random weights; "toy", which has a size of its own, to try this script in seconds."""
    torch.manual_seed(0)
    return load_model(name, weights=None, image_size=size).requires_grad_(False)


def seconds(task: Task, device: torch.device) -> float:
    """On a CPU the CPU time of all threads; on a card wall time, with everything finished that was handed to it."""
    if device.type != "cuda":
        start = time.process_time()
        task()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    task()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def median(times: Sequence[float]) -> float:
    """Of at least one time."""
    return statistics.median(times)


def in_turns(tasks: Mapping[str, Callable[[int], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Times of each task (told the number of the round) in `rounds` rounds."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name, task in tasks.items():
            times[name].append(seconds(lambda task=task, number=number: task(number), device))
    return times


def stock_encoders(model: FSSAM, images: Tensor) -> Task:
    """Both encoders of their packages, alone, on as many images that are resized and normalised already."""
    small = torch.randn(len(images), 3, model.sam2.image_size, model.sam2.image_size, device=images.device)
    dense = getattr(model.features, "model", model.features)  # inside Dinov2Features
    large = torch.randn(len(images), 3, 560, 560, device=images.device)

    def run() -> None:
        model.sam2.model.forward_image(small)
        dense(large)

    return run


def training_step(model: FSSAM, batch: EpisodeBatch, cache: FeatureCache | None) -> Task:
    """One step of AdamW on all trained parameters."""
    parameters = [parameter for _, parameter in model.freeze().trainable_parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-5, weight_decay=0.0)
    targets = batch.query_masks.to(model.device)

    def run() -> None:
        optimiser.zero_grad()
        dice_loss(model.predict(model.encode(batch, cache)).logits, targets).backward()
        optimiser.step()

    return run


def peak_memory() -> float | None:
    """The largest memory of this process so far in GiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """What the machine reaches on a large square matrix product, in FLOP/s."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(seconds(lambda: a @ b, device) for _ in range(6))
    return 2 * size**3 / best


def _lowered(task: Task) -> None:
    """Under autocast, in a context of its own: what one keeps of the weights must not outlive a training step."""
    with torch.autocast("cpu", torch.bfloat16):
        task()


def count_flops(task: Task) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions in a task."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():  # not inference_mode, which hides linear layers from the counter
        task()
    return counter.get_total_flops()


def inference_times(model: FSSAM, rounds: int, episodes: int) -> dict[str, Any]:
    """The encoders alone, and episodes in the ways one can meet them; seconds."""
    fold = Fold(episodes, max(2, round(episodes * FOLD_IMAGES / FOLD_EPISODES)), model.sam2.image_size)
    batch = collate([fold[0]])
    images = torch.cat([batch.query_images, batch.support_images[0]]).to(model.device)
    seen, fold_cache = FeatureCache(), FeatureCache()
    support = model.remember(list(fold[0].support_images), list(fold[0].support_masks))

    @torch.inference_mode()
    def episode(cache: FeatureCache | None) -> None:
        model.predict(model.encode(batch, cache))

    def evaluate_part(number: int) -> None:
        if number > 0:  # round 0 warms up
            evaluate({"": model}, fold.part(number - 1, rounds), batch_size=1, cache=fold_cache)

    floor = stock_encoders(model, images)
    times = in_turns(
        {
            "the two stock encoders alone, query and support (floor)": lambda _: torch.inference_mode()(floor)(),
            "episode, cold": lambda _: episode(None),
            "episode, support remembered": lambda _: model.segment(fold[0].query_image, support),
            "episode, both images in the cache (all but the encoders)": lambda _: episode(seen),
            "episode, cold, bfloat16": lambda _: _lowered(lambda: episode(None)),
            "all but the encoders, bfloat16": lambda _: _lowered(lambda: episode(seen)),
            "fold": evaluate_part,
        },
        rounds + 1,
        model.device,
    )
    spent = sum(times.pop("fold")[1:])
    features = model.extract(batch)
    flops = {
        "encoders": count_flops(floor),
        "all but the encoders": count_flops(lambda: model.predict(model.encode(features))),
    }
    return {
        "seconds": {name: median(each[1:]) for name, each in times.items()},
        "fold": {
            "episodes": episodes,
            "images": len(fold.images),
            "hits": fold_cache.hits,
            "misses": fold_cache.misses,
            "seconds": spent,
            f"seconds for {FOLD_EPISODES} episodes": spent * FOLD_EPISODES / episodes,
        },
        "flops of an episode": flops,
    }


def training_times(model: FSSAM, rounds: int) -> Rows:
    """A training step of one episode without and with cached features."""
    batch = collate([Fold(1, 2, model.sam2.image_size)[0]])
    model.train()
    tasks = {
        "training step, batch 1": training_step(model, batch, None),
        "training step, batch 1, features in the cache": training_step(model, batch, FeatureCache()),
    }
    lowered = training_step(model, batch, FeatureCache())
    tasks["training step, batch 1, features in the cache, bfloat16"] = lambda: _lowered(lowered)
    times = in_turns({name: lambda _, task=task: task() for name, task in tasks.items()}, rounds + 1, model.device)
    model.eval()
    return {name: median(each[1:]) for name, each in times.items()}


def growth(name: str, rounds: int, sizes: Sequence[int] = SIZES, shots: Sequence[int] = SHOTS) -> Iterator[Rows]:
    """How an episode's time grows: with the side of the input, in pixels, and at 512 pixels with the shots."""
    for size, k in [*((size, 1) for size in sizes), *((512, k) for k in shots)]:
        model = build(name, size)
        batch = collate([Fold(1, k + 1, model.sam2.image_size, k)[0]])
        floor = stock_encoders(model, torch.cat([batch.query_images, batch.support_images[0]]))
        features = model.extract(batch)
        tasks = {
            "encoders": floor,
            "cold": lambda model=model, batch=batch: model(batch),
            "rest": lambda model=model, features=features: model.predict(model.encode(features)),
        }
        times = in_turns(
            {n: lambda _, task=task: torch.inference_mode()(task)() for n, task in tasks.items()}, rounds, model.device
        )
        yield {"side": model.sam2.image_size, "shots": k} | {n: median(t) for n, t in times.items()}


def targets(found: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(what, reached, at most) for the aims on a CPU."""
    floor, cold, remembered, outside, *_ = found["inference"]["seconds"].values()
    without, cached, _ = found["training"].values()
    fold = found["inference"]["fold"][f"seconds for {FOLD_EPISODES} episodes"]
    return [
        ("cold episode / floor", cold / floor, 1.10),
        ("episode with remembered support / floor", remembered / floor, 0.60),
        (f"fold of {FOLD_EPISODES} episodes / as many cold ones", fold / (FOLD_EPISODES * cold), 0.30),
        ("training step with cached features / without", cached / without, 0.15),
        ("all but the encoders, s per episode", outside, 0.50),
    ]


def markdown(found: Mapping[str, Any]) -> str:
    """The results as tables."""
    lines = [f"{key}: {value}" for key, value in found["machine"].items()]
    if "inference" in found:
        lines += ["", "| what | CPU seconds | of the floor |", "|---|---|---|"]
        rows = {**found["inference"]["seconds"], **found["training"]}
        floor = next(iter(rows.values()))
        lines += [f"| {name} | {value:.3f} | {value / floor:.3f} |" for name, value in rows.items()]
        lines += ["", "| aim | reached | at most |", "|---|---|---|"]
        lines += [f"| {what} | {value:.3f} | {most:.2f} |" for what, value, most in targets(found)]
        fold, flops = found["inference"]["fold"], found["inference"]["flops of an episode"]
        lines += [
            "",
            f"The fold: {fold['episodes']} episodes over {fold['images']} images in {fold['seconds']:.1f} s "
            f"({fold['misses']} images encoded, {fold['hits']} found), so {FOLD_EPISODES} over {FOLD_IMAGES} in "
            f"{fold[f'seconds for {FOLD_EPISODES} episodes']:.0f} s.",
            f"GFLOP of an episode: {flops['encoders'] / 1e9:.0f} in the encoders, "
            f"{flops['all but the encoders'] / 1e9:.0f} in all the rest; a matrix product reaches "
            f"{found['matmul'] / 1e9:.0f} GFLOP/s here.",
        ]
        lines += [
            f"Peak memory in GiB: {memory:.2f} {when}." for when, memory in found["peak memory"].items() if memory
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam2-small+dinov2-base", help='a pair, or "toy" to try this script')
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="times each thing is measured (default 5)")
    parser.add_argument("--episodes", type=int, default=50, help="of the fold that are really evaluated (default 50)")
    parser.add_argument("--growth", action="store_true", help="also how time grows with the input's side and the shots")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    model = build(arguments.model)
    memory = {"with the weights loaded": peak_memory()}
    found: dict[str, Any] = {
        "machine": {
            "model": arguments.model,
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "CPU capability": torch.backends.cpu.get_cpu_capability(),
            "system": platform.platform(),
            "versions": f"fss_lab {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
            "rounds": arguments.rounds,
        }
    }
    found["inference"] = inference_times(model, arguments.rounds, arguments.episodes)
    memory["after inference and the fold, its cache included"] = peak_memory()
    found["training"] = training_times(model, arguments.rounds)
    memory["after training steps"] = peak_memory()
    found |= {"peak memory": memory, "matmul": matmul_rate(device, torch.float32)}
    print(markdown(found), flush=True)
    if arguments.growth:
        print("\n| side, pixels | shots | encoders | episode, cold | all but the encoders | cold / encoders |")
        print("|---|---|---|---|---|---|", flush=True)
        found["growth"] = []
        for row in growth(arguments.model, max(1, arguments.rounds // 2)):
            found["growth"].append(row)
            times = " | ".join(f"{row[name]:.3f}" for name in ("encoders", "cold", "rest"))
            print(f"| {row['side']} | {row['shots']} | {times} | {row['cold'] / row['encoders']:.3f} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name; the platform module often knows only its family."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except FileNotFoundError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
