"""What instructors get beside the notebooks: the list of points, the mistakes that checks name, the answer key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fss_lab.course.notebooks import BEGIN, END, NotebookNode, grading, read
from fss_lab.course.release import linked

CHECKS = Path(__file__).parents[1] / "exercises"
HEADING = re.compile(r"^### Exercise (\d+)\.(\d+) · (.+)\n\nDifficulty [●○]+ · (\d+) minutes$", re.MULTILINE)
FOLDED = re.compile(r"<details><summary>(.+?)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
KEY = "# Answer key\n\nFor instructors: a solution of each exercise (others are right, too), answers to the questions."


class Task(NamedTuple):
    """An exercise: its number such as 4.1, nbgrader's id, the minutes it takes, the points and name of its check."""

    number: str
    title: str
    id: str
    minutes: int
    points: int
    check: str
    text: str
    solution: str


def tasks(notebook: NotebookNode) -> Iterator[Task]:
    """The exercises of a notebook that keeps the rules, in order."""
    for place, cell in enumerate(notebook.cells):
        if grading(cell).get("solution"):
            check = notebook.cells[place + 1]
            before = "\n\n".join(each.source for each in notebook.cells[max(0, place - 2) : place])
            *_, head = HEADING.finditer(before)
            number, name = f"{head[1]}.{head[2]}", grading(cell)["grade_id"]
            code = "\n".join(line for line in cell.source.splitlines() if line.strip() not in (BEGIN, END))
            checked = "".join(re.findall(r"(check_\w+)\(", check.source)[:1])
            text = before[head.end() :].strip()
            yield Task(number, head[3], name, int(head[4]), grading(check)["points"], checked, text, code)


def points(paths: Iterable[Path]) -> str:
    """All exercises with their ids, minutes and points, as a table in Markdown."""
    rows = [task for path in paths for task in tasks(read(path))]
    lines = [f"| {task.number} {task.title} | `{task.id}` | {task.minutes} | {task.points} |" for task in rows]
    total = f"| all {len(rows)} | | {sum(task.minutes for task in rows)} | {sum(task.points for task in rows)} |"
    return "\n".join(["| exercise | id | minutes | points |", "|---|---|---|---|", *lines, total, ""])


def misconceptions(paths: Iterable[Path]) -> str:
    """The mistakes that each exercise's check names, in Markdown, folded by exercise."""
    parts = []
    for path in paths:
        notebook = read(path)
        given = list(tasks(notebook))
        parts += [f"##{notebook.cells[0].source.splitlines()[0]}"] * bool(given)
        for task in given:
            rows = "\n".join(f"- {mistake}" for mistake in mistakes(task.check, CHECKS / f"{task.id[:4]}.py"))
            title = f"{task.number} {task.title} (<code>{task.id}</code>)"
            parts.append(f"<details><summary>{title}</summary>\n\n{rows}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def mistakes(check: str, file: Path) -> list[str]:
    """What a check can say about a wrong answer, in the order of its code, read without running it.

    Values that are known only when it runs appear by their names. Messages that quote the whole answer, or the right
    one, are left out: they name no mistake.
    """
    defined, pending = _definitions(file), [check]
    sentences: list[str] = []
    for name in pending:  # which grows meanwhile
        node = defined[name]
        assigned = [each for each in ast.walk(node) if isinstance(each, ast.Assign)]
        values = {each.targets[0].id: each.value for each in assigned if isinstance(each.targets[0], ast.Name)}
        spoken: list[ast.expr] = []
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id in defined and not each.id.startswith("check_"):
                pending += [each.id] * (each.id not in pending)
            elif isinstance(each, ast.Dict):
                spoken += [part for part in [*each.keys, *each.values] if part]
            elif isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call):
                spoken += each.exc.args
        for part in sorted(spoken, key=lambda part: part.lineno):
            text = _text(part, values).strip()
            if text.endswith((".", ".)")) and len(text.split()) > 3 and not {"\0", text} & {*text, *sentences}:
                sentences.append(text)
    return sentences


def key(paths: Iterable[Path]) -> str:
    """The answer key in Markdown: of each notebook the tasks with a solution, and the questions with their answers."""
    parts = [KEY]
    for path in paths:
        notebook, last = read(path), ""
        given = {task.id: task for task in tasks(notebook)}
        parts.append(f"#{notebook.cells[0].source.splitlines()[0]}")
        for cell in notebook.cells:
            task = given.get(grading(cell).get("grade_id", ""))
            if task:
                parts.append(f"#### Exercise {task.number} · {task.title}\n\n`{task.id}`, points: {task.points}")
                parts += [task.text, f"```python\n{task.solution}\n```"]
            elif cell.cell_type == "markdown":
                parts += [f"### {section}" for section in re.findall(r"^## (\d.+)$", cell.source, re.MULTILINE)]
                parts += _answers(cell.source, last)
                last = cell.source
    return linked("\n\n".join(parts) + "\n", set())


def _answers(markdown: str, before: str) -> Iterator[str]:
    """The folded answers of a cell, each below the paragraph that asks; `before`: the cell of text above it."""
    end = 0
    for folded in FOLDED.finditer(markdown):
        asked = markdown[end : folded.start()].strip() or ("" if end else FOLDED.sub("", before).strip())
        end = folded.end()
        if folded[1].startswith(("What the shipped", "Answer")) and asked:
            yield asked.split("\n\n")[-1]
        if not folded[1].startswith("Hint"):
            yield f"**{folded[1]}.** {folded[2]}"


def _definitions(file: Path) -> dict[str, ast.stmt]:
    """The functions and values that a module of checks defines or takes from another one, by name."""
    defined: dict[str, ast.stmt] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.Assign):
            defined[node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.targets[0])] = node
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("fss_lab.exercises.ex"):
            defined |= _definitions(file.with_name(f"{str(node.module).rpartition('.')[2]}.py"))
    return defined


def _text(node: ast.expr, values: dict[str, ast.expr]) -> str:
    """The text of an expression; NUL for a whole answer and for what would have been right."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, values) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        if isinstance(node.value, ast.BinOp):
            return f"`{ast.unparse(node.value)}`"
        return "\0" if node.conversion == ord("r") else _text(node.value, values)
    if isinstance(node, ast.BinOp):
        return _text(node.left, values) + _text(node.right, values)
    if isinstance(node, ast.Name) and node.id != "right":
        written = values.get(node.id)
        return _text(written, {}) if isinstance(written, ast.Constant | ast.JoinedStr) else f"`{node.id}`"
    return "\0" if isinstance(node, ast.Name) else "…"
