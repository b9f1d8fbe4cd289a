"""Marks: what a submission is worth, and the tables that a teacher, Canvas and Moodle read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fss_lab.errors import CourseError

# What Canvas needs at the left, in this order; it takes every further column for an assignment.
CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE = ("Username", "ID number", "Email address")  # one of them identifies a student; Moodle asks which
Roster = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Result:
    """One exercise of one submission.

    name: its nbgrader id; title: its heading. points: out of `most`. diagnosis: what the check objects to, "" if
    nothing. code: what the student wrote; said: what the check printed.
    """

    name: str
    title: str
    points: float
    most: float
    diagnosis: str = ""
    code: str = ""
    said: str = ""


@dataclass(frozen=True)
class Marks:
    """What one notebook of one student is worth. remarks: for the teacher, a line for each."""

    student: str
    notebook: str
    results: Sequence[Result]
    remarks: Sequence[str]

    @property
    def points(self) -> float:
        """The sum of all exercises."""
        return sum(result.points for result in self.results)

    @property
    def notes(self) -> list[str]:
        """The remarks, each with the notebook that it is about."""
        return [f"{self.notebook}: {remark}" if self.notebook else remark for remark in self.remarks]


def table(marks: Sequence[Marks], most: Mapping[str, float]) -> str:
    """The teacher's table as CSV: a column for each notebook in `most`, which has its highest mark, and the remarks."""
    header = ["Student", *(f"{name} (of {most[name]:g})" for name in most), "Remarks"]
    rows = [
        [student, *points, " | ".join(note for row in marks if row.student == student for note in row.notes)]
        for student, points in _points(marks, most)
    ]
    return _csv([header, *rows])


def canvas(marks: Sequence[Marks], most: Mapping[str, float], roster: Roster = ()) -> str:
    """The table that Canvas's gradebook imports, with the row from which a new assignment takes its highest mark."""
    first = ["    Points Possible", *[""] * (len(CANVAS) - 1), *(f"{most[name]:g}" for name in most)]
    return _csv([[*CANVAS, *most], first, *_identified(marks, most, roster, CANVAS)])


def moodle(marks: Sequence[Marks], most: Mapping[str, float], roster: Roster = ()) -> str:
    """The table that Moodle's gradebook imports."""
    return _csv([[*MOODLE, *most], *_identified(marks, most, roster, MOODLE)])


def read_roster(path: Path) -> Roster:
    """The students of a gradebook that Canvas or Moodle exported as CSV, a dictionary by column for each.

    Raises CourseError if the file cannot be read or has no column that identifies a student.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"the roster {path} cannot be read: {error}") from error
    delimiter = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = list(csv.DictReader(lines, delimiter=delimiter, restval=""))
    if not rows or not {*rows[0]} & {*CANVAS, *MOODLE}:
        columns = ", ".join(CANVAS + MOODLE)
        raise CourseError(f"the roster {path} names no students in columns such as {columns}; export it anew as CSV")
    return rows


def identity(student: str, roster: Roster) -> Mapping[str, str] | None:
    """The row of the roster that belongs to a folder name, None unless exactly one does.

    The name, or its part before or between underscores, is a login, a number, an e-mail address or "First Last".
    """
    for part in [student, *student.split("_")]:
        rows = [row for row in roster if part.casefold() in _names(row)]
        if len(rows) == 1:
            return rows[0]
    return None


def _names(row: Mapping[str, str]) -> set[str]:
    names = [row.get(column, "") for column in CANVAS[:4] + MOODLE]
    names.append(f"{row.get('First name', '')} {row.get('Last name', '')}")
    return {name.strip().casefold() for name in names} - {""}


def _identified(
    marks: Sequence[Marks], most: Mapping[str, float], roster: Roster, columns: Sequence[str]
) -> Iterator[list[str]]:
    """A row for each student: what the roster, or else the folder's name, has in these columns, and the points."""
    for student, points in _points(marks, most):
        name = {"Student": student, "SIS Login ID": student, "Username": student}
        name["Email address"] = student if "@" in student else ""
        row = identity(student, roster) or name
        yield [*(row.get(column, "") for column in columns), *points]


def _points(marks: Sequence[Marks], most: Mapping[str, float]) -> Iterator[tuple[str, list[str]]]:
    """Each student with the points of each notebook in `most`, "" for one that was not handed in."""
    for student in sorted({row.student for row in marks}):
        points = {row.notebook: f"{row.points:g}" for row in marks if row.student == student}
        yield student, [points.get(name, "") for name in most]


def _csv(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
