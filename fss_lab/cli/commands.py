"""The `fss-lab` command: a thin skin over the library.

A command is one entry of COMMANDS: a line of help, a function that runs it and one that adds its arguments.
Only the former imports what it needs, so that `fss-lab --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fss_lab import __version__
from fss_lab.cli import course as cli_course
from fss_lab.cli import data as cli_data
from fss_lab.cli.arguments import positive, seed
from fss_lab.errors import UserError


@dataclass(frozen=True)
class Command:
    """help: one line; run: arguments -> exit status, 0 for success; add_arguments: fills the parser; goes_on: whether
    the same command goes on with what an interrupted one left in its --output."""

    help: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    goes_on: bool = False


def _doctor(arguments: argparse.Namespace) -> int:
    from fss_lab.cli.doctor import examine

    return examine()


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    from dataclasses import fields

    from fss_lab.training.config import PROFILES, TrainConfig

    parser.add_argument(
        "--output", type=Path, help="directory of the run; one that holds this run already continues it"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--profile", choices=PROFILES, help="which defaults (default: toy)")
    source.add_argument("--config", type=Path, help="repeat the run of this run.yaml; other options change it")
    source.add_argument("--replay", type=Path, help="compute the step of a not_finite.pt once more, and nothing else")
    for each in fields(TrainConfig):
        flag, rules = f"--{each.name.replace('_', '-')}", each.metadata
        default = "" if each.default is None else f" (default: {each.default})"
        common = {"default": argparse.SUPPRESS, "help": (rules["help"] + default).replace("%", "%%")}
        if rules["type"] is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif each.name == "trainable":
            parser.add_argument(flag, nargs="+", **common)
        else:
            parser.add_argument(flag, type=rules["type"], choices=rules["choices"], **common)
    changes = ", ".join(f"{name} {value}" for name, value in PROFILES["paper"].items())
    parser.epilog = (
        f"The paper's profile changes: {changes}; the steps follow from its epochs. The defaults above are those of "
        "the toy profile, made for two CPU cores and a minute. Several devices: --devices 4; or `torchrun "
        "--nproc-per-node 4 -m fss_lab train ...` or `fabric run --devices 4 -- $(which fss-lab) train ...`, which "
        "then say how many processes there are."
    )


def _train(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from fss_lab.method.fssam import TRAINABLE
    from fss_lab.training.config import TrainConfig, profile
    from fss_lab.training.facts import read_config
    from fss_lab.training.trainer import replay, train

    if arguments.replay is not None:
        replay(arguments.replay)
        return 0
    if arguments.output is None:
        print("fss-lab train: --output DIRECTORY is missing: where the run keeps its files", file=sys.stderr)
        return 2
    given = {name: value for name, value in vars(arguments).items() if name in TrainConfig.__dataclass_fields__}
    if len(given.get("trainable", ())) == 1 and given["trainable"][0] in TRAINABLE:
        (given["trainable"],) = given["trainable"]
    if arguments.config is None:
        config = profile(arguments.profile or "toy", **given)
    else:
        config = replace(read_config(arguments.config), **given)
    train(config, arguments.output)
    return 0


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
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


def _evaluate(arguments: argparse.Namespace) -> int:
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
        "--precision", choices=["float32", "bfloat16"],
        help="of the frozen encoders (default: the model's own, float32)",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive, default=8, help="episodes at a time (default 8)")
    parser.add_argument(
        "--cache", type=int, default=0, metavar="MB",
        help="memory of each process for features of images seen before (default 0)",
    )  # fmt: skip
    parser.add_argument("--cache-directory", type=Path, help="keep these features on disk, for all processes and runs")
    cli_data.add_evaluation_arguments(parser)


def _run_settings(arguments: argparse.Namespace, directory: Path | None) -> dict[str, Any]:
    """The seeds, where episodes and weights come from, and how to compute. directory: of the run, if it has one."""
    from functools import partial

    from fss_lab.datasets.protocols import benchmark
    from fss_lab.evaluation.jobs import Settings
    from fss_lab.evaluation.scoring import toy_episodes, toy_models

    photographs = arguments.dataset not in cli_data.TOY_WORLDS
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
        sources = cli_data.evaluation_sources(arguments, lists)
    else:
        cli_data.refuse_photograph_options(arguments)
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


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument("--shots", type=positive, nargs="+", default=[1, 5], help="supports per episode (default 1 5)")
    parser.add_argument(
        "--measured", type=int, help="episodes a fold for prior and attention (default: all; 0: leave this out)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="directory of tables and figures, where an interrupted run goes on"
    )


def _ablate(arguments: argparse.Namespace) -> int:
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


COMMANDS = {
    "doctor": Command("check this installation and say how to repair it", _doctor),
    "train": Command(
        "train FSSAM, or with --memory support its baseline, on a fold's base classes", _train, _train_arguments, True
    ),
    "data": Command("get, prepare and check PASCAL-5i and COCO-20i", cli_data.run, cli_data.add_arguments),
    "evaluate": Command(
        "score the shipped toy models on novel classes, or your own on photographs",
        _evaluate,
        _evaluate_arguments,
        True,
    ),
    "ablate": Command(
        "score every part and variant of the method, and measure IMR and SCMA", _ablate, _ablate_arguments, True
    ),
    "course": Command(
        "make the student edition, refresh the notebooks, build the web site", cli_course.run, cli_course.add_arguments
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="fss-lab", description="Learn, train and evaluate few-shot segmentation with SAM 2."
    )
    parser.add_argument("--version", action="version", version=f"fss-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; argv: default the process's own. Returns the exit status, 130 after a Ctrl-C.

    A `UserError`, or a file that is missing or forbidden, is one line on stderr and status 1; with FSS_LAB_DEBUG=1 in
    the environment, and for every other error, it is raised.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads would spin, and starve a busy machine
    arguments = build_parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt:
        output = getattr(arguments, "output", None)
        goes_on = COMMANDS[arguments.command].goes_on and output and output.is_dir()
        kept = f"; the same command goes on with what is in {output}" if goes_on else ""
        print(f"fss-lab {arguments.command}: interrupted{kept}", file=sys.stderr)
        return 130
    except (UserError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if os.environ.get("FSS_LAB_DEBUG") == "1":
            raise
        print(f"fss-lab {arguments.command}: error: {error}", file=sys.stderr)
        return 1
