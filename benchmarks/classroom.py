"""What a class costs: memory of a kernel after a notebook, and time to grade a pile of submissions.

    python benchmarks/classroom.py memory [00 07 ...]
    python benchmarks/classroom.py grading [--notebook 04] [--submissions 30]

`memory` runs each notebook in a kernel of its own and prints what the kernel holds at its end and held at most, in MB
(Linux). `grading` makes submissions of one whole notebook, a third of them right, a third half done, a third as they
were handed out, marks them as `fss-lab course grade` does, and prints seconds of the clock and of the processors.
"""

import argparse
import re
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from fss_lab.course.grading import grade
from fss_lab.course.notebooks import exercises, read
from fss_lab.course.release import STUB, student_edition

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def path_of(number: str) -> Path:
    return next(NOTEBOOKS.glob(f"{number}_*.ipynb"))


def memory(numbers: list[str]) -> None:
    print("notebook  at the end  at most (MB)")
    for number in numbers:
        quiet = ["--log-level=CRITICAL"]
        client = NotebookClient(read(path_of(number)), timeout=600, kernel_name="python3", extra_arguments=quiet)
        with client.setup_kernel(cwd=str(NOTEBOOKS)):
            for index, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, index)
            status = Path(f"/proc/{client.km.provisioner.pid}/status").read_text()
        held = {name: int(value) // 1024 for name, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status)}
        print(f"{number:8s}  {held['VmRSS']:10d}  {held['VmHWM']:7d}", flush=True)


def half_done(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The first half of the exercises solved, the rest as handed out."""
    cells = exercises(notebook)
    for cell in cells[len(cells) // 2 :]:
        cell.source = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", STUB, cell.source, flags=re.DOTALL)
    return notebook


def grading(number: str, count: int) -> None:
    path = path_of(number)
    kinds = {"right": lambda n: n, "half": half_done, "empty": student_edition}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(count):
            kind = list(kinds)[index % len(kinds)]
            place = folder / "submissions" / f"{kind}{index:02d}"
            place.mkdir(parents=True)
            nbformat.write(kinds[kind](read(path)), place / path.name)
        start = time.monotonic()
        remarks = grade(folder / "submissions", folder / "marks.csv", NOTEBOOKS)
        clock = time.monotonic() - start
        rows = (folder / "marks.csv").read_text().splitlines()[1:]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = spent.ru_utime + spent.ru_stime
    marks = Counter((re.sub(r"\d", "", row.split(",")[0]), row.split(",")[1]) for row in rows)
    print(f"{count} submissions of {number}: {clock:.0f} s, {seconds / count:.1f} processor seconds for each")
    print("marks:", ", ".join(f"{kind} {mark} ({times} times)" for (kind, mark), times in sorted(marks.items())))
    print(f"remarks: {remarks or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("memory").add_argument("notebooks", nargs="*", default=["00", "07"])
    pile = actions.add_parser("grading")
    pile.add_argument("--notebook", default="04")
    pile.add_argument("--submissions", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.action == "memory":
        memory(arguments.notebooks)
    else:
        grading(arguments.notebook, arguments.submissions)


if __name__ == "__main__":
    main()
