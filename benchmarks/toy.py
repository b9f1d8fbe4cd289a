"""Times of the toy world and its models: python benchmarks/toy.py [--threads 1]

Prints medians of CPU seconds, which other programs on the machine hardly change.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from fss_lab import Pictograms, load_model
from fss_lab.episode import collate


def median_seconds(task: Callable[[], object], repeats: int) -> float:
    """Median CPU time of `task` after one warm-up call."""
    task()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default 1)")
    torch.set_num_threads(parser.parse_args().threads)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")

    scenes = Pictograms(0, shots=1)
    seconds = median_seconds(lambda: [scenes.scenes(i) for i in range(25)], 5) / 50
    print(f"render a 256 x 256 scene      {1 / seconds:7.0f} images/s on one core")
    print(f'load_model("toy")             {median_seconds(load_model, 5):7.2f} s')
    model = load_model()
    for shots in (1, 5):
        batch = collate([Pictograms(0, shots=shots)[0]])
        with torch.inference_mode():
            seconds = median_seconds(lambda batch=batch: model(batch), 10)
            traced = median_seconds(lambda batch=batch: model(batch, trace=True), 5)
        print(f"one {shots}-shot episode            {seconds:7.3f} s   (with a trace {traced:.3f} s)")
    episode = Pictograms(0)[0]
    support = model.remember(list(episode.support_images), list(episode.support_masks))
    seconds = median_seconds(lambda: model.segment(episode.query_image, support), 10)
    print(f"segment, support remembered   {seconds:7.3f} s")


if __name__ == "__main__":
    main()
