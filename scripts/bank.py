"""Run a trained representation over all clips of a split, into a bank's folder: `a3d bank`.

Environments open the folder: gymnasium.make("a3d_env:A3D/Attention3D-v0", bank="runs/bank")

The clips that a run was trained on, uncut and unchanged: `a3d bank --checkpoint runs/benchmark --out runs/bank`

The test half, with frames to draw: `a3d bank --checkpoint runs/benchmark --split test --frames --out runs/test`
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backbone.files import check_writable
from backbone.progress import log_line, print_result
from scripts.options import Checkpoint, Data, Runtime, RuntimeOptions

if TYPE_CHECKING:
    from agents.runs.model import Run


@dataclass(frozen=True)
class BankConfig:
    """Clips of a bank, and its folder."""

    checkpoint: Checkpoint[Path]
    out: Path
    """Folder of the bank, which is not there yet."""
    split: Literal["train", "test"] = "train"
    """Split of the data. train: tracklets of the training identities; test: queries and gallery, people whom F_c
    does not know."""
    data: Data = None
    frames: bool = False
    """Keep the clips' frames, so that episodes can be drawn."""
    clips_per_batch: int = 32
    """Number of clips that are in memory at once."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.clips_per_batch < 1:
            raise ValueError(f"clips_per_batch must be 1 or more, got {self.clips_per_batch}")


def make_bank(run: "Run", config: BankConfig) -> int:
    """Write the bank of a run's split: consecutive clips without augmentation, as at test time.

    A clip's identity is its person's number in F_c. People whom F_c does not know (the test half, or all of other
    data) get the numbers after these, and the folder says so: environments refuse it, as F_c can't name them.

    Returns:
        The number of clips.

    Raises:
        ValueError: the split has no clip, or as `BankWriter`.
    """
    from a3d_env.bank_file import BankWriter  # --help need not wait for torch
    from agents.runs.describe import clip_banks, clip_batches
    from agents.runs.scoring import searched_tracklets

    tracklets = run.data.train if config.split == "train" else searched_tracklets(run.data)
    batches = clip_batches(run, tracklets, clips_per_batch=config.clips_per_batch)
    if not batches.all_clips:
        raise ValueError(f"{run.data.name} has no tracklets in its {config.split} half")
    is_known = config.split == "train" and run.knows_training_half
    people = run.people if is_known else sorted({tracklet.person for tracklet in tracklets})
    labels = {person: number for number, person in enumerate(people, 0 if is_known else len(run.people))}
    count = len(batches.all_clips)
    with BankWriter(config.out, count, run.representation.glimpse, new_people=not is_known) as writer:
        for batch, bank in clip_banks(run, batches, "making the bank", labels, with_frames=config.frames):
            camera = [tracklets[index].camera for index in batch.tracklet.tolist()]
            writer.append(bank, batch.person.tolist(), camera)
    return count


def run(config: BankConfig) -> None:
    """Make the bank, and print what it holds."""
    from a3d_env.bank_file import check_nothing_there

    check_nothing_there(config.out)
    check_writable(config.out)
    trained = config.runtime.load_run(config.checkpoint, config.data)
    count = make_bank(trained, config)
    if text := trained.cache.describe_replaced():
        log_line(text)
    gibibytes = sum(path.stat().st_size for path in config.out.iterdir()) / 2**30
    print_result(
        f"{config.out}: {count} clips of the {config.split} half of {trained.data.name}, {gibibytes:.2f} GiB"
    )
