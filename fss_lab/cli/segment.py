"""`fss-lab segment`: from labelled photos and a folder of others to masks in files."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fss_lab.cli.arguments import add_options, given
from fss_lab.errors import InputError
from fss_lab.method.options import PRECISIONS, PRESENT, option

if TYPE_CHECKING:
    from fss_lab.method import FSSAM
    from fss_lab.method.records import Support

FORMATS = ("mask", "overlay", "coco", "csv")
WEIGHTS = (".pt", ".pth", ".safetensors")
SAVED = ".safetensors"  # how the name of a stored support ends
USAGE = "fss-lab segment --support PHOTO MASK [--support PHOTO MASK ...] --output FOLDER [option ...] QUERY ..."
EPILOG = """
A QUERY is a photo, a folder (with its sub-folders; masks beside photos are left
out) or a pattern such as "holiday/*.jpg". Examples:

  fss-lab segment --support dog.jpg dog_mask.png --output masks holiday
  fss-lab segment --support a.jpg coco.json --support b.jpg coco.json \\
      --foreground dog --output masks holiday
  fss-lab segment --supports examples --output masks holiday   # examples/dog, ...
  fss-lab segment --support dog.support.safetensors --output masks holiday

A mask is a picture (0 and 1, or black and white) or a file of LabelMe, COCO,
CVAT, YOLO or Supervisely. The output folder then holds

  <name>.png           the mask: 0 and 255; of several classes 1, 2, ... in the
                       order of their names, with VOC's colours
  <name>_overlay.jpg   the photo with the mask on it
  segments.json        all masks in COCO's format
  scores.csv           photo, class, score of presence, pixels

Repeat an interrupted command to resume it. A photo that cannot be read is named
and left out; the exit status is then 1. SAM 2's published memory modules were
not trained for this task, see docs/photos.md.
"""


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(FORMATS):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(FORMATS)}, got {', '.join(unknown)}")
    return names


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """Of `fss-lab segment`, besides --support and the queries."""

    output: Path = option(MISSING, "folder for what is written", type=Path, metavar="FOLDER")
    supports: Path | None = option(
        None, "instead of --support: a folder with a sub-folder of photos and masks for each class", type=Path,
        metavar="FOLDER",
    )  # fmt: skip
    class_name: str | None = option(
        None, "what --support shows, for segments.json and scores.csv (default: --foreground where it is a name, else "
        "object)", type=str, metavar="NAME",
    )  # fmt: skip
    foreground: str | None = option(
        None, "which value or class of the supports' masks is meant", type=str, metavar="VALUE"
    )
    threshold: float | None = option(
        None, "cut grey masks of supports (soft, or saved as JPEG): above it is foreground", type=float, metavar="VALUE"
    )
    min_score: float = option(
        PRESENT, "score of presence, 0..1, below which a photo gets an empty mask", type=float, metavar="SCORE"
    )
    presence: Path | None = option(
        None, "a fit of that score for your weights, as benchmarks/presence.py writes it", type=Path, metavar="FILE"
    )
    format: tuple[str, ...] = option(FORMATS, "some of these, with commas between", type=_formats, metavar="NAMES")
    overwrite: bool = option(False, "begin anew, replacing what is there")
    model: str = option(
        "sam2-small+dinov2-base",
        "toy; a pair of networks (@COMMIT after a half pins it); the folder of a run of fss-lab train; or a checkpoint "
        "of the authors (.pth)",
    )
    weights: str | None = option(None, "random: of a pair, for trials of speed", type=str, choices=("random",))
    sam2_checkpoint: str | None = option(None, "your own SAM 2 file instead of the published one", type=str)
    features_checkpoint: str | None = option(None, "your own file of dense features", type=str)
    image_size: int = option(512, "side of the square input of a pair, in pixels", least=1)
    device: str = option("auto", "auto (cuda, else cpu), cpu, cuda, ...")
    precision: str = option("float32", "of the frozen encoders", choices=PRECISIONS)


class _TakeSupport(argparse.Action):
    """PHOTO MASK, or the file of a stored support alone; further values are queries, as if they came last."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, flag: str | None = None
    ) -> None:
        count = 1 if values[0].endswith(SAVED) else 2
        if len(values) < count:
            parser.error(f"--support {values[0]}: the mask is missing; give --support PHOTO MASK")
        if count == 1:
            namespace.beside = [*namespace.beside, *([values[:2]] if len(values) > 1 else [])]
        namespace.support = [*namespace.support, values[:count]]
        namespace.further = [*namespace.further, *values[count:]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage, parser.epilog = USAGE, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(further=[], beside=[])
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="photos, folders, patterns")
    parser.add_argument(
        "--support", nargs="+", action=_TakeSupport, default=[], metavar=("PHOTO", "MASK"),
        help="a labelled photo and its mask, or a file of Support.save; several times for several",
    )  # fmt: skip
    add_options(parser, [SegmentOptions])


def run(arguments: argparse.Namespace) -> int:
    """Segment; status 1 if a photo could not be read. Raises UserError for what a user can put right."""
    options = SegmentOptions(**given(arguments, SegmentOptions))
    if bool(arguments.support) == bool(options.supports):
        raise InputError("give --support PHOTO MASK, or --supports FOLDER, one of the two")
    if not 0 <= options.min_score <= 1:
        raise InputError(f"--min-score lies in 0..1, got {options.min_score}")
    _refuse_masks(arguments.beside)
    from fss_lab.datasets.queries import list_queries
    from fss_lab.models.stream import segment_into

    queries, problems = list_queries([*arguments.further, *arguments.queries], options.output)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"fss-lab segment: warning: {message}", file=sys.stderr)
        model = _model(options)
        supports = _supports(model, arguments.support, options)
        summary = segment_into(
            options.output, model, supports, queries, formats=options.format, min_score=options.min_score,
            overwrite=options.overwrite,
        )  # fmt: skip
    before = f", {summary.before} were done before (--overwrite does them again)" if summary.before else ""
    print(f"{summary.done} {'photo' if summary.done == 1 else 'photos'} segmented into {options.output}{before}")
    if summary.absent:
        listed = ", ".join(summary.absent[:5]) + (", ..." if len(summary.absent) > 5 else "")
        names = " or ".join(supports) if len(supports) < 4 else "any class"
        print(
            f"{len(summary.absent)} without {names} (score below {options.min_score}), so their masks are empty: "
            f"{listed}. To have all masks: --min-score 0 --overwrite"
        )
    failed = [*problems, *summary.failed]
    if failed:
        print("\n  ".join([f"fss-lab segment: {len(failed)} could not be read:", *failed]), file=sys.stderr)
    return 1 if failed else 0


def _refuse_masks(beside: Sequence[Sequence[str]]) -> None:
    """beside: stored supports, with the query after each. Raises InputError for one that is a mask: no photo is."""
    from fss_lab.errors import ImageError
    from fss_lab.images import load_mask
    from fss_lab.images.sources import ANNOTATIONS

    for support, query in beside:
        if not Path(query).is_file():
            continue
        with suppress(ImageError):
            if Path(query).suffix.lower() not in ANNOTATIONS:
                load_mask(query)
            raise InputError(f"{support} holds its masks already, and {query} looks like one; leave it out")


def _model(options: SegmentOptions) -> FSSAM:
    import torch

    from fss_lab.models.load import load_model, usable_device

    place = Path(options.model)
    files: dict[str, Any] = {"features_checkpoint": options.features_checkpoint, "image_size": options.image_size}
    if place.is_dir():
        if not (place / "run.yaml").is_file():
            raise InputError(f"{place} has no run.yaml; give the folder of one run, e.g. --model runs/mine")
        from fss_lab.training.trainer import load_trained

        model = load_trained(place)
    elif place.is_file():
        if (place.parent / "run.yaml").is_file():
            raise InputError(f"{place} is a file of a run; give the folder of the run: --model {place.parent}")
        from fss_lab.models.authors import load_authors_checkpoint

        model, _ = load_authors_checkpoint(place, compare=False, **files)
    elif "+" not in options.model and (set(options.model) & set("/\\") or place.suffix in WEIGHTS):
        raise InputError(
            f"{place} does not exist (looked from {Path.cwd()}); give the folder of a run, or a checkpoint"
        )
    else:
        torch.manual_seed(0)  # random weights must be the same when the command is repeated
        model = load_model(
            options.model, weights=options.weights or "default", sam2_checkpoint=options.sam2_checkpoint, **files
        )
    model.precision = options.precision
    if options.presence:
        from fss_lab.method.presence import Presence

        model.presence = Presence.load(options.presence)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    return model.to(usable_device(name))


def _supports(model: FSSAM, pairs: Sequence[Sequence[str]], options: SegmentOptions) -> dict[str, Support]:
    """What to look for, by class."""
    from fss_lab.images import load_mask

    value = options.foreground
    foreground = int(value) if value is not None and value.lstrip("-").isdigit() else value
    if options.supports:
        from fss_lab.datasets.folder import Folder

        folder = Folder(options.supports, foreground=foreground, threshold=options.threshold)
        return {
            name: model.remember(
                [photo.image for photo in photos],
                [folder.label(f"{name}/{photo.image.name}") == folder.classes[number] + 1 for photo in photos],
            )
            for number, (name, photos) in enumerate(folder.photos.items())
        }
    stored = [pair[0] for pair in pairs if len(pair) == 1]
    if stored:
        from fss_lab.models.supports import load_support

        if len(stored) < len(pairs):
            raise InputError(f"{stored[0]} is stored; give stored supports alone, or photos with masks alone")
        saved = {Path(path).name.split(".")[0]: path for path in stored}
        if len(saved) < len(stored):
            raise InputError(f"stored supports are named by their classes; {', '.join(stored)} share a name")
        return {name: load_support(path, model) for name, path in saved.items()}
    name = options.class_name or (foreground if isinstance(foreground, str) else "object")
    photos, masks = [photo for photo, _ in pairs], [mask for _, mask in pairs]
    if options.threshold is None:
        return {name: model.remember(photos, masks, foreground=foreground)}
    cut = [load_mask(m, foreground=foreground, threshold=options.threshold, photo=p) for p, m in pairs]
    return {name: model.remember(photos, cut)}
