"""Settings of scorings, of runs side by side and of an agent on a bank, which can be read without torch."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from agents.policy_config import PolicyConfig
from agents.runs.recipes import STRONG


@dataclass(frozen=True)
class ScoringConfig:
    """Settings of a scoring."""

    scoring: Literal["standard", "official", "torchreid"] = "standard"
    """Scoring of MARS, of which three are in use that differ by points: standard, that of most recent papers;
    official, that of MARS's own code (another average precision); torchreid, without the queries in the
    gallery."""
    rerank: bool = False
    """Re-rank the gallery by k-reciprocal neighbours (Zhong et al., 2017) before scoring."""
    false_accept_rates: tuple[float, ...] = ()
    """Shares of pairs of two people that may be accepted as one person, as in 0.01 0.001: print the distance
    threshold of each share, and that of equal error rates."""
    controls: bool = False
    """Score random and centre bins on the same representation, too."""
    also_raw: bool = False
    """Score the same episodes without a learned metric, too: by [f_g, h_1..h_T] and Euclidean distance, as in the
    paper, and by f_g alone and its cosine."""

    def __post_init__(self) -> None:
        if any(not 0 <= rate < 1 for rate in self.false_accept_rates):
            raise ValueError(f"false_accept_rates are 0 or more and below 1, got {self.false_accept_rates}")


@dataclass(frozen=True)
class JobsConfig:
    """Number of runs at a time, and the machines that they use."""

    jobs: int | None = None
    """Number of runs at a time; those that train a representation share the machine's cores. By default 1, in
    a3d compare one on each core, and with ray as many as the cluster has cores."""
    backend: Literal["threading", "ray"] = "threading"
    """Machines of the runs: this one, or a ray cluster (pip install 'a3d[cluster]'), all of whose machines must
    see the folders of this command."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs must be 1 or more, got {self.jobs}")


@dataclass(frozen=True)
class ShardsConfig(JobsConfig):
    """Number of shares of a command's work, and the machines that they use."""

    shards: int = 1
    """Number of shares to divide the work into, each in a process of its own (--jobs of them at a time); the
    result is the same as of one, if each has as many threads (OMP_NUM_THREADS)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shards < 1:
            raise ValueError(f"shards must be 1 or more, got {self.shards}")
        if self.shards == 1 and (self.jobs is not None or self.backend != "threading"):
            raise ValueError("--jobs and --backend are for several shares: give --shards, 2 or more")


def default_policy() -> PolicyConfig:
    """Return the settings of policies that are trained on a bank, in `a3d policy` and `a3d compare`."""
    return PolicyConfig(learning_rate=None, variance=0.1, normalize_advantage=True, baseline="clip")


def with_possible_baseline(policy: PolicyConfig, episodes_per_clip: int) -> PolicyConfig:
    """Return the settings, without a baseline of other episodes on the same clip if a clip has one episode."""
    return dataclasses.replace(policy, baseline="value") if episodes_per_clip == 1 else policy


@dataclass(frozen=True)
class PolicyRunConfig:
    """Settings of an agent that is trained on a bank."""

    bank: Path
    """A bank's folder, as `a3d bank` writes it."""
    out: Path
    """Folder to write: the policy and its scores."""
    agent: str = "reinforce"
    """Agent that chooses the bins, by a name of agents.ALGORITHMS, or module:Class: a stable-baselines3 algorithm
    of your own, or any class with learn(total_timesteps) and predict(observation, deterministic). Settings of the
    algorithm by --agents.NAME.KEYWORD VALUE, or --agents FILE.yaml, as in a3d train."""
    timesteps: Annotated[int, tyro.conf.arg(aliases=("--steps",))] = 100_000
    """Environment steps, T - 1 an episode; rounded up to whole rollouts."""
    num_envs: int = 64
    """Number of episodes that run at once."""
    episodes_per_clip: int = STRONG["episodes"]["joint"]["episodes_per_clip"]
    """Number of episodes on one clip at once, as in the recipe strong of a3d train and in a3d compare; with 1,
    --policy.baseline clip, which compares these episodes, becomes value."""
    seed: int = 0
    """Seed of weights, episodes and exploration; which clips are held out does not depend on it."""
    reward: str = STRONG["glimpse_reward"]["attention"]["reward"]
    """Reward at an episode's end: identity (equation 7, the default of an environment by itself), log_prob,
    margin, rank, glimpses, prefixes, or module:name of your own (docs/your_own.md); by default that of a3d compare
    and of the recipe strong of a3d train."""
    overview: tuple[int, int, int] | None = None
    """Numbers of bins along time, height and width that the agent always sees; by default those of the bank's run,
    if any."""
    held_out: float = 0.25
    """Share of the tracklets that are held out: the agent is scored on their clips, and trained on the others."""
    device: str = "cpu"
    """Device of the agent; the bank stays on the CPU."""
    agent_settings: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Settings of that algorithm alone, by the keywords of its constructor; they go before those of `policy`."""
    policy: PolicyConfig = field(default_factory=default_policy)
    """Settings of reinforce, a2c, ppo and trpo. The learning rate is each algorithm's own, unless one is given."""

    def __post_init__(self) -> None:
        if self.timesteps < 1:
            raise ValueError(f"timesteps must be 1 or more, got {self.timesteps}")
