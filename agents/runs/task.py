"""A run of `a3d ablate` or `a3d evaluate --splits` in a process of its own: `python -m agents.runs.task FOLDER`.

It reads FOLDER/task.json, trains (going on from a checkpoint if there is one), tests, and writes result.json there
when all of it is done; or error.txt, with the traceback.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from stable_baselines3.common.callbacks import BaseCallback

from agents.rollout import Agent
from agents.runs.checkpoint import read_checkpoint
from agents.runs.children import end_with_parent
from agents.runs.config import CHECKPOINT, TrainConfig, config_from_json, config_to_json
from agents.runs.describe import fit_comparison
from agents.runs.jobs import FolderJob, do
from agents.runs.logs import HISTORY, read_history
from agents.runs.model import load_run, tell_of_people_trained_on
from agents.runs.own import trust_own_code
from agents.runs.scoring import COLUMNS, controls, evaluate
from agents.runs.training import train
from backbone.data import load_data
from backbone.data.spec import parse_data, trust_data
from backbone.json_file import read_object, write_object
from backbone.progress import log_line

TASK, RESULT, POINTS = "task.json", "result.json", "points"
# Settings that cannot change a run's result; they (and load.workers) are ignored when runs are compared.
NOT_COMPARED = (
    "preset", "recipe", "out", "resume", "device", "cache", "decode_anew", "on_bad_frame", "checkpoint_every",
    "log_every", "evaluate_every", "callbacks", "track",
)  # fmt: skip

Numbers = dict[str, float | int | None]


@dataclass(frozen=True, eq=False)
class Task(FolderJob):
    """Task of one run: to train a representation with an agent, and to test it.

    Attributes:
        row: name of the row.
        seed: number of the run in its row, from 0.
        config: settings of the run.
        folder: folder that everything goes to.
        points: number of evaluations in the course of the training.
        test_data: other data to test on, too: `NAME[:DIRECTORY][@OPTION=VALUE,...]`.
        keep: whether the checkpoint stays.
    """

    row: str
    seed: int
    config: TrainConfig
    folder: Path
    points: int = 0
    test_data: str | None = None
    keep: bool = False

    unit: ClassVar[str] = "batch"

    @property
    def title(self) -> str:
        """Name of the run, as it is printed."""
        return f"{self.row}/{self.seed}"

    @property
    def result_file(self) -> Path:
        """File of the result, which reports are made of."""
        return self.folder / RESULT

    @property
    def process(self) -> tuple[str, str]:
        """Module that is run in a process of its own, this one, and the folder with the task in it."""
        return "agents.runs.task", str(self.folder)

    @property
    def num_steps(self) -> int:
        """Number of batches to train on."""
        return self.config.steps

    def steps_taken(self) -> int:
        """Return how many batches the run says that it has been trained on; 0 if its history is damaged."""
        try:
            history = read_history(self.folder / HISTORY)
        except ValueError:  # the run itself names the damaged file
            return 0
        return history[-1]["step"] if history else 0

    def result(self) -> dict[str, Any] | None:
        """Return the run's result, or None if it is not finished, or has not all that is asked for now."""
        if not self.result_file.is_file():
            if (self.folder / "config.json").is_file():
                check_same_settings(self, (self.folder / "config.json").read_bytes())
            return None
        result = read_object(self.result_file, RunResult, "remove it, and it is run again")
        check_same_settings(self, json.dumps(result["settings"]))
        has_curve = self.points == 0 or "curve" in result
        has_other = self.test_data is None or self.test_data in result.get("other_data", {})
        return result if has_curve and has_other else None

    def prepare(self) -> None:
        """Write the task where its process reads it."""
        super().prepare()
        write_task(self)


@dataclass(frozen=True)
class WrittenTask:
    """Contents of task.json: those of a `Task`."""

    row: str
    seed: int
    points: int
    test_data: str | None
    keep: bool
    config: dict[str, Any]


WRITTEN = ("row", "seed", "points", "test_data", "keep")


@dataclass(frozen=True)
class RunResult:
    """Entries of a run's result that reports need: `perform` says what they are."""

    agent: Numbers
    controls: dict[str, Numbers]
    seconds: float | int
    settings: dict[str, Any]
    num_train_people: int = 0
    curve: list[Numbers] = field(default_factory=list)
    other_data: dict[str, dict[str, Numbers]] = field(default_factory=dict)


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return those settings that the outcome depends on."""
    values = {
        name: value for name, value in json.loads(config_to_json(config)).items() if name not in NOT_COMPARED
    }
    values["load"].pop("workers")
    if not values["data_options"]["held_out"]:  # digests stay those of versions without it
        values["data_options"].pop("held_out")
    return values


def settings_digest(config: TrainConfig) -> str:
    """Return a text that differs between runs that can come out differently."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:16]


def check_same_settings(task: Task, text: str | bytes) -> None:
    """Refuse to mix runs.

    Raises:
        ValueError: the settings in the folder differ from the task's; the message names them.
    """
    saved, wanted = settings(config_from_json(text, task.folder)), settings(task.config)
    if changed := [name for name in wanted if saved[name] != wanted[name]]:
        raise ValueError(
            f"{task.folder} holds a run with other settings ({', '.join(changed)}): take another folder (--out), "
            "or remove that one"
        )


def write_task(task: Task) -> None:
    """Write a task where its process reads it."""
    values = {
        **{name: getattr(task, name) for name in WRITTEN},
        "config": json.loads(config_to_json(task.config)),
    }
    write_object(task.folder / TASK, values, indent=2)


def read_task(folder: Path) -> Task:
    """Read a task.

    Raises:
        ValueError: the task's file is damaged.
    """
    values = read_object(folder / TASK, WrittenTask, "start the run by a3d ablate, which writes it")
    config = config_from_json(json.dumps(values["config"]), folder / TASK)
    return Task(config=config, folder=folder, **{name: values[name] for name in WRITTEN})


class KeepPoints(BaseCallback):
    """Keeps each checkpoint of a training, to be scored when it is over."""

    def __init__(self, folder: Path, keep: bool):
        super().__init__()
        self.folder = folder
        self.keep = keep
        self._kept: int | None = None

    def _on_rollout_start(self) -> None:
        if self.keep and (version := self._version()) not in (None, self._kept):
            (self.folder / POINTS).mkdir(exist_ok=True)
            shutil.copy(self.folder / CHECKPOINT, self.folder / POINTS / f"{version}.pt")
            self._kept = version

    def _on_step(self) -> bool:
        return True

    def _version(self) -> int | None:
        path = self.folder / CHECKPOINT
        return path.stat().st_mtime_ns if path.exists() else None


def perform(task: Task) -> dict[str, Any]:
    """Train, test, and return the result."""
    folder, config = task.folder, dataclasses.replace(task.config, out=task.folder, resume=False)
    if task.points:
        config = dataclasses.replace(config, checkpoint_every=max(config.steps // task.points, 1))
        if not (folder / POINTS).is_dir():  # a training whose course was not kept
            (folder / CHECKPOINT).unlink(missing_ok=True)
    state = read_checkpoint(folder / CHECKPOINT) if (folder / CHECKPOINT).exists() else None
    metrics = train(config, folder, state, callbacks=[KeepPoints(folder, keep=task.points > 0)])
    result = {
        "row": task.row,
        "seed": task.seed,
        "agent": metrics["after"],
        "controls": metrics["controls"],
        "before": metrics["before"],
        "steps": metrics["steps"],
        "seconds": metrics["seconds"],
        "num_train_people": len(read_checkpoint(folder / CHECKPOINT)["people"]),
        "settings_digest": settings_digest(task.config),
        "settings": json.loads(config_to_json(task.config)),
    }
    if task.points:
        result["curve"] = score_points(task, result)
    if task.test_data is not None:
        result["other_data"] = {task.test_data: score_elsewhere(task)}
    return result


def score_points(task: Task, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return R1 and mAP, and the others, by step: before training, at the checkpoints, and in the end."""
    curve = {0: result["before"], result["steps"]: result["agent"]}
    for path in sorted((task.folder / POINTS).glob("*.pt")):
        step = read_checkpoint(path)["shared"]["step"]
        if step in curve:
            continue
        run = load_run(path, device=task.config.device, cache=task.config.cache)
        # as in the end: a checkpoint on the way has no metric yet
        fit_comparison(run, run.data.train)
        scores = evaluate(run, {"agent": run.agent}, run.data)
        curve[step] = scores["agent"]
    return [{"step": step, **curve[step]} for step in sorted(curve)]


def score_elsewhere(task: Task) -> dict[str, Any]:
    """Return the agent's and the controls' scores on the other data's test half."""
    assert task.test_data is not None
    run = load_run(task.folder, device=task.config.device, cache=task.config.cache)
    spec, options = parse_data(task.test_data, run.config.data_options, task.seed)
    data = load_data(spec, options, run.cache.folder)
    tell_of_people_trained_on(run, data, spec)
    candidates: dict[str, Agent] = {"agent": run.agent, **controls()}
    scores = evaluate(run, candidates, data)
    if text := run.cache.describe_replaced():
        log_line(f"{task.test_data}: {text}")
    return {name: {column: row[column] for column in COLUMNS} for name, row in scores.items()}


def main(argv: list[str] | None = None) -> int:
    """Do the task of a folder and return the exit status."""
    end_with_parent()
    (folder,) = map(Path, sys.argv[1:] if argv is None else argv)
    task = read_task(folder)
    trust_own_code(dataclasses.asdict(task.config))  # they came from the command line
    trust_data(task.config.data)
    status = do(task, perform, "ablate", indent=2)
    if status == 0:
        shutil.rmtree(folder / POINTS, ignore_errors=True)
        if not task.keep:
            (folder / CHECKPOINT).unlink()
    return status


if __name__ == "__main__":
    raise SystemExit(main())
