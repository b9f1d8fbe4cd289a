"""Is the class shown at all? Fit and test `prediction.score` on queries with and without the class.

    python benchmarks/presence.py --output runs/presence           # the toy: 400 + 400 queries a fold, base and novel
    python benchmarks/presence.py --model sam2-small+dinov2-base --dataset pascal --weights "runs/fold{fold}/best.pt" \\
        --device cuda --output runs/presence_pascal                # real weights and photographs

Every query is segmented with a support of its own class and with one of a class that it certainly does not show: no
object of it was painted into the scene, or no pixel of the label map has it. Which evidence is used is decided on base
classes, by the area under the ROC curve of episodes left out of the fit; the result is reported on novel ones. Writes
presence.json, which `Presence.load` reads (`model.presence = Presence.load(path)`), presence.md and presence.png.
Interrupted, it goes on when started again. Tests never run this at full length.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.protocols import ListedEpisodes, benchmark, draw_episodes
from fss_lab.episode import IGNORE, Episode
from fss_lab.evaluation.worlds import Photographs
from fss_lab.figures import style
from fss_lab.figures.panels import name_panel
from fss_lab.figures.prediction import iou
from fss_lab.figures.style import Picture, chart, keep
from fss_lab.files import write_atomically
from fss_lab.method import Support
from fss_lab.method.presence import EVIDENCE, Presence
from fss_lab.metrics import TAILS, Interval
from fss_lab.toyworld.pictograms import CLASS_NAMES, scene_episode

BLOCK = 50  # episodes of a fold and split before the next one's turn, so that what is there is balanced at any time


class Cases:
    """Episodes of a fold and split, and which classes their queries show."""

    def __init__(self, episodes: Pictograms | ListedEpisodes) -> None:
        self.episodes = episodes
        self.case = lru_cache(maxsize=64)(self._case)

    def _case(self, index: int) -> tuple[Episode, set[int]]:
        """An episode, and the classes of which the query shows anything, however small or hidden."""
        if isinstance(self.episodes, Pictograms):
            class_id, scenes = self.episodes.scenes(index)
            return scene_episode(scenes, class_id, CLASS_NAMES[class_id]), set(scenes[0].class_ids)
        label = self.episodes.images.label(self.episodes.list.episodes[index].query)
        return self.episodes[index], {value - 1 for value in label.unique().tolist() if value not in (0, IGNORE)}

    def stranger(self, index: int) -> int:
        """The next episode whose class this one's query does not show. Raises ValueError where there is none."""
        count, shown = len(self.episodes), self.case(index)[1]
        for other in (i % count for i in range(index + 1, index + count)):
            if self.case(other)[0].class_id not in shown:
                return other
        raise ValueError(f"the query of episode {index} shows every class; ask for more episodes")


def collect(model: FSSAM, cases: Cases, numbers: range) -> Iterator[dict[str, object]]:
    """The evidence of every query, with its class and without; the encoders see a query once."""

    @lru_cache(maxsize=64)
    def support(index: int) -> Support:
        episode = cases.case(index)[0]
        return model.remember(list(episode.support_images), list(episode.support_masks))

    for index in numbers:
        episode, other = cases.case(index)[0], cases.stranger(index)
        supports = {"present": support(index), "absent": support(other)}
        answers = model.segment_classes(episode.query_image, supports, threshold=0).predictions
        present, absent = answers["present"], answers["absent"]
        yield {
            "episode": index, "class": episode.class_id, "absent class": cases.case(other)[0].class_id,
            "present": present.evidence, "absent": absent.evidence, "iou": iou(present.mask, episode.query_mask),
            "absent foreground": float(absent.mask.float().mean()),
        }  # fmt: skip


def measure(options: argparse.Namespace) -> None:
    """Collect what is missing of the evidence, a file for each fold and split."""
    wanted = {"base": options.base_episodes or options.episodes, "novel": options.episodes}
    for end in range(BLOCK, max(wanted.values()) + BLOCK, BLOCK):
        for fold, (split, number) in itertools.product(options.folds, wanted.items()):
            if end < number + BLOCK:
                model, stop = load(options, fold), min(end, number)
                path = options.output / f"evidence_fold{fold}_{split}.jsonl"
                done = len(path.read_text().splitlines()) if path.exists() else 0
                with path.open("a") as lines:
                    for row in collect(model, cases_of(options, fold, split), range(done, stop)):
                        lines.write(json.dumps(row) + "\n")
                        lines.flush()
                print(f"{time.strftime('%H:%M')} fold {fold}, {split} classes: {stop}", flush=True)


@lru_cache(maxsize=4)
def _toy(fold: int) -> FSSAM:
    return load_model("toy", fold=fold)


def load(options: argparse.Namespace, fold: int) -> FSSAM:
    if options.model == "toy":
        return _toy(fold)
    world = Photographs(
        dataset=options.dataset, model=options.model, data_root=options.data_root, image_size=options.image_size
    )
    model = world.load(options.weights, fold) if options.weights else world.pair()
    return model.to(options.device)


def cases_of(options: argparse.Namespace, fold: int, split: str) -> Cases:
    """Base classes are taken from images that no training has seen."""
    if options.dataset == "pictograms":
        return Cases(Pictograms(fold, split, options.shots, options.seed, episodes=options.episodes))
    images = open_photos(options.dataset, options.data_root, fold, split, part="val")
    drawn = draw_episodes(benchmark("fssam"), images, options.shots, options.episodes, options.seed)
    return Cases(ListedEpisodes(drawn, images, options.image_size))


Rows = list[dict[str, Any]]
PARTS = 5  # of the base classes' episodes, each left out once where a set of evidence is judged
SETS = (
    *((name,) for name in EVIDENCE),
    ("object_score", "predicted_iou"),
    ("likeness", "likeness_contrast"),
    ("likeness", "predicted_iou"),
    ("likeness", "confidence"),
    ("likeness", "predicted_iou", "object_score"),
    ("likeness", "likeness_contrast", "predicted_iou"),
    ("prior_peak", "prior_contrast", "likeness", "likeness_contrast"),
    tuple(EVIDENCE),
)
"""Of evidence, that compete."""
WORTH = 0.005  # area under the curve by which a larger set must beat a smaller one


def read(options: argparse.Namespace, split: str) -> dict[int, Rows]:
    """The collected rows by fold."""
    files = {fold: options.output / f"evidence_fold{fold}_{split}.jsonl" for fold in options.folds}
    return {fold: [json.loads(line) for line in path.read_text().splitlines()] for fold, path in files.items()}


def table(rows: Rows, names: Sequence[str]) -> np.ndarray:
    """(2, N, evidence): with the class, without it."""
    return np.array([[[row[kind][name] for name in names] for row in rows] for kind in ("present", "absent")])


def fit(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression of (2, N, evidence), the first half 1; weights and intercept for the values as they are.

    Newton's method on standardised values, with a penalty of 0.01 that only matters where classes part completely.
    """
    x, y = values.reshape(-1, values.shape[-1]), np.repeat([1.0, 0.0], values.shape[1])
    mean, scale = x.mean(0), x.std(0) + 1e-9
    z = np.concatenate([(x - mean) / scale, np.ones((len(x), 1))], axis=1)
    penalty, weights = np.diag([0.01] * x.shape[1] + [0.0]), np.zeros(z.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-z @ weights))
        weights -= np.linalg.solve(z.T * (p * (1 - p)) @ z + penalty + 1e-9, z.T @ (p - y) + penalty @ weights)
    return weights[:-1] / scale, float(weights[-1] - (weights[:-1] * mean / scale).sum())


def wins(scores: np.ndarray) -> np.ndarray:
    """(2, N), with the class and without -> (N, N): whether the one with it has the higher score; ties count half."""
    return (scores[0][:, None] > scores[1]) + 0.5 * (scores[0][:, None] == scores[1])


def judged(base: Rows, names: Sequence[str]) -> float:
    """Area under the ROC curve on base classes, of episodes that the fit has not seen."""
    values, part = table(base, names), np.arange(len(base)) % PARTS
    areas = []
    for left_out in range(PARTS):
        weights, _ = fit(values[:, part != left_out])
        areas.append(wins(values[:, part == left_out] @ weights).mean())
    return float(np.mean(areas))


def area(by_fold: Sequence[np.ndarray], replicates: int = 2000) -> Interval:
    """Area under the ROC curve, mean of the folds, with a bootstrap interval over their episodes.

    by_fold: (2, N) each. A query is drawn with both of its supports.
    """
    rng, drawn = np.random.default_rng(0), np.zeros((len(by_fold), replicates))
    for number, scores in enumerate(by_fold):
        n = scores.shape[1]
        times = rng.multinomial(n, np.full(n, 1 / n), replicates) / n
        drawn[number] = ((times @ wins(scores)) * times).sum(1)
    low, high = np.quantile(drawn.mean(0), TAILS)
    return Interval(float(np.mean([wins(scores).mean() for scores in by_fold])), float(low), float(high))


def report(options: argparse.Namespace) -> None:
    """Choose the evidence, fit it, and say on novel classes what it is worth."""
    base, novel = read(options, "base"), read(options, "novel")
    pooled = [row for rows in base.values() for row in rows]
    shares = {names: judged(pooled, names) for names in SETS}
    best = max(shares.values())
    chosen = min((names for names in SETS if shares[names] >= best - WORTH), key=len)
    weights, intercept = fit(table(pooled, chosen))
    numbers = {split: [len(rows) for rows in by_fold.values()] for split, by_fold in (("base", base), ("novel", novel))}
    settings = (
        f"{options.model}, {options.weights or 'its own weights'}, {options.dataset}, {options.shots} shot(s), episode "
        f"seed {options.seed}, folds {options.folds}, float32 on {options.device}"
    )
    presence = Presence(
        dict(zip(chosen, map(float, weights), strict=True)), intercept,
        f"Fitted by benchmarks/presence.py on base classes, {sum(numbers['base'])} queries with the class and as many "
        f"without: {settings}",
    )  # fmt: skip
    presence.save(options.output / "presence.json")
    tested = {
        names: [table(rows, names) @ fit(table(pooled, names))[0] for rows in novel.values()] for names in SETS
    }  # by fold (2, N)
    sure = [1 / (1 + np.exp(-table(rows, chosen) @ weights - intercept)) for rows in novel.values()]
    lines = [
        f"# Is the class shown at all?\n\n{settings}. Queries with and as many without the class: base classes "
        f"{numbers['base']}, novel {numbers['novel']} by fold.\n",
        "Area under the ROC curve. Base: of episodes left out of the fit, five parts. Novel: mean of the folds with a "
        "95 % bootstrap interval over queries, fitted on base classes.\n",
        "| evidence | base | novel |", "|---|---|---|",
    ]  # fmt: skip
    for names in SETS:
        value = area(tested[names])
        mark = "**" if names == chosen else ""
        lines.append(
            f"| {mark}{', '.join(names)}{mark} | {shares[names]:.3f} | {value.estimate:.3f} [{value.low:.3f}, "
            f"{value.high:.3f}] |"
        )
    both = np.concatenate(sure, axis=1)
    lines += [
        f"\nChosen: {', '.join(chosen)}, the smallest set within {WORTH} of the best on base classes. By fold on novel "
        f"ones: {', '.join(f'{wins(scores).mean():.3f}' for scores in sure)}.\n",
        f"At a score of 0.5, on novel classes: {(both[0] >= 0.5).mean():.1%} of the queries with the class are kept, "
        f"{(both[1] < 0.5).mean():.1%} of those without it are rejected. Without the threshold the mask of a query "
        f"without the class covers {np.mean([r['absent foreground'] for rows in novel.values() for r in rows]):.1%} "
        "of it on average.\n",
        "| score | queries | of them with the class |", "|---|---|---|",
    ]  # fmt: skip
    for low, high, count, share in reliability(both):
        lines.append(f"| {low:.1f} to {high:.1f} | {count} | {share:.0%} |")
    text = "\n".join(lines) + f"\n\n`{json.dumps(presence.weights)}`, intercept {intercept:.4f}\n"
    write_atomically(options.output / "presence.md", text.encode())
    keep(roc_figure(tested, sure, chosen), options.output, "presence")
    print(text)


def reliability(both: np.ndarray) -> Iterator[tuple[float, float, int, float]]:
    """Of scores (2, N), by fifths: from, to, how many, and the share of them with the class."""
    for low in np.arange(5) / 5:
        inside = (both >= low) & ((both < low + 0.2) | (low > 0.7))
        if inside.any():
            yield low, low + 0.2, int(inside.sum()), inside[0].sum() / inside.sum()


def roc_figure(
    tested: Mapping[Sequence[str], list[np.ndarray]], sure: list[np.ndarray], chosen: Sequence[str]
) -> Picture:
    """ROC curves of the score and of what SAM 2 says by itself, and how often the class is there at each score."""
    picture = Picture(9.5, 4.4, "Is the class shown at all? Novel classes")
    roc, calibration = picture.subplots(1, 2)
    shown = {chosen: (style.PREDICTION, "the score"), ("predicted_iou",): (style.PRIOR, "SAM 2's predicted IoU")}
    shown |= {("object_score",): (style.SUPPORT, "SAM 2's object score")}
    shown |= {("prior_peak",): (style.TRUTH, "the prior's best place")}
    areas = []
    for names, (colour, label) in shown.items():
        present, absent = np.concatenate(tested[names], axis=1)
        cuts = np.sort(np.concatenate([present, absent, [np.inf]]))[::-1]
        value = area(tested[names])
        roc.plot(
            [(absent >= cut).mean() for cut in cuts], [(present >= cut).mean() for cut in cuts], color=colour,
            linewidth=2.5 if names == chosen else 1.5, label=f"{label}: {value.estimate:.2f}",
        )  # fmt: skip
        areas.append(f"{label} {value.estimate:.2f}")
    roc.plot([0, 1], [0, 1], color=style.PALE, linewidth=1)
    chart(roc, "wrong: class absent, called present", "right: class present, called present")
    roc.legend(
        title="area under the curve", fontsize=style.SMALL, title_fontsize=style.SMALL, frameon=False, loc="lower right"
    )
    rows = list(reliability(np.concatenate(sure, axis=1)))
    calibration.plot([0, 1], [0, 1], color=style.PALE, linewidth=1)
    calibration.plot(
        [(low + high) / 2 for low, high, *_ in rows], [row[3] for row in rows], "o-", color=style.PREDICTION
    )
    for low, high, count, share in rows:
        calibration.annotate(f"{count}", ((low + high) / 2, share), (0, 9), textcoords="offset points", ha="center")
    calibration.set(xlim=(0, 1), ylim=(0, 1.08))
    chart(calibration, "score", "share of queries with the class")
    name_panel(roc, "telling the two apart")
    name_panel(calibration, "does 0.5 mean even odds? (numbers: queries)")
    picture.alt = (
        f"Left: ROC curves on novel classes, area under the curve: {', '.join(areas)}. Right: the share of queries "
        "that show the class at each score, close to the diagonal where the score is calibrated."
    )
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for evidence, fit, table and figure")
    parser.add_argument("--model", default="toy", help="toy (default) or a pair of networks")
    parser.add_argument("--weights", help="of a run, {fold} stands for the fold (default: as published)")
    parser.add_argument("--dataset", default="pictograms", choices=("pictograms", *DATASETS))
    parser.add_argument("--data-root", type=Path, help="folder of the photographs")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--episodes", type=int, default=400, help="with and as many without the class (default 400)")
    parser.add_argument("--base-episodes", type=int, help="for base classes another number")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7, help="chooses the episodes (default 7)")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", action="store_true", help="collect nothing, report what is there")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.report:
        measure(options)
    report(options)


if __name__ == "__main__":
    main()
