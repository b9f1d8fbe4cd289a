"""Marks, feedback and the figure of diagnoses, from results made up for each test."""

import csv

import pytest

from fss_lab.course.feedback import common, diagnoses_figure, page
from fss_lab.course.marks import Marks, Result, canvas, identity, moodle, read_roster, table
from fss_lab.errors import CourseError

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,05_old (12),Current Score
    Points Possible,,,,,10,
"Doe, Jane",4711,S-1,jdoe,Group A,3,30
"Roe, Richard",4712,S-2,rroe,Group B,,
"""
MOODLE = """\
First name;Last name;ID number;Email address;Last downloaded
Jane;Doe;S-1;jane@example.org;1
Jim;Roe;S-3;jim@example.org;1
Jim;Roe;S-4;jim2@example.org;1
"""


def marks(student, points, diagnosis="", remarks=()):
    results = [
        Result("ex01-iou", "1.1 · IoU", points, 2, diagnosis, "def iou(): <b>", f"✗ {diagnosis}" if diagnosis else "✓")
    ]
    return Marks(student, "01_episodes", results, remarks)


def roster(tmp_path, text):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8-sig")
    return read_roster(tmp_path / "roster.csv")


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("jdoe", "Doe, Jane"),
        ("JDOE", "Doe, Jane"),
        ("s-2", "Roe, Richard"),
        ("doejane_4711_99", "Doe, Jane"),
        ("roerichard_LATE_4712_4711", "Roe, Richard"),
    ],
)
def test_a_folder_is_matched_with_canvas_gradebook(tmp_path, name, student):
    assert identity(name, roster(tmp_path, CANVAS))["Student"] == student


@pytest.mark.parametrize(
    ("name", "number"),
    [("Jane Doe_123_assignsubmission_file_", "S-1"), ("jim@example.org", "S-3"), ("Jim Roe_5_file", None), ("x", None)],
)
def test_a_folder_is_matched_with_moodles_gradebook_if_only_one_fits(tmp_path, name, number):
    row = identity(name, roster(tmp_path, MOODLE))
    assert (row and row["ID number"]) == number


def test_tables_name_students_as_the_roster_does(tmp_path):
    rows = [marks("jdoe", 2), marks("nobody@example.org", 0)]
    lines = list(csv.DictReader(canvas(rows, {"01_episodes": 2}, roster(tmp_path, CANVAS)).splitlines()))
    assert [line["01_episodes"] for line in lines] == ["2", "2", "0"]
    assert (lines[1]["ID"], lines[1]["Section"], lines[2]["SIS Login ID"]) == ("4711", "Group A", "nobody@example.org")
    lines = list(csv.DictReader(moodle(rows, {"01_episodes": 2}).splitlines()))
    assert [line["Username"] for line in lines] == ["jdoe", "nobody@example.org"]
    assert [line["Email address"] for line in lines] == ["", "nobody@example.org"]


def test_the_teachers_table_has_the_remarks():
    text = table([marks("ann", 1, "wrong", ["cell 3 is odd"]), marks("bob", 2)], {"01_episodes": 2})
    assert text == "Student,01_episodes (of 2),Remarks\nann,1,01_episodes: cell 3 is odd\nbob,2,\n"


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", b"\xff\xfe"])
def test_a_roster_that_names_nobody_is_refused(tmp_path, content):
    path = tmp_path / "roster.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CourseError, match=r"roster\.csv"):
        read_roster(path)


def test_a_page_escapes_what_a_student_wrote_and_says_what_counts():
    text = page(marks("ann <script>", 0, "a & b < c", ["cell 3 is odd"]), "01 · Few-shot")
    assert "<script>" not in text and "def iou(): &lt;b&gt;" in text and "a &amp; b &lt; c" in text
    assert "<strong>0 of 2 points</strong>" in text and "<li>cell 3 is odd</li>" in text and 'lang="en"' in text
    assert "Notes" not in page(marks("ann", 2), "01")


def test_the_figure_counts_each_diagnosis_once_however_many_numbers_it_has():
    rows = [marks("a", 2), marks("b", 0, "the map: 0.1 at [0, 1], but 0.5 is right (3 of 4 values differ).")]
    rows += [marks("c", 0, "the map: 0.2 at [1, 1], but 0.5 is right (1 of 4 values differ). NaN often")]
    rows += [marks("d", 0, "iou is not written yet (Your area is not right either.)")]
    picture = diagnoses_figure("01_episodes", rows)
    assert picture.alt == (
        "1.1 · IoU: 1 of 4 with full points. 2 times: the map: other values than the right ones "
        "1 times: iou is not written yet"
    )
    assert [bar.get_width() for bar in picture.axes[0].patches] == [2, 1]


def test_rare_diagnoses_are_summed_up():
    picture = diagnoses_figure("01", [marks("x", 0, f"mistake {letter}") for letter in "abcdef"])
    assert picture.alt.endswith("2 times: other diagnoses")


def test_a_diagnosis_of_an_error_keeps_its_first_line():
    assert common("iou stopped with TypeError: 5\n    in line 3 of your cell: x") == "iou stopped with TypeError: 5"
