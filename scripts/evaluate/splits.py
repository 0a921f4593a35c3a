"""The protocol of several splits: train on each, score each, and report mean and standard deviation."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from agents.runs.arguments import read_arguments
from agents.runs.build import build_cache
from agents.runs.checkpoint import fingerprint
from agents.runs.config import with_seed
from agents.runs.jobs import Failure, JobsConfig, run_jobs
from agents.runs.model import TrainedModel, tell_of_people_trained_on
from agents.runs.own import trust_own_code
from agents.runs.scoring import COLUMNS, Scores, ScoringConfig, noted_protocol, score_model, table
from agents.runs.task import Task
from backbone.data import ReidData, load_data
from backbone.data.spec import parse_data, parse_spec
from backbone.files import folder_lock, write_json
from backbone.json_file import read_object, write_object
from backbone.progress import log_line
from scripts.options import RuntimeOptions

ALL = 10
REPORT = "splits.json"


@dataclasses.dataclass(frozen=True)
class SplitScores:
    """Entries of a split's scores that are read."""

    scores: dict[str, dict[str, float | int | None]]
    protocol: str


@dataclasses.dataclass(frozen=True)
class SplitRuns:
    """The runs of several splits.

    Attributes:
        splits: all, or split numbers with commas between.
        out: the folder of the runs.
        flags: flags of `a3d train`.
        train: the data to train on, NAME[:DIRECTORY]; by default the preset's.
        test: other data to test on, as in `backbone.data.spec`; split s adds s to a seed that it names.
        jobs: the number of runs at a time, and where they run.
        runtime: the device, and how frames are read, in training and scoring.
    """

    splits: str
    out: Path
    flags: Sequence[str]
    train: str | None
    test: str | None
    jobs: JobsConfig
    runtime: RuntimeOptions


def evaluate_splits(runs: SplitRuns, scoring: ScoringConfig) -> tuple[dict[str, Any], list[Failure]]:
    """Train what is not yet trained, in `<out>/<split>`, score what is not yet scored, write `<out>/splits.json`.

    Args:
        runs: the runs.
        scoring: settings of the scoring.

    Returns:
        Report, and the runs that failed. In the report `splits` are scores by split and agent, `mean` and
        `deviation` (the standard deviation of a sample) by agent, `protocol` says what was searched in what.

    Raises:
        ValueError: settings or data that can't be used, or runs of other settings in the folder.
    """
    out, test, runtime = runs.out, runs.test, runs.runtime
    given = {
        "data": runs.train,
        "device": runtime.device,
        "cache": runtime.cache,
        "on-bad-frame": runtime.on_bad_frame,
    }
    words = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    config, _ = read_arguments([*runs.flags, *words])
    trust_own_code(dataclasses.asdict(config))  # that of an algorithm's settings, too: the runs are read below
    numbers = read_numbers(runs.splits, parse_spec(config.data).data_set.num_splits)
    tasks = [
        Task(row="split", seed=number, config=with_seed(config, number), folder=out / str(number), keep=True)
        for number in numbers
    ]
    # all that there is to mistake, before days of training
    read_test_data(test, tasks[0])

    def score(task: Task) -> dict[str, Any]:
        return score_split(runtime.load_model(task.folder), task, test, scoring)

    with folder_lock(out):
        failures = run_jobs(tasks, runs.jobs)
        scored = {str(task.seed): score(task) for task in tasks if task.result() is not None}
        if not scored:
            raise ValueError(f"not one split was trained: {failures[0]}")
        report = make_report(scored) | {"train": config.data, "test": test or config.data}
        write_json(out / REPORT, report)
    return report, failures


def read_numbers(splits: str, count: int | None = None) -> list[int]:
    """Return the splits that a text names: all, or numbers from 0 with commas between.

    Args:
        splits: the text.
        count: number of splits; None: any number.

    Raises:
        ValueError: the text names something else.
    """
    if splits == "all":
        return list(range(ALL))
    words = splits.split(",")
    if not all(word.strip().isdecimal() for word in words) or len({*map(int, words)}) < len(words):
        raise ValueError(f"--splits takes all, or different numbers from 0 as in 0,3,7, got {splits!r}")
    if count is not None and max(map(int, words)) >= count:
        raise ValueError(f"there are {count} published splits, 0 to {count - 1}, got {splits!r}")
    return sorted(map(int, words))


def read_test_data(test: str | None, task: Task) -> tuple[str, ReidData]:
    """Return what a split is tested on, its own data or others: NAME[:DIRECTORY], and the tracklets."""
    spec, options = task.config.data, task.config.data_options
    if test is not None:
        spec, options = parse_data(test, options, task.seed)
    return spec, load_data(spec, options, build_cache(task.config).folder)


def score_split(model: TrainedModel, task: Task, test: str | None, scoring: ScoringConfig) -> dict[str, Any]:
    """Return a finished run's scores by agent, and the `protocol`; from its folder if they are there.

    Raises:
        ValueError: the data can't be read, or is not what was trained on.
    """
    spec, data = read_test_data(test, task)
    if test is None and model.training_data != fingerprint(data.train):
        raise ValueError(f"{task.config.data} holds other tracklets than when {task.folder} was trained on it")
    settings = {field.name: getattr(scoring, field.name) for field in dataclasses.fields(ScoringConfig)}
    tested = fingerprint([*data.query, *data.gallery])
    how = {"model": model.digest, "where": parse_spec(spec).absolute(), "data": tested, **settings}
    how |= noted_protocol(data)
    name = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:8]
    path = task.folder / f"scores-{name}.json"
    with suppress(FileNotFoundError, ValueError):  # there are none yet, or they are damaged
        found = read_object(path, SplitScores, "it is made anew")
        return {part: found[part] for part in ("scores", "protocol")}
    log_line(f"scoring {task.title}")
    tell_of_people_trained_on(model, data, spec)
    scores, protocol = score_model(model, data, scoring)
    write_object(path, {"scores": scores, "protocol": protocol, "how": how}, indent=2)
    return {"scores": scores, "protocol": protocol}


def make_report(scored: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return scores by split, and their mean and standard deviation over splits, by agent."""
    splits = {number: found["scores"] for number, found in scored.items()}
    agents = list(next(iter(splits.values())))
    columns = {agent: next(iter(splits.values()))[agent] for agent in agents}

    def over_splits(agent: str, column: str) -> np.ndarray:
        values = [scores[agent][column] for scores in splits.values()]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def summary(agent: str, of: Any) -> Scores:
        values = {column: float(of(over_splits(agent, column))) for column in columns[agent]}
        return {column: None if np.isnan(value) else value for column, value in values.items()}

    return {
        "protocol": "; ".join(dict.fromkeys(found["protocol"] for found in scored.values())),
        "splits": splits,
        "mean": {agent: summary(agent, np.mean) for agent in agents},
        "deviation": {agent: summary(agent, _deviation) for agent in agents},
    }


def splits_table(report: dict[str, Any]) -> str:
    """Lay a report out as text: each split, the mean and the standard deviation, agent by agent."""
    parts = [f"trained on {report['train']}, tested on {report['test']}", report["protocol"]]
    for agent, mean in report["mean"].items():
        deviation = report["deviation"][agent]
        rows = {f"split {number}": scores[agent] for number, scores in report["splits"].items()}
        rows |= {"mean": mean, "standard deviation": deviation}
        parts.append(f"\n{agent}, splits {', '.join(report['splits'])}\n{table(rows)}")
        # thresholds, where they were asked for
        parts += [
            f"{column}: mean {mean[column]:.4g}"
            + ("" if deviation[column] is None else f", standard deviation {deviation[column]:.2g}")
            for column in mean
            if column not in COLUMNS
        ]
    return "\n".join(parts)


def _deviation(values: np.ndarray) -> float:
    """Return the standard deviation of a sample; NaN for a sample of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
