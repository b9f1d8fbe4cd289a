"""`fss-lab evaluate` and `fss-lab ablate`, of the toy world or of photographs: their options are records of
`fss_lab.evaluation.options`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from fss_lab.cli.arguments import add_options, given
from fss_lab.datasets.catalogue import DATASETS
from fss_lab.datasets.folds import FOLDS
from fss_lab.errors import InputError
from fss_lab.evaluation.options import (
    AblateOptions,
    ComputeOptions,
    EvaluateOptions,
    PhotographOptions,
    RunOptions,
    ToyOptions,
)

if TYPE_CHECKING:
    from fss_lab.evaluation.jobs import Job
    from fss_lab.evaluation.worlds import World

RECORDS = (ToyOptions, PhotographOptions, ComputeOptions)  # of both commands
add_evaluate_arguments = partial(add_options, records=(EvaluateOptions, *RECORDS))
add_ablate_arguments = partial(add_options, records=(AblateOptions, *RECORDS))


def evaluate(arguments: argparse.Namespace) -> int:
    from fss_lab.evaluation.jobs import Settings, identity_jobs, run
    from fss_lab.evaluation.report import markdown, write_results
    from fss_lab.evaluation.variants import STEPS, steps

    options = EvaluateOptions(**given(arguments, EvaluateOptions))
    directory = None if options.output is None or options.output.suffix == ".md" else options.output
    title, added = "Evaluation", STEPS
    files: Mapping[str, str] = {}
    if options.identity:
        other = {**given(arguments, ToyOptions), **given(arguments, PhotographOptions)}
        number = other.pop("number", 300)
        if other or options.shots != (1,):
            raise InputError("--identity goes without --shots and the options of data sets, models and weights")
        title, added = "Same or another identity in memory", ()
        jobs = identity_jobs(_numbers(options) or range(FOLDS), options.seeds or (0,), number)
    else:
        world = _world(arguments, options, steps, lists=directory and directory / "episodes")
        jobs, files = _jobs(options, world), world.weights
    settings = Settings(**given(arguments, ComputeOptions))
    results = run(jobs, directory, settings, workers=options.workers, progress=True)
    if options.output is None:
        print(markdown(results, title, added, files))
    else:
        print(write_results(results, options.output, title, added, files))
    return 0


def ablate(arguments: argparse.Namespace) -> int:
    from fss_lab.evaluation.ablation import ablate
    from fss_lab.evaluation.jobs import Settings
    from fss_lab.evaluation.variants import suite

    options = AblateOptions(**given(arguments, AblateOptions))
    world = _world(arguments, options, suite, lists=options.output / "episodes")
    text = ablate(
        _jobs(options, world), options.output, Settings(**given(arguments, ComputeOptions)),
        measured=options.measured, workers=options.workers, progress=True, files=world.weights,
    )  # fmt: skip
    print(text)
    return 0


def _world(arguments: argparse.Namespace, options: RunOptions, variants: Callable[..., Any], **places: Any) -> World:
    """The toy world or photographs, as --dataset says.

    Raises:
        InputError: options that the world would ignore, two files of one name, or several files of folds.
    """
    from fss_lab.evaluation.worlds import Photographs, ToyWorld

    toy, photographs = given(arguments, ToyOptions), given(arguments, PhotographOptions)
    kind: type[World]
    if toy.get("dataset") in DATASETS:
        kind, chosen, ignored = Photographs, photographs, toy
        advice = "is for the toy world; photographs have a list of their own"
    else:
        kind, chosen, ignored = ToyWorld, toy, photographs
        advice = "is for photographs, and the toy world has its own; add --dataset pascal, or leave it out"
    for name in sorted(ignored.keys() - chosen.keys()):
        raise InputError(f"--{name.replace('_', '-')} {advice}")
    if "images" in toy and "protocol" not in toy:
        raise InputError("--images needs --protocol; without, scenes are fresh")
    names = [name for name, _ in chosen.get("weights", ())]
    if len(set(names)) < len(names):
        raise InputError(
            f"--weights has one file for each name (fssam where none is given), got {', '.join(names)}; to compare "
            "several runs name them, as in --weights first=PATH second=PATH"
        )
    chosen["weights"] = dict(chosen.get("weights", ()))
    files = [fold for fold in options.folds or () if isinstance(fold, str)]
    if len(files) > 1 or files and kind is ToyWorld:
        raise InputError(f"--folds takes one file, of --dataset folder, got {', '.join(files)}")
    if files:
        chosen["folds"] = files[0]
    return kind(variants=variants, **chosen, **places)


def _jobs(options: RunOptions, world: World) -> list[Job]:
    from fss_lab.datasets.protocols import benchmark
    from fss_lab.evaluation.jobs import grid_jobs

    seeds = options.seeds or (benchmark(world.protocol).seed if world.protocol else 0,)
    return grid_jobs(_numbers(options) or range(world.number_of_folds()), options.shots, seeds, world)


def _numbers(options: RunOptions) -> list[int]:
    return [fold for fold in options.folds or () if isinstance(fold, int)]
