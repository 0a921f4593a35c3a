"""The pictures of an ablation's report, in the form of the paper's figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes

from scripts.ablate.text import DRAWN


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw a report's picture, one panel for R1 and one for mAP."""
    draw_panel, height = {
        "differences": (draw_differences, 1.6 + 0.35 * len(report["rows"])),
        "lines": (draw_lines, 3.8),
        "curves": (draw_curves, 3.8),
    }[report["plot"]]
    figure = matplotlib.figure.Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(report["title"])
    panels = figure.subplots(1, len(DRAWN), sharey=report["plot"] == "differences")
    for axes, column in zip(panels, DRAWN, strict=True):
        draw_panel(axes, report, column)
        axes.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), fontsize="small")
    figure.savefig(path, dpi=120)


def draw_differences(axes: Axes, report: dict[str, Any], column: str) -> None:
    """Draw each row's difference to the full method with its interval, beside the paper's."""
    rows = [row for row in report["rows"] if not row["is_full"]]
    ours = [(row["differences"][column], place) for place, row in enumerate(rows) if row["differences"][column]]
    if ours:
        points([interval for interval, _ in ours], [place for _, place in ours], axes, "here, with 95% interval")
    paper = [
        (row["paper_differences"][column], place)
        for place, row in enumerate(rows)
        if column in row["paper_differences"]
    ]
    if paper:
        axes.plot(*zip(*paper, strict=True), "D", color="tab:red", markersize=4, label="the paper")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(yticks=range(len(rows)), yticklabels=[row["label"] for row in rows])
    axes.set(xlabel=f"{column} less the full method's, in points", ylim=(max(len(rows), 1) - 0.5, -0.5))


def points(intervals: Sequence[dict[str, Any]], places: Sequence[float], axes: Axes, label: str) -> None:
    """Draw estimates along x."""
    value = [interval["value"] for interval in intervals]
    axes.errorbar(value, places, xerr=margins(intervals), fmt="o", capsize=3, label=label)


def draw_lines(axes: Axes, report: dict[str, Any], column: str) -> None:
    """Draw scores by the rows' first place, a line for each second one."""
    axis = report["axis"]
    rows = [row for row in report["rows"] if row["means"][column]]
    for line in sorted({tuple(row["place"][1:]) for row in rows}):
        chosen = sorted((row for row in rows if tuple(row["place"][1:]) == line), key=lambda row: row["place"])
        intervals = [row["means"][column] for row in chosen]
        axes.errorbar(
            [row["place"][0] for row in chosen],
            [interval["value"] for interval in intervals],
            yerr=margins(intervals),
            fmt="o-",
            capsize=3,
            label=f"{line[0]} {axis[1]}" if line else "here, with 95% interval",
        )
    paper = sorted((row["place"][0], row["paper"][column]) for row in rows if column in row["paper"])
    if paper:
        axes.plot(*zip(*paper, strict=True), "D--", color="tab:red", markersize=4, label="the paper")
    axes.set(xlabel=axis[0], ylabel=f"{column}, %", xticks=sorted({row["place"][0] for row in rows}))


def draw_curves(axes: Axes, report: dict[str, Any], column: str) -> None:
    """Draw scores by epoch, with a band for the interval."""
    for row in report["rows"]:
        curve = [point for point in row["curve"] if point[column]]
        epochs = [point["epoch"] for point in curve]
        lower, upper = margins([point[column] for point in curve])
        values = [point[column]["value"] for point in curve]
        axes.plot(epochs, values, "o-", markersize=3, label=row["label"])
        axes.fill_between(
            epochs,
            [value - margin for value, margin in zip(values, lower, strict=True)],
            [value + margin for value, margin in zip(values, upper, strict=True)],
            alpha=0.2,
        )
    axes.set(xlabel="epoch", ylabel=f"{column}, %")


def margins(intervals: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the distances of the bounds below and above the values; 0 if there is no interval."""
    lower = [0 if each["low"] is None else each["value"] - each["low"] for each in intervals]
    upper = [0 if each["high"] is None else each["high"] - each["value"] for each in intervals]
    return lower, upper
