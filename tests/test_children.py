"""A command's own processes end with it, and two commands do not write the same."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from a3d_env.bank_file import save_bank
from agents.runs import children
from agents.runs.children import run_module
from backbone import files
from backbone.files import folder_lock
from scripts.cli import main

# alone, as its package takes seconds to import
FOLDER = str(Path(children.__file__).parent)
COMMAND = (
    "import sys; from children import *; sys.path.append(sys.argv[1]); run_module('child', '', stdout=sys.stdout)"
)
CHILD = (
    "import os, time; from children import *; end_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
)

MODULE = """
import os, sys
print(sys.argv[1], os.environ["PLACE"], os.environ["A3D_PARENT"], os.getcwd())
raise SystemExit(3)
"""


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="Linux tells of processes there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_ends_when_its_command_is_killed(number, tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    started = [sys.executable, "-c", COMMAND, str(tmp_path)]
    with subprocess.Popen(started, cwd=FOLDER, stdout=subprocess.PIPE, text=True) as command:
        child = int(command.stdout.readline())
        assert is_running(child)
        command.send_signal(number)
    ends = time.monotonic() + 10
    while is_running(child) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_running(child)


def test_it_ends_with_this_process_and_finds_what_is_imported_here(monkeypatch, tmp_path):
    """From whatever folder: in this one, everything bears the names of what is to be found elsewhere."""
    for folder, text in (("library", MODULE), ("hiding", "raise SystemExit('the wrong one')")):
        for package in ("agents", "scripts"):
            (tmp_path / folder / package).mkdir(parents=True)
            (tmp_path / folder / package / "__init__.py").touch()
            (tmp_path / folder / package / "own.py").write_text(text)
    monkeypatch.chdir(tmp_path / "hiding")
    monkeypatch.syspath_prepend(tmp_path / "library")
    for package in ("agents", "scripts"):
        done = run_module(f"{package}.own", "word", PLACE="here")
        assert done.returncode == 3
        assert done.stdout.split() == ["word", "here", str(os.getpid()), str(tmp_path / "hiding")]
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as of python -c
    with pytest.raises(subprocess.CalledProcessError):
        run_module("agents.own", "word", stderr=subprocess.DEVNULL, PLACE="here").check_returncode()


def test_the_processes_of_a_command_are_started_in_one_place():
    root = Path(children.__file__).parent.parent.parent
    files = [path for room in ("backbone", "a3d_env", "agents", "scripts") for path in (root / room).rglob("*.py")]
    starts = re.compile(r"import subprocess|from subprocess|Popen|os\.(fork|spawn|exec|posix_spawn|system)\b")
    found = [str(path.relative_to(root)) for path in files if starts.search(path.read_text())]
    assert found == ["agents/runs/children.py"]


@pytest.mark.parametrize(
    ("command", "flag"), [("policy", "--bank"), ("probe", "--checkpoint"), ("debug", "--checkpoint")]
)
def test_a_folder_that_a_command_is_at_work_in_is_refused(command, flag, tmp_path, capsys):
    with folder_lock(tmp_path / "out"):
        assert main([command, flag, str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"another command is at work in {tmp_path / 'out'}" in capsys.readouterr().err


def test_a_bank_that_another_command_writes_is_refused(tmp_path, played):
    with (
        files.temporary_folder(tmp_path / "bank"),
        pytest.raises(ValueError, match=r"another command is writing .*bank: wait for it"),
    ):
        save_bank(tmp_path / "bank", *played)
    for process in (os.getpid(), os.getppid()):  # as one that was killed can have had: containers begin at 1
        (tmp_path / f"bank.{files._HOST}-{process}-00.partial").mkdir()
    save_bank(tmp_path / "bank", *played)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"]
