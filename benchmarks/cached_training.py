"""What training on few, cached episodes saves and costs: python benchmarks/cached_training.py --output runs/cached

Trains FSSAM on a fold of Pictograms with fresh scenes in every step, and then with pools of episodes that come back and
whose frozen features are cached (`fss-lab train --pool N --cache`); all with the same number of steps. Scores them on
the same held-out episodes of the base classes. Goes on where it was interrupted; tests never run this.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.evaluation.jobs import Settings, grid_jobs, run
from fss_lab.evaluation.report import by_shots
from fss_lab.evaluation.tables import difference
from fss_lab.training.config import TrainConfig
from fss_lab.training.log import read_log
from fss_lab.training.trainer import base_episodes, train

FRESH = "fresh episodes"


@dataclass(frozen=True)
class Pools:
    """FSSAM untrained, trained on fresh episodes, and on pools of several sizes; held-out episodes to score it on."""

    output: Path
    pools: tuple[int, ...]
    steps: int
    number: int

    def configs(self, fold: int) -> dict[str, TrainConfig]:
        """The runs by name."""
        fresh = TrainConfig(fold=fold, steps=self.steps, validate_every=0, tensorboard=False, accelerator="cpu")
        return {FRESH: fresh} | {f"{n} episodes, cached": replace(fresh, pool=n, cache=True) for n in self.pools}

    def directory(self, config: TrainConfig) -> Path:
        """Of a run."""
        return self.output / f"fold{config.fold}_pool{config.pool}"

    def models(self, fold: int) -> dict[str, FSSAM]:
        trained = {name: train(config, self.directory(config)).model for name, config in self.configs(fold).items()}
        return {"not trained": load_model("toy", weights="pretrained")} | trained

    def episodes(self, fold: int, shots: int, seed: int) -> Pictograms:
        return base_episodes(self.configs(fold)[FRESH], self.number, seed, held_out=True)


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

    world = Pools(arguments.output, tuple(arguments.pools), arguments.steps, arguments.episodes)
    jobs = grid_jobs(arguments.folds, [1], [TrainConfig.validation_seed], world)
    scores = by_shots(run(jobs, settings=Settings(threads=arguments.threads), progress=True))[1]
    configs = [world.configs(fold) for fold in arguments.folds]

    print(f"{arguments.steps} steps of {TrainConfig.batch_size} episodes on {arguments.threads} threads; mIoU in")
    print(
        f"percent on {arguments.episodes} held-out base-class episodes of fold {', '.join(map(str, arguments.folds))}\n"
    )
    print("| training on | minutes | mIoU | over fresh episodes [95 %] |\n|---|---|---|---|")
    for name, score in scores.items():
        logs = [read_log(world.directory(runs[name]) / "log.csv") for runs in configs if name in runs]
        time = f"{sum(log[-1]['seconds'] for log in logs) / 60:.1f}" if logs else "–"
        gain = "–" if name == FRESH else difference(score, scores[FRESH])
        print(f"| {name} | {time} | {100 * score.miou:.1f} | {gain} |")


if __name__ == "__main__":
    main()
