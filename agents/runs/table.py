"""Tables of results: each column is declared once, and laid out as text, Markdown, HTML or CSV."""

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents.statistics import Interval


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: key of the column's values in a row, and the column's head in CSV.
        title: head in the other layouts; by default the name.
        spec: format of a number, as Python's `format` takes it.
        kind: number; interval, written as `value [low, high]`; margin, an interval written as `value ± margin`; or
            text, which is aligned to the left.
        width: fewest characters in the layout as text.
    """

    name: str
    title: str = ""
    spec: str = ""
    kind: Literal["text", "number", "interval", "margin"] = "number"
    width: int = 0

    @property
    def head(self) -> str:
        """Head of the column in the layouts other than CSV."""
        return self.title or self.name

    def shown(self, value: Any) -> str:
        """Return a value as it is displayed: `-` for None, and text as it is."""
        if value is None or isinstance(value, str):
            return "-" if value is None else value
        if isinstance(value, Interval) and self.kind != "interval":
            has_margin = self.kind == "margin" and value.has_bounds
            margin = f" ± {value.high - value.value:{self.spec.lstrip('+')}}" if has_margin else ""
            return format(value.value, self.spec) + margin
        return format(value, self.spec)

    def raw(self, value: Any, value_ending: str) -> dict[str, Any]:
        """Return a value by its heads in CSV: three for an interval, of which the value's has that ending."""
        if self.kind not in ("interval", "margin"):
            return {self.name: value}
        parts = {"value": None, "low": None, "high": None} if value is None else value.to_json()
        return {self.name + (value_ending if part == "value" else f"_{part}"): parts[part] for part in parts}


def with_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON has it with `Interval`s again, where it has their values and bounds."""
    intervals = {
        name: Interval.from_json(one) for name, one in row.items() if isinstance(one, dict) and "low" in one
    }
    return {**row, **intervals}


@dataclass(frozen=True)
class Table:
    """Rows of values by the columns' names: numbers, texts and `Interval`s; None if there is no value."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, rows: Mapping[str, Mapping[str, Any]], columns: Iterable[Column]) -> "Table":
        """Return a table of rows by name; the names stand in a first column without a head."""
        return cls([Column("", kind="text"), *columns], [{**row, "": name} for name, row in rows.items()])

    def known(self) -> "Table":
        """Return the table without the columns in which no row has a value."""
        return Table(
            [one for one in self.columns if any(row.get(one.name) is not None for row in self.rows)], self.rows
        )

    @property
    def cells(self) -> list[list[str]]:
        """Cells as they are displayed, the heads first."""
        body = [[column.shown(row.get(column.name)) for column in self.columns] for row in self.rows]
        return [[column.head for column in self.columns], *body]

    def text(self) -> str:
        """Lay the table out for a terminal."""
        lines = self.cells
        widths = [max(column.width, *map(len, cells)) for column, *cells in zip(self.columns, *lines, strict=True)]
        aligns = ["<" if column.kind == "text" else ">" for column in self.columns]
        return "\n".join(
            "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(line, aligns, widths, strict=True)).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """Lay the table out as Markdown."""
        head, *body = ([cell.replace("|", "\\|") for cell in line] for line in self.cells)
        return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))

    def html(self) -> str:
        """Lay the table out as an HTML element."""
        head, *body = self.cells
        lines = [(head, "th"), *((line, "td") for line in body)]
        cells = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) for line, tag in lines)
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"

    def csv(self, *, digits: int | None = None, value_ending: str = "_value") -> str:
        """Lay the table out as comma-separated values, bounds of intervals in columns of their own.

        Args:
            digits: digits after the point of every fraction; by default as many as there are.
            value_ending: ending of the head of an interval's value; those of its bounds end in `_low` and `_high`.
        """

        def written(value: Any) -> Any:
            return f"{value:.{digits}f}" if digits is not None and isinstance(value, float) else value

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head for column in self.columns for head in column.raw(None, value_ending))
        for row in self.rows:
            parts = (column.raw(row.get(column.name), value_ending).values() for column in self.columns)
            writer.writerow(written(value) for values in parts for value in values)
        return text.getvalue()
