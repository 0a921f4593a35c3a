"""The text of `a3d compare`'s report: a table for the terminal, Markdown, CSV, and one HTML page."""

import base64
import csv
import html
import io
import json
from collections.abc import Mapping
from typing import Any

PICTURES = {
    "curves.png": "Learning curves: mean over runs, bands are 95% bootstrap intervals",
    "profile.png": "Performance profile: share of runs that score above",
    "locations.png": "Where each agent looks: how often at each place, by glimpse, brightest where most often",
}

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
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; }}
p, pre {{ max-width: 75em; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: 14px; line-height: 1.3; }}
th, td {{ padding: .3em .6em; text-align: right; border-bottom: 1px solid #ddd; }} td {{ white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; position: sticky; left: 0; background: #fff; }}
img {{ max-width: min(100%, 75em); }} pre {{ background: #f6f6f6; padding: 1em; overflow-x: auto; }}
</style></head><body>
<h1>{html.escape(heading(report))}</h1>
<p>{html.escape(NOTES + unfinished(report))}</p>
<div class="wide"><table>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>
{images}
<h2>Settings, versions, seeds</h2>
<pre>{setup}</pre>
</body></html>
"""
