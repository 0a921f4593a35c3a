"""The text of `a3d compare`'s report: a table for the terminal, Markdown, CSV, and one HTML page."""

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agents.runs.table import Column, Table, with_intervals
from backbone.progress import counted

PICTURES = {
    "curves.png": "Learning curves: mean over runs, bands are 95% bootstrap intervals",
    "profile.png": "Performance profile: share of runs that score above",
    "locations.png": "Where each agent looks: how often at each place, by glimpse, brightest where most often",
}

COLUMNS = (
    Column("agent", kind="text"),
    Column("runs"),
    Column("mean", "mean reward ± 95% t", ".3f", "margin"),
    Column("iqm", "IQM [95%]", ".3f", "interval"),
    Column("improvement", "P(better than {reference})", ".2f", "interval"),
    Column("less_reference", "less {reference}, same clips", ".3f", "interval"),
    Column("oracle_share", "share of the oracle's gain", ".0%"),
    Column("log_prob", "log-probability", ".3g"),
    Column("hit_rate", "hits %", ".3g"),
    Column("steps", spec=",.0f"),
    Column("updates", spec=",.0f"),
    Column("seconds", spec=",.0f"),
    Column("peak_mb", "peak MB", ",.0f"),
)

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


def make_table(report: Mapping[str, Any]) -> Table:
    """Return the table, a row an agent."""
    columns = [replace(one, title=one.head.format(reference=report["reference"])) for one in COLUMNS]
    return Table(columns, [with_intervals(row) for row in report["agents"]])


def text_table(report: Mapping[str, Any]) -> str:
    """Lay the table out for a terminal, under a line that says what was compared."""
    return f"{heading(report)}\n{make_table(report).known().text()}"


def markdown(report: Mapping[str, Any]) -> str:
    """Lay the report out as Markdown."""
    pictures = "\n\n".join(f"![{title}]({name})" for name, title in PICTURES.items())
    table = make_table(report).known().markdown()
    return f"# {heading(report)}\n\n{NOTES}{unfinished(report)}\n\n{table}\n\n{pictures}\n"


def heading(report: Mapping[str, Any]) -> str:
    """Return a title that says what was compared."""
    settings = report["settings"]
    counts = [counted(len(report["agents"]), "agent"), counted(len(report["seeds"]), "seed")]
    return ", ".join([*counts, counted(settings["timesteps"], "step"), f"reward {settings['reward']}"])


def unfinished(report: Mapping[str, Any]) -> str:
    """Say which runs are left out."""
    return f" Not finished, or failed, and left out: {', '.join(report['missing'])}." if report["missing"] else ""


def page(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return one HTML page that needs nothing beside it."""
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
<div class="wide">{make_table(report).known().html()}</div>
{images}
<h2>Settings, versions, seeds</h2>
<pre>{setup}</pre>
</body></html>
"""
