"""Does SAM 2's memory care about the class? The same individual, another of its class, and another class in memory.

    python benchmarks/class_control.py [--episodes 100] [--seed 0] [--folds 0 1 2 3]

Prints mIoU with 95 % intervals, pooled over the folds, and paired differences. The model is the toy SAM 2, never
trained on Pictograms, with one support as its only memory; the queries are the same in all rows. The episodes of
"another class" are lent the support of the next episode that is of another class: background, pose and company
differ too.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from fss_lab import load_model
from fss_lab.evaluation.worlds import Identity
from fss_lab.metrics import SegmentationScore, bootstrap_interval, merge_scores, paired_bootstrap

ROWS = ("the same individual", "another individual", "another class")


def scores(fold: int, episodes: int, seed: int) -> list[SegmentationScore]:
    """The score of each of `ROWS` on one fold, on the same queries in the same order."""
    model = load_model("toy", weights="pretrained", memory="support")
    same, other = (list(Identity(kind, episodes).episodes(fold, 1, seed)) for kind in ("same", "other"))
    lent = []
    for number, task in enumerate(other):
        later = (other[(number + step) % len(other)] for step in range(1, len(other)))
        lender = next(candidate for candidate in later if candidate.class_id != task.class_id)
        lent.append(replace(task, support_images=lender.support_images, support_masks=lender.support_masks))
    rows = []
    for tasks in (same, other, lent):
        score = SegmentationScore(sorted({task.class_id for task in tasks}))
        for task in tasks:
            score.update(model.segment(task).mask, task.query_mask, task.class_id)
        rows.append(score)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100, help="for each fold")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments = parser.parse_args()
    by_fold = []
    for fold in arguments.folds:
        by_fold.append(scores(fold, arguments.episodes, arguments.seed))
        print(
            f"fold {fold}: " + ", ".join(f"{row} {100 * s.miou:.1f}" for row, s in zip(ROWS, by_fold[-1], strict=True))
        )
    merged = [merge_scores(parts) for parts in zip(*by_fold, strict=True)]
    for row, score in zip(ROWS, merged, strict=True):
        print(f"{row}: {100 * score.miou:.1f} [{', '.join(f'{100 * x:.1f}' for x in bootstrap_interval(score)[1:])}]")
    for first, second in ((0, 1), (1, 2)):
        estimate, low, high = (100 * value for value in paired_bootstrap(merged[first], merged[second]))
        print(f"{ROWS[first]} minus {ROWS[second]}: {estimate:+.1f} [{low:+.1f}, {high:+.1f}]")


if __name__ == "__main__":
    main()
