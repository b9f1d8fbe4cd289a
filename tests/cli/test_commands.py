"""The fss-lab command: its parser, its pattern for commands, and that help does not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

import fss_lab
from fss_lab.cli import commands as cli


@pytest.fixture
def seen(monkeypatch):
    """A command `draw` with an option; what it was called with."""
    calls = []
    draw = cli.Command(
        "draw something",
        lambda arguments: calls.append(arguments.count) or 3,
        lambda parser: parser.add_argument("--count", type=int, default=1),
    )
    monkeypatch.setitem(cli.COMMANDS, "draw", draw)
    return calls


def test_a_command_gets_its_arguments_and_gives_the_exit_status(seen):
    assert cli.main(["draw", "--count", "5"]) == 3
    assert seen == [5]


def test_help_names_every_command(seen, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in printed and command.help.split()[0] in printed


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert cli.COMMANDS[name].help.split()[0] in capsys.readouterr().out


def test_help_does_not_import_torch():
    code = "import sys, fss_lab.cli.commands; fss_lab.cli.commands.build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["doctor", "--fast"],
        ["train", "--fold", "-1", "--output", "x"],
        ["evaluate", "--shots", "0"],
        ["evaluate", "--episodes", "many"],
        ["pretrain", "decoder", "--output", "x"],
    ],
)
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        cli.main(arguments)
    assert refused.value.code == 2
    assert "usage: fss-lab" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--model x", "--sam2-checkpoint x", "--features-checkpoint x", "--image-size 99", "--data-root x", "--skip-bad"],
)
@pytest.mark.parametrize("command", ["evaluate", "ablate --dataset look-alikes"])
def test_the_toy_world_refuses_options_of_photographs(command, option, tmp_path, capsys):
    arguments = [*command.split(), *option.split(), "--output", str(tmp_path / "x")]
    assert cli.main(arguments) == 1
    assert f"error: {option.split()[0]} is for photographs" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_ctrl_c_ends_without_a_traceback_and_says_what_goes_on(monkeypatch, tmp_path, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    def output(parser):
        parser.add_argument("--output", type=Path)

    monkeypatch.setitem(cli.COMMANDS, "long", cli.Command("take long", interrupted, output))
    assert cli.main(["long", "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "fss-lab long: interrupted\n"
    monkeypatch.setitem(cli.COMMANDS, "long", cli.Command("take long", interrupted, output, goes_on=True))
    for nothing in ([], ["--output", str(tmp_path / "result.md")]):
        assert cli.main(["long", *nothing]) == 130
        assert capsys.readouterr().err == "fss-lab long: interrupted\n"
    assert cli.main(["long", "--output", str(tmp_path)]) == 130
    told = f"fss-lab long: interrupted; the same command goes on with what is in {tmp_path}\n"
    assert capsys.readouterr().err == told


def test_python_m_fss_lab_is_the_same():
    command = [sys.executable, "-m", "fss_lab", "--version"]
    assert subprocess.check_output(command, text=True).split() == ["fss-lab", fss_lab.__version__]
