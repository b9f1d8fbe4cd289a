"""`fss-lab doctor`: is everything here that fss_lab needs, and if not, what to do."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

SAM2_VERSION = "1.1.0"
MIN_MEMORY_GB = 3.0  # the quickstart and the tests take less than 2
MIN_DISK_GB = 1.0
WEIGHTS = Path(str(files("fss_lab"))) / "weights"

# module -> the package that brings it; the same as the dependencies in pyproject.toml
REQUIRED = {
    "torch": "torch",
    "numpy": "numpy",
    "PIL.Image": "pillow",
    "matplotlib.pyplot": "matplotlib",
    "filelock": "filelock",
    "safetensors": "safetensors",
    "anywidget": "anywidget",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "lightning_fabric": "lightning-fabric",
    "iopath": "iopath",
    "tqdm": "tqdm",
    "IPython": "ipython",
    "ipywidgets": "ipywidgets",
    "traitlets": "traitlets",
    "typing_extensions": "typing-extensions",
}
OPTIONAL = {
    "tensorboard": "only `fss-lab train --tensorboard` needs it",
    "transformers": "only DINOv2 needs it",
    "huggingface_hub": "only the published weights need it",
    "scipy": "only SBD's label maps need it",
    "pycocotools": "only COCO's label maps need it",
    "papermill": "only `python lab.py run` and `fss-lab course execute` need it",
    "nbconvert": "only `python lab.py run` and `fss-lab course release` need it",
    "nbformat": "only `fss-lab course` needs it",
    "nbgrader": "only `fss-lab course release` needs it",
    "myst_nb": "only `python lab.py site` needs it",
    "ipykernel": "only running notebooks needs it",
    "jupyterlab": "only `python lab.py open` needs it",
}

# These have compiled code, which can be installed and still not load, so they are always imported. The others are pure
# Python: it is enough to look for them, unless `--thorough` asks for more.
COMPILED = ("torch", "numpy", "PIL.Image", "matplotlib.pyplot", "safetensors", "torchvision")

REINSTALL = "call `python lab.py install --here` in the folder of fss_lab"
REINSTALL_SAM2 = f"{REINSTALL}, or: SAM2_BUILD_CUDA=0 pip install --no-deps --no-build-isolation sam2=={SAM2_VERSION}"


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is as it should be, what was found, and what to do if it is not."""

    name: str
    ok: bool
    finding: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"[{'ok' if self.ok else 'fail'}] {self.name}: {self.finding}"
        return text if self.ok else f"{text}\n       what to do: {self.remedy}"


def examine(thorough: bool = False) -> int:
    """Print every check as it is made, and a summary. Returns 0 if all are fine, else 1.

    thorough: import every package, also those of pure Python, which takes some ten seconds.
    """
    failed = 0
    for check in all_checks(thorough):
        print(check, flush=True)
        failed += not check.ok
    print(f"{failed} of the checks failed; what to do stands below each." if failed else "All is well.")
    return 1 if failed else 0


def all_checks(thorough: bool = False) -> Iterator[Check]:
    """Every check, made while one iterates. thorough: as in `examine`."""
    yield check_python()
    for module, package in REQUIRED.items():
        yield check_package(module, package, REINSTALL, thorough or module in COMPILED)
    yield check_sam2()
    for module, purpose in OPTIONAL.items():
        yield check_optional(module, purpose, REINSTALL, thorough or module in COMPILED)
    # nothing here imports torchvision, but transformers does when it finds one
    yield check_optional(
        "torchvision",
        "nothing needs it",
        "it does not fit this torch and breaks packages that look for it: pip uninstall torchvision",
    )
    yield check_device()
    yield check_memory(memory_gb())
    yield check_disk(Path.cwd())
    yield from check_weights(sorted(WEIGHTS.glob("*.safetensors")))


def check_python() -> Check:
    """The Python that runs this."""
    finding = f"{sys.version.split()[0]} in {sys.prefix}"
    return Check("Python", sys.version_info >= (3, 10), finding, "use Python 3.10 or newer")


def check_package(module: str, package: str, remedy: str, load: bool = True) -> Check:
    """Import a module, or without `load` only look for it; the finding is its package's version, or the error."""

    def version() -> str:
        if load:
            importlib.import_module(module)
        elif find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}")
        return metadata.version(package)

    return _attempt(package, version, remedy)


def _attempt(name: str, task: Callable[[], str], remedy: str) -> Check:
    """The finding is what a task returns or the error that it raises: imports and drivers can fail in any way."""
    try:
        return Check(name, True, task())
    except Exception as error:
        return Check(name, False, f"{type(error).__name__}: {error}", remedy)


def check_optional(module: str, purpose: str, remedy: str, load: bool = True) -> Check:
    """Like `check_package`, but absence is fine."""
    if find_spec(module) is None:
        return Check(module, True, f"not installed ({purpose})")
    return check_package(module, module, remedy, load)


def check_sam2() -> Check:
    """sam2 through our adapter; an exact version, because the adapter relies on its inner workings."""
    check = check_package("fss_lab.backbones.sam2", "sam2", REINSTALL_SAM2)
    if check.ok and check.finding != SAM2_VERSION:
        return Check("sam2", False, f"version {check.finding} instead of {SAM2_VERSION}", REINSTALL_SAM2)
    return check


def check_device() -> Check:
    """Multiply two matrices on the device that training takes by default (Apple's GPUs lack operations of SAM 2)."""
    return _attempt("device", _computing_device, "look at the GPU driver and at torch")


def _computing_device() -> str:
    import torch

    name = "cuda" if torch.cuda.is_available() else "cpu"
    torch.ones(8, 8, device=name).matmul(torch.ones(8, 8, device=name)).sum().item()
    if name == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return f"cuda, {properties.name}, {properties.total_memory / 1e9:.0f} GB"
    unused = " (there is an NVIDIA GPU: with a CUDA build of torch and a recent driver it would be used)"
    return f"{name}, {torch.get_num_threads()} threads{unused if shutil.which('nvidia-smi') else ''}"


def memory_gb() -> float:
    """The machine's memory in GB."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):  # MEMORYSTATUSEX of the Windows API
            _fields_ = [
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                ("total", ctypes.c_ulonglong),
                ("others", ctypes.c_ulonglong * 6),
            ]

        status = Status(length=ctypes.sizeof(Status))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError()
        return status.total / 1e9
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def check_memory(gigabytes: float) -> Check:
    """gigabytes: what the machine has."""
    remedy = f"{MIN_MEMORY_GB:.0f} GB are needed: use a larger machine, or Colab or Binder"
    return Check("memory", gigabytes >= MIN_MEMORY_GB, f"{gigabytes:.1f} GB", remedy)


def check_disk(folder: Path) -> Check:
    """Room for results and downloads."""
    free = shutil.disk_usage(folder).free / 1e9
    finding = f"{free:.1f} GB free on the disk of {folder}"
    return Check("disk", free >= MIN_DISK_GB, finding, f"free some space: {MIN_DISK_GB:.0f} GB are needed")


def check_weights(paths: Sequence[Path]) -> Iterator[Check]:
    """Open each file of the shipped weights; truncated or foreign files do not open."""
    remedy = "get the package's files again: git checkout -- fss_lab/weights"
    if not paths:
        yield Check("weights", False, f"no *.safetensors in {WEIGHTS}", remedy)
    for path in paths:
        try:
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as content:
                tensors = len(content.keys())
        except Exception as error:  # safetensors has its own error class, a missing package another
            yield Check(f"weights {path.name}", False, f"{type(error).__name__}: {error}", remedy)
        else:
            finding = f"{tensors} tensors, {path.stat().st_size / 1e6:.1f} MB"
            yield Check(f"weights {path.name}", tensors > 0, finding, remedy)
