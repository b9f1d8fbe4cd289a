"""The project's files agree with each other, the package is complete, and the code is formatted, linted and typed."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import fss_lab
from fss_lab.cli import doctor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PLATFORMS = {
    "linux": {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"},
    "darwin": {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"},
    "win32": {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"},
}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lab():
    spec = importlib.util.spec_from_file_location("lab", ROOT / "lab.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wanted():
    """Every requirement that the set-up may ask for."""
    texts = PROJECT["dependencies"] + [text for extra in EXTRAS.values() for text in extra]
    return [Requirement(text) for text in texts]


def pins():
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", pytest.param("mypy", marks=pytest.mark.slow)])
def test_code_is_linted_formatted_and_typed(command):
    ended = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_one_version_everywhere():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert PROJECT["version"] == fss_lab.__version__ == str(citation["version"])
    assert f"## [{PROJECT['version']}]" in read("CHANGELOG.md")


def test_one_licence_everywhere():
    assert PROJECT["license"] == yaml.safe_load(read("CITATION.cff"))["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in read("LICENSE")
    assert "creativecommons.org/licenses/by/4.0/" in read("LICENSE-docs.md")  # of text and figures


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_exactly_one_fitting_pin(python, platform):
    machine = {"platform_machine": "x86_64", "implementation_name": "cpython"}
    version = {"python_version": python, "python_full_version": python + ".9"}
    environment = {**default_environment(), **PLATFORMS[platform], **machine, **version}
    found = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            found.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier))
    assert {name: many for name, many in found.items() if len(many) != 1} == {}
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = found[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pin.removeprefix("==")), f"{requirement} is pinned to {pin}"


def test_pins_are_exact_and_name_no_place():
    for pin in pins():
        assert pin.url is None and re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
    assert not re.search(r"^\s*-|://|file:", read("constraints.txt"), re.MULTILINE)


def test_nothing_triggers_the_isolated_build_of_sam2():
    build = tomllib.loads(read("pyproject.toml"))["build-system"]["requires"]
    names = [requirement.name for requirement in [*wanted(), *pins(), *map(Requirement, build)]]
    names += [str(dependency) for dependency in yaml.safe_load(read("environment.yml"))["dependencies"]]
    assert not [name for name in names if re.match(r"sam[-_]?2|torchvision|nvidia|triton", name, re.IGNORECASE)]


def test_conda_environment_is_python_alone_and_of_a_supported_version(lab):
    environment = yaml.safe_load(read("environment.yml"))
    dependencies = environment["dependencies"]
    assert environment["name"] == "fss_lab"
    assert [re.split("=", dependency)[0] for dependency in dependencies] == ["python", "pip"]
    version = dependencies[0].split("=")[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert lab.OLDEST <= tuple(map(int, version.split("."))) <= lab.NEWEST
    assert version in PYTHONS


def test_binder_runs_the_same_set_up():
    assert read("postBuild").splitlines()[-1] == "python lab.py install --here"
    assert read(".ci/run").splitlines()[-2:] == ["python3 lab.py test", "python3 lab.py run"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
@pytest.mark.parametrize("name", ["postBuild", ".ci/run"])
def test_scripts_are_executable(name):
    assert os.access(ROOT / name, os.X_OK)


def test_lab_agrees_with_pyproject(lab):
    assert PROJECT["requires-python"] == ">={}.{}".format(*lab.OLDEST)
    assert f"torch>={'.'.join(map(str, lab.MIN_TORCH))}" in PROJECT["dependencies"]
    assert EXTRAS["build"] == lab.BUILD_TOOLS
    assert {*lab.EXTRAS, "lab", "build"} == EXTRAS.keys()
    assert f"sam2=={doctor.SAM2_VERSION}" == lab.SAM2


def test_doctor_looks_at_every_dependency():
    assert sorted(doctor.REQUIRED.values()) == sorted(Requirement(text).name for text in PROJECT["dependencies"])


# Needed without an import of ours: name -> who needs it.
WITHOUT_IMPORT = {
    "iopath": "sam2, which is installed without its dependencies",
    "pip": "lab.py calls it", "setuptools": "builds this package", "wheel": "builds this package",
    "ipykernel": "runs the notebooks", "jupyterlab": "lab.py starts it", "nbdime": "git shows notebooks with it",
    "pytest-xdist": "a plugin of pytest", "ruff": "called in the test above", "mypy": "called in the test above",
    "codespell": "called by hand on the texts", "playwright": "tests/helpers/browser.py, where it is installed",
    "myst-nb": "an extension in docs/site/conf.py", "furo": "the theme in docs/site/conf.py",
    "sphinx-mathjax-offline": "docs/site/conf.py copies its files",
}  # fmt: skip
COURSE_TOOLS = {
    f"fss_lab.course.{name}" for name in ("execution", "grading", "notebooks", "release", "site", "slides", "teaching")
}


def imports(*paths):
    """(file, distributions of one name, whether a function imports it) of each third-party import in Python files."""
    distributions = metadata.packages_distributions()
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.split(".")[0] for name in names}:
                if name in distributions and name not in {"fss_lab", "sam2"}:  # sam2: see pyproject.toml
                    yield path, set(map(canonicalize_name, distributions[name])), id(node) in lazy


def declared(*texts):
    return {canonicalize_name(Requirement(text).name) for text in texts}


def test_every_dependency_is_imported_or_says_who_needs_it():
    files = [
        *ROOT.glob("*.py"),
        *(path for room in ("fss_lab", "recipes", "tests") for path in ROOT.glob(f"{room}/**/*.py")),
    ]
    imported = set().union(*(names for _, names, _ in imports(*files)), {"tomli"})  # tomli: before Python 3.11
    everything = {canonicalize_name(requirement.name) for requirement in wanted()}
    assert everything - imported == WITHOUT_IMPORT.keys()


def test_every_import_is_declared():
    """In the core; in an extra, if a function or a room that is the extra's own imports it."""
    core, extras = declared(*PROJECT["dependencies"]), declared(*(text for texts in EXTRAS.values() for text in texts))
    missing = []
    for path, names, lazy in imports(*ROOT.glob("fss_lab/**/*.py"), *ROOT.glob("recipes/*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not names & (core | extras if lazy or module in COURSE_TOOLS else core):
            missing.append(f"{module} imports {', '.join(names)}")
    for path, names, _ in imports(*ROOT.glob("tests/**/*.py")):
        if not names & (core | extras):
            missing.append(f"{path.relative_to(ROOT)} imports {', '.join(names)}")
    assert missing == []


CORE_ALONE = """
import importlib, importlib.abc, sys
blocked, course = map(set, (sys.argv[1].split(), sys.argv[2].split()))

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from fss_lab import Pictograms, load_model
from fss_lab.errors import MissingPackageError

load_model("toy", fold=0).segment(Pictograms(0)[0])
for name in sys.argv[3].split():
    try:
        importlib.import_module(name)
    except MissingPackageError as error:
        assert name in course and "fss-lab[course]" in str(error), name
    else:
        assert name not in course, name
"""


def test_the_core_dependencies_are_enough():
    """Every module but the course's tools can be imported, and these say which extra they need."""
    absent = declared(*EXTRAS["lab"], *EXTRAS["course"])
    tops = [
        top for top, owners in metadata.packages_distributions().items() if absent & set(map(canonicalize_name, owners))
    ]
    paths = [path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("fss_lab/**/*.py")]
    modules = [".".join(path.parts) for path in paths if path.name not in {"__init__", "__main__"}]
    command = [sys.executable, "-c", CORE_ALONE, *(" ".join(names) for names in (tops, COURSE_TOOLS, modules))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def package_files(*suffixes):
    return [
        path for path in (ROOT / "fss_lab").rglob("*") if path.suffix in suffixes and "__pycache__" not in path.parts
    ]


def test_the_top_level_is_small():
    top = [path for path in (ROOT / "fss_lab").iterdir() if path.name != "__pycache__"]
    assert len([path for path in top if path.suffix == ".py"]) <= 8
    assert len([path for path in top if path.is_dir()]) <= 15


def test_files_are_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in package_files(".py", ".js", ".css")}
    assert {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 350} == {}
    assert sum(lengths.values()) <= 27_200  # may shrink; whoever adds looks first for what it replaces


def test_functions_have_few_parameters():
    many = []
    for path in package_files(".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
                if count > 8:
                    many.append(f"{path.relative_to(ROOT)}:{node.lineno} has {count} parameters")
    assert len(many) <= 2, many


def test_console_script_is_the_command_line(capsys):
    module, function = PROJECT["scripts"]["fss-lab"].split(":")
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"fss-lab {fss_lab.__version__}\n"


@pytest.mark.slow
def test_wheel_carries_code_and_data(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "fss_lab", source / "fss_lab", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    ended = subprocess.run([*pip, "-w", str(tmp_path), str(source)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (wheel,) = tmp_path.glob("*.whl")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fss_lab").rglob("*") if path.is_file()}
    assert carried == {name for name in files if "__pycache__" not in name}
