"""Models and episodes of an evaluation on photographs, as `fss_lab.evaluation.scoring` has them for the toy world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fss_lab.backbones.checkpoints import load_metadata, load_state
from fss_lab.datasets.catalogue import open_photos
from fss_lab.datasets.protocols import ListedEpisodes
from fss_lab.errors import InputError
from fss_lab.evaluation.scoring import FULL, check_begun_from_weights, listed_episodes, put_weights
from fss_lab.method import FSSAM
from fss_lab.method.options import Options, options_of
from fss_lab.models.authors import load_authors_checkpoint
from fss_lab.models.load import load_model
from fss_lab.models.provenance import without_commits


@dataclass(frozen=True)
class Networks:
    """The pair of networks to evaluate, see `fss_lab.models.load.load_model`: its name, files of yours instead of the
    published weights, and the side of its square input."""

    model: str = "sam2-small+dinov2-base"
    sam2_checkpoint: str | None = None
    features_checkpoint: str | None = None
    image_size: int = 512

    def load(self, **options: Any) -> FSSAM:
        """The pair as published. Raises as `load_model`."""
        return load_model(
            self.model, sam2_checkpoint=self.sam2_checkpoint, features_checkpoint=self.features_checkpoint,
            image_size=self.image_size, **options,
        )  # fmt: skip

    def load_trained(self, path: str | Path, fold: int, dataset: str, **options: Any) -> FSSAM:
        """The pair with weights that were trained for few-shot segmentation.

        path: `weights.safetensors` or `best.pt` of a run of `fss-lab train`, or a checkpoint of the authors' program
        (.pt, .pth); "{fold}" in it stands for `fold`. options: by default those of the run.
        Raises CheckpointError for an unreadable file, InputError for one that was trained for another pair, input size,
        data set or fold (base classes of one fold are novel in another), or from random weights. RunError for one of a
        run that had other frozen networks: the commits in the pair's name may differ, what they hold may not.
        """
        path = Path(str(path).replace("{fold}", str(fold)))
        if _of_authors(path):
            model, report = load_authors_checkpoint(
                path, features_checkpoint=self.features_checkpoint, compare=False, image_size=self.image_size, **options
            )
            if report.sam2 != without_commits(self.model).partition("+")[0]:
                raise InputError(
                    f"{path} holds {report.sam2}, not the SAM 2 of {self.model}; name its pair with --model"
                )
            return model
        run = json.loads(load_metadata(path).get("config", "{}"))
        check_begun_from_weights(run, path)
        own = {"model": without_commits(self.model), "image_size": self.image_size, "dataset": dataset, "fold": fold}
        theirs = {**run, "model": without_commits(run.get("model", ""))}
        wrong = [f"{key} {run.get(key)!r}, not {value!r}" for key, value in own.items() if theirs.get(key) != value]
        if wrong:
            raise InputError(
                f"{path} was trained with {'; '.join(wrong)}. Evaluate it with the options of its run.yaml"
            )
        return put_weights(self.load(**options_of(run) | options), load_state(path), run, path)


def _of_authors(path: Path) -> bool:
    """Whether a file comes from the authors' program, not from a run of `fss-lab train`."""
    return path.suffix != ".safetensors" and "config" not in load_metadata(path)


def real_models(
    fold: int, weights: Mapping[str, str] | None = None, *, networks: Networks, dataset: str
) -> dict[str, FSSAM]:
    """As `fss_lab.evaluation.scoring.toy_models`: FSSAM under the name `FULL`, and the support-memory baselines.

    weights: as there, of files as `Networks.load_trained` takes them. Without any, `FULL` is called "not
    fine-tuned": its memory modules are SAM 2's own. With nothing but checkpoints of the authors' program, which bring
    networks of their own, there is no row of the published SAM 2, and nothing has to be fetched.
    """
    own = {name: path.replace("{fold}", str(fold)) for name, path in (weights or {}).items()}
    models: dict[str, FSSAM] = {}
    if not own or not all(_of_authors(Path(path)) for path in own.values()):
        stock = networks.load()
        models["support memory, not fine-tuned"] = stock.variant(memory="support")
        if not own:
            models[f"{FULL}, not fine-tuned"] = stock
    if "baseline" in own:
        path = own.pop("baseline")
        models["support memory, fine-tuned"] = networks.load_trained(path, fold, dataset, memory="support")
    if "fssam" in own:
        models[FULL] = networks.load_trained(own.pop("fssam"), fold, dataset, **asdict(Options()))
    return models | {f"trained: {name}": networks.load_trained(path, fold, dataset) for name, path in own.items()}


def real_episodes(
    fold: int,
    shots: int,
    seed: int,
    number: int,
    *,
    dataset: str,
    root: str | Path | None,
    protocol: str,
    size: int,
    lists: str | Path | None = None,
    skip_bad: bool = False,
) -> ListedEpisodes:
    """Novel-class episodes of a fold of photographs, drawn by a protocol; stretched to size x size pixels.

    dataset: a name of `fss_lab.datasets.catalogue.DATASETS`; lists: as `fss_lab.evaluation.scoring.toy_episodes`.
    Raises as `open_photos`.
    """
    images = open_photos(dataset, root, fold, "novel", protocol=protocol, skip_bad=skip_bad)
    return listed_episodes(protocol, images, shots, seed, number, lists, size)
