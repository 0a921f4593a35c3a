"""Run a trained representation over all clips of a split, into a bank's folder: `a3d bank`.

Environments open the folder: gymnasium.make("a3d_env:A3D/Attention3D-v0", bank="runs/bank")

The clips that a run was trained on, uncut and unchanged: `a3d bank --checkpoint runs/benchmark --out runs/bank`

The test half, with frames to draw: `a3d bank --checkpoint runs/benchmark --split test --frames --out runs/test`

Much data, in shares, two at a time: `a3d bank --checkpoint runs/mars --shards 8 --jobs 2 --out runs/bank`
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agents.runs.settings import ShardsConfig
from backbone.files import check_writable
from backbone.progress import log_line, print_result
from scripts.options import Checkpoint, Data, Runtime, RuntimeOptions

if TYPE_CHECKING:
    from a3d_env.bank_file import BankWriter
    from agents.runs.model import Run
    from agents.runs.shards import Shard


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
    shards: Annotated[ShardsConfig, tyro.conf.arg(name="")] = field(default_factory=ShardsConfig)
    """Number of shares of the work, and the machines that they use."""

    def __post_init__(self) -> None:
        if self.clips_per_batch < 1:
            raise ValueError(f"clips_per_batch must be 1 or more, got {self.clips_per_batch}")


def make_bank(run: "Run", config: BankConfig, shard: "Shard | None" = None) -> int:
    """Write the bank of a run's split: consecutive clips without augmentation, as at test time.

    A clip's identity is its person's number in F_c. People whom F_c does not know (the test half, or all of other
    data) get the numbers after these, and the folder says so: environments refuse it, as F_c can't name them.

    Args:
        run: networks and data.
        config: clips of the bank, and its folder.
        shard: share of the batches to write, into a folder `bank` in the share's own; by default the whole bank is
            written, put together from shares if there are several (`config.shards`).

    Returns:
        The number of clips.

    Raises:
        ValueError: the split has no clip, or as `BankWriter`.
    """
    from a3d_env.bank_file import BankWriter  # --help need not wait for torch
    from agents.runs.checkpoint import fingerprint
    from agents.runs.describe import clip_banks, clip_batches
    from agents.runs.scoring import searched_tracklets

    tracklets = run.data.train if config.split == "train" else searched_tracklets(run.data)
    batches = clip_batches(run, tracklets, clips_per_batch=config.clips_per_batch)
    if not batches.all_clips:
        raise ValueError(f"{run.data.name} has no tracklets in its {config.split} half")
    is_known = config.split == "train" and run.knows_training_half
    people = run.people if is_known else sorted({tracklet.person for tracklet in tracklets})
    labels = {person: number for number, person in enumerate(people, 0 if is_known else len(run.people))}
    folder, first, last = config.out, 0, len(batches)
    if shard is not None:
        folder = shard.folder / "bank"
        first, last = (len(batches) * number // shard.of for number in (shard.number, shard.number + 1))
    clips = [batches.clips_per_batch * number for number in (first, last)]
    count = len(batches.all_clips[slice(*clips)])
    with BankWriter(folder, count, run.representation.glimpse, new_people=not is_known) as writer:
        if shard is None and config.shards.shards > 1:
            append_shares(writer, run, config, len(batches), fingerprint(tracklets))
            return count
        banks = clip_banks(
            run, batches, "making the bank", labels, with_frames=config.frames, numbers=range(first, last)
        )
        for batch, bank in banks:
            camera = [tracklets[index].camera for index in batch.tracklet.tolist()]
            writer.append(bank, batch.person.tolist(), camera)
    return count


def append_shares(writer: "BankWriter", run: "Run", config: BankConfig, num_batches: int, data: str) -> None:
    """Make the shares of a bank in processes of their own, and append them to the whole."""
    from a3d_env.bank_file import open_bank
    from a3d_env.bank_format import read_meta
    from agents.runs.shards import run_shards

    state = f"{run.digest} {data}"
    with run_shards("scripts.bank", config, config.out, config.shards, num_batches, state) as shards:
        for shard in shards:
            bank, meta = open_bank(shard.folder / "bank")[0], read_meta(shard.folder / "bank")
            for start in range(0, len(bank), config.clips_per_batch):
                rows = slice(start, start + config.clips_per_batch)
                ids = (None if numbers is None else numbers[rows] for numbers in (meta.person, meta.camera))
                writer.append(bank.clips(rows), *ids)
            if text := (shard.result() or {}).get("replaced"):
                log_line(text)


def make_share(config: BankConfig, shard: "Shard") -> dict[str, Any]:
    """Make a share of the bank, in the share's folder."""
    trained = config.runtime.load_run(config.checkpoint, config.data)
    make_bank(trained, config, shard)
    return {"replaced": trained.cache.describe_replaced()}


def main() -> int:
    """Do the share of the work that this process was started for."""
    from agents.runs.shards import main_of_shard

    return main_of_shard(BankConfig, make_share, "bank")


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


if __name__ == "__main__":
    raise SystemExit(main())
