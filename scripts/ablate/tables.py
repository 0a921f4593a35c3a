"""The paper's ablations as data (Tables VII to X, Figures 5 to 7): each row is a change of a run's settings."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from agents.runs.config import TrainConfig
from agents.runs.recipes import STRONG_LEVERS, TRICKS, has_trick, plain, set_trick, with_agent, with_settings

Change = Callable[[TrainConfig], TrainConfig]
Figures = dict[str, float]  # percentages by column


@dataclass(frozen=True)
class Row:
    """A method, which is a row of a table.

    Attributes:
        name: name of the row, for --rows and the folder of its runs.
        label: display name of the row.
        change: function from the preset's settings to the method's.
        paper: scores that the paper reports.
        needs_truth: whether the data has to know where the identifying thing is.
        place: coordinates in a line plot: the x value and, for several lines, the value that names the line.
    """

    name: str
    label: str
    change: Change
    paper: Figures = field(default_factory=dict)
    needs_truth: bool = False
    place: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper.

    Attributes:
        name: name of the table, for --table and its files.
        title: title of the report.
        rows: function that returns the rows for given settings, which the sizes of bins depend on.
        plot: kind of plot: differences to the first row, lines over `Row.place`, curves by epoch, or none.
        axis: label of the x axis, for plots of lines.
        points: number of evaluations in the course of each training, for curves.
        crosses: whether each run is tested on other data, too.
        recipe: recipe that it starts from; None: the one asked for.
    """

    name: str
    title: str
    rows: Callable[[TrainConfig], list[Row]]
    plot: Literal["differences", "lines", "curves", "none"] = "differences"
    axis: tuple[str, ...] = ()
    points: int = 0
    crosses: bool = False
    recipe: str | None = None


def unchanged(config: TrainConfig) -> TrainConfig:
    """Return the settings as they are."""
    return config


def set_agent(name: str) -> Change:
    """Let another agent decide."""
    return lambda config: with_agent(config, name)


def set_backbone(**settings: Any) -> Change:
    """Change settings of the backbone."""
    return lambda config: dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **settings))


def set_bin_size(time: int | None = None, height: int | None = None, width: int | None = None) -> Change:
    """Change a bin's cells along some axes."""

    def change(config: TrainConfig) -> TrainConfig:
        old = config.attention.bin_size
        size = (time or old[0], height or old[1], width or old[2])
        return dataclasses.replace(config, attention=dataclasses.replace(config.attention, bin_size=size))

    return change


def set_glimpses(number: int) -> Change:
    """Change the number of glimpses; with one or none there is nothing to decide, and what decides is left out."""

    def change(config: TrainConfig) -> TrainConfig:
        config = with_settings(config, attention={"num_glimpses": number})
        if number == 0:
            config = with_settings(config, joint={"glimpse_weight": 0.0})
        return without_decisions(config) if number < 2 else config

    return change


def without_decisions(config: TrainConfig) -> TrainConfig:
    """Take the cheapest settings where no agent can make a difference: all episodes of a clip are alike."""
    return with_settings(
        with_agent(config, "centre"),
        joint={"episodes_per_clip": 1},
        attention={"reward": "log_prob", "overview": None, "shows_looked": False},
        policy={"locator": "linear", "inhibition": 0.0},
    )


def chain(*changes: Change) -> Change:
    """Make several changes one after another."""

    def change(config: TrainConfig) -> TrainConfig:
        for each in changes:
            config = each(config)
        return config

    return change


def figures(rank1: float, rank5: float, mean_ap: float) -> Figures:
    """Return the columns of Tables VII and VIII."""
    return {"R1": rank1, "R5": rank5, "mAP": mean_ap}


FULL = Row("full", "proposed (full)", unchanged, figures(87.9, 98.6, 92.5))
WITHOUT_ATTENTION = Row("without_attention", "w/o attention", set_glimpses(0), figures(85.9, 97.7, 91.3))
WITHOUT_RNN = Row("without_rnn", "w/o RNN", set_glimpses(1), figures(86.8, 98.5, 91.8))
QAN = Row("qan", "QAN", chain(set_glimpses(0), set_backbone(pooling="quality")), figures(85.8, 98.1, 91.0))

TABLE_7 = (
    FULL,
    WITHOUT_ATTENTION,
    Row("random", "random attention", set_agent("random"), figures(80.5, 96.8, 87.6)),
    WITHOUT_RNN,
    Row("without_rl", "w/o RL objective", set_agent("untrained"), figures(85.0, 96.6, 90.1)),
    Row("without_flow", "w/o optical flow", set_backbone(flow=None), figures(84.8, 96.8, 88.7)),
    QAN,
    Row(
        "separate",
        "separate attention",
        chain(set_glimpses(0), set_backbone(pooling="separate")),
        figures(86.3, 98.3, 91.5),
    ),
    Row("centre", "centre bins (not in the paper)", set_agent("centre")),
    Row("truth", "truth bins (not in the paper)", set_agent("truth"), needs_truth=True),
)
TABLE_8 = (
    dataclasses.replace(WITHOUT_RNN, label="one step", place=(1,)),
    Row("two_glimpses", "two steps", set_glimpses(2), figures(87.4, 98.3, 92.2), place=(2,)),
    Row("four_glimpses", "four steps", set_glimpses(4), figures(87.9, 98.6, 92.5), place=(4,)),
)
# Table X's figures of other methods are of their own networks; ours share the backbone.
TABLE_10 = (
    dataclasses.replace(FULL, paper={"R1": 64.2, "R5": 84.7, "R10": 92.8, "R20": 98.5}),
    dataclasses.replace(WITHOUT_ATTENTION, paper={}),
    dataclasses.replace(QAN, paper={"R1": 34.0, "R5": 61.3, "R10": 74.0, "R20": 83.1}),
)


def bin_lengths(config: TrainConfig) -> list[Row]:
    """Return the rows of Figure 5: bins of one frame, of thirds of the clip, and of the preset's length."""
    length = _feature_size(config)[0]
    counts = {1, config.attention.bin_size[0], *(max(round(length * part / 3), 1) for part in (1, 2, 3))}
    return [
        Row(f"bin_length_{count}", f"{count} of {length} frames", set_bin_size(time=count), place=(count,))
        for count in sorted(counts)
    ]


def bin_areas(config: TrainConfig) -> list[Row]:
    """Return the rows of Figure 6: bins of half, once and one and a half times the preset's height and width."""
    _, height, width = _feature_size(config)
    _, own_height, own_width = config.attention.bin_size
    return [
        Row(
            f"bin_area_{rows}x{columns}",
            f"{rows} x {columns} of {height} x {width} cells",
            set_bin_size(height=rows, width=columns),
            place=(rows, columns),
        )
        for rows in _around(own_height, height)
        for columns in _around(own_width, width)
    ]


def levers(config: TrainConfig) -> list[Row]:
    """Return the strong recipe, and with each of its levers switched back if that changes anything."""
    rows = [dataclasses.replace(FULL, label="strong (all levers)", paper={})]
    return rows + [
        Row(lever_row(name), lever_row(name).replace("no_", "w/o ", 1).replace("_", " "), STRONG_LEVERS[name])
        for name in STRONG_LEVERS
        if _counts(config, STRONG_LEVERS[name])
    ]


def lever_row(lever: str) -> str:
    """Return the name of the row in which a lever is switched back."""
    return f"with_{lever.removeprefix('without_')}" if lever.startswith("without_") else f"no_{lever}"


def ladder(config: TrainConfig) -> list[Row]:
    """Return the recipe asked for, alone and with each option of metric and training switched, and `plain`."""
    rows = [dataclasses.replace(FULL, label=f"{config.recipe} (as it is)", paper={})]
    for name in ("global_triplet", "metric", "mirror", "flow_scale"):
        if _counts(config, STRONG_LEVERS[name]):
            rows.append(Row(f"no_{name}", f"w/o {name.replace('_', ' ')}", STRONG_LEVERS[name]))
    for name in TRICKS:
        change = partial(set_trick, name, on=not has_trick(name, config))
        if _counts(config, change):
            prefix, label = ("no", "w/o") if has_trick(name, config) else ("with", "with")
            rows.append(Row(f"{prefix}_{name}", f"{label} {name.replace('_', ' ')}", change))
    learned = chain(plain, lambda settings: with_settings(settings, descriptor={"compared": "learned"}))
    return [
        *rows,
        dataclasses.replace(WITHOUT_ATTENTION, paper={}),
        Row("plain", "plain", plain),
        Row("plain_metric", "plain, with the learned metric", learned),
    ]


def _counts(config: TrainConfig, change: Change) -> bool:
    """Tell whether a change makes another run; settings of a stream or loss that is not there don't."""
    return _that_count(change(config)) != _that_count(config)


def _that_count(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the settings of what is not there set to one value."""
    if config.backbone.flow is None:
        config = with_settings(config, backbone={"flow_scale": "one"})
    if not config.joint.triplet_weight:
        config = with_settings(
            config, joint={"triplet_on": "global", "triplet_distance": "euclidean", "margin": 0.3}
        )
    return config


# All but Table IX, which takes no training: scripts/ablate/cost.py.
COST = "table9"  # which has no runs
TABLES: dict[str, Table] = {
    "7": Table("table7", "Table VII: ablations", lambda config: list(TABLE_7)),
    "8": Table("table8", "Table VIII: number of glimpses", lambda config: list(TABLE_8), "lines", ("glimpses",)),
    "fig5": Table("fig5", "Figure 5: length of the bins", bin_lengths, "lines", ("frames of a bin",)),
    "fig6": Table(
        "fig6", "Figure 6: height and width of the bins", bin_areas, "lines", ("cells in height", "cells in width")
    ),
    "10": Table("table10", "Table X: tested on other data", lambda config: list(TABLE_10), "none", crosses=True),
    "fig7": Table("fig7", "Figure 7: convergence", lambda config: [FULL], "curves", points=10),
    "ladder": Table("ladder", "Ladder: the metric and the training", ladder),
    "levers": Table("levers", "Levers of the strong recipe", levers, recipe="strong"),
}


def _feature_size(config: TrainConfig) -> tuple[int, int, int]:
    from backbone.build import build_backbone  # --help need not wait for torch

    backbone = build_backbone(dataclasses.replace(config.backbone, weights=None))
    return backbone.feature_size(config.load.num_frames, config.load.height, config.load.width)


def _around(own: int, most: int) -> list[int]:
    """Return half, once and one and a half times a size, rounded up, each once and not above `most`."""
    return sorted({min(math.ceil(own * times), most) for times in (0.5, 1, 1.5)})
