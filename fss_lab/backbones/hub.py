"""How published weights come from the Hugging Face hub to this machine, by their names in `registry`.

Needs the optional dependency huggingface_hub where a file has to be fetched: pip install "fss-lab[real]".
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fss_lab.backbones.registry import PUBLISHED, Published
from fss_lab.errors import CheckpointError, InputError, needs

BRANCH = "main"  # of every repo


def fetch(name: str, revision: str | None = None) -> Path:
    """Where the weights `name` lie on this machine; downloaded first if need be, once, with a progress bar.

    name: a key of `PUBLISHED`. revision: branch, tag or commit on the hub instead of `BRANCH`.
    Without a revision, `Published.local` in `weights_folder()` comes first; then huggingface_hub's cache, whatever the
    hub holds by now; then the hub (HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and its other variables hold). With a branch
    as revision the hub is always asked for its latest commit.
    Returns a file (SAM 2's .pt, DINOv2's own .pth) or a directory with config.json and model.safetensors.
    Raises InputError for an unknown name, MissingPackageError without huggingface_hub, CheckpointError that says which
    file to put where if it cannot be fetched.
    """
    if name not in PUBLISHED:
        raise InputError(f"there are no published weights {name!r}; expected one of {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    local = weights_folder() / published.local
    if revision is None and local.exists():
        return local
    with needs('weights that are not given as files (or "random")', "real"):
        from huggingface_hub import hf_hub_download as download
    asked = revision or BRANCH
    try:
        if revision is None and (kept := _kept(published)):
            return kept
        first = Path(download(published.repo, published.files[0], revision=asked))
        for file in published.files[1:]:  # of the same commit, even if the branch moves meanwhile
            download(published.repo, file, revision=commit_of(first))
    except Exception as error:  # its errors have no common base, and they differ from version to version
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        given = "sam2_checkpoint" if name.startswith("sam") else "features_checkpoint"
        source = "from Meta's download page " if local.suffix in (".pt", ".pth") else "(a folder with these files) "
        raise CheckpointError(
            f"the weights {name} are not on this machine and could not be fetched: {reason}. "
            f"Expected {' and '.join(published.files)} of {published.repo}, revision {asked}, on the Hugging Face "
            f"hub. Without a network (or with HF_HUB_OFFLINE=1) get {published.local} {source}on "
            f"another machine and put it at {local}, or say where it lies ({given}=..., as an option "
            f"--{given.replace('_', '-')}). For trials, `fss-lab train --weights random` or "
            'load_model(..., weights="random") needs none'
        ) from error
    return _where(published, first)


def _kept(published: Published) -> Path | None:
    """Where the weights lie that were fetched before, if all files are there; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(published.repo, file, revision=BRANCH) for file in published.files]
    paths = [Path(path) for path in cached if isinstance(path, str)]
    return _where(published, paths[0]) if len(paths) == len(cached) else None


def _where(published: Published, first: Path) -> Path:
    return first if len(published.files) == 1 else first.parent


def weights_folder() -> Path:
    """Where `fetch` looks for files that people put there: $FSS_LAB_WEIGHTS, or ~/.cache/fss_lab/weights."""
    return Path(os.environ.get("FSS_LAB_WEIGHTS") or Path.home() / ".cache" / "fss_lab" / "weights")


def commit_of(path: str | os.PathLike[str]) -> str:
    """The commit that a file or directory in huggingface_hub's cache came from, to pin it.

    Raises InputError for any other path, such as a file from Meta's download page.
    """
    match = re.search(r"/models--[^/]+/snapshots/([^/]+)", Path(path).as_posix())
    if match is None:
        raise InputError(f"{path} does not lie in huggingface_hub's cache, so nothing says which commit it is")
    return match[1]
