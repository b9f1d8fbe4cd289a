"""The photos that files, folders and patterns name, and where what is made of each is written."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fss_lab.datasets.folder import PHOTOGRAPHS, photos_among
from fss_lab.errors import InputError


@dataclass(frozen=True)
class Query:
    """A photo to segment. name: its path below the folder it was looked for in, with "/"; stem: that without suffix."""

    path: Path
    name: str

    @property
    def stem(self) -> str:
        return os.path.splitext(self.name)[0]


def list_queries(sources: Sequence[str | os.PathLike[str]], output: Path) -> tuple[list[Query], list[str]]:
    """Every photo once, in the order of `sources`, and in words what could not be looked at.

    sources: files, folders (with their sub-folders, without masks and annotations beside photos) and patterns such as
    "holiday/**/*.jpg". What lies in `output` is left out of folders and patterns.
    Raises FileNotFoundError for a path that does not exist; InputError for no photo at all, for two whose results would
    have one name, and where `output` would mix results with photos.
    """
    queries: dict[Path, Query] = {}
    problems: list[str] = []
    inside = _real(output)
    for source in map(Path, sources):
        for query in _look(source, inside, problems):
            real = _real(query.path)
            if real.is_relative_to(inside):
                raise InputError(
                    f"{query.path} lies in the output folder {output}, where results could overwrite it; choose "
                    "another --output, such as a folder that does not exist yet"
                )
            queries.setdefault(real, query)
    if not queries and not problems:
        kinds = ", ".join(PHOTOGRAPHS)
        places = f"no photo in {', '.join(map(str, sources))}; expected .png, {kinds}"
        raise InputError(places if sources else "no QUERY; name photos, folders or patterns to segment")
    names: dict[str, Query] = {}
    for query in queries.values():
        other = names.setdefault(query.stem.casefold(), query)
        if other is not query:
            raise InputError(
                f"{other.path} and {query.path} would both become {query.stem}.png. If one is the other's mask, give "
                "their folder in place of the files, for masks are left out of folders. Else give the folder above "
                "both, whose sub-folders are kept, or rename one"
            )
    return list(queries.values()), problems


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve no error for links in a circle


def _look(source: Path, output: Path, problems: list[str]) -> Iterator[Query]:
    if source.is_dir():
        yield from _walk(source, output, problems)
    elif os.path.lexists(source):
        yield Query(source, source.name)
    elif glob.has_magic(str(source)):  # of a shell that leaves patterns to its programs, as Windows' do
        paths = sorted(Path(path) for path in glob.glob(str(source), recursive=True))
        outside = [path for path in paths if not _real(path).is_relative_to(output)]
        if not outside:
            raise InputError(f"nothing matches {source} (looked from {Path.cwd()})")
        for path in outside:
            yield from _walk(path, output, problems) if path.is_dir() else [Query(path, path.name)]
    else:
        raise FileNotFoundError(f"{source} does not exist (looked from {Path.cwd()}); check the spelling")


def _walk(root: Path, output: Path, problems: list[str]) -> Iterator[Query]:
    """Photos of a folder and its sub-folders, without hidden ones and `output`. Raises InputError if it lies there."""
    if _real(root).is_relative_to(output):
        raise InputError(
            f"{root} is or lies in the output folder, where results could overwrite photos; choose another --output, "
            f"such as {root / 'masks'}"
        )
    for place, folders, names in os.walk(root, onerror=lambda error: problems.append(str(error))):
        folder = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and _real(folder / name) != output)
        files = [folder / name for name in sorted(names) if not name.startswith(".")]
        for path in photos_among(files):
            yield Query(path, path.relative_to(root).as_posix())
