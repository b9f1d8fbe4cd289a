"""The scripts of a widget are joined into one module: no two of them may give one name at their top level."""

import re
from collections import Counter
from importlib.resources import files

import pytest

from fss_lab.widgets.explorer.widget import SCRIPTS

DECLARED = re.compile(
    r"^(?:export )?(?:default )?(?:async )?(?:function\*?|class|const|let|var) +([\w$]+|[\[{][^=]*)", re.M
)


def top_names(text):
    """What a script declares at its top level; formatted code has only that at the start of a line."""
    return [name for found in DECLARED.findall(text) for name in re.findall(r"[\w$]+(?=\s*[,}\]]|$)", found)]


def test_what_counts_as_a_declaration():
    text = (
        "export const { a, b: c } = x;\nlet [d] = y;\nasync function e() {\n  const inner = 1;\n}\nexport class F {}\n"
    )
    assert top_names(text) == ["a", "c", "d", "e", "F"]


@pytest.mark.parametrize(
    "scripts",
    [[f"explorer/{name}.js" for name in SCRIPTS], ["painter_canvas.js", "painter.js"]],
    ids=["explorer", "painter"],
)
def test_scripts_share_no_top_level_name(scripts):
    folder = files("fss_lab.widgets")
    names = Counter(name for path in scripts for name in top_names((folder / path).read_text(encoding="utf-8")))
    assert len(names) > 10 and {name: count for name, count in names.items() if count > 1} == {}


def test_every_script_of_the_explorer_is_joined():
    there = {
        path.name.removesuffix(".js")
        for path in (files("fss_lab.widgets") / "explorer").iterdir()
        if path.name.endswith(".js")
    }
    assert there == set(SCRIPTS)
