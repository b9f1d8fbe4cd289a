"""How much the toy's results depend on the training seed, and on which parameters are trained.

    python benchmarks/training_seeds.py --runs 322=runs/322 323=runs/323 --sets memory_encoder=runs/memory_encoder

Each folder holds the runs of `fss-lab train` for all folds, as fold0 to fold3, and the baselines (of --runs only) as
fold0_baseline to fold3_baseline. They are scored beside the shipped weights, on the same novel episodes; with
--output an interrupted evaluation goes on. Tests never run this.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fss_lab import Pictograms
from fss_lab.evaluation.jobs import Settings, grid_jobs, run
from fss_lab.evaluation.report import about, by_shots, spread
from fss_lab.evaluation.scoring import Scores
from fss_lab.evaluation.tables import difference, grid, table
from fss_lab.evaluation.variants import FULL, STEPS, Models
from fss_lab.evaluation.worlds import ToyWorld

SHIPPED = "321"  # the seed of the shipped weights


@dataclass(frozen=True)
class TrainingSeeds:
    """The toy world with the steps to FSSAM for every training seed, then FSSAM with every other trainable set.

    runs, sets: pairs of a name and a folder of runs. number: of episodes.
    """

    runs: tuple[tuple[str, str], ...]
    sets: tuple[tuple[str, str], ...]
    number: int

    def models(self, fold: int) -> Models:
        worlds = {SHIPPED: ToyWorld()}
        for seed, folder in self.runs:
            files = {"fssam": "", "baseline": "_baseline"}
            worlds[seed] = ToyWorld(
                weights={kind: f"{folder}/fold{{fold}}{end}/weights.safetensors" for kind, end in files.items()}
            )
        steps = {
            f"{seed}: {name}": model
            for seed, world in worlds.items()
            for name, model in world.models(fold).items()
            if name in STEPS
        }
        path = "{}/fold{{fold}}/weights.safetensors"
        return steps | {name: worlds[SHIPPED].load(path.format(folder), fold) for name, folder in self.sets}

    def episodes(self, fold: int, shots: int, seed: int) -> Pictograms:
        return ToyWorld(number=self.number).episodes(fold, shots, seed)


def print_seeds(scores: Scores, seeds: list[str]) -> None:
    print("\nmIoU by training seed, and mean ± standard deviation over them:\n")
    values = {name: [100 * scores[f"{seed}: {name}"].miou for seed in seeds] for name in STEPS}
    rows = {name: [*(f"{value:.1f}" for value in line), spread(line)] for name, line in values.items()}
    print("\n".join(grid(["variant", *seeds, "all"], rows)))
    print("\nWhat each step adds, in points of mIoU on the same episodes:\n")
    rows = {
        f"{better} over {worse}": [difference(scores[f"{s}: {better}"], scores[f"{s}: {worse}"]) for s in seeds]
        for worse, better in pairwise(STEPS)
    }
    print("\n".join(grid(["step", *seeds], rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="*", default=[], metavar="SEED=DIR", help="other training seeds")
    parser.add_argument(
        "--sets", nargs="*", default=[], metavar="NAME=DIR", help=f"other trainable sets, seed {SHIPPED}"
    )
    parser.add_argument("--episodes", type=int, default=400, help="novel-class episodes a fold (default 400)")
    parser.add_argument("--seed", type=int, default=3, help="chooses the episodes (default 3, as in docs/results.md)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5], help="supports per episode (default 1 5)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--output", type=Path, help="directory in which an interrupted evaluation goes on")
    arguments = parser.parse_args()
    runs, sets = (dict(word.split("=", 1) for word in words) for words in (arguments.runs, arguments.sets))
    if SHIPPED in runs:
        parser.error(f"{SHIPPED} is the seed of the shipped weights, which are always there")
    world = TrainingSeeds(tuple(runs.items()), tuple(sets.items()), arguments.episodes)
    jobs = grid_jobs(range(4), arguments.shots, [arguments.seed], world)
    results = run(jobs, arguments.output, Settings(), workers=arguments.workers, progress=True)
    print(about(results))
    for shots, scores in by_shots(results).items():
        print(f"\n## {shots}-shot\n\n{table(scores)}")
        print_seeds(scores, [SHIPPED, *runs])
        if sets:
            print(f"\nOther trainable sets against {SHIPPED}: {FULL}, in points of mIoU on the same episodes:\n")
        for name in sets:
            print(f"- {name}: {difference(scores[name], scores[f'{SHIPPED}: {FULL}'])}")


if __name__ == "__main__":
    main()
