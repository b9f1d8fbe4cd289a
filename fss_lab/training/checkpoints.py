"""The files from which a run resumes: `last.pt`, `best.pt` and `run.yaml`, in a directory that it has to itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import Timeout
from lightning_fabric import Fabric
from torch import Tensor

from fss_lab.backbones.checkpoints import load_metadata, load_run_file, load_tensors, save_run
from fss_lab.errors import RunError
from fss_lab.files import alone, remove_leftovers, write_atomically
from fss_lab.models.provenance import Facts
from fss_lab.training.devices import precision_of
from fss_lab.training.facts import check_same_run, read_facts, to_yaml
from fss_lab.training.run import Learner, Progress, Run
from fss_lab.training.seeds import random_states, restore_random_states

LETTING_GO = 15.0  # seconds until the last process that prepared data for a killed run has noticed


@contextmanager
def only_run_in(directory: Path, fabric: Fabric) -> Iterator[None]:
    """Within it no other run writes into `directory`.

    Raises:
        RunError: in every process, where another run does, or the directory cannot be used.
    """
    with ExitStack() as locks:
        problem = ""
        if fabric.is_global_zero:
            try:
                locks.enter_context(alone(directory, "run", patience=LETTING_GO))
            except Timeout:
                problem = f"another run is at work in {directory}; wait for it to end, or choose another directory"
            except OSError as error:
                problem = f"{directory} cannot be used ({error}); check the path and the disk, or choose another one"
        if problem := fabric.broadcast(problem):
            raise RunError(problem)
        yield


def save(fabric: Fabric, run: Run, learner: Learner, progress: Progress, name: str) -> None:
    """Write a checkpoint in the main process; the others wait for it.

    Raises:
        FileError: it cannot be written.
    """
    if fabric.is_global_zero:
        content = {
            "facts": run.facts.plain(),
            "precision": precision_of(fabric),
            "model": {name: tensor.detach() for name, tensor in learner.state.items()},
            "progress": asdict(progress),
            "optimiser": learner.optimiser.state_dict(),
            "random": random_states(),
        }
        save_run(run.directory / name, content)
    fabric.barrier()


def resume(fabric: Fabric, run: Run, learner: Learner) -> Progress:
    """Load `last.pt`, if there is one, into the learner; write `run.yaml`.

    Raises:
        RunError: the directory is another run's, or the processes do not share it.
        CheckpointError: `last.pt` cannot be read, or holds other tensors.
    """
    directory, path = run.directory, run.directory / "last.pt"
    progress = Progress()
    if not path.exists():
        _check_replaced(fabric, directory, run.facts)
    else:
        saved = load_run_file(
            path,
            keys=("facts", "progress", "model", "optimiser", "random"),
            advice=f"copy {directory / 'best.pt'}, if there is one, over it, or use another directory for a new run",
        )
        check_same_run(Facts.of(saved["facts"]), run.facts, path)
        progress = Progress(**saved["progress"])
        load_tensors(learner.state, saved["model"], source=path)
        learner.optimiser.load_state_dict(saved["optimiser"])
        restore_random_states(saved["random"])  # every step seeds them anew; for code between steps
    gathered = fabric.all_gather(torch.tensor(progress.step, device=fabric.device))
    assert isinstance(gathered, Tensor)
    if gathered.unique().numel() > 1:
        raise RunError(
            f"the processes would resume from different steps: {gathered.tolist()}. {directory} must be on a file "
            "system that all machines share"
        )
    if fabric.is_global_zero:
        remove_leftovers(directory)
        write_atomically(directory / "run.yaml", to_yaml(run.facts).encode())
    if progress.step == run.steps:
        fabric.print(f"{directory} is complete")
    elif progress.step or progress.validated >= 0:
        fabric.print(f"resuming {directory} after step {progress.step} of {run.steps}")
    return progress


def _check_replaced(fabric: Fabric, directory: Path, facts: Facts) -> None:
    """Raise RunError if files that a run without `last.pt` will replace are another run's."""
    learnt = [path for path in (directory / "best.pt", directory / "weights.safetensors") if path.exists()]
    for path in learnt:
        config = load_metadata(path).get("config")  # pre-training writes none
        source = path if config else directory / "run.yaml"
        check_same_run(Facts.of(json.loads(config)) if config else read_facts(source), facts, source)
    if learnt:
        fabric.print(f"{directory} has no last.pt: beginning at step 0, {learnt[0].name} will be replaced")
