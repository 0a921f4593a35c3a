"""Runs side by side, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from agents.runs.children import child_environment
from agents.runs.logs import HISTORY, read_history
from agents.runs.task import ERROR, RESULT, Task, write_task
from backbone.progress import visible

LOG, LOCK = "log.txt", ".lock"

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Failure:
    """A run that did not finish: its task, why in a line, and the file that says more."""

    task: Task
    reason: str
    file: Path


def run_all(tasks: Sequence[Task], jobs: int) -> list[Failure]:
    """Run tasks, `jobs` at a time, each in a process of its own with its share of the cores.

    Returns:
        The runs that failed; the others went on.
    """
    threads = max(num_cores() // jobs, 1)
    waiting, running, failures = deque(tasks), dict[Task, subprocess.Popen](), list[Failure]()
    with Progress(tasks) as progress:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    task = waiting.popleft()
                    running[task] = start(task, threads)
                time.sleep(POLL_SECONDS)
                for task, process in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[task]
                    if process.returncode == 0 and (task.folder / RESULT).is_file():
                        progress.say(f"{task.title} is finished")
                    else:
                        failures.append(failure(task, process.returncode))
                        progress.say(f"{task.title} FAILED: {failures[-1].reason}; see {failures[-1].file}")
                progress.update(running, waiting)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    return failures


def start(task: Task, threads: int) -> subprocess.Popen:
    """Start a task's process; what it prints goes to its log."""
    write_task(task)
    (task.folder / ERROR).unlink(missing_ok=True)
    with (task.folder / LOG).open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            command(task),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"OMP_NUM_THREADS": str(threads), **child_environment()},  # the user's own goes first
        )


def command(task: Task) -> list[str]:
    """Return the command that runs a task."""
    return [sys.executable, "-m", "agents.runs.task", str(task.folder)]


def failure(task: Task, status: int) -> Failure:
    """Say why a run failed: the last line of its traceback, or the signal that ended it."""
    error = task.folder / ERROR
    if error.is_file():
        return Failure(task, error.read_text(encoding="utf-8").strip().splitlines()[-1], error)
    reason = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return Failure(task, reason, task.folder / LOG)


def num_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Progress:
    """Shows the batches trained of all runs together, with the time left."""

    def __init__(self, tasks: Sequence[Task]):
        self._tasks = tasks
        self._before = {task: steps_taken(task) for task in tasks}
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=sum(task.config.steps - self._before[task] for task in tasks),
            desc=f"{len(tasks)} runs",
            unit="batch",
            file=sys.stderr,
            smoothing=0,
            mininterval=0.5 if is_terminal else 60,
            dynamic_ncols=is_terminal,
            disable=not tasks,
        )

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def update(self, running: Iterable[Task], waiting: Iterable[Task]) -> None:
        """Count the batches of the runs under way, and all of those that are over."""
        under_way, to_come = list(running), list(waiting)
        taken = {task: max(steps_taken(task), self._before[task]) for task in under_way}
        taken |= {task: self._before[task] for task in to_come}
        done = sum(taken.get(task, task.config.steps) - self._before[task] for task in self._tasks)
        over = len(self._tasks) - len(under_way) - len(to_come)
        names = ", ".join(task.title for task in under_way)
        self._bar.set_postfix_str(f"{over} over, now {names}", refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(visible(text), file=sys.stderr)


def steps_taken(task: Task) -> int:
    """Return how many batches a run says that it has been trained on; 0 if its history is damaged."""
    try:
        history = read_history(task.folder / HISTORY)
    except ValueError:  # the run itself names it
        return 0
    return history[-1]["step"] if history else 0
