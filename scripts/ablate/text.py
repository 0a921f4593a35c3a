"""The text of an ablation's report: Markdown to read, comma-separated values for programs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agents.runs.scoring import COLUMNS as RETRIEVAL
from agents.runs.table import Column, Table
from agents.statistics import Interval

# Beside the agent, on the same representation.
CONTROLS = ("random bins", "centre bins")

OWN = {f"own {name}": replace(RETRIEVAL[name], name=f"own {name}") for name in ("R1", "mAP")}
HITS = {"hit_rate": replace(RETRIEVAL["hit_rate"], title="hits")}
COLUMNS = {name: replace(one, kind="margin") for name, one in (RETRIEVAL | HITS | OWN).items()}
# Names of these columns.
MEASURED = ("R1", "R5", "mAP", "hit_rate")
CROSS_MEASURED = ("R1", "R5", "R10", "R20", "mAP", "hit_rate", *OWN)  # where runs are tested on other data
COMPARED = ("R1", "mAP", "hit_rate")  # with the full method, and with controls
DRAWN = ("R1", "mAP")  # in figures and by epoch

NOTES = (
    "Percentages: the mean over seeds ± Student's t interval of 95%. Seed s draws other weights, batches and "
    "exploration, and other people (built-in data anew, a folder's split anew), the same for all rows: "
    "differences to the full method are paired by seed. One whose ± is larger than itself may be none. All rows "
    "have the recipe's settings and the same starting weights, but that w/o optical flow, whose network has "
    "weights of its own; none was tuned anew for a row. Hits are the "
    "glimpses 2 to T on the identifying thing, where it is known; larger bins hit more often by chance. The "
    "paper's figures are of iLIDS-VID with ResNet50 from ImageNet (its Table X: trained on it, tested on "
    "PRID-2011): compare the signs and sizes of differences, not the levels."
)
CROSS_NOTES = (
    "Trained on the one data, tested on the other; `own` is the test half of the data of the training. The "
    "paper's QAN has a network of its own, ours has the other rows'."
)


def markdown(report: dict[str, Any]) -> str:
    """Lay a report out as Markdown."""
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
    parts = [f"# {report['title']}", f"{settings[:1].upper()}{settings[1:]}.", NOTES]
    if "tested on" in report["settings"]:
        parts.append(CROSS_NOTES)
    if report["missing"]:
        parts.append(f"**Not finished**, and left out: {', '.join(report['missing'])}.")
    parts.append(main_table(report))
    if control_rows := [row for row in report["rows"] if row["same_representation"]]:
        parts += ["## Who looks, on the same representation", control_table(control_rows)]
    if curves := [row for row in report["rows"] if row["curve"]]:
        parts += ["## By epoch", *(curve_table(row) for row in curves)]
    parts.append(f"![{report['title']}]({report['name']}.png)" if report["plot"] != "none" else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def main_table(report: dict[str, Any]) -> str:
    """Lay out the rows beside the paper's."""
    rows = [flat(row, report["columns"]) for row in report["rows"]]
    measured = [name for name in report["columns"] if any(row[name] for row in rows)]
    columns = [Column("label", "method"), *(COLUMNS[name] for name in measured)]
    for name in COMPARED:
        if any(row.get(f"{name}_less_full") for row in rows):
            columns += [gain(name, f"{name}_less_full", " less full")]
            columns += [Column(f"paper_{name}_less_full", "the paper's", "+.1f")]
    if in_paper := [name for name in measured if any(row[f"paper_{name}"] is not None for row in rows)]:
        columns += [Column("paper", f"paper: {' / '.join(in_paper)}", ".1f")]
        for row, own in zip(report["rows"], rows, strict=True):
            figures = (columns[-1].shown(own[f"paper_{name}"]) for name in in_paper)
            own["paper"] = " / ".join(figures) if row["paper"] else None
    return Table([*columns, Column("seeds")], rows).known().markdown()


def flat(row: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Return a row's values by the heads of the CSV."""
    values = {"name": row["name"], "label": row["label"], "seeds": len(row["seeds"])}
    for name in columns:
        values |= {name: interval(row["means"][name]), f"{name}_less_full": interval(row["differences"][name])}
        values |= {f"paper_{name}": row["paper"].get(name)}
        values |= {f"paper_{name}_less_full": row["paper_differences"].get(name)}
    return values


def gain(name: str, key: str, title: str) -> Column:
    """Return the column of a score's differences."""
    return replace(COLUMNS[name], name=key, title=f"{COLUMNS[name].head}{title}", spec="+.1f")


def interval(values: dict[str, Any] | None) -> Interval | None:
    """Return the interval of an estimate."""
    return None if values is None else Interval.from_json(values)


def control_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay out agent and controls on each row's representations."""
    columns = [Column("label", "method"), Column("who", "who looks"), *(COLUMNS[name] for name in COMPARED)]
    columns += [gain(name, f"less {name}", ", agent less it") for name in COMPARED]
    body = []
    for row in rows:
        scores = row["same_representation"]
        for who in ("agent", *CONTROLS):
            less = scores.get(f"agent less {who}", {})
            values = {name: interval(scores[who][name]) for name in COMPARED}
            values |= {f"less {name}": interval(less.get(name)) for name in COMPARED}
            body.append({"label": row["label"], "who": who, **values})
    return Table(columns, body).known().markdown()


def curve_table(row: dict[str, Any]) -> str:
    """Lay out scores by epoch."""
    columns = [Column("epoch", spec=".1f"), Column("step", "batch"), *(COLUMNS[name] for name in DRAWN)]
    points = [{**point, **{name: interval(point[name]) for name in DRAWN}} for point in row["curve"]]
    return Table(columns, points).markdown()


def table_csv(report: dict[str, Any]) -> str:
    """Lay a report's rows out as comma-separated values, bounds of intervals in columns of their own."""
    columns = [Column("name"), Column("label"), Column("seeds")]
    for name in report["columns"]:
        columns += [COLUMNS[name], gain(name, f"{name}_less_full", " less full")]
        columns += [Column(f"paper_{name}"), Column(f"paper_{name}_less_full")]
    rows = [flat(row, report["columns"]) for row in report["rows"]]
    return Table(columns, rows).csv(digits=4, value_ending="")
