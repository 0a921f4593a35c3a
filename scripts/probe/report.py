"""The table and the figure of `a3d probe`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agents.runs.policy_scores import COLUMNS as EPISODE
from agents.runs.scoring import COLUMNS as RETRIEVAL
from agents.runs.table import Table
from agents.statistics import Interval, mean_over_people, paired_interval
from backbone.files import atomic_path
from scripts.probe.measures import AVERAGE_PLACE, OTHER_CLIP, POLICY, ROWS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GALLERY = {"gallery_log_prob": replace(EPISODE["log_prob"], name="gallery_log_prob")}
COLUMNS = {
    name: replace((EPISODE | RETRIEVAL | GALLERY)[name], kind="interval", width=24)
    for name in ("reward", "log_prob", "R1", "mAP", "gallery_log_prob", "hit_rate", "found", "overlap")
}
OVERLAP = "overlap"  # neither better nor worse if it is larger
COLOURS = {POLICY: "tab:blue", OTHER_CLIP: "tab:orange", AVERAGE_PLACE: "tab:orange"}
OTHER = "0.35"
LEGEND = {
    "tab:blue": "the policy on the clip that it looks at (dotted: its mean)",
    "tab:orange": "the policy's places, whatever the clip: as good only if it does not use the clip",
    OTHER: "other choices of bins on the same networks",
}


@dataclass(frozen=True)
class Cell:
    """A row's value in a column, and how far the policy's mean is above it, on the same clips or queries.

    Attributes:
        value: mean with its interval over people, or over runs.
        policy_minus_row: difference with its interval; None for the policy's mean itself.
    """

    value: Interval
    policy_minus_row: Interval | None


# Cells by row and column; None if nothing was measured, or of fewer than two people.
Cells = dict[str, dict[str, Cell | None]]


def summarise(values: Mapping[str, Mapping[str, np.ndarray]], person: Mapping[str, np.ndarray]) -> Cells:
    """Return means with 95% intervals, by drawing people with replacement; of differences, the same people.

    Args:
        values: numbers by row and column, one for each clip or query; NaN if it was not measured.
        person: persons by column, one for each clip or query.
    """
    table: Cells = {}
    for name in (name for name in ROWS if name in values):
        table[name] = {}
        for column in COLUMNS:
            value = _interval(values[name], person, column)
            difference = None
            if value is not None and name != POLICY:
                difference = _interval({column: values[POLICY][column] - values[name][column]}, person, column)
            table[name][column] = None if value is None else Cell(value, difference)
    return table


def over_runs(tables: Sequence[Cells]) -> Cells:
    """Return the means over runs of what each has, with Student's t intervals; differences are of the same run.

    Rows and cells that a run lacks are left out.

    Raises:
        ValueError: fewer than two runs.
    """
    names = [name for name in tables[0] if all(name in table for table in tables)]
    return {
        name: {column: _over_runs([table[name][column] for table in tables]) for column in COLUMNS}
        for name in names
    }


def _over_runs(cells: Sequence[Cell | None]) -> Cell | None:
    known = [cell for cell in cells if cell is not None]
    if len(known) < len(cells):
        return None
    differences = [cell.policy_minus_row.value for cell in known if cell.policy_minus_row is not None]
    return Cell(
        paired_interval([cell.value.value for cell in known]),
        paired_interval(differences) if len(differences) == len(known) else None,
    )


def _interval(values: Mapping[str, np.ndarray], person: Mapping[str, np.ndarray], column: str) -> Interval | None:
    interval = mean_over_people(values[column], person[column]) if column in values else None
    return interval if interval is not None and interval.has_bounds else None


def text_table(table: Cells) -> str:
    """Lay out the values, and below them the differences, with `*` if the interval leaves out 0."""
    starred = {
        name: {
            column: None if one is None else COLUMNS[column].shown(one) + ("*" if _sign(one) else " ")
            for column, one in row.items()
        }
        for name, row in _differences(table).items()
    }
    values, differences = (Table.of(rows, COLUMNS.values()).known().text() for rows in (_values(table), starred))
    title = f"{POLICY} minus row, on the same clips and queries; * the interval leaves out 0"
    return f"{values}\n\n{title}\n{differences}"


def _values(table: Cells) -> dict[str, dict[str, Interval | None]]:
    return {
        name: {column: None if cell is None else cell.value for column, cell in row.items()}
        for name, row in table.items()
    }


def _differences(table: Cells) -> dict[str, dict[str, Interval | None]]:
    return {
        name: {column: None if cell is None else cell.policy_minus_row for column, cell in row.items()}
        for name, row in table.items()
        if name != POLICY
    }


def _sign(interval: Interval) -> int:
    """Return 1 or -1 if the interval is above or below 0, else 0."""
    return int(interval.low > 0) - int(interval.high < 0)


def verdict(table: Cells) -> list[str]:
    """Return a text that says in which columns the policy's mean differs from looking regardless of the clip."""
    lines = []
    for name in (name for name in (OTHER_CLIP, AVERAGE_PLACE) if name in table):
        columns: dict[int, list[str]] = {1: [], -1: [], 0: []}
        for column, cell in table[name].items():
            if column != OVERLAP and cell is not None and cell.policy_minus_row is not None:
                columns[_sign(cell.policy_minus_row)].append(column)
        words = {1: "better in", -1: "worse in", 0: "not told apart in"}
        parts = [f"{words[sign]} {', '.join(found)}" for sign, found in columns.items() if found]
        lines.append(f'{POLICY} against "{name}": {"; ".join(parts)}')
    return lines


def agreement_over_runs(agreements: Sequence[Mapping[str, Interval | None]]) -> dict[str, Interval | None]:
    """Return the mean over runs by half of the data, with Student's t interval; None if a run has no value."""
    found: dict[str, Interval | None] = {}
    for half in agreements[0]:
        known = [one.value for of_run in agreements if (one := of_run.get(half)) is not None]
        found[half] = paired_interval(known) if len(known) == len(agreements) else None
    return found


def agreement_lines(agreement: Mapping[str, Interval | None]) -> list[str]:
    """Return a line for each half of the data: whether a bin pays more where retrieval gains more."""
    title = "reward and retrieval, correlation over the bins of a clip as the next look"
    return [f"{title}, {half}: {'-' if one is None else format(one, '.3f')}" for half, one in agreement.items()]


def draw(path: Path, table: Cells, title: str) -> None:
    """Draw one panel a column: above the values, below the policy's mean minus each row."""
    from matplotlib.figure import Figure  # it takes a second to import
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(24, 6.6), layout="constrained")
    figure.suptitle(title)
    handles = [Line2D([], [], color=colour, marker="o", label=text) for colour, text in LEGEND.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="lines: 95% intervals")
    values, differences = figure.subplots(2, len(COLUMNS), sharey="row")
    for column, upper, lower in zip(COLUMNS, values, differences, strict=True):
        intervals = {name: row[column] for name, row in _values(table).items()}
        _points(upper, intervals)
        _points(lower, {name: row[column] for name, row in _differences(table).items()})
        if (policy := intervals[POLICY]) is not None:
            upper.axvline(policy.value, color=COLOURS[POLICY], linewidth=0.8, linestyle=":")
        lower.axvline(0, color="black", linewidth=0.8)
        upper.set_title(f"{column.replace('_', ' ')}{', %' if column in RETRIEVAL else ''}")
        right = "overlaps more" if column == OVERLAP else "is better"
        lower.set_xlabel(f"policy mean minus row\n(right of 0: the policy {right})")
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)


def _points(axes: "Axes", intervals: Mapping[str, Interval | None]) -> None:
    for place, (name, interval) in enumerate(intervals.items()):
        if interval is not None:
            colour = COLOURS.get(name, OTHER)
            axes.plot([interval.low, interval.high], [place, place], color=colour)
            axes.plot(interval.value, place, "o", color=colour, markersize=5)
    if all(interval is None for interval in intervals.values()):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    axes.set_yticks(range(len(intervals)), list(intervals))
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
