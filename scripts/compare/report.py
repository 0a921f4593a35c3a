"""The report of `a3d compare`: the numbers, and its files (their text is `scripts.compare.text`'s)."""

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
from agents.statistics import Interval, mean_over_runs
from backbone.files import write_json, write_text
from scripts.compare.text import make_table, markdown, page

SCORE = "reward"
REFERENCE, RANDOM, BEST = "reinforce", "random", "best"
PROFILE_POINTS = 101


def make_report(
    results: Sequence[Mapping[str, Any]], *, reference: str = REFERENCE, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Compute the numbers of the report.

    Args:
        results: results of finished runs, as `scripts.compare.task.train_and_score` returns them.
        reference: name of the agent that the others are compared with; the first agent if this one has no run.
        missing: titles of the runs that are not finished, or failed.

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
    means = np.concatenate([table.mean(1) for table in scores.values()])
    low, high = means.min(), means.max()
    thresholds = np.linspace(low - 0.02 * (high - low), high, PROFILE_POINTS)
    rows = [make_row(name, runs, scores, reference, ends, thresholds) for name, runs in by_agent.items()]
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
    thresholds: np.ndarray,
) -> dict[str, Any]:
    """Compute an agent's row."""
    person = np.array(runs[0]["person"])  # the same in all runs, as are the clips
    own = scores[name].mean(axis=1)  # (num_runs,)
    other = scores[reference].mean(axis=1)
    random, best = ends
    share = None
    if random is not None and best is not None and best > random:
        share = float((own.mean() - random) / (best - random))
    is_reference = name == reference
    profile = performance_profile(own, thresholds)
    return {
        "agent": name,
        "runs": len(runs),
        "mean": mean_over_runs(own).to_json(),
        "iqm": bounded(stratified_interval(own, interquartile_mean), len(own)),
        "improvement": None
        if is_reference
        else bounded(probability_of_improvement(own, other), min(len(own), len(other))),
        "less_reference": None
        if is_reference or len(np.unique(person)) < 2
        else paired_clip_interval(scores[name], scores[reference], person).to_json(),
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
    """Return the mean over runs of what was spent; None if a run does not tell."""
    values = [run[cost] for run in runs]
    return None if None in values else float(np.mean(values))


def mean_hits(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean hit rate over clips in which the thing is seen; None if there are none."""
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
            {"step": float(np.mean([run["curve"][number]["step"] for run in runs])), **interval.to_json()}
        )
    return points


def bounded(interval: Interval, runs: int) -> dict[str, float | None]:
    """Return a bootstrap interval over runs for JSON, without the bounds of a single run, which say nothing."""
    return (interval if runs > 1 else Interval(interval.value)).to_json()


def write_report(
    results: Sequence[Mapping[str, Any]], folder: Path, *, reference: str = REFERENCE, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the report's files into a folder, each all or nothing.

    Returns:
        The numbers.

    Raises:
        ValueError: there is nothing to report.
    """
    from scripts.compare.plots import draw  # matplotlib takes a second to import

    report = make_report(results, reference=reference, missing=missing)
    pictures = draw(report, folder)
    write_json(folder / "compare.json", report, indent=1)
    write_text(folder / "compare.csv", make_table(report).csv())
    write_text(folder / "compare.md", markdown(report))
    write_text(folder / "compare.html", page(report, pictures))
    return report
