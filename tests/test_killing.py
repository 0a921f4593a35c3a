"""Commands that are killed, again and again, and then run to their end leave what undisturbed ones do.

Each run is a fork of this process, which has imported all that they need, and is killed by SIGKILL: in turn at a
seeded moment, and at a seeded one of its file operations.
"""

import json
import mmap
import os
import shutil
import signal
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import torch
import torch._dynamo  # optimizers import it, which takes seconds: once here, and not in each fork
from tqdm import tqdm

from a3d_env.bank_file import save_bank
from a3d_env.bank_format import DTYPES
from agents.runs import jobs
from agents.runs.checkpoint import read_checkpoint
from scripts import bank, compare, train  # noqa: F401  imported for the forks
from scripts.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


def fork(work, at=None, after=None):
    """Run in a fork, killed at a file operation or after some seconds; return its exit status and operations."""
    count = mmap.mmap(-1, 8)
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, int.from_bytes(count[:8], "little")

    def note(event, details):
        if event in CHANGES or (event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)):
            number = int.from_bytes(count[:8], "little") + 1
            count[:8] = number.to_bytes(8, "little")
            if number == at:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 99
    signal.alarm(600)  # one that waits for ever fails the test, and does not hang it
    try:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        # tqdm's own lock is one for all forks: who is killed with it would never let go of it
        tqdm.set_lock(threading.RLock())
        sys.addaudithook(note)
        if after is not None:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        status = work()
    finally:
        os._exit(status)


def kill_and_finish(work, out, kills, seed):
    """Kill a command so often, each time going on in its folder, and run it to its end.

    Returns:
        The folder of an undisturbed run.
    """
    generator = np.random.default_rng(seed)
    started = time.monotonic()
    status, operations = fork(work)
    seconds = time.monotonic() - started
    assert status == 0
    assert operations > 3
    undisturbed = out.rename(out.with_name("undisturbed"))
    done = tries = 0
    while done < kills:
        tries += 1
        assert tries < 10 * kills  # on a machine whose speed changes, some end before they are killed
        place = generator.uniform(0, 0.7)
        at, after = (1 + int(place * operations), None) if tries % 2 else (None, place * seconds)
        status, _ = fork(work, at, after)
        assert status in (0, -signal.SIGKILL)
        done += status != 0
        if status == 0:  # it came to its end before it was killed
            shutil.rmtree(out)
    status, _ = fork(work)
    assert status == 0
    return undisturbed


def equal(one, other):
    """Compare values with tensors in them."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The cache's folder, with the data drawn."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, drawn):
    """A run, killed and finished, and the undisturbed one."""
    out = tmp_path_factory.mktemp("train") / "run"
    flags = [
        "--preset",
        "tiny",
        "--steps",
        "4",
        "--load.workers",
        "0",
        "--checkpoint-every",
        "1",
        "--log-every",
        "1",
    ]

    def work():
        resume = ["--resume"] if (out / "checkpoint.pt").exists() else []
        return main(["train", *flags, "--cache", str(drawn), "--out", str(out), *resume])

    return out, kill_and_finish(work, out, kills=3, seed=0)


def test_a_training_that_was_killed_comes_to_the_same_end(trained):
    own, other = (read_checkpoint(folder) for folder in trained)
    for part in ("people", "shared", "agent", "agent_training", "tested", "progress", "training_data"):
        assert equal(own[part], other[part]), part
    own, other = ((folder / "history.jsonl").read_text() for folder in trained)
    assert own == other
    own, other = (json.loads((folder / "metrics.json").read_text()) for folder in trained)
    assert {**own, "seconds": 0} == {**other, "seconds": 0}
    assert not [*trained[0].glob("*.partial*")]


def test_a_bank_that_was_killed_is_whole(trained, drawn, tmp_path):
    out = tmp_path / "bank"

    def work():
        if out.exists():  # it was there before the process was killed
            return 0
        return main(["bank", "--checkpoint", str(trained[1]), "--cache", str(drawn), "--out", str(out)])

    undisturbed = kill_and_finish(work, out, kills=6, seed=1)
    assert {f"{name}.npy" for name in DTYPES if name != "frames"} < {path.name for path in out.iterdir()}
    assert files_in(out) == files_in(undisturbed)
    # a lock that nobody holds stays if the end came between the bank's name and the lock's removal
    assert {path.name for path in tmp_path.iterdir()} - {".bank.lock"} == {"bank", "undisturbed"}


def test_a_cache_that_was_killed_is_whole(tmp_path):
    out, generator = tmp_path / "cache", np.random.default_rng(0)
    for number in range(16):
        folder = tmp_path / "people" / str(number // 4) / f"cam{number % 2}" / str(number // 2 % 2)
        folder.mkdir(parents=True)
        for frame in range(3):
            cv2.imwrite(str(folder / f"{frame}.png"), generator.integers(0, 256, (64, 32, 3), dtype=np.uint8))
    flags = ["--height", "64", "--width", "32", "--cache", str(out), "--workers", "1"]

    def work():
        return main(["data", "cache", "--data", f"folder:{tmp_path}/people", *flags])

    undisturbed = kill_and_finish(work, out, kills=7, seed=2)
    assert files_in(out) == files_in(undisturbed)
    assert len(files_in(out)) == 2 * 16  # frames and flow, and nothing of those that were killed


def test_a_comparison_that_was_killed_comes_to_the_same_results(tmp_path, played):
    save_bank(tmp_path / "bank", *played)
    out = tmp_path / "compared"
    flags = ["--bank", str(tmp_path / "bank"), "--out", str(out), "--agents", "reinforce,random", "--seeds", "1"]

    def work():
        # here, as a process of its own takes seconds to begin
        jobs.run_job = lambda job, *_: jobs.Failure(job, "failed") if compare.task.run(job) else None
        return main(["compare", *flags, "--steps", "128", "--reward", "log_prob", "--jobs", "1"])

    undisturbed = kill_and_finish(work, out, kills=4, seed=3)
    names = {"reinforce/0.json", "random/0.json", "best/0.json"}
    assert {str(path.relative_to(out)) for path in out.glob("*/*")} == names
    for name in names:
        own, other = (json.loads((folder / name).read_text()) for folder in (out, undisturbed))
        free = dict.fromkeys(("seconds", "peak_mb", "checksum", "settings"))
        assert {**own, **free} == {**other, **free}
