"""The text of an ablation's report: Markdown for people, comma-separated values for programs."""

import csv
import io
from collections.abc import Sequence
from typing import Any

# Beside the agent, on the same representation.
CONTROLS = ("random bins", "centre bins")
COMPARED = ("R1", "mAP", "hit_rate")

TITLES = {"hit_rate": "hits"}

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
    rows = report["rows"]
    columns = [c for c in report["columns"] if any(row["means"][c] for row in rows)]
    compared = [c for c in COMPARED if any(row["differences"][c] for row in rows)]
    head, body = ["method", *map(title, columns)], [[row["label"]] for row in rows]
    for row, cells in zip(rows, body, strict=True):
        cells += [shown(row["means"][c]) for c in columns]
    for column in compared:
        head += [f"{title(column)} less full"]
        for row, cells in zip(rows, body, strict=True):
            cells += [shown(row["differences"][column], sign=True)]
        if any(column in row["paper_differences"] for row in rows):
            head += ["the paper's"]
            for row, cells in zip(rows, body, strict=True):
                cells += [plain(row["paper_differences"].get(column), sign=True)]
    if in_paper := [c for c in columns if any(c in row["paper"] for row in rows)]:
        head += [f"paper: {' / '.join(in_paper)}"]
        for row, cells in zip(rows, body, strict=True):
            cells += [" / ".join(plain(row["paper"].get(c)) for c in in_paper) if row["paper"] else "-"]
    head += ["seeds"]
    for row, cells in zip(rows, body, strict=True):
        cells += [str(len(row["seeds"]))]
    return grid(head, body)


def control_table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay out agent and controls on each row's representations."""
    columns = [c for c in COMPARED if any(row["same_representation"]["agent"][c] for row in rows)]
    head = ["method", "who looks", *map(title, columns), *(f"{title(c)}, agent less it" for c in columns)]
    body = []
    for row in rows:
        scores = row["same_representation"]
        for name in ("agent", *CONTROLS):
            less = scores.get(f"agent less {name}", {})
            body.append(
                [
                    row["label"],
                    name,
                    *(shown(scores[name][c]) for c in columns),
                    *(shown(less.get(c), sign=True) for c in columns),
                ]
            )
    return grid(head, body)


def curve_table(row: dict[str, Any]) -> str:
    """Lay out R1 and mAP by epoch."""
    return grid(
        ["epoch", "batch", "R1", "mAP"],
        [[f"{p['epoch']:.1f}", str(p["step"]), shown(p["R1"]), shown(p["mAP"])] for p in row["curve"]],
    )


def table_csv(report: dict[str, Any]) -> str:
    """Lay a report's rows out as comma-separated values, bounds of intervals in columns of their own."""
    head = ["name", "label", "seeds"]
    for column in report["columns"]:
        head += [column, f"{column}_low", f"{column}_high"]
        head += [f"{column}_less_full", f"{column}_less_full_low", f"{column}_less_full_high"]
        head += [f"paper_{column}", f"paper_{column}_less_full"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in report["rows"]:
        cells: list[Any] = [row["name"], row["label"], len(row["seeds"])]
        for column in report["columns"]:
            for interval in (row["means"][column], row["differences"][column]):
                cells += [number(interval[part]) if interval else "" for part in ("value", "low", "high")]
            cells += [number(row[kind].get(column)) for kind in ("paper", "paper_differences")]
        writer.writerow(cells)
    return text.getvalue()


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def title(column: str) -> str:
    """Return a column's name for people."""
    return TITLES.get(column, column)


def shown(interval: dict[str, Any] | None, *, sign: bool = False) -> str:
    """Write an estimate as `value ± margin`."""
    if interval is None:
        return "-"
    margin = "" if interval["low"] is None else f" ± {interval['high'] - interval['value']:.1f}"
    return plain(interval["value"], sign=sign) + margin


def plain(value: float | None, *, sign: bool = False) -> str:
    """Write a percentage to a digit."""
    return "-" if value is None else f"{value:+.1f}" if sign else f"{value:.1f}"


def number(value: float | None) -> str:
    """Write a number for a program."""
    return "" if value is None else f"{value:.4f}"
