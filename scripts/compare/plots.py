"""The pictures of `a3d compare`: learning curves, performance profile, where each agent looks."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np

from backbone.files import atomic_path


def draw(report: Mapping[str, Any], folder: Path) -> dict[str, bytes]:
    """Draw the pictures into a folder.

    Returns:
        Content of the PNG files by name.
    """
    makers = {"curves.png": curves, "profile.png": profile, "locations.png": locations}
    pictures = {}
    for name, make in makers.items():
        buffer = io.BytesIO()
        make(report).savefig(buffer, dpi=110, format="png")
        pictures[name] = buffer.getvalue()
        with atomic_path(folder / name) as partial:
            partial.write_bytes(pictures[name])
    return pictures


def curves(report: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """Draw each agent's score by environment step; an agent that does not learn is a level."""
    figure = matplotlib.figure.Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    last = max((point["step"] for row in report["agents"] for point in row["curve"]), default=0)
    for number, row in enumerate(report["agents"]):
        look = style(number)
        points = row["curve"]
        if not points:
            axes.axhline(row["mean"]["value"], linewidth=1, label=row["agent"], **look)
            continue
        step = [point["step"] for point in points]
        axes.plot(step, [point["value"] for point in points], marker="o", markersize=3, label=row["agent"], **look)
        low, high = ([point[side] for point in points] for side in ("low", "high"))
        axes.fill_between(step, low, high, color=look["color"], alpha=0.15)
    axes.set(xlabel="environment steps", ylabel=f"{report['score']} of the policy's mean, clips held out")
    axes.set_xlim(0, last or None)
    axes.set_title(
        "line: mean over seeds; band: 95% bootstrap interval; level: an agent that does not learn", fontsize=9
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def profile(report: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """Draw the share of runs above each score."""
    figure = matplotlib.figure.Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, row in enumerate(report["agents"]):
        value, low, high = row["profile"]
        axes.plot(report["thresholds"], value, drawstyle="steps-post", label=row["agent"], **style(number))
        axes.fill_between(report["thresholds"], low, high, color=f"C{number % 10}", alpha=0.1, step="post")
    axes.set(xlabel=report["score"], ylabel="share of runs above", ylim=(-0.02, 1.02))
    axes.set_title("higher and further right is better; band: 95% bootstrap interval", fontsize=9)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def style(number: int) -> dict[str, Any]:
    """Return an agent's colour and line, different for 40 of them."""
    return {"color": f"C{number % 10}", "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}


def locations(report: Mapping[str, Any]) -> matplotlib.figure.Figure:
    """Draw how often each agent looks at each place, one row an agent, one column a glimpse."""
    rows = report["agents"]
    glimpses = len(rows[0]["bins"])
    figure = matplotlib.figure.Figure(figsize=(2.2 * glimpses + 1.5, 2.6 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), max(glimpses, 1), squeeze=False)
    for row, line in zip(rows, panels, strict=True):
        for number, axes in enumerate(line[:glimpses]):
            counts = np.array(row["bins"][number], dtype=float).reshape(row["positions"]).sum(axis=0)
            axes.imshow(counts / counts.sum(), cmap="magma", vmin=0)
            axes.set(xticks=[], yticks=[], title=f"glimpse {number + 2}" if row is rows[0] else "")
        line[0].set_ylabel(row["agent"])
    figure.supxlabel(
        "black: no look; bright: most looks of this row\nand glimpse; height and width of the clip", fontsize=9
    )
    return figure
