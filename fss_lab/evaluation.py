"""Evaluate variants of FSSAM side by side on the same episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from tqdm.auto import tqdm

from fss_lab.datasets.pictograms import FOLDS, Pictograms, fold_classes
from fss_lab.episode import Episode, EpisodeBatch, collate
from fss_lab.method import FSSAM
from fss_lab.metrics import SegmentationScore, bootstrap_interval, paired_bootstrap
from fss_lab.models import load_model

Scores = dict[str, SegmentationScore]
FULL = "PPG + IMR + SCMA (FSSAM)"


@torch.inference_mode()
def evaluate(
    models: Mapping[str, FSSAM], episodes: Pictograms, *, batch_size: int = 8, progress: bool = False
) -> Scores:
    """Score every model on every episode; the frozen encoders, which the models must share, run once per image.

    IoU at the label's own size, pixels of 255 left out. Raises ValueError for no models, or for models whose image
    encoder or feature extractor differ.
    """
    if not models:
        raise ValueError("there is no model to evaluate")
    first = next(iter(models.values()))
    for name, model in models.items():
        if not _share_encoders(first, model):
            raise ValueError(f"{name!r} has other frozen encoders than {next(iter(models))!r}; evaluate it on its own")
    scores = {name: SegmentationScore(episodes.classes) for name in models}
    with tqdm(total=len(episodes), desc="episodes", disable=None if progress else True) as bar:
        for batch in _batches(episodes, batch_size):
            encoded = first.encode(batch)
            for name, model in models.items():
                predictions = model.predict(encoded).logits.cpu() > 0
                for prediction, target, class_id in zip(
                    predictions, batch.query_masks, batch.class_ids.tolist(), strict=True
                ):
                    scores[name].update(prediction, target, class_id)
            bar.update(len(batch))
    return scores


def toy_variants(fold: int) -> dict[str, FSSAM]:
    """From the paper's starting point to its method, on a fold of Pictograms; all share their frozen encoders."""
    fssam = load_model("toy", fold=fold)
    return {
        "support memory, not fine-tuned": load_model("toy", weights="pretrained", memory="support"),
        "support memory, fine-tuned": load_model("toy", fold=fold, weights="baseline"),
        "PPG": fssam.variant(rounds=0, calibration="off"),
        "PPG + IMR": fssam.variant(calibration="off"),
        FULL: fssam,
        "true query mask (upper bound)": fssam.variant(prior="truth"),
    }


def evaluate_toy(
    folds: Sequence[int] = range(FOLDS),
    shots: int = 1,
    episodes: int = 300,
    seed: int = 0,
    progress: bool = False,
) -> Scores:
    """`toy_variants` on the novel classes of the folds, `episodes` a fold; the folds' scores are merged.

    mIoU over all classes of several folds is the mean of the folds' mIoUs, for each has five classes.
    """
    merged: Scores = {}
    for fold in folds:
        novel = Pictograms(fold, "novel", shots, seed, episodes=episodes)
        for name, score in evaluate(toy_variants(fold), novel, progress=progress).items():
            merged[name] = _merge(merged.get(name), score)
    return merged


def evaluate_identity(
    folds: Sequence[int] = range(FOLDS), episodes: int = 300, seed: int = 0, progress: bool = False
) -> Scores:
    """The paper's motivation: the toy SAM 2, never trained on Pictograms, with a support as its only memory.

    The queries are the same; the support shows the query's own individual, or another one of its class.
    """
    model = {"": load_model("toy", weights="pretrained", memory="support")}
    merged: Scores = {}
    for fold in folds:
        for identity in ("same", "other"):
            novel = Pictograms(fold, "novel", 1, seed, episodes=episodes, identity=identity, targets=1)
            name = f"memory shows {'the same' if identity == 'same' else 'another'} identity"
            merged[name] = _merge(merged.get(name), evaluate(model, novel, progress=progress)[""])
    return merged


def report(
    folds: Sequence[int],
    shots: int,
    episodes: int,
    seed: int,
    *,
    identity: bool = False,
    progress: bool = True,
) -> str:
    """Markdown: the protocol, the table of scores, FSSAM by fold and what each part adds (or the identity table)."""
    what = "same or another identity in memory" if identity else f"{shots}-shot"
    lines = [
        f"Pictograms, {what}, novel classes of folds {', '.join(map(str, folds))}, {episodes} episodes a fold, "
        f"episode seed {seed}, CPU, float32. IoU at 256 x 256, border rings left out; mIoU: intersections and unions "
        "summed by class, mean over classes; intervals: 95 % bootstrap over episodes within each class.",
        "",
    ]
    if identity:
        return "\n".join([*lines, table(evaluate_identity(folds, episodes, seed, progress))])
    scores = evaluate_toy(folds, shots, episodes, seed, progress)
    ious = scores[FULL].iou_per_class
    by_fold = ((fold, [ious[c] for c in fold_classes(fold, "novel")]) for fold in folds)
    lines += [table(scores), "", "FSSAM by fold (mIoU):"]
    lines[-1] += "".join(f" {fold}: {100 * sum(values) / len(values):.1f}" for fold, values in by_fold)
    lines += ["", "What each step adds, in points of mIoU on the same episodes:", ""]
    for worse, better in pairwise(list(scores)[1:5]):
        estimate, low, high = (100 * value for value in paired_bootstrap(scores[better], scores[worse]))
        lines.append(f"- {better} over {worse}: {estimate:+.1f} [{low:+.1f}, {high:+.1f}]")
    return "\n".join(lines)


def table(scores: Scores) -> str:
    """The scores as a Markdown table in percent, with 95 % bootstrap intervals over episodes."""
    width = max(map(len, ["variant", *scores]))
    lines = [
        f"| {'variant':<{width}} | mIoU [95 %]        | FB-IoU [95 %]      |",
        f"|{'-' * (width + 2)}|{'-' * 20}|{'-' * 20}|",
    ]
    for name, score in scores.items():
        cells = []
        for metric in ("miou", "fb_iou"):
            estimate, low, high = (100 * value for value in bootstrap_interval(score, metric))
            cells.append(f"{f'{estimate:.1f} [{low:.1f}, {high:.1f}]':<18}")
        lines.append(f"| {name:<{width}} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _merge(earlier: SegmentationScore | None, score: SegmentationScore) -> SegmentationScore:
    if earlier is None:
        return score
    return SegmentationScore((*earlier.class_ids, *score.class_ids), np.concatenate([earlier.counts, score.counts]))


def _batches(episodes: Pictograms, batch_size: int) -> Iterator[EpisodeBatch]:
    waiting: list[Episode] = []
    for episode in episodes:
        waiting.append(episode)
        if len(waiting) == batch_size:
            yield collate(waiting)
            waiting = []
    if waiting:
        yield collate(waiting)


def _share_encoders(one: FSSAM, other: FSSAM) -> bool:
    def frozen(model: FSSAM) -> list[torch.Tensor]:
        trained = {id(parameter) for _, parameter in model.trainable_parameters()}
        return [p for p in model.parameters() if id(p) not in trained]

    first, second = frozen(one), frozen(other)
    return len(first) == len(second) and all(map(torch.equal, first, second))
