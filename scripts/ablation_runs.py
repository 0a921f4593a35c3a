"""The runs of ablations: which there are, which are missing, and running those side by side."""

import dataclasses
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

from backbone.data import TEN_SPLITS, load_data
from scripts.ablation_run import ERROR, RESULT, Task, read_result, settings_digest, write_task
from scripts.ablation_tables import FULL, Row, Table
from scripts.build import build_cache
from scripts.children import child_environment
from scripts.config import TrainConfig
from scripts.logs import HISTORY, read_history
from scripts.progress import visible

LOG, LOCK = "log.txt", ".lock"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What a table is made of.

    Attributes:
        table: the table.
        rows: those of its rows that are asked for and that the data allows.
        tasks: the runs of each row, by name, one a seed; rows of different tables can have the same runs.
        config: the settings that the rows change.
    """

    table: Table
    rows: list[Row]
    tasks: dict[str, list[Task]]
    config: TrainConfig


@dataclass(frozen=True)
class Failure:
    """A run that did not finish: its task, why in a line, and the file that says more."""

    task: Task
    reason: str
    file: Path


def make_plan(
    table: Table,
    config: TrainConfig,
    folder: Path,
    *,
    seeds: int,
    base: str = FULL.name,
    names: Sequence[str] = (),
    test_data: str | None = None,
    keep: bool = False,
    report_only: bool = False,
) -> Plan:
    """Plan the runs of a table.

    Args:
        table: the table.
        config: the settings that the rows change.
        folder: the runs' folders are in it: <row>/<seed>.
        seeds: runs of each row.
        base: the folder of the row that changes nothing.
        names: of the rows to run; none: all that the data allows.
        test_data: other data to test on, if the table crosses data.
        keep: whether all checkpoints stay; those of the base do.
        report_only: whether nothing is going to be run, so that the data need not be there.

    Raises:
        ValueError: unknown rows, or the data can't be read.
    """
    rows = table.rows(config)
    if unknown := [name for name in names if name not in {row.name for row in rows}]:
        known = ", ".join(row.name for row in rows)
        raise ValueError(f"{table.title} has no row {', '.join(map(repr, unknown))}; known: {known}")
    rows = [row for row in rows if not names or row.name in names]
    unproven = [row for row in rows if row.needs_truth and not any((folder / row.name).glob(f"*/{RESULT}"))]
    if unproven and (report_only or not knows_truth(config)):
        if any(row.name in names for row in unproven) and not report_only:
            raise ValueError(
                f"{config.data} does not know where the identifying thing is: leave out the row truth"
            )
        rows = [row for row in rows if row not in unproven]
    tasks = {}
    for row in rows:
        changed = row.change(config)
        name = base if settings_digest(changed) == settings_digest(config) else row.name
        tasks[row.name] = [
            Task(
                row=name,
                seed=seed,
                config=with_seed(changed, seed),
                folder=folder / name / str(seed),
                points=table.points,
                test_data=test_data if table.crosses else None,
                keep=keep or name == base,
            )
            for seed in range(seeds)
        ]
    return Plan(table, rows, tasks, config)


def with_seed(config: TrainConfig, number: int) -> TrainConfig:
    """Return the settings of run number `number`: other weights, batches and exploration, and other people.

    Built-in data is drawn anew, a folder's people are split anew, and of prid and ilids it is the next of the ten
    published splits; the same for all rows, so that their differences are paired.
    """
    data = config.data_options
    drawn = dataclasses.replace(data.synthetic, seed=data.synthetic.seed + number)
    data = dataclasses.replace(data, synthetic=drawn, split_seed=data.split_seed + number)
    if config.data.partition(":")[0] in TEN_SPLITS:
        data = dataclasses.replace(data, split=(data.split + number) % 10)
    return dataclasses.replace(config, seed=config.seed + number, data_options=data)


def knows_truth(config: TrainConfig) -> bool:
    """Tell whether the data knows where the identifying thing is in all of its tracklets."""
    return load_data(config.data, config.data_options, build_cache(config).folder).knows_truth


def missing_tasks(plans: Iterable[Plan]) -> list[Task]:
    """Return the runs that are not finished, each once, seed by seed.

    Raises:
        ValueError: a run's folder holds a run with other settings.
    """
    tasks: dict[Path, Task] = {}
    for task in (task for plan in plans for row in plan.tasks.values() for task in row):
        known = tasks.get(task.folder, task)
        assert settings_digest(known.config) == settings_digest(task.config), task.folder
        tasks[task.folder] = dataclasses.replace(
            task,
            points=max(task.points, known.points),
            test_data=task.test_data or known.test_data,
            keep=task.keep or known.keep,
        )
    # sorted() keeps the order of rows within a seed
    return [task for task in sorted(tasks.values(), key=lambda task: task.seed) if read_result(task) is None]


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
    return [sys.executable, "-m", "scripts.ablation_run", str(task.folder)]


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
