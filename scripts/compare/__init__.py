"""Compare agents on one frozen bank, with statistics over seeds: `a3d compare`.

Every agent and seed is a run in a process of its own; all see the same clips in the same order and are scored on
the same clips held out. Finished runs are kept, so that the same command goes on where it was stopped. The output
folder gets compare.html, which needs no other file, and compare.md, .csv, .json, curves.png, profile.png,
locations.png.

A bank first: `a3d bank --checkpoint runs/benchmark --out runs/bank`

Then: `a3d compare --bank runs/bank --agents reinforce,ppo,sac,random --timesteps 100000 --out runs/compare`

Any setting of the agents: `--agents.ppo.learning-rate 3e-4`, or a file of them, which also names the agents:
`a3d compare --bank runs/bank --agents agents.yaml`

Your own algorithm beside them: `a3d compare --bank runs/bank --agents reinforce,my_module:MyAlgorithm`

On a cluster (pip install 'a3d[cluster]'): `a3d compare --bank runs/bank --backend ray`

The report again, of what is finished: `a3d compare --bank runs/bank --report-only`
"""

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import agents
from agents.policy_config import PolicyConfig
from agents.runs.agent_flags import take_agent_settings
from agents.runs.settings import JobsConfig, PolicyRunConfig, default_policy, with_possible_baseline
from backbone.files import check_writable, folder_lock
from backbone.flags import read_flags
from backbone.progress import log_line, print_result

if TYPE_CHECKING:
    from agents.runs.jobs import Failure
    from scripts.compare.task import CompareTask

# Agents of every comparison: the ends of the scale.
ALWAYS_COMPARED = ("random", "best")


@dataclass(frozen=True)
class ComparedPolicyConfig(PolicyConfig):
    """Settings of the agents' learning, but for the locator, which --locator chooses for all."""

    locator: tyro.conf.SuppressFixed[tyro.conf.Fixed[str]] = "linear"


@dataclass(frozen=True)
class CompareConfig:
    """Settings of a comparison of agents."""

    bank: Path
    """A bank's folder, as `a3d bank` writes it."""
    agents: str = "reinforce,ppo,sac,random"
    """Agents to compare, by names of agents.ALGORITHMS, or module:Class, with commas; random and best (the table's
    oracle) are added. module:Class is a stable-baselines3 algorithm of your own, or any class with
    learn(total_timesteps) and predict(observation, deterministic). --agents FILE.yaml (name -> keyword -> value)
    has any settings of the algorithms' constructors, and names the agents if nothing else does; or one by one,
    --agents.NAME.KEYWORD VALUE."""
    seeds: int = 5
    """Number of runs of each agent, each with a seed of its own."""
    first_seed: int = 0
    """Seed of each agent's first run."""
    steps: Annotated[int, tyro.conf.arg(name="timesteps", aliases=("--steps",))] = PolicyRunConfig.timesteps
    """Number of environment steps of each run, T - 1 an episode."""
    out: Path = Path("runs/compare")
    """Folder of the results and the report."""
    reward: str = PolicyRunConfig.reward
    """Reward at an episode's end: identity (equation 7, the default of an environment by itself), log_prob,
    margin, rank, glimpses, prefixes, or module:name of your own (docs/your_own.md); by default that of a3d policy
    and of the recipe strong of a3d train."""
    num_envs: int = PolicyRunConfig.num_envs
    """Number of episodes that run at once."""
    episodes_per_clip: int = PolicyRunConfig.episodes_per_clip
    """Number of episodes on one clip at once, which the baseline clip compares; the same for all agents."""
    held_out: float = 0.25
    """Share of the tracklets that are held out: agents are scored on their clips, and trained on the others."""
    overview: tuple[int, int, int] | None = None
    """Numbers of bins along time, height and width that the agents always see; by default those of the bank's run,
    if any."""
    reference: str = "reinforce"
    """Agent that the others are compared with; the first one if this one has no finished run."""
    locator: str = "auto"
    """Locator F_a of reinforce, a2c, ppo and trpo: linear, mixture, or module:name of your own (docs/your_own.md);
    auto: mixture if there is an overview, else linear."""
    agent_settings: tyro.conf.Suppress[dict[str, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    """Settings of single algorithms, by name and keyword of the constructor; they go before those of `policy`."""
    policy: ComparedPolicyConfig = dataclasses.field(
        default_factory=lambda: ComparedPolicyConfig(**vars(default_policy()))
    )
    """Settings of the policies of reinforce, a2c, ppo and trpo. Each algorithm has its own learning rate, unless
    one is given here for all. Their locator is chosen by --locator."""
    report_only: bool = False
    """Run nothing; report what is finished."""
    runs: Annotated[JobsConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=JobsConfig)
    """Number of runs at a time, and the machines that they use."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    @property
    def names(self) -> list[str]:
        """The agents, each once, with the ends of the scale."""
        asked = [name.strip() for name in self.agents.split(",") if name.strip()]
        return list(dict.fromkeys([*asked, *ALWAYS_COMPARED]))


def make_tasks(config: CompareConfig) -> list["CompareTask"]:
    """Return the runs, seed by seed.

    Raises:
        ValueError: unknown agents or reward, or a bank that can't be used.
    """
    from a3d_env.bank_file import open_playable_bank  # --help need not wait for torch
    from a3d_env.rewards import get_reward
    from agents.controls import TABLE_CONTROLS
    from agents.rollout import check_that_it_decides
    from agents.runs.bank_policy import split_clips
    from agents.settings import read_settings
    from scripts.compare.task import CompareTask

    deterministic = ("centre", *TABLE_CONTROLS, "truth")  # one run of each is enough
    for name in config.names:
        read_settings(name, agents.get_algorithm(name).maker, config.agent_settings.get(name, {}))
    bank, glimpse = open_playable_bank(config.bank)
    get_reward(config.reward, glimpse.num_glimpses)
    check_that_it_decides(f"the episodes of {config.bank} have", glimpse.num_glimpses)
    if "truth" in config.names and bank.hits is None:
        raise ValueError(f"{config.bank} does not know where the identifying thing is: leave out the agent truth")
    split_clips(bank.tracklet, config.held_out)
    if config.episodes_per_clip < 1 or config.num_envs % config.episodes_per_clip:
        raise ValueError(
            f"episodes_per_clip must be 1 or more and divide num_envs = {config.num_envs}, got "
            f"{config.episodes_per_clip}"
        )
    has_overview = (config.overview or bank.grid.overview_counts) is not None
    locator = ("mixture" if has_overview else "linear") if config.locator == "auto" else config.locator
    policy = PolicyConfig(**{**vars(config.policy), "locator": locator})
    policy = with_possible_baseline(policy, config.episodes_per_clip)
    return [
        CompareTask(
            PolicyRunConfig(
                config.bank.resolve(),
                config.out.resolve(),
                agent=name,
                agent_settings=config.agent_settings.get(name, {}),
                timesteps=config.steps,
                num_envs=config.num_envs,
                episodes_per_clip=config.episodes_per_clip,
                seed=config.first_seed + number,
                reward=config.reward,
                overview=config.overview,
                held_out=config.held_out,
                policy=policy,
            )
        )
        for number in range(config.seeds)
        for name in config.names
        if number == 0 or name not in deterministic
    ]


def compare(config: CompareConfig) -> list["Failure"]:
    """Run what is missing and write the report.

    Returns:
        The runs that failed.

    Raises:
        ValueError: settings that can't be used, a folder with other runs, or nothing to report.
    """
    from agents.runs.jobs import run_jobs
    from scripts.compare.report import write_report
    from scripts.compare.text import text_table

    check_writable(config.out, is_folder=True)
    tasks = make_tasks(config)
    failed: list[Failure] = []
    with nullcontext() if config.report_only else folder_lock(config.out):
        if not config.report_only:
            failed = run_jobs(tasks, config.runs)
        results = [result for task in tasks if (result := task.result()) is not None]
        if failed and not results:
            return failed
        missing = [task.title for task in tasks if task.result() is None]
        report = write_report(results, config.out, reference=config.reference, missing=missing)
    print_result(f"\n{text_table(report)}\n\nsee {config.out}/compare.html")
    return failed


def read(argv: list[str]) -> tuple[CompareConfig]:
    """Read the flags, and the settings of algorithms (--agents), whose files can also name the agents."""
    argv, own = take_agent_settings(argv)
    if own.of_files and not any(word.partition("=")[0] == "--agents" for word in argv):
        argv += ["--agents", ",".join(own.of_files)]
    config = read_flags(CompareConfig, argv, "compare", __doc__)
    own.check(config.names)
    return (dataclasses.replace(config, agent_settings={name: own.of(name) for name in config.names}),)


def run(config: CompareConfig) -> int:
    """Run what is missing, report, and say which runs failed."""
    from agents.runs.jobs import tell

    for name in config.names:
        if ":" in name or config.agent_settings[name]:
            log_line(agents.describe(name, **config.agent_settings[name]))
    return tell(compare(config), "compare")
