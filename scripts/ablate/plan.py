"""The runs of ablations, planned from their tables."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.runs.build import build_cache
from agents.runs.config import TrainConfig, with_seed
from agents.runs.task import RESULT, Task, settings_digest
from backbone.data import load_data
from scripts.ablate.tables import FULL, Row, Table


@dataclass(frozen=True)
class Plan:
    """Runs of a table.

    Attributes:
        table: table or figure.
        rows: rows of the table that are asked for and that the data allows.
        tasks: runs of each row, by its name, one a seed; rows of different tables can have the same runs.
        config: settings that the rows change.
    """

    table: Table
    rows: list[Row]
    tasks: dict[str, list[Task]]
    config: TrainConfig


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
        table: table or figure.
        config: settings that the rows change.
        folder: folder that the runs' folders are in: <row>/<seed>.
        seeds: number of runs of each row.
        base: folder of the row that changes nothing.
        names: names of the rows to run; none: all that the data allows.
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


def knows_truth(config: TrainConfig) -> bool:
    """Tell whether the place of the identifying thing is known in all tracklets of the data."""
    return load_data(config.data, config.data_options, build_cache(config).folder).knows_truth


def merge_tasks(plans: Iterable[Plan]) -> list[Task]:
    """Return the runs of several tables, each once, with all that is asked of it, seed by seed."""
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
    return sorted(tasks.values(), key=lambda task: task.seed)  # which keeps the order of rows within a seed
