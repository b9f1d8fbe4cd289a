"""What IMR is for and what it does: python benchmarks/repair.py [--shots 1] [--episodes 100] [--output FOLDER]

Novel episodes of all folds. First the repair of wounds (`fss_lab.evaluation.repair`) beside the guesses as they are, by
round; then the guess that FSSAM starts from, P_d or P_fg, with paired intervals. --output keeps what was measured, fold
by fold, and an interrupted run resumes. Tests never run this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.datasets.folds import FOLDS
from fss_lab.evaluation.repair import MEASURES, measure_repairs
from fss_lab.evaluation.scoring import evaluate
from fss_lab.evaluation.tables import grid, table
from fss_lab.metrics import SegmentationScore, mean_interval, merge_scores, paired_bootstrap

STARTS = {
    "P_d cut at ½, no SAM 2": {"memory": "none", "prior": "discriminative"},
    "P_fg cut at ½, no SAM 2": {"memory": "none", "prior": "foreground"},
    "from P_d, no IMR": {"prior": "discriminative", "rounds": 0},
    "from P_d, IMR of 3 rounds: FSSAM": {"prior": "discriminative"},
    "from P_fg": {"prior": "foreground"},  # Mem_d is Mem_fg then, and no round changes anything
}
Arrays = dict[str, np.ndarray]


def kept(path: Path | None, compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` gives, read from the file where it is there already."""
    if path is None or not path.exists():
        arrays = compute()
        if path is None:
            return arrays
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
    with np.load(path) as stored:
        return dict(stored)


def scored(model: FSSAM, data: Pictograms) -> Arrays:
    """The counts of `STARTS`."""
    models = {start: model.variant(**options) for start, options in STARTS.items()}
    return {start: score.counts for start, score in evaluate(models, data, progress=True).items()}


def interval(values: np.ndarray, baseline: np.ndarray | None = None, scale: float = 100) -> str:
    """The mean of the episodes that have a value, with its 95 % interval; with a baseline, the paired difference."""
    seen = np.isfinite(values) if baseline is None else np.isfinite(values) & np.isfinite(baseline)
    form = "{:" + "+" * (baseline is not None) + (".1f}" if scale == 100 else ".2f}")
    estimate, low, high = mean_interval(values[seen], None if baseline is None else baseline[seen])
    return "{} [{}, {}]".format(*(form.format(scale * value) for value in (estimate, low, high)))


def print_repairs(folds: list[Arrays]) -> None:
    pooled = {name: np.concatenate([part[name] for part in folds]) for name in folds[0]}
    for name, values in pooled.items():
        if name.startswith("witnesses"):
            rows = {
                f"{letter}, {area}": [interval(values[:, r, i, j], scale=1) for r in range(values.shape[1])]
                for i, letter in enumerate("ABW")
                for j, area in enumerate(("what P_d lacks", "other object"))
            }
            columns = [f"round {number}" for number in range(1, values.shape[1] + 1)]
        else:
            rows, columns = {}, [f"{number} rounds" for number in range(values.shape[1])]
            for i, measure in enumerate(MEASURES):
                scale = 1 if "distance" in measure else 100
                rows[measure] = [interval(values[:, r, i], scale=scale) for r in range(values.shape[1])]
                rows[f"{measure}, change"] = [
                    "", *(interval(values[:, r, i], values[:, 0, i], scale) for r in range(1, values.shape[1]))
                ]  # fmt: skip
            for fold, part in enumerate(folds):
                for i, measure in enumerate(MEASURES):
                    scale, means = (1 if "distance" in measure else 100), np.nanmean(part[name], axis=0)
                    rows[f"{measure}, fold {fold}"] = [f"{scale * value:.2f}" for value in means[:, i]]
        print(f"\n{name}, {len(values)} episodes:\n")
        print("\n".join(grid(["", *columns], rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=1, help="supports of each episode (default 1)")
    parser.add_argument("--episodes", type=int, default=100, help="of each fold (default 100)")
    parser.add_argument("--seed", type=int, default=5, help="chooses the episodes (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default 1)")
    parser.add_argument("--output", type=Path, help="a folder for what was measured")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    name = f"{given.shots}shot_seed{given.seed}_first{given.episodes}"
    models = [load_model("toy", fold=fold) for fold in range(FOLDS)]
    drawn = [Pictograms(fold, "novel", given.shots, given.seed, episodes=given.episodes) for fold in range(FOLDS)]
    repairs, scores = [], []
    for fold, (model, data) in enumerate(zip(models, drawn, strict=True)):
        path = given.output and given.output / f"repair_fold{fold}_{name}.npz"
        repairs.append(kept(path, lambda model=model, data=data: measure_repairs(model, data, progress=True)))
    for fold, (model, data) in enumerate(zip(models, drawn, strict=True)):
        path = given.output and given.output / f"starts_fold{fold}_{name}.npz"
        counts = kept(path, lambda model=model, data=data: scored(model, data))
        scores.append({start: SegmentationScore(data.classes, rows) for start, rows in counts.items()})
    print(f"{given.shots}-shot, novel episodes of folds 0 to {FOLDS - 1}, seed {given.seed}, CPU, float32")
    print_repairs(repairs)
    merged = {start: merge_scores(part[start] for part in scores) for start in STARTS}
    print(f"\nThe guess that FSSAM starts from, {given.episodes} episodes a fold:\n\n{table(merged)}\n")
    for one, other in (
        ("from P_fg", "from P_d, IMR of 3 rounds: FSSAM"),
        ("from P_fg", "from P_d, no IMR"),
        ("from P_d, IMR of 3 rounds: FSSAM", "from P_d, no IMR"),
        ("P_fg cut at ½, no SAM 2", "P_d cut at ½, no SAM 2"),
    ):
        estimate = [100 * value for value in paired_bootstrap(merged[one], merged[other])]
        print("- {} against {}: {:+.1f} [{:+.1f}, {:+.1f}]".format(one, other, *estimate))
        for fold in range(FOLDS):
            value = [100 * x for x in paired_bootstrap(scores[fold][one], scores[fold][other])]
            print("    - fold {}: {:+.1f} [{:+.1f}, {:+.1f}]".format(fold, *value))


if __name__ == "__main__":
    main()
