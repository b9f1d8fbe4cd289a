"""Set up and run fss_lab: standard library only, on Linux, macOS and Windows.

    python lab.py run               set up, execute notebooks/00_quickstart.ipynb and print its table
    python lab.py test [...]        set up and run the tests (further arguments go to pytest)
    python lab.py test --quick      those that need neither notebooks, a browser nor much time
    python lab.py open [FOLDER]     set up and start JupyterLab in notebooks/, or in another folder
    python lab.py notebooks [...]   set up and run the notebooks (all, or those named) as they are kept in git
    python lab.py site              set up and build the course as a web site in runs/site
    python lab.py install [--here]  only set up; --here: into the active environment (conda, Colab, Binder)

The set-up makes the environment .venv beside this file, once. A stamp in it, completed last, says for
which requirements it was made: later calls need no network, and what an interrupted call left is made anew.
"""

# The syntax of this file stays that of Python 3.6, so that an old Python gets as far as the message below.
import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 14)
SUPPORTED = "{}.{} to {}.{}".format(*(OLDEST + NEWEST))
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        f"lab.py: this is Python {sys.version_info[0]}.{sys.version_info[1]}, "
        f"but fss_lab needs Python {SUPPORTED}.\n"
        "What to do: install one of those from https://www.python.org/downloads/ or with conda\n"
        "(conda create -n fss_lab python=3.11) and call lab.py with it, for example: python3.11 lab.py run"
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = "fss_lab.json"  # in the environment's folder
LOCK = ".venv.lock"
LOG = "runs/setup.log"
QUICK = "not (notebook or browser or processes or slow)"  # the marks of the tests, see pyproject.toml

BUILD_TOOLS = ["pip>=23.1", "setuptools>=77", "wheel>=0.40"]
SAM2 = "sam2==1.1.0"
# The folder itself on the path: setuptools' import hook would lose to a clone named fss_lab in the working directory.
EDITABLE = ["--config-settings", "editable_mode=compat", "-e"]
EXTRAS = ["real", "tracking", "course", "test"]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyPI's torch for Linux brings several GB of CUDA libraries
MIN_TORCH = (2, 5, 1)
KERNEL_ENV = {"OMP_WAIT_POLICY": "PASSIVE"}  # torch's idle threads would spin, and starve a busy machine
# What nbgrader adds to JupyterLab for instructors, or for an exchange of files that this course does not use.
INSTRUCTORS_TABS = ["menu", "formgrader", "create-assignment", "assignment-list", "course-list"]

EXECUTE = """\
import logging, sys
import papermill
logging.getLogger("papermill").setLevel(logging.ERROR)
notebook, executed, output = sys.argv[1:]
papermill.execute_notebook(
    notebook, executed, {"output_dir": output}, kernel_name="python3", cwd=notebook.rpartition("00_")[0],
    progress_bar=False, extra_arguments=["--log-level=CRITICAL"],  # the kernel would warn of having no encryption
)"""

READY, ABSENT, UNFINISHED, OUTDATED, FOREIGN = "ready", "absent", "unfinished", "outdated", "foreign"

REMEDIES = [
    (
        r"No space left on device|not enough space on the disk|Errno 28|WinError 112",
        "The disk is full. Free some GB and call again: `pip cache purge` may help, TMPDIR names the folder for\n"
        "temporary files, and a half-made environment may be removed: " + str(VENV) + ".",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError",
        "A secure connection was refused, often by a company's proxy. Set PIP_CERT to its certificate file\n"
        "(ask your administrator) and call again.",
    ),
    (
        r"NewConnectionError|NameResolutionError|name resolution|getaddrinfo failed|nodename nor servname|"
        r"establish a new connection|[Nn]etwork is unreachable|Connection (refused|reset|aborted)|timed out|"
        r"ConnectTimeout|ReadTimeout|Max retries|ProxyError|ConnectionError|IncompleteRead",
        "The package index could not be reached. Connect to the network (behind a proxy set HTTPS_PROXY)\n"
        "and call again; the first set-up needs it, later calls do not.",
    ),
    (
        r"externally-managed-environment",
        "This Python belongs to the operating system. Call `python lab.py install` without --here: it makes\n"
        "an environment of its own.",
    ),
    (
        r"No matching distribution found for torch\b",
        "There is no torch for this Python and machine (32-bit Python and Macs with Intel processors have\n"
        "none), or pip was told to use no index. Use a 64-bit Python " + SUPPORTED + ".",
    ),
    (
        r"No matching distribution found",
        "The package index that pip uses lacks a package. Look at `pip config list` and the PIP_ variables\n"
        "(an index switched off, an old mirror), or try another network.",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies",
        "Packages that are already in the active environment contradict what fss_lab needs. Call\n"
        "`python lab.py install` without --here: it makes an environment of its own. If it was called so, the\n"
        "package index lacks a version of ours (an old mirror: look at `pip config list`).",
    ),
    (
        r"WinError 206|[Ff]ile ?name too long|path too long",
        "The path of this folder is too long for the system. Move it nearer to the root of the disk, for\n"
        "example C:\\fss_lab, or enable long paths in Windows.",
    ),
    (
        r"PermissionError|Permission denied|Access is denied|WinError 5\b|WinError 32\b",
        "A file could not be written. If the folder is yours, close programs that use this environment\n"
        "(Jupyter, an editor's terminal). If it is another user's, its owner calls `python lab.py install` once,\n"
        "after which others need only read it; or copy it to a folder of your own.",
    ),
]


class Failure(Exception):
    """What went wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem + "\nWhat to do: " + remedy)


class Conflict(Failure):
    """pip found no versions that fit together."""


class Steps:
    """Tells each step with the time since the start; what the step's command says goes to the log."""

    def __init__(self, env: dict):
        self.start = time.monotonic()
        self.env = env
        self.log = ROOT / LOG
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_text("", encoding="utf-8")

    def clock(self) -> str:
        return f"[{time.monotonic() - self.start:4.0f} s] "

    def say(self, text: str) -> None:
        print(self.clock() + text, flush=True)

    def run(self, title: str, command: list) -> None:
        """Raises Failure with the end of the command's output and the remedy that fits it."""
        self.say(title)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write("\n== " + title + "\n" + " ".join(command) + "\n")
            log.flush()
            before = log.tell()
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT, close_fds=False
            )
            try:
                code = self.wait(process)
            except KeyboardInterrupt:  # it must not leave pip working behind our back
                process.terminate()
                process.wait()
                raise
        if code:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                log.seek(before)
                output = log.read()
            conflict = re.search(r"The conflict is caused by:\n((?:[ \t]+\S.*\n)+)", output)
            lines = conflict.group(1).splitlines() if conflict else output.strip().splitlines()[-12:]
            last = "\n".join("    " + line.strip() for line in lines)
            problem = (
                f"these requirements contradict each other ({title}):" if conflict else f"this step failed: {title}"
            )
            kind = Conflict if conflict else Failure
            raise kind(f"{problem}\n{last}\n(everything it said: {self.log})", remedy_for(output))

    def wait(self, process: subprocess.Popen) -> int:
        """A sign of life on a terminal while the process works."""
        while True:
            try:
                return process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if sys.stdout.isatty():
                    print(self.clock() + "...", end="\r", flush=True)


def remedy_for(output: str) -> str:
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return "Read the lines above, and call again: what is half made is made anew."


# ---- what an environment is, and whether it is ready


def python_in(prefix: Path) -> Path:
    if is_active(prefix):  # also right for conda on Windows, where python.exe lies in the prefix itself
        return Path(sys.executable)
    return prefix / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_active(prefix: Path) -> bool:
    return prefix.exists() and os.path.samefile(str(prefix), sys.prefix)


def fingerprint() -> str:
    """Changes when a set-up today would install something else than the one that wrote the stamp."""
    files = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")]
    recipe = files + [BUILD_TOOLS, SAM2, EXTRAS, KERNEL_ENV]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def read_stamp(prefix: Path) -> dict:
    try:
        stamp = json.loads((prefix / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or cut short by an interruption
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(prefix: Path, **content: object) -> None:
    draft = prefix / (STAMP + ".new")
    draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(draft, prefix / STAMP)


def python_version(python: Path) -> str:
    """'3.11' as the interpreter says it, '' if it does not start (its base Python was removed)."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.check_output([str(python), "-c", code], universal_newlines=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def condition(prefix: Path) -> str:
    """READY, ABSENT, UNFINISHED (to be made anew), OUTDATED (to be updated) or FOREIGN (not made by us)."""
    if not prefix.is_dir() or not any(prefix.iterdir()):
        return ABSENT
    if not (prefix / STAMP).exists():
        return FOREIGN
    stamp = read_stamp(prefix)
    if not stamp.get("finished") or stamp["root"] != str(ROOT):  # a moved or copied environment does not work
        return UNFINISHED
    if stamp["python"] != python_version(python_in(prefix)):
        return UNFINISHED
    return READY if stamp["fingerprint"] == fingerprint() else OUTDATED


def chosen_prefix() -> Path:
    """The active environment when `install --here` was called in it for this folder, else .venv."""
    active = Path(sys.prefix)
    return active if read_stamp(active).get("root") == str(ROOT) else VENV


def environment_of(prefix: Path, here: bool) -> dict:
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", SAM2_BUILD_CUDA="0")
    env["JUPYTER_PREFER_ENV_PATH"] = "1"  # the kernel "python3" is this environment's, not one of the user's
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else every kernel prints a warning about its debugger
    for name, value in KERNEL_ENV.items():
        env.setdefault(name, value)
    if not here:
        for name in ("PYTHONPATH", "PYTHONHOME", "PIP_CONSTRAINT", "PIP_TARGET", "PIP_PREFIX"):
            env.pop(name, None)
        env.update(VIRTUAL_ENV=str(prefix), PIP_USER="0", PYTHONNOUSERSITE="1")
        env["PATH"] = str(python_in(prefix).parent) + os.pathsep + env.get("PATH", "")
    return env


# ---- set-up


def set_up(prefix: Path, here: bool) -> None:
    """Makes the environment ready; returns at once when it is. Raises Failure."""
    if condition(prefix) == READY:
        return
    check_owners_python(prefix)
    with only_one():
        found = condition(prefix)
        if found == READY:  # made by another call while this one waited
            return
        here = here or read_stamp(prefix).get("here", False)
        if here:
            install_here(prefix)
        else:
            install_venv(prefix, found)


def install_venv(prefix: Path, found: str) -> None:
    fresh = found != OUTDATED
    if found == FOREIGN:
        raise Failure(
            f"the folder {prefix} was not made by lab.py, so it is left alone.",
            "remove or rename it and call again; or activate it and call `python lab.py install --here`.",
        )
    if fresh and is_active(prefix):
        raise Failure(
            f"the environment {prefix} has to be made anew, but its own Python is running lab.py.",
            "leave it (type `deactivate`, or open a new terminal) and call again.",
        )
    check_venv_module()
    steps = Steps(environment_of(prefix, here=False))
    if found == UNFINISHED:
        steps.say("the environment .venv is half made, moved, or without its Python: making it anew")
    if fresh:
        remove(prefix)
        check_room(prefix, torch_index()[-1])
    if found == OUTDATED:
        steps.say("the requirements have changed: updating the environment .venv")
    else:
        steps.say("setting up fss_lab in .venv (once; needs the network, about 2 GB and a few minutes)")
    prefix.mkdir(exist_ok=True)
    (prefix / STAMP).write_text("{}", encoding="utf-8")  # unfinished until the last line of this function
    if fresh:
        steps.run("making the environment", [sys.executable, "-m", "venv", str(prefix)])
    install_packages(steps, python_in(prefix), "constraints.txt", EXTRAS + ["lab"], keep_torch=False)
    finish(steps, prefix, here=False)


def install_here(prefix: Path) -> None:
    if not os.access(prefix, os.W_OK):
        raise Failure(
            f"the active environment {prefix} cannot be written to.",
            "call `python lab.py install` without --here: it makes an environment of its own.",
        )
    steps = Steps(environment_of(prefix, here=True))
    steps.say(f"setting up fss_lab in the active environment {prefix}")
    torch = present_torch()
    check_room(prefix, 2 if torch else torch_index()[-1])
    if torch:
        steps.say(f"torch {torch} is here and stays as it is")
    present = present_packages()
    extras = EXTRAS if {"jupyterlab", "notebook", "google-colab"} & set(present) else EXTRAS + ["lab"]
    python, kept = Path(sys.executable), kept_versions(present, torch)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(kept + other_pins(present)) + "\n", encoding="utf-8")
        try:
            install_packages(steps, python, str(constraints), extras, keep_torch=bool(torch))
        except Conflict:
            steps.say("our exact versions do not fit what is here: leaving the choice of versions to pip")
            constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
            install_packages(steps, python, str(constraints), extras, keep_torch=bool(torch))
    finish(steps, prefix, here=True)


def install_packages(steps: Steps, python: Path, constraints: str, extras: list, keep_torch: bool) -> None:
    """Nothing is built in isolation: that would fetch unpinned build tools and, for sam2, a second torch."""
    pip = [str(python), "-m", "pip", "install", "--no-build-isolation"]
    pinned = pip + ["-c", constraints]
    steps.run("pip and the build tools", pinned + BUILD_TOOLS)
    if not keep_torch:
        index, kind, _ = torch_index()
        steps.run(f"torch ({kind})", pinned + index + ["torch"])
    steps.run("fss_lab and what it needs", pinned + EDITABLE + [".[{}]".format(",".join(extras))])
    steps.run("sam2", pip + ["--no-deps", SAM2])


def finish(steps: Steps, prefix: Path, here: bool) -> None:
    version = "{}.{}".format(*sys.version_info[:2]) if here else python_version(python_in(prefix))
    complete_kernel(prefix)
    write_stamp(prefix, finished=True, here=here, root=str(ROOT), python=version, fingerprint=fingerprint())
    steps.say("ready")


def complete_kernel(prefix: Path) -> None:
    """Every kernel of this environment gets KERNEL_ENV, be it Jupyter, papermill or nbgrader that starts it."""
    for file in prefix.glob("share/jupyter/kernels/*/kernel.json"):
        kernel = json.loads(file.read_text(encoding="utf-8"))
        if "ipykernel_launcher" in kernel["argv"]:
            kernel["env"] = dict(KERNEL_ENV, **kernel.get("env", {}))
            file.write_text(json.dumps(kernel, indent=1), encoding="utf-8")


def torch_index() -> tuple:
    """(pip arguments, words, GB of disk needed): the CPU build on Linux without an NVIDIA GPU, else the default one.

    pip prefers 2.13.0+cpu to 2.13.0, so a package index of one's own that has the CPU build serves it unasked; only
    where neither is there does Linux get the CUDA build, which is three times as large.
    """
    if not sys.platform.startswith("linux"):
        return [], "default build", 4
    if has_nvidia_gpu():
        return [], "CUDA build, about 3 GB to download", 12
    if os.environ.get("PIP_NO_INDEX") or not reachable(CPU_INDEX + "/torch/"):
        return [], f"from your package index; {CPU_INDEX} is out of reach", 9
    return ["--extra-index-url", CPU_INDEX], "CPU build, about 200 MB to download", 4


def has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidia0")


def reachable(url: str, seconds: float = 4) -> bool:
    answers = []

    def ask() -> None:
        with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(url, timeout=seconds):
            answers.append(url)

    thread = threading.Thread(target=ask, daemon=True)  # urlopen's own limit does not cover the name look-up
    thread.start()
    thread.join(seconds)
    return bool(answers)


def present_packages() -> dict:
    """Version of each package of the active environment, by its normal name."""
    from importlib import metadata  # here, not above: Python 3.6 has none

    return {normal(d.metadata["Name"]): d.version for d in metadata.distributions() if d.metadata["Name"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def present_torch() -> str:
    """The version that pip knows of the active environment's torch, '' if none. Raises Failure if it does not serve.

    It is not torch.__version__: the torch 2.14.1 of PyPI calls itself 2.14.1+cu130.
    """
    if importlib.util.find_spec("torch") is None:
        return ""
    question = (
        "import torch; from importlib import metadata; "
        "print(torch.__version__, *[d.version for d in metadata.distributions(name='torch')][:1])"
    )
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True)
    if answer.returncode:
        raise Failure(
            "the torch of this environment cannot be imported:\n    " + answer.stderr.strip().split("\n")[-1],
            "repair or uninstall it (`pip uninstall torch`) and call again.",
        )
    version, *packages = answer.stdout.strip().split("\n")[-1].split()
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < MIN_TORCH:
        raise Failure(
            "the torch of this environment is {}; fss_lab needs {}.{}.{} or newer.".format(version, *MIN_TORCH),
            "call `python lab.py install` without --here: it makes an environment of its own.",
        )
    if not packages:
        raise Failure(
            f"pip does not know the torch {version} of this environment, so it would install another one over it.",
            "call `python lab.py install` without --here: it makes an environment of its own.",
        )
    return packages[0]


def kept_versions(present: dict, torch: str) -> list:
    """What must stay: torch as it is, and the major version of NumPy, for which other packages may be compiled."""
    numpy = present.get("numpy")
    series = ["numpy<{}".format(int(numpy.split(".")[0]) + 1)] if numpy else []
    return series + (["torch==" + torch] if torch else [])


def other_pins(present: dict) -> list:
    """Our pins without those of packages already there, so that pip replaces only what is too old for us."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    return [pin for pin in pins if normal(re.split(r"[=\s]", pin)[0]) not in present]


def check_room(prefix: Path, size: int) -> None:
    """Raises Failure if the environment's disk has less than `size` GB free, or the one for temporary files 1 GB."""
    for folder, need in ((prefix.parent, size), (Path(tempfile.gettempdir()), 1)):
        free = shutil.disk_usage(str(folder)).free / 1e9
        if free < need:
            raise Failure(
                f"only {free:.1f} GB are free on the disk of {folder}; the set-up needs {need} GB.",
                "free some space or use another disk (TMPDIR sets the one for temporary files), call again.",
            )


def check_owners_python(prefix: Path) -> None:
    """Raises Failure in somebody else's clone that is ready, but with a Python in the owner's home."""
    ready = read_stamp(prefix).get("finished") and not os.access(str(ROOT), os.W_OK)
    if ready and not python_version(python_in(prefix)):
        python = os.path.realpath(str(python_in(prefix)))
        raise Failure(
            f"the environment {prefix} was made with {python}, which you may not start.",
            "its owner removes .venv and calls `python lab.py install` with a Python that everybody may start, such as "
            "/usr/bin/python3; or copy this folder to one of your own.",
        )


def check_venv_module() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Failure(
                f"this Python ({sys.executable}) has no module {module}, so it cannot make environments.",
                "on Debian or Ubuntu: sudo apt install python{}.{}-venv; elsewhere install Python from "
                "https://www.python.org/downloads/ or, in a conda environment, call "
                "`python lab.py install --here`.".format(*sys.version_info[:2]),
            )


def remove(prefix: Path) -> None:
    """First out of the way in one stroke: an interruption never leaves half a folder under the name."""
    old = prefix.with_name(prefix.name + ".old")
    try:
        if old.exists():
            shutil.rmtree(str(old))
        if prefix.exists():
            os.replace(str(prefix), str(old))
            shutil.rmtree(str(old))
    except OSError as error:
        raise Failure(f"cannot remove {prefix}: {error}", remedy_for("PermissionError")) from error


@contextlib.contextmanager
def only_one():
    """One set-up at a time. The system frees the lock of a process however it ends: it is never stale."""
    with open(ROOT / LOCK, "a") as file:
        os.set_inheritable(file.fileno(), True)  # a pip that outlives a killed lab.py keeps the lock until it ends
        waiting = False
        while not try_lock(file):
            if not waiting:
                print("another call of lab.py is setting up; waiting until it is done", flush=True)
            waiting = True
            time.sleep(0.2)
        yield


def try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


# ---- the commands


def run_quickstart(python: str, env: dict) -> int:
    writable = os.access(str(ROOT / "runs"), os.W_OK) if (ROOT / "runs").exists() else os.access(str(ROOT), os.W_OK)
    output = (ROOT if writable else Path.cwd()) / "runs" / "quickstart"  # a shared clone is often only readable
    output.mkdir(parents=True, exist_ok=True)
    for old in [path for pattern in ("*.png", "*.txt", "*.ipynb", "*.html") for path in output.glob(pattern)]:
        old.unlink()  # what is shown below comes from this run
    start = time.monotonic()
    notebook, executed = ROOT / "notebooks" / "00_quickstart.ipynb", output / "00_quickstart.ipynb"
    print(f"Executing {notebook.relative_to(ROOT)}, half a minute to a minute on two idle cores:", flush=True)
    progress = Progress(executed, start)
    if job([python, "-c", EXECUTE, str(notebook), str(executed), str(output)], ROOT, env, progress):
        raise Failure(
            "the notebook stopped with the error above.",
            f"`{python} -m fss_lab doctor` looks for the cause; the cells up to the error are in {executed}",
        )
    if job(
        [python, "-m", "nbconvert", "--log-level=WARN", "--to", "html", "--template", "classic", str(executed)],
        ROOT,
        env,
    ):
        raise Failure("the executed notebook could not be turned into HTML.", "read the lines above.")
    print()
    print((output / "results.txt").read_text(encoding="utf-8"))
    print(f"Done in {time.monotonic() - start:.0f} s. What it made:")
    for path in [executed, executed.with_suffix(".html"), *sorted(output.glob("*.png"))]:
        print(f"    {path}")
    print(f"Open {executed.with_suffix('.html')} in a browser next; then `python lab.py open` starts the course.")
    return 0


class Progress:
    """Prints the sections of a notebook as its execution reaches them: papermill saves it after each cell."""

    def __init__(self, executed: Path, start: float):
        self.executed, self.start, self.last = executed, start, ""

    def __call__(self) -> None:
        try:
            cells = json.loads(self.executed.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):  # not there yet, or half written
            return
        states = [cell["metadata"].get("papermill", {}).get("status") for cell in cells]
        done = [number for number, state in enumerate(states) if state == "completed"]
        headings = [line for cell in cells[: max(done, default=-1) + 2] if cell["cell_type"] == "markdown"
                    for line in "".join(cell["source"]).splitlines() if line.startswith("#")]  # fmt: skip
        if headings and headings[-1] != self.last:
            self.last = headings[-1]
            share = f"{100 * len(done) // len(cells):3d} %"
            print(f"[{time.monotonic() - self.start:4.0f} s] {share}  {self.last.strip('# ')}", flush=True)


def run_tests(python: str, env: dict, arguments: list) -> int:
    workers = min(2, os.cpu_count() or 1)
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    if "--quick" in arguments:
        arguments = ["-m", QUICK] + [argument for argument in arguments if argument != "--quick"]
    if not any(re.match(r"-n|--numprocesses|--pdb", argument) for argument in arguments):
        # neighbours stay with one worker, which shares what their module has prepared, until the other is idle
        arguments = ["-n", str(workers), "--dist", "worksteal"] + arguments
    return job([python, "-m", "pytest"] + arguments, ROOT, env)


def open_jupyter(python: str, env: dict, arguments: list) -> int:
    folder = Path(arguments[0]) if arguments else ROOT / "notebooks"
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}.", "name one that exists, or none for the course's notebooks.")
    with tempfile.TemporaryDirectory() as settings:
        page = Path(settings) / "labconfig" / "page_config.json"
        page.parent.mkdir()
        hidden = {"disabledExtensions": {"@jupyter/nbgrader:" + tab: True for tab in INSTRUCTORS_TABS}}
        page.write_text(json.dumps(hidden), encoding="utf-8")
        paths = [settings] + env.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep)
        env["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
        command = [python, "-m", "jupyterlab", "--ip=127.0.0.1"] + ["index.ipynb"] * (folder / "index.ipynb").exists()
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            print("You are root: JupyterLab is started with --allow-root, and a notebook may change the whole system.")
            command.append("--allow-root")
        return job(command, folder, env)


@contextlib.contextmanager
def usable_home(env: dict):
    """Gives the command a home folder to write to where the user's own is read-only: Jupyter keeps its state there."""
    home = Path(os.path.expanduser("~"))
    if os.access(str(home), os.W_OK):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"your home folder {home} cannot be written to: Jupyter keeps its settings in {folder} until it ends")
        env["HOME"] = folder
        yield


def make_course(python: str, env: dict, arguments: list) -> int:
    return job([python, "-m", "fss_lab", "course"] + arguments, ROOT, env)


def job(command: list, folder: Path, env: dict, look=None) -> int:
    """Runs with our input and output. A Ctrl-C is for the command to answer; we wait until it has.

    look: called every half second meanwhile.
    """
    process = subprocess.Popen(command, cwd=str(folder), env=env)
    while True:
        try:
            return process.wait(timeout=0.5 if look else None)
        except subprocess.TimeoutExpired:
            look()
        except KeyboardInterrupt:
            continue


def main(argv: list) -> int:
    parser = argparse.ArgumentParser(
        prog="lab.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "test", "open", "notebooks", "site", "install"])
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help="install: --here; open: a folder; test: arguments for pytest; notebooks: names such as 04_pseudo_prompts",
    )
    asked = parser.parse_args(argv)
    here = asked.command == "install" and asked.arguments == ["--here"]
    folder = asked.command == "open" and len(asked.arguments) == 1
    if asked.arguments and not (here or folder or asked.command in ("test", "notebooks")):
        parser.error("{} does not take {}".format(asked.command, " ".join(asked.arguments)))
    sys.stdout.reconfigure(errors="replace")  # a Windows console cannot show every character of the table
    try:
        prefix = Path(sys.prefix) if here else chosen_prefix()
        set_up(prefix, here)
        python = str(python_in(prefix))
        env = environment_of(prefix, here=prefix != VENV)
        with usable_home(env):
            if asked.command == "run":
                return run_quickstart(python, env)
            if asked.command == "test":
                return run_tests(python, env, asked.arguments)
            if asked.command == "open":
                return open_jupyter(python, env, asked.arguments)
            if asked.command == "notebooks":
                return make_course(python, env, ["execute"] + asked.arguments)
            if asked.command == "site":
                return make_course(python, env, ["site"])
            print(f"fss_lab is set up in {prefix}")
            return 0
    except Failure as failure:
        print(f"lab.py: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lab.py: {Failure(str(error), remedy_for(str(error)))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlab.py: interrupted; the next call takes care of what is unfinished.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
