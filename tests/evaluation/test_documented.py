"""docs/results.md agrees with the results in the package, and notebook 07 with docs/results.md."""

import csv
import re
from pathlib import Path

from fss_lab.course.notebooks import read
from fss_lab.evaluation.tables import percent
from fss_lab.figures.results import SHIPPED, shipped_results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
COMMAND = r"fss-lab evaluate --shots 1 5 --episodes (\d+) --seed 3.* --output runs/"


def episodes(run: str) -> str:
    """How many episodes a fold the page's command for a run has."""
    return re.search(COMMAND + run, PAGE)[1]


def test_the_package_has_the_results_of_the_command_that_the_page_names():
    rows = list(csv.DictReader(SHIPPED.read_text(encoding="utf-8").splitlines()))
    assert {row["episodes"] for row in rows} == {episodes("small")} and {row["shots"] for row in rows} == {"1", "5"}


def test_the_tables_show_these_results():
    """As soon as both are of the same run: its tables by variant, and what each step adds."""
    if episodes("small") != episodes("results"):
        return
    for shots, heading in {1: "### One shot", 5: "### Five shots"}.items():
        part = PAGE[PAGE.index(heading) :].split("\n##")[0]
        for (name, over), interval in shipped_results(shots).items():
            shown = percent(interval, "+.1f" if over else ".1f")
            if not over:
                assert re.search(rf"^\| {re.escape(name)} +\| {re.escape(shown)} ", part, re.MULTILINE), name
            elif line := re.search(rf"^- {re.escape(name)} over {re.escape(over)}: (.*)$", part, re.MULTILINE):
                assert line[1] == shown


def test_notebook_07_has_the_claims_of_the_page():
    claims = PAGE[PAGE.index("| the paper's claim") :].split("\n\n")[0]
    local = claims.replace("](../notebooks/", "](").replace("](ablation.md)", "](../docs/ablation.md)")
    cells = [cell.source for cell in read(ROOT / "notebooks" / "07_fssam.ipynb").cells]
    assert sum(local in cell for cell in cells) == 1 and claims.count("\n") >= 5
