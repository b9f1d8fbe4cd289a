"""What training on few, cached episodes saves and costs: python benchmarks/cached_training.py --output runs/cached

Trains FSSAM on a fold of Pictograms with fresh scenes in every step, and then with pools of episodes that come back and
whose frozen features are cached (`fss-lab train --pool N --cache`); all with the same number of steps. Scores them on
the same held-out episodes of the base classes. Goes on where it was interrupted; tests never run this.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from fss_lab.evaluation.scoring import evaluate
from fss_lab.method import FSSAM
from fss_lab.metrics import SegmentationScore, merge_scores, paired_bootstrap
from fss_lab.models.load import load_model
from fss_lab.training.config import TrainConfig
from fss_lab.training.log import read_log
from fss_lab.training.trainer import base_episodes, train

FRESH = "fresh episodes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="directory of the runs")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="folds to train on (default 0)")
    parser.add_argument("--pools", type=int, nargs="+", default=[50, 200, 800], help="episodes (default 50 200 800)")
    parser.add_argument("--steps", type=int, default=250, help="optimiser steps of 8 episodes (default 250)")
    parser.add_argument("--episodes", type=int, default=300, help="held-out episodes a fold (default 300)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of PyTorch (default 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    scores: dict[str, list[SegmentationScore]] = {}
    minutes: dict[str, float] = {}
    for fold in arguments.folds:
        fresh = TrainConfig(fold=fold, steps=arguments.steps, validate_every=0, tensorboard=False, accelerator="cpu")
        pools = {f"{n} episodes, cached": replace(fresh, pool=n, cache=True) for n in arguments.pools}
        models: dict[str, FSSAM] = {"not trained": load_model("toy", weights="pretrained")}
        for name, config in {FRESH: fresh, **pools}.items():
            directory = arguments.output / f"fold{fold}_pool{config.pool}"
            models[name] = train(config, directory).model
            minutes[name] = minutes.get(name, 0) + read_log(directory / "log.csv")[-1]["seconds"] / 60
        held_out = base_episodes(fresh, arguments.episodes, fresh.validation_seed, held_out=True)
        for name, score in evaluate(models, held_out, progress=True).items():
            scores.setdefault(name, []).append(score)

    print(f"{arguments.steps} steps of {fresh.batch_size} episodes on {arguments.threads} threads; mIoU in percent on")
    print(f"{arguments.episodes} held-out base-class episodes of fold {', '.join(map(str, arguments.folds))}\n")
    print("| training on | minutes | mIoU | over fresh episodes [95 %] |\n|---|---|---|---|")
    whole = {name: merge_scores(parts) for name, parts in scores.items()}
    for name, score in whole.items():
        gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in paired_bootstrap(score, whole[FRESH])))
        time = f"{minutes[name]:.1f}" if name in minutes else "–"
        print(f"| {name} | {time} | {100 * score.miou:.1f} | {'–' if name == FRESH else gain} |")


if __name__ == "__main__":
    main()
