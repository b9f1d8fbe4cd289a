"""Dockerfile and Dev Container: read, not built; what they name exists."""

import json
import re
import runpy
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAB = runpy.run_path(str(ROOT / "lab.py"))
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
STEPS = [line.split(maxsplit=1) for line in LINES if line]


def test_every_line_is_an_instruction():
    assert {word for word, _ in STEPS} <= {"FROM", "ENV", "COPY", "WORKDIR", "RUN", "USER", "EXPOSE", "CMD"}


def test_the_base_is_small_and_a_python_that_the_tests_know():
    (base,) = (rest for word, rest in STEPS if word == "FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)-slim", base)
    assert LAB["OLDEST"] <= tuple(map(int, version.groups())) <= LAB["NEWEST"]


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [source for word, rest in STEPS if word == "COPY" for source in shlex.split(rest)[:-1]]
    assert sources and all((ROOT / source).exists() for source in sources)
    needed = ["lab.py", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "fss_lab", "notebooks", "docs"]
    assert not set(needed) & set(ignored) and all((ROOT / name).exists() for name in needed)


def test_nothing_runs_as_root():
    words = [word for word, _ in STEPS]
    assert words.index("USER") < words.index("CMD") and words.index("USER") > words.index("RUN")
    (user,) = (rest for word, rest in STEPS if word == "USER")
    assert f"useradd --create-home --uid {user} student" in TEXT


def test_it_ends_in_jupyterlab_and_installs_as_everywhere():
    (start,) = (json.loads(rest) for word, rest in STEPS if word == "CMD")
    assert start[:2] == ["sh", "-c"] and "exec jupyter lab" in start[2]
    assert "python lab.py install --here" in TEXT


def test_the_dev_container_sets_up_with_lab():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    version = re.search(r"python:(\d+)\.(\d+)$", container["image"])
    assert LAB["OLDEST"] <= tuple(map(int, version.groups())) <= LAB["NEWEST"]
    assert container["postCreateCommand"] == "python lab.py install"
    assert container["containerEnv"].items() >= LAB["KERNEL_ENV"].items()
