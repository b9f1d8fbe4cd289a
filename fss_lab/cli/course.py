"""`fss-lab course`: the student edition of the notebooks, its grading, what instructors get, and a web site."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One command for each thing that can be done with the course."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    release = actions.add_parser("release", help="write the student edition: without solutions, with locked checks")
    release.add_argument("--output", type=Path, required=True, help="a new folder for it")
    key = actions.add_parser("key", help="write the answer key, for instructors: all solutions and answers")
    key.add_argument("--output", type=Path, required=True, help="the folder for answers.md")
    slides = actions.add_parser("slides", help="make the slides: one HTML file that needs no network")
    slides.add_argument("--output", type=Path, required=True, help="the HTML file")
    actions.add_parser("points", help="list the exercises with their ids, minutes and points")
    actions.add_parser("misconceptions", help="list the mistakes that the checks name, by exercise")
    execute = actions.add_parser("execute", help="run notebooks in place, as they are kept in git")
    grade = actions.add_parser("grade", help="look through, run and mark what students handed in")
    grade.add_argument("submissions", type=Path, help="a folder that holds one folder for each student")
    grade.add_argument("--output", type=Path, required=True, help="the table of marks, a CSV; all else goes beside it")
    grade.add_argument("--roster", type=Path, help="a gradebook that Canvas or Moodle exported as CSV: who is who")
    site = actions.add_parser("site", help="build the course as a web site that needs no network")
    site.add_argument("--output", type=Path, default=ROOT / "runs" / "site", help="folder (default: runs/site)")
    site.add_argument("--without-solutions", action="store_true", help="exercises as handed out, no pages for teachers")
    which: dict[str, Any] = {
        "default": [],
        "metavar": "NOTEBOOK",
        "help": "paths or names such as 04 or 04_pseudo_prompts (default: all)",
    }
    release.add_argument("--notebooks", nargs="+", **which)
    execute.add_argument("notebooks", nargs="*", **which)


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; returns the exit status. Raises CourseError for what a user can put right."""
    if arguments.action == "site":
        from fss_lab.course.site import build

        print(f"open {build(ROOT, arguments.output, not arguments.without_solutions)}")
        return 0
    if arguments.action == "grade":
        from fss_lab.course.grading import grade

        for remark in grade(arguments.submissions, arguments.output, ROOT / "notebooks", arguments.roster):
            print(remark)
        return 0
    if arguments.action == "slides":
        from fss_lab.course import slides

        count = slides.build(ROOT / "docs" / "teaching" / "slides.md", arguments.output)
        print(f"{count} slides in {arguments.output}")
        return 0
    if arguments.action in ("key", "points", "misconceptions"):
        from fss_lab.course import teaching
        from fss_lab.files import write_atomically

        text = getattr(teaching, arguments.action)(_notebooks([]))
        if arguments.action == "key":
            write_atomically(arguments.output / "answers.md", text.encode())
            text = f"{arguments.output / 'answers.md'}\n"
        print(text, end="")
        return 0
    paths = _notebooks(arguments.notebooks)
    if arguments.action == "release":
        from fss_lab.course.release import release

        for path in release(paths, arguments.output):
            print(path)
        return 0
    from fss_lab.course.execution import refresh_all

    wrong = refresh_all(paths)
    for text in wrong:
        print(f"fss-lab course execute: error: {text}", file=sys.stderr)
    return 1 if wrong else 0


def _notebooks(names: list[str]) -> list[Path]:
    """Files by path, or by the beginning of a name in this repository; all of it if none is named.

    Raises CourseError for what is neither.
    """
    from fss_lab.errors import CourseError

    folder, paths = ROOT / "notebooks", []
    for name in names or [""]:
        found = [Path(name)] if Path(name).is_file() else sorted(folder.glob(f"{name or '[0-9]'}*.ipynb"))
        if not found:
            raise CourseError(f"there is no notebook {name}, neither as a path nor in {folder}")
        paths += found
    return paths
