"""The table and the figure of `a3d probe`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np

from agents.statistics import Interval, mean_interval, paired_interval
from backbone.files import replacing
from scripts.probe.measures import MEAN_LOCATION, POLICY, ROWS, SWAPPED

COLUMNS = {"reward": 3, "log_prob": 3, "R1": 1, "mAP": 1, "hit_rate": 1}  # and the digits shown
COLOURS = {POLICY: "tab:blue", SWAPPED: "tab:orange", MEAN_LOCATION: "tab:orange"}


@dataclass(frozen=True)
class Cell:
    """A row's value in a column, and how far the policy's mean is above it, on the same clips or queries.

    Attributes:
        value: with its interval over people, or over runs.
        policy_minus_row: None for the policy's mean itself.
    """

    value: Interval
    policy_minus_row: Interval | None


# For each row and column; None where nothing was measured, or of fewer than two people.
Table = dict[str, dict[str, Cell | None]]


def summarise(values: Mapping[str, Mapping[str, np.ndarray]], person: Mapping[str, np.ndarray]) -> Table:
    """Return means with 95% intervals, by drawing people with replacement; of differences, the same people.

    Args:
        values: for each row and column, one number a clip or query, NaN where nothing was measured.
        person: for each column, whose these are.
    """
    table: Table = {}
    for name in (name for name in ROWS if name in values):
        table[name] = {}
        for column in COLUMNS:
            value = _interval(values[name], person, column)
            difference = None
            if value is not None and name != POLICY:
                difference = _interval({column: values[POLICY][column] - values[name][column]}, person, column)
            table[name][column] = None if value is None else Cell(value, difference)
    return table


def over_runs(tables: Sequence[Table]) -> Table:
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
    if column not in values or len(np.unique(person[column][~np.isnan(values[column])])) < 2:
        return None
    return mean_interval(values[column], person[column])


def text_table(table: Table) -> str:
    """Lay out the values, and below them the differences, `*` where the interval leaves out 0."""
    values = {column: _values(table, column) for column in COLUMNS}
    differences = {column: _differences(table, column) for column in COLUMNS}
    title = "policy mean minus row, on the same clips and queries; * the interval leaves out 0"
    return f"{_lines(values)}\n\n{title}\n{_lines(differences, starred=True)}"


def _values(table: Table, column: str) -> dict[str, Interval | None]:
    return {name: None if (cell := row[column]) is None else cell.value for name, row in table.items()}


def _differences(table: Table, column: str) -> dict[str, Interval | None]:
    return {
        name: None if (cell := row[column]) is None else cell.policy_minus_row
        for name, row in table.items()
        if name != POLICY
    }


def _lines(columns: Mapping[str, Mapping[str, Interval | None]], *, starred: bool = False) -> str:
    width = max(map(len, ROWS))
    lines = [" " * width + "".join(f"{column:>26}" for column in COLUMNS)]
    for name in columns["reward"]:
        cells = (_shown(columns[column][name], digits, starred) for column, digits in COLUMNS.items())
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def _shown(interval: Interval | None, digits: int, starred: bool) -> str:
    if interval is None:
        return "-"
    low, value, high = (f"{number:.{digits}f}" for number in (interval.low, interval.value, interval.high))
    star = "*" if starred and _sign(interval) else " " if starred else ""
    return f"{value} [{low}, {high}]{star}"


def _sign(interval: Interval) -> int:
    """Return 1 or -1 if the interval is above or below 0, else 0."""
    return int(interval.low > 0) - int(interval.high < 0)


def verdict(table: Table) -> list[str]:
    """Say in which columns the policy's mean is told apart from looking without regard to the clip."""
    lines = []
    for name in (name for name in (SWAPPED, MEAN_LOCATION) if name in table):
        columns: dict[int, list[str]] = {1: [], -1: [], 0: []}
        for column, cell in table[name].items():
            if cell is not None and cell.policy_minus_row is not None:
                columns[_sign(cell.policy_minus_row)].append(column)
        words = {1: "better in", -1: "worse in", 0: "not told apart in"}
        parts = [f"{words[sign]} {', '.join(found)}" for sign, found in columns.items() if found]
        lines.append(f"{POLICY} against {name}: {'; '.join(parts)}")
    return lines


def draw(path: Path, table: Table, title: str) -> None:
    """Draw one panel a column: above the values, below the policy's mean minus each row."""
    figure = matplotlib.figure.Figure(figsize=(16, 6.2), layout="constrained")
    figure.suptitle(title)
    values, differences = figure.subplots(2, len(COLUMNS), sharey="row")
    for column, upper, lower in zip(COLUMNS, values, differences, strict=True):
        intervals = _values(table, column)
        _points(upper, intervals)
        _points(lower, _differences(table, column))
        if (policy := intervals[POLICY]) is not None:
            upper.axvline(policy.value, color=COLOURS[POLICY], linewidth=0.8, linestyle=":")
        lower.axvline(0, color="black", linewidth=0.8)
        upper.set_title(f"{column.replace('_', ' ')}{'' if COLUMNS[column] > 1 else ', %'}")
        lower.set_xlabel("policy mean minus row")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)


def _points(axes: "matplotlib.axes.Axes", intervals: Mapping[str, Interval | None]) -> None:
    for place, (name, interval) in enumerate(intervals.items()):
        if interval is not None:
            colour = COLOURS.get(name, "0.35")
            axes.plot([interval.low, interval.high], [place, place], color=colour)
            axes.plot(interval.value, place, "o", color=colour, markersize=5)
    if all(interval is None for interval in intervals.values()):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
    axes.set_yticks(range(len(intervals)), list(intervals))
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
