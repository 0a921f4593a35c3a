"""Cost of attention (Table IX): training, inference and size, with and without it, measured in turns."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.rollout import at_test, follow
from agents.runs.build import build_cache, pick_device
from agents.runs.config import TrainConfig, config_to_json
from agents.runs.describe import clip_bank
from agents.runs.scoring import searched_tracklets
from agents.runs.table import Column, Table, with_intervals
from agents.runs.task import settings_digest
from agents.runs.trained import build_batches, build_model, build_shared
from agents.statistics import Interval
from backbone.data import ReidData, load_data
from backbone.data.cache import FrameCache
from backbone.data.loader import ClipBatch, TestBatches
from backbone.files import write_text
from backbone.json_file import read_object, write_object
from scripts.ablate.report import estimate
from scripts.ablate.tables import COST, FULL, WITHOUT_ATTENTION, Row

TITLE = "Table IX: cost of the attention"
NUM_BATCHES = 4  # different ones, taken again and again
ROUNDS = 7  # in each, every row is measured once
ROUND_SECONDS = 1.0  # of each measurement, at least about
MEGABYTE = 1e6

# Of MARS, with the paper's machine and network: hours, videos per second, megabytes.
PAPER = {
    WITHOUT_ATTENTION.name: {"training_hours": 5.8, "videos_per_second": 12.7, "megabytes": 99.4},
    FULL.name: {"training_hours": 6.0, "videos_per_second": 11.6, "megabytes": 99.5},
}
ROWS = (WITHOUT_ATTENTION, FULL)

NOTES = (
    "Seconds, clips, frames and videos (tracklets) are the means over {rounds} rounds, in each of which the rows "
    "take turns; a ratio is to the row without attention, of the same round, ± Student's t interval of 95% over "
    "rounds. Frames and flow are in memory before the clock starts. A training batch has {clips} clips of "
    "{frames} frames, with {episodes} episodes on each where there is attention. The size is of what is needed at "
    "test time: no V, F_c only where its confidence weights the clips (wherever cosine compares), and without "
    "attention neither F_o, F_h nor F_a. The paper's ratios are of MARS."
)


COLUMNS = (
    Column("label", "method"),
    Column("training_seconds_per_batch", "training, s/batch", ".3f"),
    Column("training_ratio", "ratio", ".2f", "margin"),
    Column("paper_training_ratio", "the paper's", ".2f"),
    Column("clips_per_second", "clips/s", ".1f"),
    Column("frames_per_second", "frames/s", ".1f"),
    Column("videos_per_second", "videos/s", ".1f"),
    Column("inference_ratio", "ratio", ".2f", "margin"),
    Column("paper_inference_ratio", "the paper's", ".2f"),
    Column("megabytes", "MB", ".2f"),
    Column("size_ratio", "ratio", ".3f"),
    Column("paper_size_ratio", "the paper's", ".3f"),
)


@dataclass(frozen=True)
class Method:
    """A method, which is a row of the table, ready to be measured.

    Attributes:
        train: function that trains on this many batches.
        infer: function that describes the clips of the test batch this many times.
        megabytes: size of the weights that a test needs, in megabytes.
    """

    train: Callable[[int], object]
    infer: Callable[[int], object]
    megabytes: float


def measure_cost(config: TrainConfig, *, rounds: int = ROUNDS, seconds: float = ROUND_SECONDS) -> dict[str, Any]:
    """Measure training, inference and size of the full method and of that without attention.

    Args:
        config: settings of the full method.
        rounds: number of rounds; in each, every row is measured once, so that a machine that becomes slower does
            so for both.
        seconds: seconds that each measurement takes, about, by repetition.

    Returns:
        The numbers that the report is made of.
    """
    changed = {row.name: row.change(config) for row in ROWS}
    cache = build_cache(config)
    data = load_data(config.data, config.data_options, cache.folder)
    training, testing = load_batches(config, data, cache)
    methods = {name: prepare(each, data, training, testing) for name, each in changed.items()}
    device = pick_device(config.device)

    def clock(run: Callable[[int], object], count: int) -> float:
        start = time.perf_counter()
        run(count)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / count

    runs = {(name, kind): getattr(method, kind) for name, method in methods.items() for kind in ("train", "infer")}
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    repeats = {}
    for key, run in runs.items():
        clock(run, 1)  # the first time pays for memory and kernels
        repeats[key] = max(1, round(seconds / clock(run, 1)))
    for _ in range(rounds):
        for key, run in runs.items():
            taken[key].append(clock(run, repeats[key]))

    tracklets = searched_tracklets(data)
    clips_per_video = len(TestBatches(tracklets, cache, config.load.num_frames, 1)) / len(tracklets)
    return {
        "name": COST,
        "title": TITLE,
        "settings_digest": settings_digest(config),
        "settings": json.loads(config_to_json(config)),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "rows": [
            summary(
                row, taken, methods[row.name].megabytes, len(testing.clip), clips_per_video, config.load.num_frames
            )
            for row in ROWS
        ],
    }


def load_batches(config: TrainConfig, data: ReidData, cache: FrameCache) -> tuple[list[ClipBatch], ClipBatch]:
    """Return a few batches to train on, and one batch of test clips."""
    batches = build_batches(config, data, cache)
    training = [batches[number] for number in range(NUM_BATCHES)]
    return training, TestBatches(searched_tracklets(data), cache, config.load.num_frames, 32)[0]


def prepare(config: TrainConfig, data: ReidData, training: list[ClipBatch], testing: ClipBatch) -> Method:
    """Build a method's networks, and the functions that train and test them."""
    model = build_model(config, data.train_people)
    representation, agent = model.representation, model.agent
    shared = build_shared(model, itertools.cycle(training), data.train)

    def train(count: int) -> None:
        agent.learn(count * model.steps_per_batch, callback=shared, log_interval=10**9)

    @torch.no_grad()
    def infer(count: int) -> None:
        for _ in range(count):
            process = model.process(clip_bank(model, testing))
            representation.compare(process.descriptor(follow(at_test(agent), process)))

    weights = {f"representation.{name}": value for name, value in representation.state_dict().items()}
    unused = ["representation.glimpse.embed_"]
    if not representation.comparison.is_cosine:  # F_c's confidence weights the clips there
        unused.append("representation.glimpse.identify.")
    if config.attention.num_glimpses:
        weights |= {f"policy.{name}": value for name, value in agent.policy.state_dict().items()}
        unused.remove("representation.glimpse.embed_")
    size = sum(
        value.numel() * value.element_size()
        for name, value in weights.items()
        if not name.startswith(tuple(unused)) and "value_net" not in name and "critic" not in name
    )
    return Method(train, infer, size / MEGABYTE)


def summary(
    row: Row,
    taken: dict[tuple[str, str], list[float]],
    megabytes: float,
    clips: int,
    clips_per_video: float,
    num_frames: int,
) -> dict[str, Any]:
    """Return a row's means and its ratios, round by round, to the row without attention."""
    train, infer = taken[row.name, "train"], taken[row.name, "infer"]
    base = WITHOUT_ATTENTION.name
    per_second = [clips / seconds for seconds in infer]
    return {
        "name": row.name,
        "label": row.label,
        "training_seconds_per_batch": estimate(train),
        "clips_per_second": estimate(per_second),
        "frames_per_second": estimate([num_frames * rate for rate in per_second]),
        "videos_per_second": estimate([rate / clips_per_video for rate in per_second]),
        "megabytes": megabytes,
        "training_ratio": estimate([one / other for one, other in zip(train, taken[base, "train"], strict=True)]),
        "inference_ratio": estimate([other / one for one, other in zip(infer, taken[base, "infer"], strict=True)]),
        "paper": PAPER[row.name],
    }


def cost_table(report: dict[str, Any]) -> str:
    """Lay out the rows beside the paper's."""
    rows = [with_intervals(row) for row in report["rows"]]
    base = next(row for row in rows if row["name"] == WITHOUT_ATTENTION.name)
    for row in rows:
        paper = {name: row["paper"][name] / base["paper"][name] for name in row["paper"]}
        row["paper_training_ratio"] = paper["training_hours"]
        row["paper_inference_ratio"] = paper["videos_per_second"]
        row["size_ratio"], row["paper_size_ratio"] = row["megabytes"] / base["megabytes"], paper["megabytes"]
    return Table(COLUMNS, rows).markdown()


def cost_csv(report: dict[str, Any]) -> str:
    """Lay the rows out as comma-separated values, bounds of intervals in columns of their own."""
    rows = [with_intervals(row) for row in report["rows"]]
    rows = [row | {f"paper_{name}": value for name, value in row.pop("paper").items()} for row in rows]
    columns = [
        Column(n, kind="interval" if isinstance(value, Interval) else "number") for n, value in rows[0].items()
    ]
    return Table(columns, rows).csv()


@dataclass(frozen=True)
class CostReport:
    """Entries of a report that are read: `measure_cost` says what they are."""

    settings_digest: str
    settings: dict[str, Any]
    device: str
    threads: int
    rounds: int
    rows: list[dict[str, Any]]


def report_cost(config: TrainConfig, folder: Path, *, report_only: bool = False) -> str | None:
    """Measure, unless that was done with the same settings, and write the report.

    Returns:
        The table, or None if there is nothing to report.
    """
    path = folder / f"{COST}.json"
    report = read_object(path, CostReport, "remove it, and it is measured again") if path.is_file() else None
    if not report_only and (report is None or report["settings_digest"] != settings_digest(config)):
        report = measure_cost(config)
        write_object(path, report, indent=2)
    if report is None:
        return None
    settings, table = report["settings"], cost_table(report)
    load = settings["load"]
    notes = NOTES.format(
        rounds=report["rounds"],
        clips=load["num_people"] * load["clips_per_person"],
        frames=load["num_frames"],
        episodes=settings["joint"]["episodes_per_clip"],
    )
    where = f"Preset {settings['preset']}, backbone {settings['backbone']['name']}, data {settings['data']}, "
    where += f"device {report['device']}, threads {report['threads']}."
    write_text(folder / f"{COST}.csv", cost_csv(report))
    write_text(folder / f"{COST}.md", "\n\n".join([f"# {TITLE}", where, notes, table]) + "\n")
    return table
