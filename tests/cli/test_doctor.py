"""fss-lab doctor: it finds what is broken and says what to do."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from fss_lab.cli import doctor


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module with a given body that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, body):
        (tmp_path / f"{name}.py").write_text(body)

    return make


def test_this_installation_is_well(capsys):
    status = doctor.examine()
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "[fail]" not in printed and "All is well." in printed
    for name in (*doctor.REQUIRED.values(), "sam2", "device", "memory", "disk", "weights"):
        assert f"[ok] {name}" in printed


def test_a_failed_check_is_printed_with_its_remedy_and_fails_the_command(monkeypatch, capsys):
    checks = [doctor.Check("one", True, "1.0"), doctor.Check("two", False, "is broken", "mend it")]
    monkeypatch.setattr(doctor, "all_checks", lambda thorough: iter(checks))
    assert doctor.examine() == 1
    printed = capsys.readouterr().out
    assert "[ok] one: 1.0\n[fail] two: is broken\n       what to do: mend it\n" in printed


def test_a_missing_package_fails():
    check = doctor.check_package("no_such_package_here", "no-such-package", "install it")
    assert not check.ok and "ModuleNotFoundError" in check.finding and check.remedy == "install it"


def test_a_missing_package_fails_without_being_imported():
    check = doctor.check_package("no_such_package_here", "no-such-package", "install it", load=False)
    assert not check.ok and "No module named 'no_such_package_here'" in check.finding


def test_only_a_thorough_look_imports_pure_python(monkeypatch):
    looks = {}
    monkeypatch.setattr(
        doctor, "check_package", lambda module, package, remedy, load=True: looks.update({module: load})
    )
    monkeypatch.setattr(doctor, "check_sam2", lambda: doctor.Check("sam2", True, ""))
    list(doctor.all_checks())
    assert {module for module, load in looks.items() if load} <= set(doctor.COMPILED)
    assert not looks["lightning_fabric"] and looks["torch"]
    list(doctor.all_checks(thorough=True))
    assert all(looks.values())


def test_it_leaves_out_what_takes_long_to_import():
    code = (
        "import sys; from fss_lab.cli.doctor import all_checks; list(all_checks());"
        "print({'lightning_fabric', 'transformers', 'nbgrader', 'torch._dynamo'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_package_that_breaks_on_import_fails_with_its_words(module):
    module("breaks_on_import", "raise RuntimeError('operator torchvision::nms does not exist')")
    check = doctor.check_optional("breaks_on_import", "nothing needs it", "uninstall it")
    assert not check.ok and "operator torchvision::nms does not exist" in check.finding


def test_an_absent_optional_package_is_fine():
    check = doctor.check_optional("no_such_package_here", "nothing needs it", "install it")
    assert check.ok and check.finding == "not installed (nothing needs it)"


def test_a_broken_torchvision_is_reported(monkeypatch):
    def broken(module, package, remedy, load=True):
        finding = "RuntimeError: no operator" if package == "torchvision" else "1.0"
        return doctor.Check(package, package != "torchvision", finding, remedy)

    monkeypatch.setattr(doctor, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor, "check_package", broken)
    (check,) = (check for check in doctor.all_checks() if check.name == "torchvision")
    assert not check.ok and "pip uninstall torchvision" in check.remedy


def test_another_sam2_is_refused_with_the_command_that_installs_ours(monkeypatch):
    other = doctor.Check("sam2", True, "1.2.0")
    monkeypatch.setattr(doctor, "check_package", lambda *anything: other)
    check = doctor.check_sam2()
    assert not check.ok and "1.2.0 instead of 1.1.0" in check.finding
    assert "--no-deps --no-build-isolation sam2==1.1.0" in check.remedy


def test_a_device_that_does_not_compute_fails(monkeypatch):
    def broken():
        raise RuntimeError("CUDA driver version is insufficient")

    monkeypatch.setattr(torch.cuda, "is_available", broken)
    check = doctor.check_device()
    assert not check.ok and "driver version is insufficient" in check.finding


def test_an_unused_nvidia_gpu_is_mentioned(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    check = doctor.check_device()
    assert check.ok and "CUDA build of torch" in check.finding


def test_memory():
    assert 0.5 < doctor.memory_gb() < 1e5
    assert doctor.check_memory(8.0).ok
    assert not doctor.check_memory(1.0).ok


def test_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("usage", (), {"free": 0.2e9}))
    check = doctor.check_disk(tmp_path)
    assert not check.ok and "0.2 GB free" in check.finding and "free some space" in check.remedy


def test_weights_that_open_are_fine(tmp_path):
    save_file({"a": torch.zeros(2), "b": torch.ones(3)}, tmp_path / "toy.safetensors")
    (check,) = doctor.check_weights([tmp_path / "toy.safetensors"])
    assert check.ok and check.finding.startswith("2 tensors")


def test_missing_weights_fail():
    (check,) = doctor.check_weights([])
    assert not check.ok and "git checkout" in check.remedy


@pytest.mark.parametrize("cut", [0, 4, 60, -1])
def test_truncated_weights_fail(tmp_path, cut):
    path = tmp_path / "toy.safetensors"
    save_file({"a": torch.zeros(20)}, path)
    path.write_bytes(path.read_bytes()[:cut])
    (check,) = doctor.check_weights([path])
    assert not check.ok and check.remedy
