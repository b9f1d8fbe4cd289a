"""The project's files agree with each other, the package is complete, and the code is formatted, linted and typed."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import fss_lab
from fss_lab.cli import commands as cli
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


def test_console_script_is_the_command_line():
    module, function = PROJECT["scripts"]["fss-lab"].split(":")
    assert getattr(sys.modules[module], function) is cli.main


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
