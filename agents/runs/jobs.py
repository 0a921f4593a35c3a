"""Runs side by side, each in a process of its own, on this machine or on a cluster."""

import os
import signal
import sys
import tempfile
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import joblib

from agents.runs.children import end_children, run_module, search_path
from agents.runs.memory import out_of_memory
from agents.runs.settings import JobsConfig
from backbone.files import write_text
from backbone.json_file import write_object
from backbone.progress import counted, escape_controls, log_line, progress_bar

POLL_SECONDS = 1.0


class Job(ABC):
    """One run of a command: the task of its process, and the files that the process leaves.

    Attributes:
        unit: name of the steps that the run's work is counted in.
        threads: number of threads of its process; None: its share of the cores.
    """

    unit: ClassVar[str]
    threads: ClassVar[int | None] = None

    @property
    @abstractmethod
    def title(self) -> str:
        """Name of the run, as it is printed."""

    @property
    @abstractmethod
    def result_file(self) -> Path:
        """File that the run leaves when it is finished, all or nothing."""

    @property
    @abstractmethod
    def error_file(self) -> Path:
        """File that the run leaves when it fails; the last line says why."""

    @property
    def log_file(self) -> Path | None:
        """File of the run's output; None: it is kept, in the error's file, only if no traceback says why."""
        return None

    @property
    @abstractmethod
    def process(self) -> tuple[str, str]:
        """The module that is run in a process of its own, and its argument."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Number of steps of the whole run."""

    @abstractmethod
    def steps_taken(self) -> int:
        """Return how many steps the run has taken, as its files say; 0 if they can't be read."""

    @abstractmethod
    def result(self) -> dict[str, Any] | None:
        """Return the run's result, or None if it is not finished.

        Raises:
            ValueError: a file is damaged, or of a run with other settings; the message names it.
        """

    def prepare(self) -> None:
        """Write what its process reads, and remove what an earlier one left that failed or was killed."""
        self.error_file.unlink(missing_ok=True)


class FolderJob(Job):
    """A run with a folder of its own, in which it leaves its errors and its output.

    Attributes:
        folder: the folder.
    """

    folder: Path

    @property
    def error_file(self) -> Path:
        """File of the traceback, if the run failed."""
        return self.folder / "error.txt"

    @property
    def log_file(self) -> Path:
        """File of the output of the run's process, this time and before."""
        return self.folder / "log.txt"


JobType = TypeVar("JobType", bound=Job)


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why in a line."""

    job: Job
    reason: str

    def __str__(self) -> str:
        """Return the failure as a line to print."""
        return f"{self.job.title} failed: {self.reason}; see {self.job.error_file}"


def run_jobs(jobs: Sequence[Job], config: JobsConfig) -> list[Failure]:
    """Run those jobs that are not finished, side by side; one that fails does not stop the others.

    Raises:
        ValueError: ray is asked for and not installed, or a folder has damaged files or a run of other settings.
    """
    if config.backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ValueError(
                "--backend ray needs ray, which is not installed: pip install 'a3d[cluster]', or leave it out"
            ) from error
        register_ray()
    missing = [job for job in jobs if job.result() is None]
    if not missing:
        return []
    for job in missing:
        job.prepare()
    cores = joblib.cpu_count()
    at_once = config.jobs or (-1 if config.backend == "ray" else cores if missing[0].threads else 1)
    here = os.getcwd(), search_path(), max(cores // at_once, 1)
    try:
        with joblib.parallel_config(config.backend, n_jobs=at_once), Progress(missing):
            run = joblib.Parallel(batch_size=1, pre_dispatch="n_jobs")
            failures = run(joblib.delayed(run_job)(job, *here) for job in missing)
    finally:
        end_children()  # none, unless this was interrupted
    return [failure for failure in failures if failure is not None]


def tell(failures: Sequence[Failure], command: str) -> int:
    """Print which runs of a command failed, and return its exit status."""
    for failure in failures:
        log_line(f"a3d {command}: {failure}")
    return 1 if failures else 0


def run_job(job: Job, folder: str, paths: str, share: int) -> Failure | None:
    """Run a job in a process of its own and wait for it.

    Args:
        job: the job.
        folder: working folder of the process.
        paths: folders that modules are imported from, as PYTHONPATH has them.
        share: threads of its process, unless the job or the user's OMP_NUM_THREADS says otherwise.
    """
    if os.getcwd() != folder:  # on another machine of a cluster
        os.chdir(folder)
    threads = job.threads or os.environ.get("OMP_NUM_THREADS") or share  # which ray sets in its workers
    with job.log_file.open("a+b") if job.log_file else tempfile.TemporaryFile() as log:
        start = log.seek(0, os.SEEK_END)
        environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
        status = run_module(*job.process, stdout=log, stderr=log, **environment).returncode
        if status == 0 and job.result_file.is_file():
            return None
        if not job.error_file.is_file():  # killed, or gone before it could say why
            reason = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            log.seek(start)
            write_text(job.error_file, f"{log.read().decode(errors='replace')}\n{reason}\n")
    return Failure(job, why_it_failed(job))


def why_it_failed(job: Job) -> str:
    """Return the last line of the error's file: of the traceback, or which signal ended the process."""
    return job.error_file.read_text(encoding="utf-8").strip().splitlines()[-1]


def do(job: JobType, work: Callable[[JobType], dict[str, Any]], command: str, **options: Any) -> int:
    """Do a job in this process, write its result, or the error's traceback, and return the exit status.

    Args:
        job: the job.
        work: does it, and returns the result.
        command: name of the command of `a3d`.
        options: keyword arguments of `json.dumps`, for the result.
    """
    try:
        write_object(job.result_file, work(job), **options)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        write_text(job.error_file, traceback.format_exc() + out_of_memory(error, command))
        traceback.print_exc()
        return 1
    job.error_file.unlink(missing_ok=True)  # of an earlier try, where this one was started by hand
    return 0


class Progress:
    """Shows, from another thread, the steps of all runs with the time left, and how far each one under way is."""

    def __init__(self, jobs: Sequence[Job]):
        self._jobs, self._left = jobs, list(jobs)
        self._before = {job.title: job.steps_taken() for job in jobs}
        self._written = {job.title: _written(job.result_file) for job in jobs}
        steps = sum(job.num_steps - self._before[job.title] for job in jobs)
        self._bar = progress_bar(steps, counted(len(jobs), "run"), jobs[0].unit, (0.5, 60), smoothing=0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop watching, and leave the bar as it is."""
        self._over.set()
        self._thread.join()
        self._show()
        self._bar.close()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self._show()

    def _show(self) -> None:
        for job in list(self._left):
            has_failed = job.error_file.is_file()
            if has_failed or _written(job.result_file) not in (None, self._written[job.title]):
                self._left.remove(job)
                says = str(Failure(job, why_it_failed(job))) if has_failed else f"{job.title} is finished"
                self._bar.write(escape_controls(says), file=sys.stderr)
        taken = {job.title: max(job.steps_taken(), self._before[job.title]) for job in self._left}
        under_way = [f"{title} {steps:,}" for title, steps in taken.items() if steps > self._before[title]]
        over = len(self._jobs) - len(self._left)
        self._bar.set_postfix_str(f"{over} over, now {', '.join(under_way) or '-'}", refresh=False)
        done = sum(taken.get(job.title, job.num_steps) - self._before[job.title] for job in self._jobs)
        self._bar.update(done - self._bar.n)


def _written(path: Path) -> int | None:
    """Return a number that changes when a file is written anew; None if there is none."""
    return path.stat().st_mtime_ns if path.exists() else None
