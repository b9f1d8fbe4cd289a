"""docs/results.md agrees with the results in the package, and notebook 07 with docs/results.md."""

import csv
import re
from pathlib import Path

from fss_lab.course.notebooks import read
from fss_lab.evaluation.tables import percent
from fss_lab.figures.results import SHIPPED, shipped_results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_tables_show_the_results_in_the_package():
    rows = list(csv.DictReader(SHIPPED.read_text(encoding="utf-8").splitlines()))
    assert {row["shots"] for row in rows} == {"1", "5"}
    (episodes,) = {row["episodes"] for row in rows}
    assert f"fss-lab evaluate --shots 1 5 --episodes {episodes} --seed 3 --workers 2 --output runs/results" in PAGE
    for shots, heading in {1: "### One shot", 5: "### Five shots"}.items():
        part = PAGE[PAGE.index(heading) :]
        for (name, over), interval in shipped_results(shots).items():
            expected = re.escape(percent(interval, "+.1f" if over else ".1f"))
            line = rf"^- {re.escape(name)} over {re.escape(over)}: " if over else rf"^\| {re.escape(name)} +\| "
            match = re.search(line + r"(.*?\])", part, re.MULTILINE)
            assert (over and not match) or re.fullmatch(expected, match[1]), name
        for fold in range(4):
            values = {name: value.estimate for (name, _), value in shipped_results(shots, fold).items()}
            for name, value in values.items():
                row = re.search(rf"^\| {re.escape(name)} \|(( [\d.]+ \|){{4}})$", part, re.MULTILINE)
                assert float(row[1].split("|")[fold]) == round(100 * value, 1), (name, fold)


def test_notebook_07_has_the_claims_of_the_page():
    claims = PAGE[PAGE.index("| the paper's claim") :].split("\n\n")[0]
    local = claims.replace("](../notebooks/", "](").replace("](ablation.md)", "](../docs/ablation.md)")
    cells = [cell.source for cell in read(ROOT / "notebooks" / "07_fssam.ipynb").cells]
    assert sum(local in cell for cell in cells) == 1 and claims.count("\n") >= 5
