"""`fss-lab evaluate` and `fss-lab ablate`, of the toy world or of photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fss_lab.cli.arguments import positive, seed
from fss_lab.datasets.catalogue import DATASETS
from fss_lab.errors import InputError
from fss_lab.method.options import PRECISIONS
from fss_lab.toyworld.catalogue import TOY_WORLDS


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument("--shots", type=positive, nargs="+", default=[1], help="supports per episode (default 1)")
    parser.add_argument("--identity", action="store_true", help="same against another identity in memory, instead")
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N", help="do only part I of N, into one --output DIR that all parts share"
    )
    parser.add_argument(
        "--output", type=Path,
        help="FILE.md: also write the text there; or a directory for JSON, CSV, Markdown and a figure, where an "
        "interrupted run goes on; lists of a protocol's episodes lie in its folder episodes, and are used again",
    )  # fmt: skip


def evaluate(arguments: argparse.Namespace) -> int:
    from functools import partial

    from fss_lab.evaluation.jobs import grid_jobs, identity_jobs, run
    from fss_lab.evaluation.report import markdown, write_results
    from fss_lab.evaluation.scoring import STEPS, toy_variants

    report = arguments.output if arguments.output is not None and arguments.output.suffix == ".md" else None
    directory = None if report else arguments.output
    wrong = arguments.protocol or arguments.weights or arguments.shots != [1] or arguments.dataset != "pictograms"
    if arguments.identity and wrong:
        raise SystemExit(
            "fss-lab evaluate: error: --identity goes without --protocol, --weights, --shots and --dataset"
        )
    chosen = _run_settings(arguments, directory)
    if arguments.shard and directory is None:
        raise SystemExit("fss-lab evaluate: error: --shard needs a directory as --output, which all parts share")
    title, steps = "Evaluation", STEPS
    if arguments.identity:
        title, steps = "Same or another identity in memory", ()
        jobs = identity_jobs(arguments.folds, chosen["seeds"], arguments.episodes)
    else:
        models = partial(toy_variants, weights=chosen["weights"], source=chosen["models"])
        jobs = grid_jobs(arguments.folds, arguments.shots, chosen["seeds"], models, chosen["episodes"])
    results = run(jobs, directory, chosen["settings"], workers=arguments.workers, shard=arguments.shard, progress=True)
    if not results:
        print(f"this part is done; the result is written when all parts in {directory} are")
        return 0
    told = (title, steps, chosen["weights"])
    text = markdown(results, *told) if directory is None else write_results(results, directory, *told)
    print(text)
    if report:
        from fss_lab.files import write_atomically

        write_atomically(report, (text + "\n").encode())
    return 0


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    """What `evaluate` and `ablate` have in common."""
    parser.add_argument(
        "--folds", type=int, choices=range(4), nargs="+", default=[0, 1, 2, 3], help="folds (default: all four)"
    )
    parser.add_argument(
        "--episodes", type=positive, help="novel-class episodes a fold (default 300; of photographs 1000)"
    )
    parser.add_argument(
        "--seeds", "--seed", type=seed, nargs="+", help="choose the episodes (default 0, or the protocol's own)"
    )
    parser.add_argument(
        "--protocol", choices=["fssam", "hsnet"],
        help="draw the episodes from a fixed set of images as this protocol says (default: fresh scenes for each; of "
        "photographs fssam)",
    )  # fmt: skip
    parser.add_argument("--images", type=positive, help="images of a protocol's set (default 400)")
    parser.add_argument(
        "--weights", type=_weight_file, nargs="+", default=[], metavar="[NAME=]PATH",
        help="weights of your own runs instead of the shipped ones; NAME: fssam (default), baseline, or any other, "
        "which is added as a row; {fold} in PATH stands for the fold",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive, default=1, help="processes (default 1); the result is the same")
    parser.add_argument("--threads", type=positive, default=1, help="threads of each process (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="of the frozen encoders (default: the model's own, float32)",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=8, help="episodes at a time (default 8)")
    parser.add_argument(
        "--cache", type=int, default=0, metavar="MB",
        help="memory of each process for features of images seen before (default 0)",
    )  # fmt: skip
    parser.add_argument("--cache-directory", type=Path, help="keep these features on disk, for all processes and runs")
    add_evaluation_arguments(parser)


def _run_settings(arguments: argparse.Namespace, directory: Path | None) -> dict[str, Any]:
    """The seeds, where episodes and weights come from, and how to compute. directory: of the run, if it has one."""
    from functools import partial

    from fss_lab.datasets.protocols import benchmark
    from fss_lab.evaluation.jobs import Settings
    from fss_lab.evaluation.scoring import toy_episodes, toy_models

    photographs = arguments.dataset not in TOY_WORLDS
    arguments.episodes = arguments.episodes or (1000 if photographs else 300)
    arguments.protocol = arguments.protocol or ("fssam" if photographs else None)

    named = [name for name, _ in arguments.weights]
    if len(set(named)) < len(named):
        raise SystemExit(
            f"fss-lab {arguments.command}: error: --weights has one file for each name (fssam where none is given), "
            f"got {', '.join(named)}; to compare several runs name them, as in --weights first=PATH second=PATH"
        )
    if arguments.images and not arguments.protocol:
        raise SystemExit(f"fss-lab {arguments.command}: error: --images needs --protocol; without, scenes are fresh")
    lists = None if directory is None else directory / "episodes"
    if photographs:
        sources = evaluation_sources(arguments, lists)
    else:
        refuse_photograph_options(arguments)
        toy = {"number": arguments.episodes, "protocol": arguments.protocol, "images": arguments.images or 400}
        world = {"look_alikes": arguments.dataset == "look-alikes", "lists": lists}
        sources = {"models": toy_models, "episodes": partial(toy_episodes, **toy, **world)}
    return {
        **sources,
        "seeds": arguments.seeds or [benchmark(arguments.protocol).seed if arguments.protocol else 0],
        "weights": dict(arguments.weights),
        "settings": Settings(
            batch_size=arguments.batch_size,
            threads=arguments.threads,
            device=arguments.device,
            cache_bytes=arguments.cache * 10**6,
            cache_directory=arguments.cache_directory,
            precision=arguments.precision,
        ),
    }


def _weight_file(text: str) -> tuple[str, str]:
    """PATH or NAME=PATH."""
    name, sign, path = text.partition("=")
    return (name, path) if sign and not set(name) & set("/\\") else ("fssam", text)


def _shard(text: str) -> tuple[int, int]:
    """I/N with 1 <= I <= N."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"must be I/N with 1 <= I <= N, such as 2/3, not {text}")
    return int(part), int(parts)


def add_ablate_arguments(parser: argparse.ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument("--shots", type=positive, nargs="+", default=[1, 5], help="supports per episode (default 1 5)")
    parser.add_argument(
        "--measured", type=int, help="episodes a fold for prior and attention (default: all; 0: leave this out)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="directory of tables and figures, where an interrupted run goes on"
    )


def ablate(arguments: argparse.Namespace) -> int:
    from functools import partial

    from fss_lab.evaluation.ablation import ablate, suite
    from fss_lab.evaluation.jobs import grid_jobs

    chosen = _run_settings(arguments, arguments.output)
    models = partial(suite, weights=chosen["weights"], source=chosen["models"])
    jobs = grid_jobs(arguments.folds, arguments.shots, chosen["seeds"], models, chosen["episodes"])
    text = ablate(
        jobs, arguments.output, chosen["settings"],
        measured=arguments.measured, workers=arguments.workers, progress=True, files=chosen["weights"],
    )  # fmt: skip
    print(text)
    return 0


# ---- photographs


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """What to evaluate instead of the toy world."""
    group = parser.add_argument_group("photographs")
    group.add_argument(
        "--dataset", choices=[*TOY_WORLDS, *DATASETS], default="pictograms",
        help="PASCAL-5i, COCO-20i, or COCO-20i with the older folds; look-alikes: the toy world with misleading "
        "distractors (default: the toy world)",
    )  # fmt: skip
    group.add_argument("--data-root", type=Path, help="folder of the photographs (default: data/ of the clone)")
    group.add_argument("--skip-bad", action="store_true", help="leave bad files out and list them")
    group.add_argument("--model", help="pair of networks (default: sam2-small+dinov2-base; @COMMIT pins a half)")
    group.add_argument("--sam2-checkpoint", help="your own SAM 2 file instead of the published one")
    group.add_argument("--features-checkpoint", help="your own DINOv2 file instead of the published one")
    group.add_argument("--image-size", type=positive, help="side of the square input, in pixels (default 512)")


def refuse_photograph_options(arguments: argparse.Namespace) -> None:
    """Raise InputError for options of `add_evaluation_arguments` that the toy world would ignore."""
    named = ("data_root", "skip_bad", "model", "sam2_checkpoint", "features_checkpoint", "image_size")
    for name in named:
        if getattr(arguments, name) not in (None, False):
            raise InputError(
                f"--{name.replace('_', '-')} is for photographs, and the toy world has its own; add --dataset pascal, "
                "or leave it out"
            )


def evaluation_sources(arguments: argparse.Namespace, lists: Path | None) -> dict[str, Any]:
    """For photographs: `models` of a fold and `episodes` of a fold, shots and seed, as `grid_jobs` takes them.

    lists: where episode lists are kept. Raises InputError for options of the toy world.
    """
    from functools import partial

    from fss_lab.evaluation.photographs import Networks, real_episodes, real_models

    if arguments.images or getattr(arguments, "identity", False):
        raise InputError("--images and --identity are for the toy world; photographs have a list of their own")
    given = ("model", "sam2_checkpoint", "features_checkpoint", "image_size")
    networks = Networks(**{key: getattr(arguments, key) for key in given if getattr(arguments, key) is not None})
    return {
        "models": partial(real_models, networks=networks, dataset=arguments.dataset),
        "episodes": partial(
            real_episodes, number=arguments.episodes, dataset=arguments.dataset, root=arguments.data_root,
            protocol=arguments.protocol, size=networks.image_size, lists=lists, skip_bad=arguments.skip_bad,
        ),
    }  # fmt: skip
