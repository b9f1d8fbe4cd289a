"""lab.py: what it installs in which order, and what it does when something goes wrong."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from importlib.metadata import distribution
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "lab.py"
STEPS = ["making the environment", "pip and the build tools", "torch", "fss_lab and what it needs", "sam2"]


class Recorder:
    """Stands for Steps.run: notes the commands, makes what `python -m venv` makes, breaks where it is told."""

    def __init__(self, lab):
        self.lab, self.titles, self.commands, self.breaks_at = lab, [], [], None

    def __call__(self, title, command):
        self.titles.append(title)
        self.commands.append(command)
        if "venv" in command:
            python = self.lab.python_in(self.lab.VENV)
            python.parent.mkdir(parents=True)
            python.touch()
        if self.breaks_at and title.startswith(self.breaks_at):
            raise KeyboardInterrupt


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A fresh import of lab.py that believes to lie in a folder with spaces in its name."""
    spec = importlib.util.spec_from_file_location("lab_under_test", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    root = tmp_path / "my little lab"
    root.mkdir()
    shutil.copy(SOURCE.with_name("pyproject.toml"), root)
    shutil.copy(SOURCE.with_name("constraints.txt"), root)
    monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(module, "VENV", root / ".venv")
    monkeypatch.setattr(module, "python_version", lambda python: "3.11" if python.exists() else "")
    monkeypatch.setattr(module, "check_room", lambda prefix, need: None)
    monkeypatch.setattr(module, "reachable", lambda url: True)
    return module


@pytest.fixture
def steps(lab, monkeypatch):
    recorder = Recorder(lab)
    monkeypatch.setattr(lab.Steps, "run", lambda self, title, command: recorder(title, command))
    return recorder


def began_with(steps):
    return [next(known for known in STEPS if title.startswith(known)) for title in steps.titles]


# ---- Python versions


def test_syntax_is_understood_by_python_3_6():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6), (3, 9), (3, 99)])
def test_unsupported_python_is_told_what_to_do(version):
    code = f"import runpy, sys; sys.version_info = {version}; runpy.run_path({str(SOURCE)!r})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "this is Python {}.{}".format(*version) in ended.stderr
    assert "3.10 to 3.14" in ended.stderr and "What to do" in ended.stderr
    assert "Traceback" not in ended.stderr


# ---- the set-up from beginning to end


def test_first_setup_runs_every_step_in_order(lab, steps, capsys):
    assert lab.main(["install"]) == 0
    assert began_with(steps) == STEPS
    assert lab.condition(lab.VENV) == lab.READY
    printed = capsys.readouterr().out
    assert "[   0 s]" in printed and "ready" in printed


def test_sam2_comes_after_torch_without_dependencies_and_nothing_is_built_in_isolation(lab, steps):
    lab.main(["install"])
    *others, sam2 = steps.commands[1:]
    assert sam2[-2:] == ["--no-deps", "sam2==1.1.0"]
    assert all("--no-build-isolation" in command for command in [*others, sam2])
    assert all(command[command.index("-c") + 1] == "constraints.txt" for command in others)
    assert not any("torchvision" in word for command in steps.commands for word in command)


def test_second_call_installs_nothing_and_asks_nobody(lab, steps, monkeypatch):
    lab.main(["install"])
    steps.titles.clear()
    monkeypatch.setattr(lab, "reachable", lambda url: pytest.fail("a network was asked for"))
    monkeypatch.setattr(lab, "check_room", lambda prefix, need: pytest.fail("a full disk would matter"))
    assert lab.main(["install"]) == 0
    assert steps.titles == []


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_anywhere_the_next_call_starts_anew(lab, steps, step, capsys):
    steps.breaks_at = step
    assert lab.main(["install"]) == 130
    assert lab.condition(lab.VENV) == lab.UNFINISHED
    (lab.VENV / "half an unpacked file").touch()
    steps.breaks_at = None
    steps.titles.clear()
    assert lab.main(["install"]) == 0
    assert "half made" in capsys.readouterr().out
    assert began_with(steps) == STEPS
    assert not (lab.VENV / "half an unpacked file").exists()
    assert not lab.VENV.with_name(".venv.old").exists()


@pytest.mark.parametrize("left", ["", "{", "{}", '{"finished": false}', "[1]"])
def test_a_stamp_cut_short_is_no_stamp(lab, left):
    lab.VENV.mkdir()
    (lab.VENV / lab.STAMP).write_text(left)
    assert lab.condition(lab.VENV) == lab.UNFINISHED


def test_an_interrupted_removal_is_completed(lab, steps):
    old = lab.VENV.with_name(".venv.old")
    old.mkdir()
    (old / "file").touch()
    assert lab.main(["install"]) == 0
    assert not old.exists()


def test_changed_requirements_update_the_environment_in_place(lab, steps):
    lab.main(["install"])
    (lab.VENV / "kept").touch()
    with open(lab.ROOT / "constraints.txt", "a") as file:
        file.write("another==1.0\n")
    assert lab.condition(lab.VENV) == lab.OUTDATED
    steps.titles.clear()
    steps.breaks_at = "sam2"
    assert lab.main(["install"]) == 130
    assert began_with(steps) == STEPS[1:]
    assert (lab.VENV / "kept").exists()
    assert lab.condition(lab.VENV) == lab.UNFINISHED


def test_line_endings_do_not_change_the_fingerprint(lab):
    before = lab.fingerprint()
    file = lab.ROOT / "constraints.txt"
    file.write_bytes(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert lab.fingerprint() == before


def test_a_moved_environment_is_made_anew(lab, steps, monkeypatch):
    lab.main(["install"])
    moved = lab.ROOT.with_name("moved")
    lab.ROOT.rename(moved)
    monkeypatch.setattr(lab, "ROOT", moved)
    assert lab.condition(moved / ".venv") == lab.UNFINISHED


def test_an_environment_whose_python_was_removed_is_made_anew(lab, steps):
    lab.main(["install"])
    lab.python_in(lab.VENV).unlink()
    assert lab.condition(lab.VENV) == lab.UNFINISHED


def test_a_foreign_environment_is_left_alone(lab, steps, capsys):
    lab.VENV.mkdir()
    (lab.VENV / "pyvenv.cfg").touch()
    assert lab.main(["install"]) == 1
    assert "What to do" in capsys.readouterr().err
    assert (lab.VENV / "pyvenv.cfg").exists() and steps.titles == []


def test_an_environment_cannot_replace_itself(lab, steps, monkeypatch, capsys):
    lab.VENV.mkdir()
    (lab.VENV / lab.STAMP).write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(lab.VENV))
    assert lab.main(["install"]) == 1
    assert "deactivate" in capsys.readouterr().err
    assert lab.VENV.exists()


# ---- what can be wrong with the machine


@pytest.fixture
def free(lab, monkeypatch, tmp_path):
    """Sets the free space of the disks, in GB, and gives the lab its real check of it."""
    monkeypatch.undo()
    monkeypatch.setattr(lab.tempfile, "gettempdir", lambda: "/small")
    usage = namedtuple("usage", "total used free")

    def put(gigabytes, temporary=100):
        monkeypatch.setattr(
            lab.shutil, "disk_usage", lambda path: usage(0, 0, 1e9 * (temporary if path == "/small" else gigabytes))
        )

    return put


def test_a_full_disk_is_noticed_before_anything_is_made(lab, free, tmp_path):
    free(1.5)
    with pytest.raises(lab.Failure, match=r"only 1\.5 GB are free .* needs 4 GB[\s\S]*What to do: free some space"):
        lab.check_room(tmp_path / ".venv", 4)
    free(5)
    lab.check_room(tmp_path / ".venv", 4)
    free(5, temporary=0.5)
    with pytest.raises(lab.Failure, match="TMPDIR"):
        lab.check_room(tmp_path / ".venv", 4)


@pytest.mark.parametrize(("gpu", "index", "need"), [(False, True, 4), (False, False, 9), (True, True, 12)])
def test_it_asks_for_the_space_of_the_torch_that_it_will_install(lab, steps, monkeypatch, gpu, index, need):
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setattr(lab.sys, "platform", "linux")
    monkeypatch.setattr(lab, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(lab, "reachable", lambda url: index)
    asked = []
    monkeypatch.setattr(lab, "check_room", lambda prefix, need: asked.append((prefix, need)))
    assert lab.main(["install"]) == 0
    assert asked == [(lab.VENV, need)]


def test_a_half_made_environment_does_not_fill_the_disk_for_its_successor(lab, steps, monkeypatch):
    lab.VENV.mkdir()
    (lab.VENV / lab.STAMP).write_text("{}")

    def check_room(prefix, need):
        assert not prefix.exists()

    monkeypatch.setattr(lab, "check_room", check_room)
    assert lab.main(["install"]) == 0
    assert ".venv" in lab.remedy_for("OSError: [Errno 28] No space left on device")


def denied(*arguments, **keywords):
    raise PermissionError(13, "Permission denied", "/shared/course/.venv.lock")


def test_a_second_user_of_a_shared_clone_is_told_who_can_set_it_up(lab, monkeypatch, capsys):
    monkeypatch.setattr(lab, "open", denied, raising=False)
    assert lab.main(["run"]) == 1
    printed = capsys.readouterr().err
    assert "/shared/course/.venv.lock" in printed and "its owner calls `python lab.py install` once" in printed


def test_a_second_user_who_cannot_start_the_owners_python_is_told_so(lab, steps, monkeypatch, capsys):
    assert lab.main(["install"]) == 0
    monkeypatch.setattr(lab, "python_version", lambda python: "")
    monkeypatch.setattr(lab.os, "access", lambda path, mode: False)
    assert lab.main(["run"]) == 1
    printed = capsys.readouterr().err
    assert "which you may not start" in printed and "a Python that everybody may start" in printed


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_what_to_install(lab, steps, missing, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    assert lab.main(["install"]) == 1
    said = capsys.readouterr().err
    assert f"no module {missing}" in said and "sudo apt install python3." in said
    assert not lab.VENV.exists()


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError('[Errno 111]')\nERROR: No matching distribution found for torch", "network"),
        ("Temporary failure in name resolution", "network"),
        ("SSLError(SSLCertVerificationError(1, 'certificate verify failed'))", "PIP_CERT"),
        ("error: externally-managed-environment", "without --here"),
        ("ERROR: No matching distribution found for torch", "64-bit"),
        ("ERROR: No matching distribution found for tqdm>=4", "pip config list"),
        ("ERROR: ResolutionImpossible: for help visit", "without --here"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "its owner"),
        ("[WinError 206] The filename or extension is too long", "nearer to the root"),
        ("something nobody has seen before", "call again"),
    ],
)
def test_a_failing_step_tells_its_last_words_and_the_remedy(lab, output, remedy):
    steps = lab.Steps(dict(os.environ))
    with pytest.raises(lab.Failure) as failure:
        steps.run("a step", [sys.executable, "-c", f"print('first'); print({output!r}); raise SystemExit(3)"])
    said = str(failure.value)
    assert "this step failed: a step" in said and output.splitlines()[-1] in said
    assert remedy in said.split("What to do: ")[1]
    assert str(lab.ROOT / "runs" / "setup.log") in said
    assert output.splitlines()[0] in (lab.ROOT / "runs" / "setup.log").read_text()


def test_a_failing_step_leaves_an_environment_to_be_made_anew(lab, steps, monkeypatch, capsys):
    def fails(self, title, command):
        steps(title, command)
        raise lab.Failure("it failed", "try again")

    monkeypatch.setattr(lab.Steps, "run", fails)
    assert lab.main(["install"]) == 1
    assert capsys.readouterr().err == "lab.py: it failed\nWhat to do: try again\n"
    assert lab.condition(lab.VENV) == lab.UNFINISHED


def test_a_remedy_is_that_of_the_failing_step_alone(lab):
    steps = lab.Steps(dict(os.environ))
    steps.run("fine", [sys.executable, "-c", "print('WARNING: Connection reset, retrying')"])
    with pytest.raises(lab.Failure, match="call again: what is half made"):
        steps.run("not fine", [sys.executable, "-c", "raise SystemExit(1)"])


def test_an_interrupted_step_stops_its_process(lab, monkeypatch):
    started = []

    def interrupted(self, process):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(lab.Steps, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.Steps(dict(os.environ)).run("long", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert started[0].poll() is not None


# ---- two calls at once

HOLD = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("lab", sys.argv[1])
lab = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lab)
lab.ROOT = Path(sys.argv[2])
with lab.only_one():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_one_sets_up_and_a_killed_one_does_not_block(lab):
    command = [sys.executable, "-c", HOLD, str(SOURCE), str(lab.ROOT)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with open(lab.ROOT / lab.LOCK, "a") as file:
        assert not lab.try_lock(file)
    holder.kill()
    holder.wait()
    with lab.only_one():  # returns although the lock file of the dead process is still there
        assert (lab.ROOT / lab.LOCK).exists()
    holder.stdin.close()
    holder.stdout.close()


def test_the_one_that_waited_finds_the_work_done(lab, steps, monkeypatch, capsys):
    answers = iter([False, True])

    def try_lock(file):
        free = next(answers)
        if free:  # meanwhile the other call has finished
            lab.install_venv(lab.VENV, lab.ABSENT)
            steps.titles.clear()
        return free

    monkeypatch.setattr(lab, "try_lock", try_lock)
    assert lab.main(["install"]) == 0
    assert steps.titles == []
    assert "waiting" in capsys.readouterr().out


# ---- which torch


def test_linux_without_gpu_gets_the_cpu_build_if_its_index_answers(lab, monkeypatch):
    monkeypatch.setattr(lab.sys, "platform", "linux")
    monkeypatch.setattr(lab, "has_nvidia_gpu", lambda: False)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    assert lab.torch_index()[0] == ["--extra-index-url", lab.CPU_INDEX]
    monkeypatch.setattr(lab, "reachable", lambda url: False)
    assert lab.torch_index()[0] == [] and "out of reach" in lab.torch_index()[1]


@pytest.mark.parametrize(("platform", "gpu"), [("linux", True), ("darwin", False), ("win32", False)])
def test_elsewhere_the_default_build_is_right(lab, monkeypatch, platform, gpu):
    monkeypatch.setattr(lab.sys, "platform", platform)
    monkeypatch.setattr(lab, "has_nvidia_gpu", lambda: gpu)
    monkeypatch.setattr(lab, "reachable", lambda url: pytest.fail("asked without need"))
    assert lab.torch_index()[0] == []


def test_an_index_that_does_not_answer_is_out_of_reach(lab, monkeypatch):
    monkeypatch.undo()
    assert not lab.reachable("http://127.0.0.1:9/simple", seconds=2)


# ---- into the active environment


def test_here_leaves_torch_and_what_is_already_there(lab, steps, monkeypatch, tmp_path):
    active = tmp_path / "conda"
    active.mkdir()
    monkeypatch.setattr(sys, "prefix", str(active))
    monkeypatch.setattr(lab, "present_torch", lambda: "2.6.0+cu124")
    monkeypatch.setattr(
        lab, "present_packages", lambda: {"torch": "2.6.0", "numpy": "1.26.4", "jinja2": "3.1", "jupyterlab": "4.2"}
    )
    seen = []
    run = lab.Steps.run
    monkeypatch.setattr(
        lab.Steps,
        "run",
        lambda self, title, command: (
            run(self, title, command),
            "-c" in command and seen.append(Path(command[command.index("-c") + 1]).read_text()),
        ),
    )
    assert lab.main(["install", "--here"]) == 0
    assert began_with(steps) == ["pip and the build tools", "fss_lab and what it needs", "sam2"]
    assert {"torch==2.6.0+cu124", "numpy<2"} <= set(seen[0].splitlines())
    pins = {line.split("==")[0] for line in seen[0].splitlines() if "torch==" not in line}
    assert not {"numpy", "jinja2", "jupyterlab"} & pins
    assert "tqdm" in pins and "papermill" in pins
    assert all(command[0] == sys.executable for command in steps.commands)
    assert not any("lab" in word.strip(".[]").split(",") for word in steps.commands[1])  # it has a Jupyter
    assert lab.chosen_prefix() == active  # from now on `run` and `test` use it
    assert not lab.VENV.exists()


def test_here_without_torch_installs_the_pinned_one(lab):
    assert "torch==2.13.0" in lab.other_pins({"numpy": "2.0"}) and lab.kept_versions({}, "") == []


def test_another_folders_environment_is_not_ours(lab, monkeypatch, tmp_path):
    (tmp_path / lab.STAMP).write_text(json.dumps({"finished": True, "root": "/another/clone"}))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert lab.chosen_prefix() == lab.VENV


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "message"),
    [
        (0, "2.3.1 2.3.1\n", "", "2.5.1 or newer"),
        (1, "", "Traceback\nOSError: libcudart", "OSError: libcudart"),
        (0, "2.9.0a0+git\n", "", "pip does not know the torch 2.9.0a0"),
    ],
)
def test_a_torch_that_does_not_serve_is_explained(lab, monkeypatch, code, stdout, stderr, message):
    ended = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(lab.subprocess, "run", lambda *command, **options: ended)
    with pytest.raises(lab.Failure, match=message):
        lab.present_torch()


def test_a_torch_that_works_is_kept_as_pip_knows_it(lab, monkeypatch):
    ended = subprocess.CompletedProcess([], 0, "a greeting of the image\n2.10.0+cu128 2.10.0\n", "")
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(lab.subprocess, "run", lambda *command, **options: ended)
    assert lab.present_torch() == "2.10.0"


class Image:
    """A course image to which fss_lab is added: what is in it is metadata alone, its package index has empty wheels.

    pip itself is real, so it decides as it does with real packages.
    """

    TOOLS = ("pip", "setuptools", "wheel", "packaging")

    def __init__(self, folder):
        self.root, self.index = folder / "my course", folder / "index"
        self.index.mkdir()
        (self.root / "fss_lab").mkdir(parents=True)
        (self.root / "fss_lab" / "__init__.py").touch()
        for name in ("lab.py", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
            shutil.copy(SOURCE.with_name(name), self.root)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
        self.python = next(folder.glob("env/*/python"))
        (self.site,) = folder.glob("env/lib/*/site-packages")
        for tool in self.TOOLS:
            for path in distribution(tool).files:
                if path.parts[0] != "..":
                    (self.site / path).parent.mkdir(parents=True, exist_ok=True)
                    os.symlink(path.locate(), self.site / path)
        pins = [line.split(" ")[0] for line in (self.root / "constraints.txt").read_text().splitlines()]
        for name, version in (pin.split("==") for pin in pins if "==" in pin and "torch==" not in pin):
            self.offer(name, version)
        self.offer("sam2", "1.1.0")

    def metadata(self, name, version, needs):
        fields = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        return "\n".join([*fields, *(f"Requires-Dist: {need}" for need in needs), ""])

    def contain(self, name, version, *needs, code=""):
        folder = self.site / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(self.metadata(name, version, needs))
        (folder / "RECORD").write_text(
            "".join(f"{folder.name}/{file},,\n" for file in ("METADATA", "RECORD", "INSTALLER"))
        )
        (folder / "INSTALLER").write_text("pip\n")
        (self.site / f"{name}.py").write_text(code)

    def offer(self, name, version, *needs):
        name = name.replace("-", "_")
        folder = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(self.index / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{folder}/METADATA", self.metadata(name, version, needs))
            wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{folder}/RECORD", "")

    def install(self):
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("PIP_")}
        env.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.index))
        command = [str(self.python), str(self.root / "lab.py"), "install", "--here"]
        ended = subprocess.run(command, env=env, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    def versions(self):
        infos = [path.name.rpartition(".dist-info")[0].partition("-") for path in self.site.glob("*.dist-info")]
        return {name: version for name, _, version in infos}


@pytest.fixture
def image(tmp_path):
    return Image(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="the image is made of symbolic links")
@pytest.mark.parametrize(
    ("package", "module", "numpy", "ipywidgets"),
    [
        ("2.14.1", "2.14.1+cu130", "2.4.0", "8.1.9"),  # PyPI's builds: the package has no local part
        ("2.6.0", "2.6.0+cu124", "1.26.4", "7.7.1"),
        ("2.13.0+cpu", "2.13.0+cpu", "1.24.4", "7.6.5"),  # the index of PyTorch: both have one
        ("2.9.0a0+git123", "2.9.0a0+git123", "2.0.0", "8.0.1"),  # a vendor's image
    ],
)
def test_here_installs_beside_any_torch(image, package, module, numpy, ipywidgets):
    image.contain("torch", package, "sympy==1.13.1", code=f"__version__ = {module!r}")
    image.contain("sympy", "1.13.1")
    image.contain("numpy", numpy)
    image.contain("ipywidgets", ipywidgets)
    status, printed = image.install()
    assert status == 0, printed
    after = image.versions()
    assert (after["torch"], after["sympy"], after["numpy"]) == (package, "1.13.1", numpy)
    assert after["ipywidgets"] == (ipywidgets if ipywidgets != "7.6.5" else "8.1.9")  # replaced only if too old
    assert {"fss_lab", "sam2", "papermill", "jupyterlab"} <= set(after)


@pytest.mark.skipif(os.name == "nt", reason="the image is made of symbolic links")
def test_here_leaves_versions_to_pip_where_the_pinned_ones_do_not_fit(image):
    image.contain("torch", "2.6.0", "sympy==1.13.1", code="__version__ = '2.6.0+cu124'")  # sympy itself was removed
    image.offer("sympy", "1.13.1")
    status, printed = image.install()
    assert status == 0 and "leaving the choice of versions to pip" in printed, printed
    assert image.versions()["sympy"] == "1.13.1"


@pytest.mark.skipif(os.name == "nt", reason="the image is made of symbolic links")
def test_here_names_what_contradicts_what(image):
    image.contain("torch", "2.6.0", "numpy<1.20", code="__version__ = '2.6.0'")
    image.offer("numpy", "1.19.0")
    status, printed = image.install()
    assert status == 1
    assert "these requirements contradict each other" in printed
    assert "torch 2.6.0 depends on numpy<1.20" in printed and "depends on numpy>=1.24.4" in printed
    assert "without --here" in printed.split("What to do: ")[1]


# ---- the commands


@pytest.fixture
def jobs(lab, monkeypatch):
    """The set-up is done; what would be started is noted instead."""
    noted = []
    monkeypatch.setattr(lab, "set_up", lambda prefix, here: None)
    monkeypatch.setattr(lab, "job", lambda command, folder, env: noted.append((command, folder, env)) or 0)
    return noted


def test_test_hands_its_arguments_to_pytest(lab, jobs):
    assert lab.main(["test", "-x", "-k", "one or two", "tests/test_lab.py"]) == 0
    command, folder, env = jobs[0]
    assert command[0] == str(lab.python_in(lab.VENV))
    assert command[1:3] == ["-m", "pytest"] and command[-4:] == ["-x", "-k", "one or two", "tests/test_lab.py"]
    assert command[3] == "-n" and int(command[4]) <= 2
    assert folder == lab.ROOT and int(env["OMP_NUM_THREADS"]) >= 1


def test_the_number_of_workers_can_be_chosen(lab, jobs):
    lab.main(["test", "-n0"])
    assert jobs[0][0][3:] == ["-n0"]


def test_the_quick_part_leaves_out_what_is_marked(lab, jobs, pytestconfig):
    lab.main(["test", "--quick", "-n0", "tests/method"])
    assert jobs[0][0][3:] == ["-m", lab.QUICK, "-n0", "tests/method"]
    marks = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert {"notebook", "browser", "processes", "slow"} == set(re.findall(r"\w+", lab.QUICK)) - {"not", "or"} <= marks


def test_the_exit_status_of_pytest_is_ours(lab, jobs, monkeypatch):
    monkeypatch.setattr(lab, "job", lambda *anything: 5)
    assert lab.main(["test"]) == 5


def test_open_listens_on_this_machine_only(lab, jobs):
    (lab.ROOT / "notebooks").mkdir()
    lab.main(["open"])
    command, folder, _ = jobs[0]
    assert command[1:4] == ["-m", "jupyterlab", "--ip=127.0.0.1"]
    assert folder == lab.ROOT / "notebooks" and "index.ipynb" not in command
    (folder / "index.ipynb").touch()
    lab.main(["open"])
    assert "index.ipynb" in jobs[1][0]  # the course's contents are the first that is seen


def test_open_takes_another_folder(lab, jobs, tmp_path, capsys):
    (tmp_path / "student").mkdir()
    assert lab.main(["open", str(tmp_path / "student")]) == 0
    assert jobs[0][1] == tmp_path / "student"
    assert lab.main(["open", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err and len(jobs) == 1


def test_notebooks_and_site_are_work_for_the_course_command(lab, jobs):
    assert lab.main(["notebooks", "04_pseudo_prompts"]) == lab.main(["site"]) == 0
    assert [job[0][1:] for job in jobs] == [
        ["-m", "fss_lab", "course", "execute", "04_pseudo_prompts"],
        ["-m", "fss_lab", "course", "site"],
    ]


def test_run_prints_the_table_and_where_everything_lies(lab, jobs, monkeypatch, capsys):
    output = lab.ROOT / "runs" / "quickstart"
    output.mkdir(parents=True)
    (output / "of_an_earlier_run.png").touch()

    def job(command, folder, env, look=None):
        if look:
            notebook, executed = lab.ROOT / "notebooks" / "00_quickstart.ipynb", output / "00_quickstart.ipynb"
            assert command[1:] == ["-c", lab.EXECUTE, str(notebook), str(executed), str(output)]
            look()
            executed.write_text('{"cel')
            look()
            executed.write_text(json.dumps(half_executed()))
            look()
            look()
            (output / "results.txt").write_text("mIoU 70.0 ± 2.0", encoding="utf-8")
            (output / "prediction.png").touch()
        return 0

    monkeypatch.setattr(lab, "job", job)
    assert lab.main(["run"]) == 0
    printed = capsys.readouterr().out
    assert "mIoU 70.0 ± 2.0" in printed
    for name in ("00_quickstart.ipynb", "00_quickstart.html", "prediction.png"):
        assert str(output / name) in printed
    assert "of_an_earlier_run" not in printed
    assert printed.count(" s]  50 %  2 · An episode") == 1 and "1 · Before" not in printed
    assert f"Open {output / '00_quickstart.html'} in a browser next" in printed


def half_executed():
    """A notebook as papermill saves it between two cells."""
    cells = [{"cell_type": "markdown", "source": ["# 1 · Before"], "metadata": {"papermill": {"status": "completed"}}},
             {"cell_type": "code", "source": ["# no heading"], "metadata": {"papermill": {"status": "completed"}}},
             {"cell_type": "markdown", "source": ["Text\n", "## 2 · An episode\n"], "metadata": {}},
             {"cell_type": "code", "source": [], "metadata": {}}]  # fmt: skip
    return {"cells": cells}


def test_a_failing_notebook_fails_the_run(lab, jobs, monkeypatch, capsys):
    monkeypatch.setattr(lab, "job", lambda *anything: 1)
    assert lab.main(["run"]) == 1
    assert "doctor" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["install", "--there"], ["run", "fast"], ["open", "a", "b"], ["fly"], []])
def test_unknown_arguments_are_refused(lab, jobs, arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        lab.main(arguments)
    assert refused.value.code == 2
    assert "usage: lab.py" in capsys.readouterr().err


def test_the_users_python_settings_do_not_leak_into_the_environment(lab, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("PIP_CONSTRAINT", "/somewhere/constraints.txt")
    env = lab.environment_of(lab.VENV, here=False)
    assert "PYTHONPATH" not in env and "PIP_CONSTRAINT" not in env
    assert env["PATH"].split(os.pathsep)[0] == str(lab.python_in(lab.VENV).parent)
    assert lab.environment_of(Path(sys.prefix), here=True)["PYTHONPATH"] == "/somewhere/else"


def test_job_runs_in_its_folder_and_returns_the_status(lab):
    code = "import os, sys; sys.exit(7 if os.path.basename(os.getcwd()) == 'my little lab' else 1)"
    assert lab.job([sys.executable, "-c", code], lab.ROOT, dict(os.environ)) == 7


def test_every_kernel_of_the_environment_sleeps_while_it_waits(lab, steps, tmp_path):
    kernels = lab.VENV / "share" / "jupyter" / "kernels"

    class WithKernels(Recorder):
        def __call__(self, title, command):
            super().__call__(title, command)
            for name, program in (("python3", "ipykernel_launcher"), ("mine", "ipykernel_launcher"), ("r", "IRkernel")):
                (kernels / name).mkdir(parents=True, exist_ok=True)
                spec = {"argv": ["x", "-m", program], "env": {"OMP_WAIT_POLICY": "ACTIVE"} if name == "mine" else {}}
                (kernels / name / "kernel.json").write_text(json.dumps(spec))

    recorder = WithKernels(lab)
    lab.Steps.run = lambda self, title, command: recorder(title, command)
    assert lab.main(["install"]) == 0
    env = {path.parent.name: json.loads(path.read_text())["env"] for path in kernels.glob("*/kernel.json")}
    assert env == {"python3": {"OMP_WAIT_POLICY": "PASSIVE"}, "mine": {"OMP_WAIT_POLICY": "ACTIVE"}, "r": {}}


def test_students_do_not_see_the_instructors_tabs(lab, jobs, monkeypatch):
    (lab.ROOT / "notebooks").mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/etc/mine")
    pages = []

    def job(command, folder, env):
        settings, rest = env["JUPYTER_CONFIG_PATH"].split(os.pathsep, 1)
        assert rest == "/etc/mine"
        pages.append(json.loads((Path(settings) / "labconfig" / "page_config.json").read_text()))
        return 0

    monkeypatch.setattr(lab, "job", job)
    assert lab.main(["open"]) == 0
    (page,) = pages
    assert page["disabledExtensions"]["@jupyter/nbgrader:formgrader"]
    assert "@jupyter/nbgrader:validate-assignment" not in page["disabledExtensions"]
    plugins = next(Path(sys.prefix).glob("share/jupyter/labextensions/@jupyter/nbgrader/static"))
    code = "".join(path.read_text(encoding="utf-8") for path in plugins.glob("*.js"))
    assert all(name in code for name in page["disabledExtensions"])


@pytest.mark.parametrize(
    ("before", "policy", "prints"),
    [("", "PASSIVE", False), ("import torch, ipykernel\n", "None", True), ("import torch\n", "None", False)],
)
def test_the_package_sets_the_policy_where_torch_has_not_read_it(before, policy, prints):
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    code = before + "import fss_lab, importlib, os\nprint(os.environ.get('OMP_WAIT_POLICY'))"
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == policy and not ended.stderr
    assert ("set OMP_WAIT_POLICY=PASSIVE before Jupyter starts" in ended.stdout) == prints


@pytest.mark.parametrize("user", [0, 1000])
def test_root_may_open_the_course_and_is_warned(lab, jobs, monkeypatch, user, capsys):
    (lab.ROOT / "notebooks").mkdir()
    monkeypatch.setattr(lab.os, "geteuid", lambda: user, raising=False)
    assert lab.main(["open"]) == 0
    assert ("--allow-root" in jobs[0][0]) == ("You are root" in capsys.readouterr().out) == (user == 0)


@pytest.mark.parametrize("command", ["open", "notebooks", "test"])
def test_a_read_only_home_is_replaced_while_a_command_runs(lab, monkeypatch, command, capsys):
    (lab.ROOT / "notebooks").mkdir()
    monkeypatch.setattr(lab, "set_up", lambda prefix, here: None)
    monkeypatch.setattr(lab.os, "access", lambda path, mode: False)
    homes = []
    monkeypatch.setattr(lab, "job", lambda command, folder, env: homes.append(Path(env["HOME"])) or 0)
    assert lab.main([command]) == 0
    assert homes[0] != Path.home() and not homes[0].exists()
    assert f"your home folder {Path.home()} cannot be written to" in capsys.readouterr().out


def test_a_reader_of_a_shared_clone_gets_the_results_in_the_current_folder(lab, jobs, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab.os, "access", lambda path, mode: not str(path).startswith(str(lab.ROOT)))
    output = tmp_path / "runs" / "quickstart"

    def job(command, folder, env, look=None):
        if lab.EXECUTE in command:
            (output / "results.txt").write_text("mIoU")
        return 0

    monkeypatch.setattr(lab, "job", job)
    assert lab.main(["run"]) == 0
    assert str(output / "00_quickstart.ipynb") in capsys.readouterr().out
