import importlib
import importlib.metadata
import re
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from agents.runs.config import TrainConfig
from backbone.flags import read_flags
from scripts.cli import COMMANDS, main


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


@pytest.mark.parametrize("command", [[name] if name != "data" else ["data", "cut"] for name in COMMANDS])
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    example = rf"a3d {' '.join(command)} (?:[\w/]+ )?--"
    assert re.search(example, " ".join(capsys.readouterr().out.split()))


def test_nothing_and_nonsense_are_explained(capsys):
    assert main([]) == 2
    assert main(["tarin"]) == 2
    assert "unknown command 'tarin'" in capsys.readouterr().err


HELP = """
import sys
from contextlib import suppress
from scripts.cli import COMMANDS, main

main(["--help"])
main(["search", "--query", "nowhere.npz", "--gallery", "nowhere.npz"])
for name in COMMANDS:
    with suppress(SystemExit):
        main([name, "--help"])
    heavy = {"torch", "torchvision", "stable_baselines3", "matplotlib", "scipy"} & {*sys.modules}
    assert not heavy, f"{name} imports {heavy}"
"""


@pytest.mark.slow
def test_help_and_a_search_in_files_do_not_wait_for_torch():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "train --preset tiny --data folder:nowhere --out",
        "pretrain --out",
        "evaluate --splits all --train folder:nowhere --preset tiny --out",
        "embed --checkpoint nowhere --out",
        "search --query nowhere.npz --gallery nowhere.npz --json",
        "search --query nowhere.npz --gallery nowhere.npz --page",
        "export --checkpoint nowhere --out",
        "probe --checkpoint nowhere --out",
        "ablate --preset tiny --out",
        "bank --checkpoint nowhere --out",
        "policy --bank nowhere --out",
        "compare --bank nowhere --out",
        "debug --checkpoint nowhere --query 1 --out",
        "data cut --video nowhere --tracks nowhere --out",
        "data check --data folder:nowhere --json",
        "data cache --data folder:nowhere --cache",
        "benchmark --json",
    ],
)
def test_that_nothing_can_be_written_is_found_before_anything_is_read(command, tmp_path, capsys):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / ("out.npz" if "embed" in command else "out.onnx")
    assert main([*command.split(), str(target)]) == 2
    error = next(line for line in capsys.readouterr().err.splitlines() if "error" in line)
    name = " ".join(word for word in command.split()[:2] if not word.startswith("--"))
    assert error == (
        f"a3d {name}: error: {tmp_path}/file is a file, where a folder has to be: name another place to write to"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_device_that_is_not_there_is_an_error_in_a_line(capsys):
    assert main(["benchmark", "--device", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("a3d benchmark: error: the device 'nonsense' can't be used here: ")


def test_the_version_is_that_of_the_package_if_it_is_installed(capsys, monkeypatch):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"a3d \d+\.\d+\.\d+\n", capsys.readouterr().out, re.MULTILINE)

    def is_not_there(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", is_not_there)
    assert main(["--version"]) == 0
    assert "a3d is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_alike_after_ctrl_c(name, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    command = importlib.import_module(f"scripts.{name}")
    monkeypatch.setattr(command, "read", lambda argv: (), raising=False)
    monkeypatch.setattr(command, "run", interrupt)
    assert main([name]) == 130
    left = COMMANDS[name][1]
    assert capsys.readouterr().err == f"\na3d {name}: stopped{f'; {left}' if left else ''}\n"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("pretrain", "data")])
def test_flags_have_no_second_form(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "--no-" not in capsys.readouterr().out.replace("--no-python", "")  # torchrun's


@pytest.mark.parametrize(
    "command",
    [
        "evaluate --checkpoint run",
        "embed --checkpoint run --out out.npz",
        "search --checkpoint run --query folder:a --gallery folder:b",
        "probe --checkpoint run --out out",
        "bank --checkpoint run --out out",
        "debug --checkpoint run --query 1 --out out",
    ],
)
def test_every_command_that_reads_frames_can_skip_bad_ones(command, tmp_path, monkeypatch):
    loaded = []

    def load(checkpoint, **settings):
        loaded.append(settings)
        raise ValueError

    for name in ("load_model", "load_run"):
        monkeypatch.setattr(f"agents.runs.model.{name}", load)
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--on-bad-frame", "skip", "--cache", "kept", "--device", "cpu"]) == 2
    assert {"on_bad_frame": "skip", "cache": Path("kept"), "device": "cpu"}.items() <= loaded[0].items()


@dataclass
class Inner:
    kept: bool = False
    """Keep it
    (and say so)."""


@dataclass
class Outer(Inner):
    """What there is."""

    number: int = 1
    """A number,
    1 or 2."""
    scale: bool = True
    """Scale it."""
    inner: Inner = field(default_factory=Inner)


def test_help_texts_have_no_line_breaks_of_the_source(capsys):
    with pytest.raises(SystemExit):
        read_flags(Outer, ["--help"], "try", "Try it\n(once), or\n`--number 2`.\n\nAn example:\n`a3d try`")
    printed = capsys.readouterr().out
    assert "Try it (once), or `--number 2`.\n\nAn example:\n`a3d try`" in printed
    assert "A number, 1 or 2. (default: 1)" in printed
    assert printed.count("Keep it (and say so).") == 2


@dataclass
class Group:
    inner: Inner = field(default_factory=lambda: Inner(kept=True))


def test_the_help_of_an_inverted_flag_says_what_the_flag_does(capsys):
    def shown(kind, **settings):
        with pytest.raises(SystemExit):
            read_flags(kind, ["--help"], "try", None, **settings)
        return " ".join(capsys.readouterr().out.replace("│", " ").split())

    assert "--no-scale Turn off what is on by default: scale it." in shown(Outer)
    assert "(default: True)" not in shown(Outer) + shown(Group)
    assert "--scale Scale it. (default: False)" in shown(Outer, default=Outer(scale=False))
    assert "--inner.no-kept Turn off what is on by default: keep it (and say so)." in shown(Group)
    assert "--inner.kept Keep it (and say so). (default: False)" in shown(Group, default=Group(Inner()))


def test_the_settings_that_people_use_come_first():
    names = [setting.name for setting in fields(TrainConfig) if setting.name != "agent_settings"]
    first = {"preset", "recipe", "data", "agent", "out", "resume", "steps", "seed", "evaluate_every", "device"}
    assert {*names[:10]} == first


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--numbr 2", "Unrecognized options: --numbr, 2\nPerhaps you meant:\n    --number INT"),
        ("--number two", "Error parsing --number: invalid literal for int() with base 10: 'two'"),
        ("--number 3", f"the number can't be 3 {'0' * 300}\nFor full helptext, see a3d try --help"),
    ],
)
def test_errors_of_flags_are_lines_without_a_box_and_without_names_of_classes(flags, text):
    @dataclass
    class Checked(Outer):
        def __post_init__(self) -> None:
            if self.number == 3:
                raise ValueError(f"the number can't be 3 {'0' * 300}")

    with pytest.raises(ValueError, match="number") as error:
        read_flags(Checked, flags.split(), "try", None)
    assert str(error.value).startswith(text)
    assert not {"│", "─", "╭"} & {*str(error.value)}
