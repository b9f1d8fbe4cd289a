"""How well each map separates the object, and what SCMA can undo: python benchmarks/trial.py [--folds 0 2]

The separation of every map of the method; then the trial of SCMA with two switches, on queries whose memory holds a
planted object, and the price on ordinary episodes. Novel classes. Tests never run this.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fss_lab import Pictograms, load_model
from fss_lab.evaluation.separation import separations
from fss_lab.evaluation.trial import COLUMNS, ROWS, Row, prepare, trial, true_c
from fss_lab.figures import keep
from fss_lab.figures.results import separation_figure
from fss_lab.method.rereading import Case, bias_without_confidence
from fss_lab.metrics import mean_interval

Groups = dict[str, list[np.ndarray]]


@dataclass(frozen=True)
class OfSomeCells(Row):
    """The true c without ā, only in the rows of the object's cells (inside), or only in those of all other cells."""

    inside: bool = True

    def mask(self, case: Case) -> Tensor:
        c = true_c(case)
        looking = (c.flatten() == self.inside).float()[:, None]  # N, 1
        return case.read(lambda logits, term: looking * bias_without_confidence(logits, c.expand(term.shape)))


EXTRA = {
    "true c, without ā, object's cells look": OfSomeCells(true_c, False, inside=True),
    "true c, without ā, other cells look": OfSomeCells(true_c, False, inside=False),
}


def with_interval(values: np.ndarray, baseline: np.ndarray | None = None, scale: float = 1, digits: int = 2) -> str:
    estimate, low, high = (scale * value for value in mean_interval(values, baseline))
    return f"{estimate:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def print_separation(measured: Groups, folds: list[int]) -> None:
    print(f"\n| map | all folds [95 %] | {' | '.join(f'fold {fold}' for fold in folds)} |")
    print(f"|---|---|{'---|' * len(folds)}")
    for name, groups in measured.items():
        cells = [with_interval(np.concatenate(groups)), *(f"{group.mean():.2f}" for group in groups)]
        print(f"| {name} | {' | '.join(cells)} |")


def print_trial(measured: Groups, folds: list[int]) -> None:
    print(f"\n| bias | {' | '.join(COLUMNS)} |\n|---|---|---|---|")
    pooled = {name: np.concatenate(groups) for name, groups in measured.items()}
    for name, values in pooled.items():
        print(f"| {name} | {' | '.join(with_interval(column, None, 100, 1) for column in values.T)} |")
    print(f"\nAgainst no bias, in points, paired:\n\n| bias | {' | '.join(COLUMNS)} |\n|---|---|---|---|")
    for name, values in list(pooled.items())[1:]:
        cells = (with_interval(a, b, 100, 1) for a, b in zip(values.T, pooled["no bias"].T, strict=True))
        print(f"| {name} | {' | '.join(cells)} |")
    for number, column in enumerate(COLUMNS):
        print(f"\nBy fold, {column}:\n\n| bias | {' | '.join(f'fold {fold}' for fold in folds)} |")
        print(f"|---|{'---|' * len(folds)}")
        for name, groups in measured.items():
            print(f"| {name} | {' | '.join(f'{100 * group[:, number].mean():.1f}' for group in groups)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3], help="folds (default all)")
    parser.add_argument("--episodes", type=int, default=100, help="episodes a fold for the separation (default 100)")
    parser.add_argument("--planted", type=int, default=60, help="planted episodes a fold for the trial (default 60)")
    parser.add_argument("--shots", type=int, default=1, help="supports of an episode (default 1)")
    parser.add_argument("--seed", type=int, default=3, help="chooses the episodes (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch (default 1)")
    parser.add_argument("--output", type=Path, help="a folder for the figure")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.shots}-shot, {given.episodes} novel episodes a fold, folds {given.folds}, episode seed {given.seed}")
    measured: Groups = {}
    for fold in given.folds:
        episodes = Pictograms(fold, "novel", given.shots, given.seed, episodes=given.episodes)
        for name, values in separations(load_model("toy", fold=fold), episodes).items():
            measured.setdefault(name, []).append(values)
    print_separation(measured, given.folds)
    setting = f"{given.shots}-shot, {given.episodes} novel episodes a fold"
    keep(separation_figure(measured, f"Which map knows the object? {setting}"), given.output, "separation")
    print(f"\nThe trial: {given.planted} planted episodes a fold; means over episodes, in percent, 95 % intervals")
    verdicts: Groups = {}
    for fold in given.folds:
        data = Pictograms(fold, "novel", given.shots, given.seed)
        cases = prepare(load_model("toy", fold=fold), data, given.planted)
        for name, values in trial(cases, ROWS | EXTRA).items():
            verdicts.setdefault(name, []).append(values)
    print_trial(verdicts, given.folds)


if __name__ == "__main__":
    main()
