"""Measure whether the agent looks at the right place in each clip, in a table and a figure: `a3d probe`.

The policy without exploration (its mean, or the place of a mixture with the most weight) is compared, on the same
representation, with a sample of the policy, with random and centre bins, with the policy's average place at each
step ("policy, average place"), with the policy's places on another person's clip ("policy, another clip"), with
bins on the thing that tells people apart (truth, if it is known) and with the best bin at each glimpse. An agent
that looks at the right place in each clip scores higher than its average place, and than its places on another
clip.

reward and log_prob are measured on the people that F_c was fitted on; on other data there is neither, as F_c knows
nobody there. All else is measured on the test people: R1 and mAP; gallery_log_prob, the log-probability of a
query's person by the distances to the gallery's people, which stands for a reward there; hit_rate and found, the
share of chosen bins on the things that tell people apart, and of these things that a bin is on; overlap, the share
of a chosen bin that another one covers. Intervals (95%) are over people; differences are of the same clips and
queries. For several runs, such as an ablation's seeds, the table has the means over runs with Student's t
intervals.

places.png shows what every bin pays as the look after the centre, and what retrieval gains by it, by place; the
correlation of the two over the bins of a clip is printed: at 0 the reward says nothing about who is found.

A run, on the data of its training: `a3d probe --checkpoint runs/benchmark`

All seeds of an ablation: `a3d probe --checkpoint out/table7/full/* --out out/probe`

Other data, two clips of each tracklet:
`a3d probe --checkpoint runs/benchmark --data folder:my_tracklets --max-clips 2`
"""

from dataclasses import dataclass, field
from pathlib import Path

from agents.runs.hub import is_on_hub
from backbone.files import folder_lock
from backbone.progress import print_result
from scripts.options import Data, Runtime, RuntimeOptions

JSON, PICTURE, PLACES = "probe.json", "probe.png", "places.png"


@dataclass(frozen=True)
class ProbeConfig:
    """Checkpoints to probe, and the clips to probe them on."""

    checkpoint: tuple[Path, ...]
    """Folder of a run, its checkpoint.pt, a .zip of a3d share, or hf:OWNER/NAME on the hub; or several of them."""
    data: Data = None
    out: Path | None = None
    """Folder of probe.json, probe.png and places.png; by default the folder `probe` beside the checkpoint; several
    checkpoints need it."""
    max_clips: int | None = None
    """Most clips of each tracklet, spread evenly over it; by default all."""
    clips_per_batch: int = 32
    """Number of clips that are in memory at once."""
    seed: int = 0
    """Seed of the random and the sampled bins, and of the choice of another person's clip for each clip."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if any(map(is_on_hub, self.checkpoint)) and self.out is None:
            raise ValueError("a checkpoint on the hub is in no folder of yours: say where the results go (--out)")
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


def run(config: ProbeConfig) -> None:
    """Probe, and print the table."""
    from scripts.probe.probing import probe  # --help need not wait for torch
    from scripts.probe.report import agreement_lines, text_table, verdict

    with folder_lock(config.folder):
        probed = probe(config)
    said = [*verdict(probed.table), *agreement_lines(probed.agreement)]
    print_result("\n".join([*probed.header, "", text_table(probed.table), "", *said]))
    print_result("\n".join(f"note: {note}" for note in probed.notes))
    print_result(f"see {config.folder / PICTURE}, {config.folder / PLACES} and {config.folder / JSON}")
