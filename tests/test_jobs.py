"""Runs side by side, by a job of a few lines: which are run, how they fail and are stopped, and where they are."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend
from test_children import is_running

from a3d_env.bank_file import save_bank
from agents.runs import jobs
from agents.runs.jobs import Failure, Job, JobsConfig, do, run_job, run_jobs, why_it_failed
from agents.runs.presets import get_preset
from agents.runs.task import Task
from scripts.cli import main

MODULE = """
import os, pathlib, signal, sys, time
folder, what = sys.argv[1].split()
folder = pathlib.Path(folder)
print("begun")
if what == "sleeps":
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)
if what == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "fails":
    sys.exit("no idea")
(folder / "result").write_text(os.getcwd() + os.environ["OMP_NUM_THREADS"])
"""


@dataclass(frozen=True)
class Small(Job):
    """A run that does what its name says."""

    out: Path
    name: str = "works"
    unit: ClassVar[str] = "step"
    num_steps: ClassVar[int] = 4

    title = property(lambda self: self.name)
    folder = property(lambda self: self.out / self.name)
    result_file = property(lambda self: self.folder / "result")
    error_file = property(lambda self: self.folder / "error")
    process = property(lambda self: ("small_run", f"{self.folder} {self.name.partition('-')[0]}"))

    def steps_taken(self):
        return 3

    def result(self):
        return {"is": "finished"} if self.result_file.is_file() else None

    def prepare(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        super().prepare()


@pytest.fixture
def small_run(monkeypatch, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "small_run.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "modules")


class Cluster(ThreadingBackend):
    """In the place of ray's backend: what is run is sent as bytes, and all that there is are three."""

    def effective_n_jobs(self, n_jobs):
        self.asked.append(n_jobs)
        return 3 if n_jobs == -1 else super().effective_n_jobs(n_jobs)

    def submit(self, func, callback=None):
        self.sent.append(func)
        return super().submit(pickle.loads(pickle.dumps(func)), callback)


@pytest.fixture
def cluster(monkeypatch):
    """ray's module, as joblib meets it."""
    for name in ("ray", "ray.util", "ray.util.joblib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    Cluster.asked, Cluster.sent = [], []
    sys.modules["ray.util.joblib"].register_ray = lambda: joblib.register_parallel_backend("ray", Cluster)
    return Cluster


def test_a_run_that_fails_stops_no_other_and_finished_ones_are_kept(small_run, tmp_path, capsys):
    runs = [Small(tmp_path, name) for name in ("works", "fails", "dies", "works-2")]
    runs[0].prepare()
    runs[0].result_file.write_text("of before")
    failures = run_jobs(runs, JobsConfig(jobs=2))
    assert [(failure.job, failure.reason) for failure in failures] == [
        (runs[1], "exit status 1"),
        (runs[2], "ended by SIGKILL"),
    ]
    assert sorted(runs[1].error_file.read_text().split("\n"))[-3:] == ["begun", "exit status 1", "no idea"]
    assert runs[0].result_file.read_text() == "of before"
    assert runs[3].result_file.is_file()
    printed = capsys.readouterr().err
    assert f"fails failed: exit status 1; see {tmp_path / 'fails' / 'error'}" in printed
    assert "works-2 is finished" in printed
    assert "works is finished" not in printed
    assert run_jobs([runs[0], runs[3]], JobsConfig()) == []


def test_a_failure_of_before_is_forgotten(small_run, tmp_path):
    run = Small(tmp_path)
    run.prepare()
    run.error_file.write_text("of before")
    assert run_jobs([run], JobsConfig()) == []
    assert not run.error_file.exists()


def test_the_end_of_the_work_is_written_or_why_there_is_none(tmp_path, capsys):
    run = Small(tmp_path)
    run.prepare()

    def fail(job):
        raise MemoryError("not enough memory")

    def interrupt(job):
        raise KeyboardInterrupt

    assert do(run, interrupt, "compare") == 130
    assert do(run, fail, "compare") == 1
    assert "Traceback" in run.error_file.read_text()
    assert "Make smaller: --jobs" in why_it_failed(run)
    assert do(run, lambda job: {"name": job.name}, "compare", indent=2) == 0
    assert json.loads(run.result_file.read_text())["name"] == "works"
    assert not run.error_file.exists()


@pytest.mark.parametrize("at_once", [1, 2])
def test_ctrl_c_ends_the_runs_that_were_started(small_run, tmp_path, at_once):
    runs = [Small(tmp_path, f"sleeps-{number}") for number in range(3)]
    pids = [run.folder / "pid" for run in runs]

    def interrupt():
        while sum(path.exists() and bool(path.read_text()) for path in pids) < at_once:
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(runs, JobsConfig(jobs=at_once))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [path.exists() for path in pids] == [number < at_once for number in range(3)]
    assert not any(is_running(int(path.read_text())) for path in pids[:at_once])
    time.sleep(0.1)
    assert not any(run.error_file.exists() for run in runs)


@pytest.mark.parametrize(
    ("own", "jobs_asked", "variable", "threads"),
    [(None, 3, None, "2"), (None, None, None, "8"), (None, 3, "5", "5"), (1, 3, "5", "1"), (None, 9, None, "1")],
)
def test_the_cores_are_shared(monkeypatch, tmp_path, own, jobs_asked, variable, threads):
    started = []

    def run_module(module, argument, *, OMP_NUM_THREADS, **_):
        started.append(OMP_NUM_THREADS)
        return subprocess.CompletedProcess([], 1)

    monkeypatch.setattr(jobs, "run_module", run_module)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(Small, "threads", own)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert len(run_jobs([Small(tmp_path)], JobsConfig(jobs=jobs_asked))) == 1  # it leaves no result
    assert started == [threads]


def test_a_cluster_runs_them_all_at_once(small_run, cluster, tmp_path):
    runs = [Small(tmp_path, name) for name in ("works", "fails", "works-2")]
    (failure,) = run_jobs(runs, JobsConfig(backend="ray"))
    assert failure == Failure(runs[1], "exit status 1")
    assert set(cluster.asked) == {-1}
    assert len(cluster.sent) == 3
    assert [run.result() is None for run in runs] == [False, True, False]


def test_another_machine_works_in_the_folder_of_the_command(monkeypatch, tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "small_run.py").write_text(MODULE)
    (tmp_path / "out" / "works").mkdir(parents=True)
    monkeypatch.chdir("/")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert run_job(Small(Path("out")), str(tmp_path), str(tmp_path / "modules"), 7) is None
    assert (tmp_path / "out" / "works" / "result").read_text() == f"{tmp_path}7"


def test_runs_can_be_sent_to_a_cluster(tmp_path):
    task = Task("full", 0, get_preset("tiny"), tmp_path)
    assert vars(pickle.loads(pickle.dumps(task))) == vars(task)


@pytest.mark.parametrize("command", ["ablate", "evaluate", "compare"])
def test_without_ray_it_is_said_how_to_install_it(monkeypatch, tmp_path, command, capsys, played):
    monkeypatch.setitem(sys.modules, "ray", None)
    training = ["--preset", "tiny", "--out", str(tmp_path / "out")]
    if command == "compare":
        save_bank(tmp_path / "bank", *played)
        flags = ["--bank", str(tmp_path / "bank"), "--out", str(tmp_path / "out")]
    else:
        flags = {"ablate": ["--rows", "random"], "evaluate": ["--splits", "0"]}[command] + training
    assert main([command, *flags, "--backend", "ray"]) == 2
    assert "ray needs ray, which is not installed: pip install 'a3d[cluster]'" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out")
