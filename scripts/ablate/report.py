"""The report of an ablation in the paper's form: means over seeds, and paired differences to the full method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.runs.task import Task
from agents.statistics import mean_over_runs
from backbone.data.spec import parse_spec
from backbone.files import atomic_path, write_json, write_text
from scripts.ablate.plan import Plan
from scripts.ablate.tables import Row
from scripts.ablate.text import COMPARED, CONTROLS, CROSS_MEASURED, DRAWN, MEASURED, markdown, table_csv

Report = dict[str, Any]


def make_report(plan: Plan) -> Report:
    """Put together the results of a table's finished runs.

    Returns:
        title, plot, axis, settings, rows, and the runs that are missing; plain values, to be written as JSON.
    """
    results = {name: finished(tasks) for name, tasks in plan.tasks.items()}
    # The row that changes nothing: its runs are the base's.
    base = next((row for row in plan.rows if row.change(plan.config) == plan.config), None)
    columns = CROSS_MEASURED if plan.table.crosses else MEASURED
    rows = []
    for row in plan.rows:
        scores = {seed: scores_of(result) for seed, result in results[row.name].items()}
        others = {} if base is None else {seed: scores_of(result) for seed, result in results[base.name].items()}
        rows.append(
            {
                "name": row.name,
                "label": row.label,
                "is_full": row is base,
                "place": list(row.place),
                "seeds": sorted(scores),
                "means": {column: estimate(values(scores, column)) for column in columns},
                "by_seed": {column: [scores[seed].get(column) for seed in sorted(scores)] for column in columns},
                "differences": {
                    column: None if row is base else estimate(differences(scores, others, column))
                    for column in columns
                },
                "paper": row.paper,
                "paper_differences": paper_differences(row, base),
                "same_representation": compare_controls(list(results[row.name].values())),
                "seconds": [result["seconds"] for result in results[row.name].values()],
                "curve": curve_of(list(results[row.name].values())) if plan.table.points else None,
            }
        )
    return {
        "name": plan.table.name,
        "title": plan.table.title,
        "plot": plan.table.plot,
        "axis": list(plan.table.axis),
        "columns": list(columns),
        "settings": describe_settings(plan),
        "rows": rows,
        "missing": [
            task.title
            for tasks in {row.name: plan.tasks[row.name] for row in plan.rows}.values()
            for task in tasks
            if task.result() is None
        ],
    }


def finished(tasks: Sequence[Task]) -> dict[int, dict[str, Any]]:
    """Return the results of those tasks that are finished, by seed; other data's scores are the task's own."""
    results = {}
    for task in tasks:
        if (result := task.result()) is not None:
            other = result.get("other_data", {}).get(task.test_data)
            results[task.seed] = {**result, "other_data": other}
    return results


def scores_of(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the agent's scores: on the other data, if it was tested there, beside those on its own."""
    if result["other_data"] is None:
        return result["agent"]
    own = {f"own {column}": value for column, value in result["agent"].items()}
    return {**result["other_data"]["agent"], **own}


def values(scores: dict[int, dict[str, float | None]], column: str) -> list[float]:
    """Return a column's values that are known, by seed."""
    found = (scores[seed].get(column) for seed in sorted(scores))
    return [value for value in found if value is not None]


def differences(
    scores: dict[int, dict[str, float | None]], others: dict[int, dict[str, float | None]], column: str
) -> list[float]:
    """Return a column's differences, by seed, of the seeds that both have."""
    pairs = ((scores[seed].get(column), others[seed].get(column)) for seed in sorted(scores) if seed in others)
    return [one - other for one, other in pairs if one is not None and other is not None]


def estimate(measured: Sequence[float]) -> dict[str, float | int | None] | None:
    """Return mean and 95% interval of values, one a seed; one value has no interval, none is None."""
    return {**mean_over_runs(measured).to_json(), "count": len(measured)} if measured else None


def paper_differences(row: Row, base: Row | None) -> dict[str, float]:
    """Return the differences of the paper's figures of a row to those of its full method."""
    if base is None or row is base:
        return {}
    return {
        column: round(value - base.paper[column], 2) for column, value in row.paper.items() if column in base.paper
    }


def compare_controls(results: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return agent and controls on the same representations, and how much better the agent is than each.

    Returns None if the agent decides nothing: all are the same.
    """
    if not results or all(result["settings"]["attention"]["num_glimpses"] < 2 for result in results):
        return None
    whole: dict[str, Any] = {}
    rows = [result["other_data"] or {"agent": result["agent"], **result["controls"]} for result in results]
    scores = {name: {seed: row[name] for seed, row in enumerate(rows)} for name in ("agent", *CONTROLS)}
    for name in scores:
        whole[name] = {column: estimate(values(scores[name], column)) for column in COMPARED}
    for name in CONTROLS:
        whole[f"agent less {name}"] = {
            column: estimate(differences(scores["agent"], scores[name], column)) for column in COMPARED
        }
    return whole


def curve_of(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return R1 and mAP by step and epoch, over seeds."""
    by_step: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        for point in result["curve"]:
            by_step.setdefault(point["step"], []).append(point)
    if not results:
        return []
    batches = results[0]["num_train_people"] // results[0]["settings"]["load"]["num_people"]
    return [
        {
            "step": step,
            "epoch": step / max(batches, 1),
            **{column: estimate([point[column] for point in points]) for column in DRAWN},
        }
        for step, points in sorted(by_step.items())
    ]


def describe_settings(plan: Plan) -> dict[str, Any]:
    """Return the settings that a reader asks for first."""
    config, tasks = plan.config, next(iter(plan.tasks.values()), [])
    described = {
        "preset": config.preset,
        "recipe": config.recipe,
        "data": config.data,
        "tested on": tasks[0].test_data if tasks else None,
        "backbone": config.backbone.name,
        "agent": config.agent,
        "batches": config.steps,
        "first seed": config.seed,
        "seeds": len(tasks),
    }
    if parse_spec(config.data).data_set.is_drawn:
        described["seed of the people"] = f"{config.data_options.synthetic.seed} + s"
    return {name: value for name, value in described.items() if value is not None}


def write_report(report: Report, folder: Path) -> Path:
    """Write a report as Markdown, CSV, JSON and picture, and return the Markdown's path."""
    name = report["name"]
    write_json(folder / f"{name}.json", report)
    write_text(folder / f"{name}.csv", table_csv(report))
    if report["plot"] != "none":
        from scripts.ablate.plots import draw  # matplotlib takes a second to import

        with atomic_path(folder / f"{name}.png") as partial:
            draw(report, partial)
    write_text(folder / f"{name}.md", markdown(report))
    return folder / f"{name}.md"
