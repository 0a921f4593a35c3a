"""Measure whether the agent looks at the right place in each clip, in a table and a figure: `a3d probe`.

The policy without exploration (its mean, or the place of a mixture with the most weight) is compared, on the same
representation, with a sample of the policy, with random and centre bins, with the policy's average place at each
step ("policy, average place"), with the policy's places on another person's clip ("policy, another clip"), with
bins on the thing that tells people apart (truth, if it is known) and with the best bin at each glimpse. An agent
that looks at the right place in each clip scores higher than its average place, and than its places on another
clip.

reward and log_prob are measured on the people that F_c was fitted on; on other data there is neither, as F_c knows
nobody there. R1, mAP and hit_rate are measured on the test people. Intervals (95%) are over people; differences
are of the same clips and queries. For several runs, such as an ablation's seeds, the table has the means over runs
with Student's t intervals.

A run, on the data of its training: `a3d probe --checkpoint runs/benchmark`

All seeds of an ablation: `a3d probe --checkpoint out/table7/full/* --out out/probe`

Other data, two clips of each tracklet:
`a3d probe --checkpoint runs/benchmark --data folder:my_tracklets --max-clips 2`
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from agents.runs.model import Run
from backbone.files import atomic_path, check_writable, folder_lock
from backbone.progress import counted, log_line, print_result
from scripts.options import Data, Runtime, RuntimeOptions
from scripts.probe.measures import Measured, measure
from scripts.probe.report import Cells, draw, over_runs, summarise, text_table, verdict

JSON, PICTURE = "probe.json", "probe.png"


@dataclass(frozen=True)
class ProbeConfig:
    """Checkpoints to probe, and the clips to probe them on."""

    checkpoint: tuple[Path, ...]
    """Folder of a run, or its checkpoint.pt; or several of them."""
    data: Data = None
    out: Path | None = None
    """Folder of probe.json and probe.png; by default the folder `probe` beside the checkpoint; several checkpoints
    need it."""
    max_clips: int | None = None
    """Most clips of each tracklet, spread evenly over it; by default all."""
    clips_per_batch: int = 32
    """Number of clips that are in memory at once."""
    seed: int = 0
    """Seed of the random and the sampled bins, and of the choice of another person's clip for each clip."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if not self.checkpoint or (len(self.checkpoint) > 1 and self.out is None):
            raise ValueError(
                f"give one checkpoint, or several and where the results go (--out); got {len(self.checkpoint)}"
            )
        if len({path.resolve() for path in self.checkpoint}) < len(self.checkpoint):
            raise ValueError("a checkpoint is given twice, so that it would count as two runs")
        for name in ("max_clips", "clips_per_batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        (first, *_) = self.checkpoint
        run = first if first.is_dir() else first.parent
        return self.out or run / "probe"


@dataclass(frozen=True)
class Probed:
    """Results of a probe, of one run or of several.

    Attributes:
        table: rows and columns.
        header: line that says what was measured on which people.
        notes: lines that say which values are missing, and why.
    """

    table: Cells
    header: list[str]
    notes: list[str]


def probe(config: ProbeConfig) -> Probed:
    """Measure all rows, and write the numbers and the figure.

    Raises:
        ValueError: the errors of `load_run` and `measure`.
    """
    check_writable(config.folder, is_folder=True)
    tables, lines, notes, kinds = [], [], [], []
    for number, checkpoint in enumerate(config.checkpoint, 1):
        if len(config.checkpoint) > 1:
            log_line(f"run {number} of {len(config.checkpoint)}: {checkpoint}")
        run = config.runtime.load_run(checkpoint, config.data)
        kinds.append((run.config.agent, run.config.attention.reward, run.data.name))
        if kinds[-1] != kinds[0]:
            raise ValueError(
                f"{checkpoint} is a run of {', '.join(kinds[-1])}, {config.checkpoint[0]} of "
                f"{', '.join(kinds[0])}: probe them apart"
            )
        measured = measure(
            run, max_clips=config.max_clips, clips_per_batch=config.clips_per_batch, seed=config.seed
        )
        if text := run.cache.describe_replaced():
            log_line(text)
        tables.append(summarise(measured.values, measured.person))
        lines += [line for line in header(run, measured) if line not in lines]
        notes += [note for note in measured.notes if note not in notes]
    who = f"{run.config.agent} on {run.data.name}: means and 95% intervals over "
    who += "people" if len(tables) == 1 else f"{len(tables)} runs"
    table = tables[0] if len(tables) == 1 else over_runs(tables)
    probed = Probed(table, [who, *lines], notes)
    settings = {name: value for name, value in vars(config).items() if name != "runtime"} | vars(config.runtime)
    content = {
        "settings": {name: None if value is None else str(value) for name, value in settings.items()}
        | {"checkpoint": [str(path) for path in config.checkpoint], "data": run.data.name}
        | {"agent": run.config.agent, "reward": run.config.attention.reward},
        "header": probed.header,
        "notes": probed.notes,
        "verdict": verdict(table),
        "rows": {
            name: {column: None if cell is None else dataclasses.asdict(cell) for column, cell in row.items()}
            for name, row in table.items()
        },
    }
    with atomic_path(config.folder / JSON) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    draw(config.folder / PICTURE, table, who)
    return probed


def header(run: Run, measured: Measured) -> list[str]:
    """Return a line that says what was measured on which people of a run."""
    number = {column: (len(person), len(set(person.tolist()))) for column, person in measured.person.items()}
    lines = []
    if "reward" in number:
        clips, people = number["reward"]
        lines.append(
            f"reward ({run.config.attention.reward}), log_prob: {counted(clips, 'clip')} of the "
            f"{counted(people, 'person')} that F_c was fitted on, without augmentation"
        )
    (queries, _), (clips, people) = number["R1"], number["hit_rate"]
    lines.append(
        f"R1, mAP, hit_rate: {counted(queries, 'query')} in "
        f"{counted(len(run.data.gallery), 'gallery tracklet')}, {counted(clips, 'clip')} of "
        f"{counted(people, 'person')} that F_c does not know"
    )
    return lines


def run(config: ProbeConfig) -> None:
    """Probe, and print the table."""
    with folder_lock(config.folder):
        probed = probe(config)
    print_result("\n".join([*probed.header, "", text_table(probed.table), "", *verdict(probed.table)]))
    print_result("\n".join(f"note: {note}" for note in probed.notes))
    print_result(f"see {config.folder / PICTURE} and {config.folder / JSON}")
