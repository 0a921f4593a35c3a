"""The report of `a3d compare`: the numbers, a table for the terminal, Markdown, CSV, JSON, and one HTML page."""

import base64
import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.comparison import (
    interquartile_mean,
    mean,
    paired_clip_interval,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from agents.statistics import Interval, paired_interval
from scripts.compare_plots import PICTURES, draw
from scripts.train_joint import write_text

SCORE = "reward"
REFERENCE, RANDOM, BEST = "reinforce", "random", "best"
PROFILE_POINTS = 101

HEAD = {
    "agent": "agent",
    "runs": "runs",
    "mean": "mean reward ± 95% t",
    "iqm": "IQM [95%]",
    "improvement": "P(better than {reference})",
    "less_reference": "less {reference}, same clips",
    "oracle_share": "share of the oracle's gain",
    "log_prob": "log-probability",
    "hit_rate": "hits %",
    "steps": "steps",
    "updates": "updates",
    "seconds": "seconds",
    "peak_mb": "peak MB",
}

NOTES = (
    "Scores are of the policy's mean (its most probable choice) on clips of tracklets that no agent was "
    "trained on. Mean: over runs, ± Student's t interval. IQM: the mean of the middle half of the runs, "
    "with a stratified bootstrap interval (95%; with 5 runs or fewer it is too narrow). P(better): how "
    "often a run beats one of the reference, a tie counting half. Less the reference: on the same clips, "
    "clip by clip, each averaged over runs, with a bootstrap over the people in them. Share of the "
    "oracle's gain: (agent - random) / (best - random), where best looks at the bin that, by the table, "
    "pays most if it stays there: more than 100% is possible. Updates are as the algorithm counts them "
    "(PPO: epochs); seconds are of the training alone. All episodes begin on the same clips in the same "
    "order."
)


def make_report(
    results: Sequence[Mapping[str, Any]], *, reference: str = REFERENCE, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Compute what is reported.

    Args:
        results: of finished runs, as `scripts.compare_run.train_and_score` returns them.
        reference: whom the others are compared with; the first agent if it has no run.
        missing: the titles of runs that are not finished, or failed.

    Returns:
        Plain numbers, for JSON: `reference`, `agents` (a row each), `missing`, `settings`, `versions`, `seeds`.

    Raises:
        ValueError: there is nothing to report.
    """
    if not results:
        raise ValueError("no run is finished: there is nothing to report")
    by_agent: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_agent.setdefault(result["agent"], []).append(result)
    reference = reference if reference in by_agent else next(iter(by_agent))
    scores = {name: clip_table(runs, SCORE) for name, runs in by_agent.items()}
    ends = [float(scores[name].mean()) if name in scores else None for name in (RANDOM, BEST)]
    low, high = (
        min(table.mean(1).min() for table in scores.values()),
        max(table.mean(1).max() for table in scores.values()),
    )
    thresholds = np.linspace(low - 0.02 * (high - low), high, PROFILE_POINTS)
    rows = [
        make_row(name, runs, scores, reference, ends, np.array(results[0]["person"]), thresholds)
        for name, runs in by_agent.items()
    ]
    rows.sort(key=lambda row: -row["iqm"]["value"])
    settings = {key: value for key, value in results[0]["settings"].items() if key not in ("agent", "seed", "out")}
    return {
        "reference": reference,
        "score": SCORE,
        "agents": rows,
        "thresholds": thresholds.tolist(),
        "missing": list(missing),
        "seeds": sorted({result["seed"] for result in results}),
        "settings": settings,
        "algorithms": {name: runs[0]["algorithm"] for name, runs in by_agent.items()},
        "versions": results[0]["versions"],
    }


def make_row(
    name: str,
    runs: Sequence[Mapping[str, Any]],
    scores: Mapping[str, np.ndarray],
    reference: str,
    ends: Sequence[float | None],
    person: np.ndarray,
    thresholds: np.ndarray,
) -> dict[str, Any]:
    """Compute an agent's row."""
    own = scores[name].mean(axis=1)  # (num_runs,)
    random, best = ends
    share = None
    if random is not None and best is not None and best > random:
        share = float((own.mean() - random) / (best - random))
    is_reference = name == reference
    profile = performance_profile(own, thresholds)
    return {
        "agent": name,
        "runs": len(runs),
        "mean": as_dict(paired_interval(own) if len(own) > 1 else Interval(float(own[0]), np.nan, np.nan)),
        "iqm": as_dict(stratified_interval(own, interquartile_mean), len(own)),
        "improvement": None
        if is_reference
        else as_dict(probability_of_improvement(own, scores[reference].mean(axis=1)), len(own)),
        "less_reference": None
        if is_reference or len(np.unique(person)) < 2
        else as_dict(paired_clip_interval(scores[name], scores[reference], person)),
        "oracle_share": share,
        "log_prob": float(clip_table(runs, "log_prob").mean()),
        "hit_rate": mean_hits(runs),
        **{cost: mean_cost(runs, cost) for cost in ("steps", "updates", "seconds", "peak_mb")},
        "profile": [values.tolist() for values in profile],
        "curve": curve(runs),
        "bins": np.sum([run["bins"] for run in runs], axis=0).tolist(),
        "positions": runs[0]["positions"],
    }


def mean_cost(runs: Sequence[Mapping[str, Any]], cost: str) -> float | None:
    """Return the mean over runs of what was spent; None where a run does not tell."""
    values = [run[cost] for run in runs]
    return None if None in values else float(np.mean(values))


def mean_hits(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean hit rate over clips in which the thing is seen; None where there are none."""
    if "hit_rate" not in runs[0]["clips"]:
        return None
    hits = clip_table(runs, "hit_rate")
    return None if np.isnan(hits).all() else float(np.nanmean(hits))


def clip_table(runs: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    """Return each run's scores of each clip, (num_runs, num_clips)."""
    return np.array([run["clips"][column] for run in runs], dtype=np.float64)


def curve(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over runs, with a bootstrap interval, at each point of the curve that all of them have."""
    points = []
    for number in range(min(len(run["curve"]) for run in runs)):
        values = np.array([run["curve"][number][SCORE] for run in runs])
        interval = stratified_interval(values, mean, resamples=2000)
        points.append(
            {"step": float(np.mean([run["curve"][number]["step"] for run in runs])), **as_dict(interval)}
        )
    return points


def as_dict(interval: Interval, runs: int = 2) -> dict[str, float | None]:
    """Return an interval for JSON, which has no NaN; one run has none."""
    if runs < 2:
        interval = Interval(interval.value, np.nan, np.nan)
    bounds = {"value": interval.value, "low": interval.low, "high": interval.high}
    return {name: None if np.isnan(value) else float(value) for name, value in bounds.items()}


def write_report(
    results: Sequence[Mapping[str, Any]], folder: Path, *, reference: str = REFERENCE, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the report's files into a folder, each all or nothing.

    Returns:
        The numbers.

    Raises:
        ValueError: there is nothing to report.
    """
    report = make_report(results, reference=reference, missing=missing)
    pictures = draw(report, folder)
    write_text(folder / "compare.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "compare.csv", csv_table(report))
    write_text(folder / "compare.md", markdown(report))
    write_text(folder / "compare.html", page(report, pictures))
    return report


def cells(report: Mapping[str, Any]) -> list[list[str]]:
    """Lay the table out, the head first."""
    columns = [column for column in HEAD if any(row[column] is not None for row in report["agents"])]
    head = [HEAD[column].format(reference=report["reference"]) for column in columns]
    return [head, *([shown(column, row[column]) for column in columns] for row in report["agents"])]


def shown(column: str, value: Any) -> str:
    """Return a cell's text."""
    if value is None:
        return "-"
    if column == "mean":
        return f"{value['value']:.3f}" + (
            "" if value["low"] is None else f" ± {value['high'] - value['value']:.3f}"
        )
    if isinstance(value, dict):
        digits = 2 if column == "improvement" else 3
        if value["low"] is None:
            return f"{value['value']:.{digits}f}"
        return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    if column == "oracle_share":
        return f"{100 * value:.0f}%"
    if isinstance(value, float):
        return f"{value:,.0f}" if column in ("steps", "updates", "seconds", "peak_mb") else f"{value:.3g}"
    return str(value)


def text_table(report: Mapping[str, Any]) -> str:
    """Lay the table out for a terminal."""
    rows = cells(report)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(report: Mapping[str, Any]) -> str:
    """Lay the report out as Markdown."""
    head, *body = cells(report)
    table = [head, ["---"] * len(head), *body]
    lines = "\n".join("| " + " | ".join(row) + " |" for row in table)
    pictures = "\n\n".join(f"![{title}]({name})" for name, title in PICTURES.items())
    return f"# {heading(report)}\n\n{NOTES}{unfinished(report)}\n\n{lines}\n\n{pictures}\n"


def heading(report: Mapping[str, Any]) -> str:
    """Return a title that says what was compared."""
    settings = report["settings"]
    return f"{len(report['agents'])} agents, {len(report['seeds'])} seeds, {settings['timesteps']:,} steps"


def unfinished(report: Mapping[str, Any]) -> str:
    """Say which runs are left out."""
    return f" Not finished, or failed, and left out: {', '.join(report['missing'])}." if report["missing"] else ""


def csv_table(report: Mapping[str, Any]) -> str:
    """Write a row an agent, intervals as three columns."""
    text = io.StringIO()
    rows = [flat(row) for row in report["agents"]]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's table columns with each interval as value, low and high."""
    values: dict[str, Any] = {}
    for column in HEAD:
        value = row[column]
        if column in ("mean", "iqm", "improvement", "less_reference"):
            values |= {
                f"{column}_{part}": None if value is None else value[part] for part in ("value", "low", "high")
            }
        else:
            values[column] = value
    return values


def page(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return one HTML page that needs nothing beside it."""
    head, *body = cells(report)
    rows = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    rows += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
    images = "".join(
        f"<h2>{html.escape(PICTURES[name])}</h2>"
        f'<img alt="{html.escape(PICTURES[name])}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for name, data in pictures.items()
    )
    setup = html.escape(
        json.dumps({key: report[key] for key in ("settings", "algorithms", "versions", "seeds")}, indent=2)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(heading(report))}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
img {{ max-width: 100%; }} pre {{ background: #f6f6f6; padding: 1em; overflow-x: auto; }}
</style></head><body>
<h1>{html.escape(heading(report))}</h1>
<p>{html.escape(NOTES + unfinished(report))}</p>
<table>{"".join(f"<tr>{row}</tr>" for row in rows)}</table>
{images}
<h2>Settings, versions, seeds</h2>
<pre>{setup}</pre>
</body></html>
"""
