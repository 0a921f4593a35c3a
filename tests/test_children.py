"""A command's own processes end with it, and two commands do not write the same."""

import os
import signal
import subprocess
import sys
import time

import pytest

from a3d_env.bank_file import save_bank
from agents.runs import jobs
from agents.runs.bank_policy import PolicyRunConfig
from agents.runs.children import PARENT
from agents.runs.task import Task
from backbone import files
from backbone.files import only_here
from scripts.cli import main
from scripts.compare import task as compare_task

COMMAND = """
import subprocess, sys
from agents.runs.children import child_environment
child = "from agents.runs.children import *; end_with_parent(); print(1, flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], env=child_environment(), stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="Linux tells of processes there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_ends_when_its_command_is_killed(number):
    with subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True) as command:
        child = int(command.stdout.readline())
        assert is_running(child)
        command.send_signal(number)
    ends = time.monotonic() + 10
    while is_running(child) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_running(child)


class Started(Exception):
    """A process would have been started."""


@pytest.mark.parametrize("kind", ["compare", "ablate"])
def test_every_run_is_told_whom_to_end_with(kind, monkeypatch, tmp_path):
    def start(*_, env, **__):
        assert env[PARENT] == str(os.getpid())
        raise Started

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(jobs, "write_task", lambda task: None)
    policy = PolicyRunConfig(bank=tmp_path, out=tmp_path)
    starts = {
        "compare": lambda: compare_task.start(compare_task.CompareTask(policy)),
        "ablate": lambda: jobs.start(Task("a", 0, None, tmp_path), threads=1),
    }
    with pytest.raises(Started):
        starts[kind]()


@pytest.mark.parametrize(
    ("command", "flag"), [("policy", "--bank"), ("probe", "--checkpoint"), ("debug", "--checkpoint")]
)
def test_a_folder_that_a_command_is_at_work_in_is_refused(command, flag, tmp_path, capsys):
    with only_here(tmp_path / "out"):
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
