"""Train FSSAM and its baseline on every fold of the toy world, as the shipped weights are: two runs at a time.

    python benchmarks/toy_folds.py --output runs/321
    python benchmarks/toy_folds.py --seed 322 --output runs/322
    python benchmarks/toy_folds.py --only fssam --output runs/memory_encoder --trainable memory_encoder

Folders fold0 to fold3 are FSSAM's, fold0_baseline to fold3_baseline the baseline's, each with its log beside it.
Options that this script does not know go to every `fss-lab train`. Interrupted, it goes on when started again. Then
`benchmarks/training_seeds.py` scores several such outputs on the same novel episodes. Tests never run this.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RECIPE = [  # as in fss_lab/weights/README.md
    "--steps", "300", "--learning-rate", "5e-4", "--pool", "1000", "--cache",
    "--validate-every", "150", "--validation-episodes", "100",
]  # fmt: skip
KINDS = {"fssam": ("", "pseudo"), "baseline": ("_baseline", "support")}


def train(directory: Path, options: list[str]) -> bool:
    """One run, on one thread. Returns whether it reached its end, and says so."""
    log = directory.with_suffix(".log")
    command = [sys.executable, "-m", "fss_lab", "train", *RECIPE, "--output", str(directory), *options]
    with log.open("a") as lines:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=lines, stderr=lines).returncode == 0
    print(f"{directory}: {'done' if done else f'stopped, see {log}'}", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3], help="folds (default: all four)")
    parser.add_argument("--only", choices=KINDS, help="train this kind alone (default: both)")
    parser.add_argument("--seed", type=int, default=321, help="of the training (default 321, the shipped weights')")
    parser.add_argument("--at-a-time", type=int, default=2, help="runs side by side, a thread each (default 2)")
    arguments, others = parser.parse_known_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    runs = [
        (arguments.output / f"fold{fold}{suffix}", ["--fold", str(fold), "--memory", memory])
        for suffix, memory in ([KINDS[arguments.only]] if arguments.only else KINDS.values())
        for fold in arguments.folds
    ]
    own = ["--seed", str(arguments.seed), *others]
    with ThreadPoolExecutor(arguments.at_a_time) as pool:
        waiting = [pool.submit(train, directory, options + own) for directory, options in runs]
        try:
            return 0 if all([run.result() for run in waiting]) else 1
        finally:  # after a Ctrl-C, which has reached the runs too, no other one begins
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
