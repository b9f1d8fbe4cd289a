"""What is evaluated: the toy world or photographs, with the models that go with them.

A world is a record of plain values, so every process makes the same models and episodes of it.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from glob import escape, glob
from pathlib import Path
from typing import Any

from fss_lab.backbones.checkpoints import load_into, load_metadata, load_state
from fss_lab.backbones.origin import share_origin
from fss_lab.backbones.toy import IMAGE_SIZE, WEIGHTS
from fss_lab.datasets.catalogue import DATASETS, open_photos
from fss_lab.datasets.folds import FOLDS
from fss_lab.datasets.protocols import ImageSet, ListedEpisodes, benchmark, draw_episodes, load_or_draw
from fss_lab.episode import Episodes
from fss_lab.errors import CheckpointError, InputError
from fss_lab.evaluation.options import PAIR, PhotographOptions, ToyOptions, WorldOptions
from fss_lab.evaluation.scoring import Scores, evaluate
from fss_lab.evaluation.variants import ADDED, FULL, Models, steps
from fss_lab.method import FSSAM
from fss_lab.method.options import Options, options_of
from fss_lab.metrics import merge_scores
from fss_lab.models.authors import load_authors_checkpoint
from fss_lab.models.load import load_model
from fss_lab.models.provenance import check_frozen, without_commits
from fss_lab.toyworld.catalogue import TOY_WORLDS
from fss_lab.toyworld.pictograms import Pictograms

SHIPPED = {kind: str(WEIGHTS / f"toy_fold{{fold}}_{kind}.safetensors") for kind in ("baseline", "fssam")}


@dataclass(frozen=True, kw_only=True, eq=False)
class World(WorldOptions, ABC):
    """Models of a fold, and episodes of its novel classes.

    number: of episodes. protocol: see `fss_lab.datasets.protocols`. weights: files of runs of yours by name, "fssam",
    "baseline" or another, "{fold}" in a path stands for the fold. lists: a directory; episode lists of a protocol are
    taken from there, or drawn and saved there. variants: a function of a module, `steps` or `suite`, that makes the
    variants to score of the models that there are.
    """

    lists: Path | None = None
    variants: Callable[[Models], Models] = steps

    def models(self, fold: int) -> Models:
        """The `variants` of what is `trained`; all share the frozen encoders, which are loaded once for all folds."""
        return self.variants(self.trained(fold))

    def trained(self, fold: int) -> Models:
        """The support-memory baselines, FSSAM under the name `FULL`, and the other weights, named by `ADDED`.

        Without any weights `FULL` is called "not fine-tuned": its memory modules are SAM 2's own. Where every file
        brings networks of its own, there is no row of the published ones, and they are not loaded.

        Raises:
            CheckpointError, InputError, RunError: see `load`; InputError also for a baseline in the place of FSSAM.
        """
        files = {name: _path(path, fold) for name, path in self.files().items()}
        models: Models = {}
        if not files or not all(self.brings_networks(path) for path in files.values()):
            published = _pair(self)
            models["support memory, not fine-tuned"] = published.variant(memory="support")
            if not files:
                models[f"{FULL}, not fine-tuned"] = published
        if "baseline" in files:
            models["support memory, fine-tuned"] = self.load(files.pop("baseline"), fold, memory="support")
        if "fssam" in files:
            path = files.pop("fssam")
            model = self.load(path, fold)
            if model.options.memory != "pseudo":
                raise InputError(f"{path} was trained with memory='support'; give it as baseline={path}")
            models[FULL] = model.variant(**asdict(Options()))
        return models | {f"{ADDED}{name}": self.load(path, fold) for name, path in files.items()}

    def load(self, path: str | Path, fold: int, **options: Any) -> FSSAM:
        """The pair of networks with weights that were trained for few-shot segmentation.

        It shares what was not trained with the other models of this world. path: weights.safetensors, best.pt or
        last.pt of a run of `fss-lab train`, or any part of SAM 2; "{fold}" in it stands for `fold`. options: see
        `fss_lab.method.Options`; by default those of the run.

        Raises:
            CheckpointError: an unreadable file, or one that holds other weights.
            InputError: weights trained for another pair, input size, data set or fold (base classes of one fold are
                novel in another), or from random weights, which nothing can give back.
            RunError: weights trained with other frozen networks.
        """
        path = _path(path, fold)
        weights, metadata = load_state(path), load_metadata(path)
        run = json.loads(metadata.get("config", "{}"))
        if "fold" in metadata:
            run["fold"] = int(metadata["fold"])
        if run.get("weights") == "random":
            raise InputError(f"{path} was trained from random weights, which are for trials of training alone")
        wrong = [
            f"{key} {run.get(key)!r}, not {value!r}"
            for key, value in self.conditions(fold, run).items()
            if (without_commits(str(run.get(key))) if key == "model" else run.get(key)) != value
        ]
        if wrong:
            raise InputError(
                f"{path} was trained with {'; '.join(wrong)}. Evaluate it with the options of its run.yaml; base "
                'classes of one fold are novel in another, so give one file for each fold, with "{fold}" in the path'
            )
        pair = self.begun(run, fold)
        known = pair.sam2.model.state_dict(keep_vars=True)
        unknown = sorted(set(weights) - set(known))
        if unknown:
            raise CheckpointError(f"{path} holds weights that this SAM 2 does not have: {', '.join(unknown[:5])}")
        shared = {id(tensor): tensor for name, tensor in known.items() if name not in weights}
        sam2 = copy.deepcopy(pair.sam2, shared)
        share_origin(sam2, pair.sam2)
        load_into(sam2.model, {name: tensor.detach() for name, tensor in known.items()} | weights, source=path)
        model = FSSAM(sam2, pair.features, **options_of(run) | options)
        check_frozen(run, model, weights, path)
        return model

    def files(self) -> Mapping[str, str]:
        """The weights by name."""
        return self.weights

    def brings_networks(self, path: Path) -> bool:
        """Whether a file of weights holds frozen networks of its own."""
        return False

    def begun(self, run: Mapping[str, Any], fold: int) -> FSSAM:
        """What a run's training began with. run: its settings."""
        return _pair(self)

    def number_of_folds(self) -> int:
        """All folds are 0 .. this number - 1."""
        return FOLDS

    @abstractmethod
    def pair(self) -> FSSAM:
        """The networks as published, loaded anew."""

    @abstractmethod
    def conditions(self, fold: int, run: dict[str, Any]) -> dict[str, Any]:
        """The settings that a run must have had; `run` may be put into the same words."""

    @abstractmethod
    def episodes(self, fold: int, shots: int, seed: int) -> Episodes:
        """Episodes of the fold's novel classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyWorld(ToyOptions, World):
    """Pictograms and the toy model, with the shipped weights where none of yours take their place.

    dataset: "pictograms", or "look-alikes" with misleading distractors. protocol: None for episodes with scenes of
    their own; else they are drawn from a fixed set of `images` images. With "fssam" alone in `weights` there is no
    fine-tuned baseline, for the shipped one was not trained beside it.

    Raises:
        InputError: another dataset, or look-alikes, which are fresh scenes, with a protocol.
    """

    number: int = 300

    def __post_init__(self) -> None:
        if self.dataset not in TOY_WORLDS:
            raise InputError(f"the toy world is one of {tuple(TOY_WORLDS)}, got {self.dataset!r}; see Photographs")
        if self.protocol is not None and TOY_WORLDS[self.dataset].fixed is None:
            raise InputError(f"{self.dataset} are fresh scenes; protocol {self.protocol} needs a fixed set of images")

    def pair(self) -> FSSAM:
        return load_model("toy", weights="pretrained")

    def files(self) -> Mapping[str, str]:
        return self.weights if "fssam" in self.weights else SHIPPED | dict(self.weights)

    def begun(self, run: Mapping[str, Any], fold: int) -> FSSAM:
        weights = run.get("weights", "pretrained")
        return _pair(self) if weights == "pretrained" else load_model("toy", fold=fold, weights=weights)

    def conditions(self, fold: int, run: dict[str, Any]) -> dict[str, Any]:
        known = {"model": "toy", "fold": fold}
        return {key: value for key, value in known.items() if key in run}

    def episodes(self, fold: int, shots: int, seed: int) -> Episodes:
        if self.protocol is not None:
            images = _images(self.dataset, fold, self.images)
            return listed_episodes(self.protocol, images, shots, seed, self.number, self.lists)
        return TOY_WORLDS[self.dataset].episodes(fold, shots, seed, self.number)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographs(PhotographOptions, World):
    """A data set of photographs, and a pair of networks, see `fss_lab.models.load.load_model`.

    dataset: a name of `datasets.catalogue.DATASETS`. model: "" for that of the runs in `weights`.
    sam2_checkpoint, features_checkpoint: files of yours instead of the published weights. image_size: to its
    square, in pixels, images and masks are stretched (of "toy": its own).
    folds: of "folder", a file of folds.

    Raises:
        InputError: another dataset, or weights of a run with another model.
        CheckpointError: weights that are missing or unreadable.
    """

    dataset: str = "pascal"
    model: str = ""
    number: int = 1000
    protocol: str = "fssam"
    folds: str | None = None

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise InputError(f"photographs are one of {tuple(DATASETS)}, got {self.dataset!r}; see ToyWorld")
        # told before any network is fetched
        runs = {path: model for path in self.weights.values() if (model := _model_of_run(path))}
        model = self.model or next(iter(runs.values()), PAIR)
        object.__setattr__(self, "model", model)
        for path, trained in runs.items():
            if without_commits(trained) != without_commits(model):
                raise InputError(f"{path} was trained with model {trained!r}, not {model!r}; add --model {trained}")

    def number_of_folds(self) -> int:
        number = DATASETS[self.dataset].folds
        if number is None:
            number = len(self._photos(0).facts["folds"])
        return number

    def pair(self) -> FSSAM:
        return load_model(
            self.model, weights="pretrained", sam2_checkpoint=self.sam2_checkpoint,
            features_checkpoint=self.features_checkpoint, image_size=self.image_size,
        )  # fmt: skip

    def load(self, path: str | Path, fold: int, **options: Any) -> FSSAM:
        """As `World.load`, and from checkpoints of the authors' program (.pt, .pth), which bring their networks."""
        path = _path(path, fold)
        if not self.brings_networks(path):
            return World.load(self, path, fold, **options)
        model, report = load_authors_checkpoint(
            path, features_checkpoint=self.features_checkpoint, compare=False, image_size=self.image_size, **options
        )
        if report.sam2 != without_commits(self.model).partition("+")[0]:
            raise InputError(f"{path} holds {report.sam2}, not the SAM 2 of {self.model}; name its pair with --model")
        return model

    def brings_networks(self, path: Path) -> bool:
        return path.suffix != ".safetensors" and "config" not in load_metadata(path)

    def conditions(self, fold: int, run: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Any] = {"model": without_commits(self.model), "image_size": self.image_size}
        if DATASETS[self.dataset].tested_only:
            return known
        known |= {"dataset": self.dataset, "fold": fold}
        if DATASETS[self.dataset].folds is None:  # as the run wrote them down, in the place of its file
            run["folds"] = run.get("data", {}).get("folds")
            known["folds"] = self._photos(fold).facts["folds"]
        return known

    def episodes(self, fold: int, shots: int, seed: int) -> ListedEpisodes:
        size = IMAGE_SIZE if self.model == "toy" else self.image_size
        return listed_episodes(self.protocol, self._photos(fold), shots, seed, self.number, self.lists, size)

    def _photos(self, fold: int) -> Any:
        options: dict[str, Any] = {"protocol": self.protocol, "skip_bad": self.skip_bad, "folds": self.folds}
        return open_photos(self.dataset, self.data_root, fold, "novel", **options)


@dataclass(frozen=True)
class Identity:
    """The paper's motivation as a world: the support shows the query's own individual, or another one of its class.

    identity: "same" or "other"; the queries are the same. The model is the toy SAM 2, never trained on Pictograms,
    with the support as its only memory. One shot and one target in a scene.
    """

    identity: str
    number: int = 300

    def models(self, fold: int) -> Models:
        which = "the same" if self.identity == "same" else "another"
        return {f"memory shows {which} identity": load_model("toy", weights="pretrained", memory="support")}

    def episodes(self, fold: int, shots: int, seed: int) -> Pictograms:
        return Pictograms(fold, "novel", 1, seed, episodes=self.number, identity=self.identity, targets=1)


def listed_episodes(
    protocol: str,
    images: ImageSet,
    shots: int,
    seed: int,
    number: int,
    lists: str | Path | None = None,
    size: int | None = None,
) -> ListedEpisodes:
    """Episodes drawn by a protocol. lists: a directory; the list is taken from there, or drawn and saved there. size:
    see `ListedEpisodes`."""
    rules = benchmark(protocol)
    if lists is None:
        return ListedEpisodes(draw_episodes(rules, images, shots, number, seed), images, size)
    path = Path(lists) / f"{protocol}_fold{images.fold}_{shots}shot_seed{seed}.json"
    return ListedEpisodes(load_or_draw(path, rules, images, shots, number, seed), images, size)


def evaluate_toy(folds: Sequence[int] = range(FOLDS), shots: int = 1, episodes: int = 300, seed: int = 0) -> Scores:
    """`steps` on the novel classes of the folds, `episodes` a fold; the folds' scores are merged.

    mIoU over all classes of several folds is the mean of the folds' mIoUs, for each has five classes.
    """
    world = ToyWorld(number=episodes)
    scores = [evaluate(world.models(fold), world.episodes(fold, shots, seed)) for fold in folds]
    return {name: merge_scores(score[name] for score in scores) for name in scores[0]}


def _path(path: str | Path, fold: int) -> Path:
    return Path(str(path).replace("{fold}", str(fold)))


def _model_of_run(path: str) -> str:
    """The model of a run by its weights, "{fold}" in their path being any fold; "" where they name none."""
    path = next(iter(sorted(glob(escape(path).replace("{fold}", "*")))), path)
    return "" if "{fold}" in path else str(json.loads(load_metadata(path).get("config", "{}")).get("model", ""))


@lru_cache(maxsize=1)
def _pair(world: World) -> FSSAM:
    """The published networks of a world, of which its models share what was not trained."""
    return world.pair()


@lru_cache(maxsize=1)
def _images(dataset: str, fold: int, images: int) -> ImageSet:
    """The fold's fixed images, kept for the next number of shots or seed."""
    return TOY_WORLDS[dataset].images(fold, images)
