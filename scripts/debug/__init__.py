"""Show episodes: why the agent looked there, and what would have happened elsewhere: `a3d debug`.

Every episode becomes one HTML page that needs nothing beside it: the clip with the bins, the policy's mean and
spread, its expected reward, the person named after each glimpse, the exact probability of the true person for
every bin that could have been chosen, and for queries the ranked gallery. The episode itself is beside the page as
.npz (`agents.episodes.Episode.load`).

F_c does not know the people of the queries. The gallery judges them instead: the softmax of negative squared
distances to each person's mean descriptor, scaled once so that its confidence fits its accuracy. Training
tracklets (--train) are judged by F_c, and earn the run's reward.

One query, by number, folder or name: `a3d debug --checkpoint runs/benchmark --query 12 --out out/ep12`

The ten worst queries, and five at random:
`a3d debug --checkpoint runs/benchmark --worst 10 --random 5 --out out/bad`

What if the second glimpse had gone elsewhere (corner in cells: time, height, width):
`a3d debug --checkpoint runs/benchmark --query 12 --set-glimpse 2=1,5,1 --out out/what_if`

Another agent on the same representation:
`a3d debug --checkpoint runs/benchmark --agent truth --query 12 --out out/truth`

A policy of a3d policy, on clips of its bank:
`a3d debug --checkpoint runs/policy --clip 7 --wrong 3 --out out/policy`
"""

from dataclasses import dataclass, field
from pathlib import Path

from backbone.files import folder_lock
from scripts.options import Data, Runtime, RuntimeOptions


@dataclass(frozen=True)
class DebugConfig:
    """Choice of episodes, and the files to write of each."""

    checkpoint: Path
    """A run's folder or its checkpoint.pt (a3d train), or a policy's folder (a3d policy)."""
    out: Path
    """Folder of the pages."""
    query: tuple[str, ...] = ()
    """Test tracklets, by their number among the queries, or by folder or name."""
    train: tuple[str, ...] = ()
    """Training tracklets, by number, or by folder or name."""
    clip: tuple[int, ...] = ()
    """Clip to show. Of a run: its number among the tracklet's consecutive clips, from 0 (one number; by default
    the middle one). Of a policy: numbers of clips of the bank."""
    worst: int = 0
    """Show this many episodes with the lowest probability of the true person: of a run's queries, or of a policy's
    held-out clips."""
    wrong: int = 0
    """Show this many episodes in which another person was named, the most confident first."""
    random: int = 0
    """Show this many episodes chosen at random."""
    set_glimpse: tuple[str, ...] = ()
    """Look elsewhere: GLIMPSE=TIME,HEIGHT,WIDTH, the bin's corner in cells, as in 2=3,5,1. Later glimpses are the
    agent's."""
    agent: str | None = None
    """Control (random, centre, best, truth, ...) to show in the place of the trained agent."""
    sample: bool = False
    """Draw from the agent's policy; by default it takes its mean, as at test time."""
    seed: int = 0
    """Seed of the random choices."""
    data: Data = None
    bank: Path | None = None
    """Bank whose clips a policy is shown on; by default the one that it was trained on."""
    gif: bool = False
    """Write an animation of each episode, too."""
    minari: bool = False
    """Write the episodes as a Minari data set, too (pip install 'a3d[export]')."""
    rerun: bool = False
    """Write the episodes as a rerun recording, too (pip install 'a3d[export]')."""
    runtime: Runtime = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        for name in ("worst", "wrong", "random"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if any(clip < 0 for clip in self.clip):
            raise ValueError(f"clips are numbered from 0, got {self.clip}")


def run(config: DebugConfig) -> None:
    """Write the pages, in a folder that no other command writes to."""
    from scripts.debug.pages import debug  # --help need not wait for torch

    with folder_lock(config.out):
        debug(config)
