"""What instructors get: pages that agree with the notebooks and checks, and the answer key."""

import re
import subprocess
from pathlib import Path

import pytest
from nbformat.v4 import new_markdown_cell

from fss_lab.cli import main
from fss_lab.course.notebooks import exercises, grading, read
from fss_lab.course.release import release, solution_lines
from fss_lab.course.teaching import FOLDED, key, misconceptions, mistakes, points, tasks
from fss_lab.exercises import ExerciseError, ex04

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TEACHING = ROOT / "docs" / "teaching"
TASK = "### Exercise 99.1 · An area\n\nDifficulty ●○○ · 5 minutes\n\nReturn the area. See [01](01_episodes.ipynb)."
CHECKS = '''
from fss_lab.exercises.harness import ExerciseError, compare

MORE = {"first": "This comes from another table."}


@exercise()
def check_area(function):
    """Exercise 99.1: `area(r)`. It is a circle."""
    again = "is taken twice; once is enough."
    if answer < 0:
        raise ExerciseError(f"An area is not negative, but {answer!r} is one of these.")
    compare(answer, 3, "the area", {"You double the radius.": 1, f"your radius {again}": 2, "short": 3})
    for side in sides:
        helper(answer, side)
    return "An area grows with the square."


def helper(answer, side):
    if side > 3:
        raise ExerciseError("The side " + f"{side} of {len(side)} is not {side - 1}.")
    raise ExerciseError(f"For {side} it must be {right}.") if MORE else None


def check_other(function):
    raise ExerciseError("This belongs to another check.")
'''


def page(name):
    return (TEACHING / name).read_text(encoding="utf-8")


def test_the_page_of_points_agrees_with_the_notebooks(capsys):
    assert page("points.md").endswith("\n\n" + points(NOTEBOOKS))
    assert main(["course", "points"]) == 0 and capsys.readouterr().out == points(NOTEBOOKS)
    assert "| 4.1 A prototype | `ex04-prototype` | 10 | 2 |" in points(NOTEBOOKS)


def test_the_assistants_page_agrees_with_the_checks(capsys):
    assert page("assistants.md").endswith("\n\n" + misconceptions(NOTEBOOKS))
    assert main(["course", "misconceptions"]) == 0 and capsys.readouterr().out == misconceptions(NOTEBOOKS)


def test_every_exercise_has_mistakes_that_its_check_names():
    for path in NOTEBOOKS:
        for task in tasks(read(path)):
            assert len(mistakes(task.check, ROOT / "fss_lab" / "exercises" / f"{task.id[:4]}.py")) >= 3, task.id


def test_mistakes_are_read_from_the_code_of_a_check(tmp_path):
    file = tmp_path / "ex99.py"
    file.write_text(CHECKS, encoding="utf-8")
    assert mistakes("check_area", file) == [
        "You double the radius.",
        "your radius is taken twice; once is enough.",
        "The side `side` of … is not `side - 1`.",
        "This comes from another table.",
    ]


def test_what_a_check_says_is_on_the_page():
    with pytest.raises(ExerciseError) as error:
        ex04.check_min_max(lambda x: x / x.amax((-2, -1), keepdim=True))
    assert f"- {error.value}\n" in page("assistants.md")


def test_the_answer_key_has_all_solutions_and_answers():
    text = key(NOTEBOOKS)
    for path in NOTEBOOKS:
        notebook = read(path)
        for line in solution_lines(notebook):
            assert line in text
        for cell in exercises(notebook):
            assert f"`{grading(cell)['grade_id']}`, points: " in text
        answers = [found[2] for cell in notebook.cells for found in FOLDED.finditer(cell.source)]
        assert sum("details>" in cell.source for cell in notebook.cells) <= len(answers)
    assert "SOLUTION" not in text and "<details>" not in text and "](0" not in text


def test_a_key_of_one_notebook(file, circles, tmp_path, capsys):
    folded = "Look.\n\nWhy?\n\n<details><summary>Answer</summary>\n\nSo.\n\n</details>"
    hint = "<details><summary>Hint</summary>\n\nSquare it.\n\n</details>"
    alone = "<details><summary>What the shipped run shows</summary>\n\nThis.\n\n</details>"
    circles.cells[2:2] = [new_markdown_cell(TASK)]
    circles.cells[5:5] = [new_markdown_cell(f"## 1. Areas\n\n{hint}\n\n{folded}"), new_markdown_cell(alone)]
    text = key([file()])
    assert "#### Exercise 99.1 · An area\n\n`ex99-area`, points: 2\n\nReturn the area. See 01." in text
    assert "    square = r * r\n    return math.pi * square\n```" in text
    assert "### 1. Areas\n\nWhy?\n\n**Answer.** So." in text and "Square it" not in text
    assert "Why?\n\n**What the shipped run shows.** This." in text


def test_the_key_is_written_where_students_do_not_get_it(tmp_path, capsys):
    assert main(["course", "key", "--output", str(tmp_path / "key")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'key' / 'answers.md'}\n"
    release([NOTEBOOKS[4]], tmp_path / "student")
    assert not list((tmp_path / "student").rglob("answers*"))
    ignored = subprocess.run(["git", "check-ignore", "key/answers.md"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.strip() == "key/answers.md" or ignored.returncode == 128  # no clone


@pytest.mark.parametrize("name", ["concepts.md", "slides.md"])
def test_numbers_are_those_of_the_results_and_the_notebooks(name):
    """Scores, differences and ends of intervals; what a question computes by hand has other forms."""
    measured = (ROOT / "docs" / "results.md").read_text(encoding="utf-8") + "".join(
        cell.source for path in NOTEBOOKS for cell in read(path).cells if cell.cell_type == "markdown"
    )
    numbers = set(re.findall(r"(?<![\d.:])[+−]?\d{1,2}\.\d(?!\d)", page(name)))
    assert len(numbers) > 15
    assert {number.lstrip("+−") for number in numbers} <= set(re.findall(r"\d+\.\d+", measured))


def test_the_plans_count_right():
    """Points and minutes of the four weeks."""
    given = [task for path in NOTEBOOKS for task in tasks(read(path))]
    for week, numbers in enumerate(([0, 1, 2], [3, 4], [5, 6], [7, 8, 10]), start=1):
        chosen = [task for task in given if int(task.number.split(".")[0]) in numbers]
        row = re.search(rf"^\| {week} \|.*\| (\d+), (\d+) min \| (\d+) \|$", page("plans.md"), re.MULTILINE)
        texts = [read(NOTEBOOKS[number]).cells[0].source for number in numbers]
        reading = sum(int(re.search(r"^(\d+) minutes to read", text, re.MULTILINE)[1]) for text in texts)
        assert tuple(map(int, row.groups())) == (
            reading,
            sum(task.minutes for task in chosen),
            sum(task.points for task in chosen),
        )


def test_two_printed_pages():
    """About 60 lines of 120 characters a page; what is folded or generated does not count."""
    for path in TEACHING.glob("*.md"):
        text = re.sub(r"<details>.*?</details>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = text.partition("## All exercises")[0]
        if path.name != "slides.md":
            assert len([line for line in text.splitlines() if line.strip()]) <= 120, path.name
