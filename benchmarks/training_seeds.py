"""How much the toy's results depend on the training seed, and on which parameters are trained.

    python benchmarks/training_seeds.py --runs 322=runs/322 323=runs/323 --sets memory_encoder=runs/memory_encoder

Each folder holds the runs of `fss-lab train` for all folds, as fold0 to fold3, and the baselines (of --runs only) as
fold0_baseline to fold3_baseline. They are scored beside the shipped weights, on the same novel episodes; with
--output an interrupted evaluation goes on. Tests never run this.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

from fss_lab.evaluation.jobs import Settings, grid_jobs, run
from fss_lab.evaluation.report import about, by_shots
from fss_lab.evaluation.scoring import FULL, STEPS, Scores, load_weights, table, toy_episodes, toy_variants
from fss_lab.method import FSSAM
from fss_lab.metrics import paired_bootstrap

SHIPPED = "321"  # the seed of the shipped weights


def models(runs: Mapping[str, str], sets: Mapping[str, str], fold: int) -> dict[str, FSSAM]:
    """The steps to FSSAM for every training seed, then FSSAM with every other trainable set."""
    found = {f"{SHIPPED}: {name}": model for name, model in toy_variants(fold).items() if name in STEPS}
    for seed, folder in runs.items():
        files = {
            "fssam": f"{folder}/fold{fold}/weights.safetensors",
            "baseline": f"{folder}/fold{fold}_baseline/weights.safetensors",
        }
        found |= {f"{seed}: {name}": model for name, model in toy_variants(fold, files).items() if name in STEPS}
    return found | {
        name: load_weights(f"{folder}/fold{fold}/weights.safetensors", fold) for name, folder in sets.items()
    }


def print_seeds(scores: Scores, seeds: list[str]) -> None:
    print("\nmIoU by training seed, and mean ± standard deviation over them:\n")
    print(f"| variant | {' | '.join(seeds)} | all |\n|---|{'---|' * (len(seeds) + 1)}")
    for name in STEPS:
        values = [100 * scores[f"{seed}: {name}"].miou for seed in seeds]
        spread = f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} | {spread} |")
    print("\nWhat each step adds, in points of mIoU on the same episodes:\n")
    print(f"| step | {' | '.join(seeds)} |\n|---|{'---|' * len(seeds)}")
    for worse, better in pairwise(STEPS):
        cells = [difference(scores, f"{seed}: {better}", f"{seed}: {worse}") for seed in seeds]
        print(f"| {better} over {worse} | {' | '.join(cells)} |")


def difference(scores: Scores, better: str, worse: str) -> str:
    estimate, low, high = (100 * value for value in paired_bootstrap(scores[better], scores[worse]))
    return f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"


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
    jobs = grid_jobs(
        range(4), arguments.shots, [arguments.seed], partial(models, runs, sets),
        partial(toy_episodes, number=arguments.episodes),
    )  # fmt: skip
    results = run(jobs, arguments.output, Settings(), workers=arguments.workers, progress=True)
    print(about(results))
    for shots, scores in by_shots(results).items():
        print(f"\n## {shots}-shot\n\n{table(scores)}")
        print_seeds(scores, [SHIPPED, *runs])
        if sets:
            print(f"\nOther trainable sets against {SHIPPED}: {FULL}, in points of mIoU on the same episodes:\n")
        for name in sets:
            print(f"- {name}: {difference(scores, name, f'{SHIPPED}: {FULL}')}")


if __name__ == "__main__":
    main()
