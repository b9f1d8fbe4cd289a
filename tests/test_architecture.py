"""The map of the package: which room may import which, read from the source without importing anything."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fss_lab"

# From the ground up. A room may import those of the lines above its own, never one beside or below it. Two modules lie
# lower than their folder: they draw tensors, and know nothing of what these mean.
ORDER = [
    ["errors"],
    ["files", "figures.style"],
    ["episode", "images", "metrics", "figures.panels"],
    ["backbones"],
    ["method"],
    ["interventions"],
    ["datasets"],
    ["toyworld"],
    ["models"],
    ["figures"],
    ["exercises", "widgets"],
    ["evaluation"],
    ["training"],
    ["course"],
    ["cli"],
]
FLOORS = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}
# What a room must not know although it lies above it.
STRANGERS = {
    "backbones": ["episode", "metrics"],
    "datasets": ["backbones", "method"],
    "toyworld": ["backbones", "method"],
    "course": ["backbones", "method", "models", "evaluation", "training"],
}
OUTSIDE = {"recipes", "benchmarks", "tests", "helpers", "conftest"}

FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(source: str, package: str) -> list[tuple[str, int]]:
    """Every import as (dotted name, line); `from a import b` is a.b.

    Also those inside functions, those that a "module:name" postpones, and names of the package used as `fss_lab.name`.
    package: the dotted name that relative imports start from.
    """
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names += [(f"{base}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fss_lab":
            names.append((f"fss_lab.{node.attr}", node.lineno))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"fss_lab(\.\w+)+:\w+", str(node.value)):
            names.append((node.value.replace(":", "."), node.lineno))
    return names


@cache
def imports_of(path: Path) -> list[tuple[str, int]]:
    return imports(path.read_text(encoding="utf-8"), ".".join(path.parent.relative_to(ROOT).parts))


def room_of(path: Path) -> str:
    return room(*path.relative_to(PACKAGE).with_suffix("").parts)


def room(folder: str, *inside: str) -> str:
    module = ".".join((folder, *inside[:1]))
    return module if module in FLOORS else folder


def broken_rule(origin: str, name: str) -> str | None:
    """The rule that an import of `name` breaks in the room `origin`, None if it keeps them all."""
    top, *inside = name.split(".")
    if top in OUTSIDE:
        return f"{top} lies above the package, which must not know it"
    if top != "fss_lab":
        return None
    target = room(*inside) if inside else "__init__"
    if target == origin or target.startswith("__"):  # such as fss_lab.__version__
        return None
    if target not in FLOORS:
        return "import the module that defines a name, not the package's list of public names"
    if FLOORS[target] >= FLOORS[origin]:
        return (
            f"{origin} may import only rooms below it: {', '.join(r for r in FLOORS if FLOORS[r] < FLOORS[origin])}. "
            f"Move what both need to one of these, or pass it in as an argument"
        )
    if target in STRANGERS.get(origin, ()):
        return f"{origin} must not know {target}; pass in what it needs as an argument"
    return None


def test_the_order_names_every_room() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert rooms == set(FLOORS), "give a new room its place in ORDER, and drop one that is gone"


@pytest.mark.parametrize("room", FLOORS)
def test_imports_run_down_the_order(room: str) -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line} imports {name}: {rule}"
        for path in MODULES
        if room_of(path) == room
        for name, line in imports_of(path)
        if (rule := broken_rule(room, name))
    ]
    assert not problems, "\n".join(problems)


def test_the_package_itself_imports_its_rooms_on_first_use() -> None:
    """`import fss_lab` and `fss-lab --help` must not wait for torch."""
    assert [name for name, _ in imports_of(PACKAGE / "__init__.py") if name.startswith("fss_lab")] == []
    assert {name for name, _ in imports_of(PACKAGE / "__main__.py")} == {"sys", "fss_lab.cli.main"}


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also within a room."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    graph = {}
    for path in MODULES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = [name for name, _ in imports_of(path)]
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = (targets & modules) - {module, "fss_lab"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_what_lives_there_and_what_it_must_not_know(folder: Path) -> None:
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert len(re.findall(r"[.:](?=\s|$)", docstring)) >= 2, "its __init__ needs a docstring of two sentences"
    assert re.search(r"\b[Nn]othing\b", docstring), "it must say what the folder knows nothing of"


def test_folders_with_code_are_packages() -> None:
    folders = {path.parent for path in MODULES}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_marks_are_of_tests_that_exist(pytestconfig: pytest.Config) -> None:
    for beginning in pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py")).MARKS:
        file, _, test = beginning.partition("::")
        whole = file.endswith((".py", "/"))  # else the beginning of several files' names
        assert (ROOT / file).exists() if whole else list(ROOT.glob(f"{file}*.py")), beginning
        assert not test or f"\ndef {test}" in (ROOT / file).read_text(encoding="utf-8"), beginning


def test_the_recipes_of_contributing_name_files_that_exist() -> None:
    names = re.findall(r"`([\w/]+\.(?:py|md))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    places = (ROOT, PACKAGE, PACKAGE / "datasets", PACKAGE / "backbones")
    assert [name for name in names if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize(
    ("room", "source", "rule"),
    [
        ("method", "import fss_lab.training.loop", "method may import only rooms below it: errors, files, "),
        ("evaluation", "def f():\n    from fss_lab.training import train", "evaluation may import only rooms below it"),
        ("widgets", "from fss_lab import exercises", "widgets may import only rooms below it"),
        ("datasets", "from ..toyworld.pictograms import Pictograms", "datasets may import only rooms below it"),
        ("datasets", "from fss_lab.method import FSSAM", "datasets must not know method"),
        ("figures", "from fss_lab import load_model", "import the module that defines a name"),
        ("models", "import fss_lab\nfss_lab.explore()", "import the module that defines a name"),
        ("datasets", "photos = 'fss_lab.toyworld.scenes:Scene'", "datasets may import only rooms below it"),
        ("cli", "import recipes.pretrain", "recipes lies above the package"),
    ],
)
def test_an_import_against_the_order_is_noticed(room: str, source: str, rule: str) -> None:
    *_, (name, _) = imports(source, f"fss_lab.{room}")
    assert (broken_rule(room, name) or "").startswith(rule)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("training", "from fss_lab.evaluation import evaluate"),
        ("toyworld", "from fss_lab.datasets.folds import FOLDS"),
        ("cli", "from fss_lab import __version__"),
        ("datasets", "import fss_lab\nfss_lab.__file__"),
        ("method", "from . import prompts\nimport torch"),
    ],
)
def test_an_import_with_the_order_is_not(room: str, source: str) -> None:
    assert [broken_rule(room, name) for name, _ in imports(source, f"fss_lab.{room}") if broken_rule(room, name)] == []
