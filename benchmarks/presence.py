"""Is the class shown at all? Fit and test `prediction.score` on queries with and without the class.

    python benchmarks/presence.py --output runs/presence           # the toy: 400 + 400 queries a fold, base and novel
    python benchmarks/presence.py --model sam2-small+dinov2-base --dataset pascal --weights "runs/fold{fold}/best.pt" \\
        --device cuda --output runs/presence_pascal                # real weights and photographs

Every query is segmented with a support of its own class and with one of a class that it certainly does not show: no
object of it was painted into the scene, or no pixel of the label map has it. Which evidence is used is decided on base
classes, by the area under the ROC curve with one fold left out at a time; the result is reported on novel ones. Writes
presence.json, which `Presence.load` reads (`model.presence = Presence.load(path)`), presence.md and presence.png.
Interrupted, it goes on when started again. Tests never run this at full length.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from fss_lab import FSSAM, Pictograms, load_model
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.protocols import ListedEpisodes, benchmark, draw_episodes
from fss_lab.episode import IGNORE, Episode
from fss_lab.evaluation.worlds import Photographs
from fss_lab.figures.prediction import iou
from fss_lab.method import Support
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
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    measure(options)


if __name__ == "__main__":
    main()
