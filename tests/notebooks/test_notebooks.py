"""The notebooks as they lie in git: every rule of the course, links, spelling, citations."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fss_lab.course.execution import differences, expectations
from fss_lab.course.notebooks import code_cells, exercises, grading, output_problems, problems, read, records
from fss_lab.course.site import linked_files

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
HOME = FOLDER / "index.ipynb"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "notebooks/glossary.md")]
TEXTS = [*PAGES, *sorted((ROOT / "docs").rglob("*.md"))]
EXPECTED = expectations(FOLDER)
EXERCISES = set(range(1, 13))  # the notebooks that have some
TOLD = [*(ROOT / "fss_lab" / "exercises").glob("*.py"), *(ROOT / "fss_lab" / "figures").glob("*.py")]  # and shown
NAMES = "vermillion"  # right words that codespell takes for mistakes

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def prose(path):
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_the_course_is_complete():
    assert [path.stem[:3] for path in NOTEBOOKS] == [f"{number:02d}_" for number in range(13)]
    assert set(EXPECTED) == {path.stem for path in NOTEBOOKS}


@each_notebook
def test_it_keeps_the_rules(path):
    assert problems(read(path)) == []
    assert read(path).cells[0].source.startswith(f"# {path.stem[:2]} · ")


@each_notebook
def test_it_is_kept_with_the_outputs_of_its_code(path):
    assert output_problems(read(path)) == []


@each_notebook
def test_its_outputs_record_the_expected_values(path):
    """What `pytest --nbmake notebooks/` computes today is compared with them in conftest.py."""
    assert EXPECTED[path.stem]["shipped"]
    assert differences(records(read(path)), EXPECTED[path.stem]["shipped"], tolerance=0) == []


@each_notebook
def test_it_ends_with_a_summary_limits_and_readings(path):
    if path.stem != "00_quickstart":
        sections = re.findall(r"^## (.+)$", prose(path), re.MULTILINE)
        assert sections[-3:] == ["Summary", "Limits", "Readings"]


@each_notebook
def test_it_shows_figures_and_controls(path):
    kinds = [kind for cell in code_cells(read(path)) for output in cell.outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 2
    if path.stem != "00_quickstart":
        assert "Browse(" in "".join(cell.source for cell in code_cells(read(path)))


@each_notebook
def test_it_works_by_hand_and_by_formula_and_asks_for_changes(path):
    if path.stem != "00_quickstart":
        text = prose(path)
        assert re.search(r"\bby hand\b", text, re.IGNORECASE)
        assert "$$" in text and "**Change this and see" in text


@pytest.mark.parametrize("number", ["04", "05", "06"])
def test_what_the_reader_builds_is_compared_with_the_library(number):
    """Values and gradients; the comparison itself runs with the notebook."""
    (path,) = FOLDER.glob(f"{number}_*.ipynb")
    code = "".join(cell.source for cell in code_cells(read(path)))
    assert "torch.testing.assert_close(" in code and "torch.autograd.grad(" in code


def test_there_are_enough_exercises():
    numbers = {int(path.stem[:2]): len(exercises(read(path))) for path in NOTEBOOKS}
    assert all((3 <= numbers[number] <= 6) == (number in EXERCISES) for number in numbers), numbers
    assert sum(numbers.values()) >= 30


def test_the_teachers_plan_is_right():
    """The table of docs/course.md: minutes to read, exercises with their minutes, points."""
    plan = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        read_in = re.search(r"^(\d+) minutes to read", prose(path), re.MULTILINE)[1]
        each = [int(minutes) for minutes in re.findall(r"^Difficulty .* · (\d+) minutes$", prose(path), re.MULTILINE)]
        points = sum(grading(cell).get("points", 0) for cell in code_cells(read(path)))
        title = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        work = f"{len(each)} in {sum(each)} min | {points}" if each else "– | –"
        assert f"| [{title}](../notebooks/{path.name}) | {read_in} min | {work} |\n" in plan


def test_the_contents_lead_to_every_notebook_and_agree_with_the_teachers_plan():
    """A page of text: no code to run, links that work beside the notebooks alone, and the README's drawing."""
    home, plan = read(HOME), (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
    assert not code_cells(home)
    assert set(linked_files(HOME)) == {*NOTEBOOKS, FOLDER / "glossary.md"}
    minutes = re.findall(r"^\| \[(\d\d) .+?\| (\d+) \| (–|\d+) \|$", prose(HOME), re.MULTILINE)
    planned = re.findall(r"^\| \[(\d\d) · .+?\| (\d+) min \| (?:\d+ in )?(–|\d+)", plan, re.MULTILINE)
    assert minutes == planned and len(planned) == len(NOTEBOOKS)
    (images,) = [cell.attachments for cell in home.cells if "attachments" in cell]
    drawing = (ROOT / "docs" / "images" / "method.png").read_bytes()
    assert base64.b64decode(images["method.png"]["image/png"]) == drawing


@each_notebook
def test_exercises_say_how_hard_they_are_and_have_a_hint(path):
    notebook, number = read(path), int(path.stem[:2])
    for count, cell in enumerate(exercises(notebook), start=1):
        place = notebook.cells.index(cell)
        task = "\n\n".join(each.source for each in notebook.cells[place - 2 : place])
        title = rf"^### Exercise {number}\.{count} · .+\n\nDifficulty [●○]{{3}} · \d+ minutes$"
        assert re.search(title, task, re.MULTILINE), cell.id
        hint = notebook.cells[place + 2].source
        assert re.match(r"<details><summary>Hints?</summary>\n\n", hint) and "\n\n</details>" in hint, cell.id
        assert cell.metadata.nbgrader.grade_id.startswith(f"ex{number:02d}-")


@pytest.mark.parametrize("path", [HOME, *NOTEBOOKS, *TEXTS], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    assert [link for link in linked_files(path) if not link.exists()] == []


def test_the_glossary_leads_to_the_notebooks():
    glossary = FOLDER / "glossary.md"
    assert set(linked_files(glossary)) >= {
        path for path in NOTEBOOKS if path.stem[:2] in ("01", "02", "04", "05", "06")
    }
    assert not re.search(r"\[\d\d\](?!\()", glossary.read_text(encoding="utf-8"))


def test_citations_have_an_entry():
    entries = (FOLDER / "references.bib").read_text(encoding="utf-8")
    bibliography = set(
        zip(re.findall(r"author\s*= {(.+?),", entries), re.findall(r"year\s*= {(\d+)}", entries), strict=True)
    )
    assert len(bibliography) >= 12
    preprints = set(re.findall(r"arXiv:(\d{4}\.\d{5})", entries))
    for path in NOTEBOOKS:
        cited = re.findall(r"\[([A-Z][\w-]+)(?: et al\.| and [\w-]+)?,? (\d{4})\]", prose(path))
        assert set(cited) <= bibliography, path.stem
        assert set(re.findall(r"arXiv:\s?(\d{4}\.\d{5})", prose(path))) <= preprints, path.stem
        assert cited or path.stem == "00_quickstart", f"{path.stem} cites nothing"


def misspelt(folder, texts):
    """What codespell finds in texts: prose and code of notebooks without their outputs, other files as they are."""
    for path in texts:
        cells = [cell.source for cell in read(path).cells] if path.suffix == ".ipynb" else [path.read_text("utf-8")]
        (folder / f"{path.name}.txt").write_text("\n\n".join(cells), encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "--ignore-words-list", NAMES, str(folder)]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_spelling(tmp_path):
    assert misspelt(tmp_path, [HOME, *NOTEBOOKS, *TEXTS, *TOLD]) == ""


def test_a_misspelt_word_is_found(tmp_path):
    (tmp_path / "page.md").write_text("Teh mask.")
    assert "Teh ==> The" in misspelt(tmp_path, [tmp_path / "page.md"])


def test_ruff_looks_at_the_notebooks():
    """test_packaging.py runs it over all that it looks at."""
    command = [sys.executable, "-m", "ruff", "check", "--show-files"]
    looked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert {str(path) for path in NOTEBOOKS} <= set(looked.stdout.splitlines())


@pytest.mark.slow
def test_git_shows_differences_of_notebooks_by_cell(tmp_path, monkeypatch):
    """With this repository's .gitattributes, after the command of docs/course.md."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    subprocess.run([sys.executable, "-m", "nbdime", "config-git", "--enable"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    notebook = read(NOTEBOOKS[0])
    page = tmp_path / "page.ipynb"
    nbformat.write(notebook, page)
    git("add", ".gitattributes", "page.ipynb")
    code_cells(notebook)[0].source = "fold = 3"
    nbformat.write(notebook, page)
    shown = re.sub(r"\x1b\[\d*m", "", git("diff"))  # nbdime colours it for every reader
    assert "## modified /cells/" in shown and "+fold = 3" in shown
