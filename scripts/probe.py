"""Does the agent look at the right place in this clip? One table and one figure: `a3d probe`.

The policy's mean is compared, on the same representation, with a sample of it, with random and centre bins,
with its own mean location at each step, with its own locations on another person's clip (swapped), with bins on
the thing that tells people apart (truth, where it is known) and with the best bin at each glimpse. An agent that
looks at the right place in this clip is better than swapped and mean location.

reward and log_prob are measured on the people that F_c was fitted on: it knows no others. R1, mAP and hit_rate are
measured on the test people. Intervals (95%) are over people; differences are of the same clips and queries.

A run on the data of its training: `a3d probe --checkpoint runs/benchmark`

Other data, two clips of each tracklet:
`a3d probe --checkpoint runs/benchmark --data folder:my_tracklets --max-clips 2`
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from scripts.checkpoint import replacing
from scripts.probe_measures import Measured, measure
from scripts.probe_report import Table, draw, summarise, text_table, verdict
from scripts.run import Run, load_run

JSON, PICTURE = "probe.json", "probe.png"


@dataclass(frozen=True)
class ProbeConfig:
    """Whose agent looks at what."""

    checkpoint: Path
    """A run's folder, or its checkpoint.pt."""
    data: str | None = None
    """NAME[:DIRECTORY]; by default the data that the run was trained on. Other data has no reward and log_prob."""
    out: Path | None = None
    """Where probe.json and probe.png go; by default the folder `probe` beside the checkpoint."""
    max_clips: int | None = None
    """Clips of each tracklet at most, spread evenly over it; by default all."""
    clips_per_batch: int = 32
    """Clips that are in memory at once."""
    seed: int = 0
    """Of random and sampled bins, and of whose locations are swapped."""
    device: str = "auto"
    """cpu, cuda, ...; auto takes a GPU if there is one."""
    cache: Path | None = None
    """Where decoded frames and flow are kept; by default as in training."""

    def __post_init__(self) -> None:
        for name in ("max_clips", "clips_per_batch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")

    @property
    def folder(self) -> Path:
        """Where the results go."""
        run = self.checkpoint if self.checkpoint.is_dir() else self.checkpoint.parent
        return self.out or run / "probe"


def probe(run: Run, config: ProbeConfig) -> tuple[Table, Measured]:
    """Measure all rows, and write the numbers and the figure.

    Raises:
        ValueError: as `measure`.
    """
    measured = measure(run, max_clips=config.max_clips, clips_per_batch=config.clips_per_batch, seed=config.seed)
    table = summarise(measured.values, measured.person)
    content = {
        "settings": {name: None if value is None else str(value) for name, value in vars(config).items()}
        | {"data": run.data.name, "agent": run.config.agent, "reward": run.config.attention.reward},
        "header": header(run, measured),
        "notes": measured.notes,
        "verdict": verdict(table),
        "rows": {
            name: {column: None if cell is None else dataclasses.asdict(cell) for column, cell in row.items()}
            for name, row in table.items()
        },
    }
    with replacing(config.folder / JSON) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
    draw(
        config.folder / PICTURE, table, f"{run.config.agent} on {run.data.name}: means, 95% intervals over people"
    )
    return table, measured


def header(run: Run, measured: Measured) -> list[str]:
    """Say what was measured on whom."""
    number = {column: (len(person), len(set(person.tolist()))) for column, person in measured.person.items()}
    lines = [f"{run.config.agent} on {run.data.name}: means and 95% intervals over people"]
    if "reward" in number:
        clips, people = number["reward"]
        lines.append(
            f"reward ({run.config.attention.reward}), log_prob: {clips} clips of the {people} people that F_c was "
            "fitted on, without augmentation"
        )
    (queries, _), (clips, people) = number["R1"], number["hit_rate"]
    lines.append(
        f"R1, mAP, hit_rate: {queries} queries in {len(run.data.gallery)} gallery tracklets, {clips} clips of "
        f"{people} people that F_c does not know"
    )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        config = tyro.cli(ProbeConfig, args=argv, prog="a3d probe", description=__doc__)
        run = load_run(config.checkpoint, data=config.data, device=config.device, cache=config.cache)
        table, measured = probe(run, config)
    except (ValueError, OSError) as error:
        print(f"a3d probe: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\na3d probe: stopped; nothing was written", file=sys.stderr)
        return 130
    print("\n".join([*header(run, measured), "", text_table(table), "", *verdict(table)]))
    print("\n".join(f"note: {note}" for note in measured.notes))
    print(f"see {config.folder / PICTURE} and {config.folder / JSON}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
