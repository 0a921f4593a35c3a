"""Recording of episodes."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from a3d_env.process import AttentionProcess
from a3d_env.sb3 import process_of
from agents.controls import OTHER_CLIPS_CONTROLS, ControlAgent, PlannedAgent
from agents.episodes.episode import F_C, Episode, play
from agents.rollout import Agent, at_test, follow


@dataclass(frozen=True)
class Names:
    """Display names in an episode.

    Attributes:
        agent: the agent's; by default the name of its class.
        identities: those of F_c's outputs; by default their numbers.
        judge: who names the identity at the end.
    """

    agent: str | None = None
    identities: Sequence[str] | None = None
    judge: str = F_C


def record_episode(
    env: gymnasium.Env | gymnasium.vector.VectorEnv | VecEnv,
    agent: Agent,
    *,
    clip: int | None = None,
    deterministic: bool = True,
    seed: int = 0,
    names: Names | None = None,
) -> Episode:
    """Play one episode, and record the agent's decisions. The environment's own episodes are not changed.

    Args:
        env: an A3D environment, single or batched, wrapped or not, whose clips and networks are taken.
        agent: any algorithm of the registry, or a control.
        clip: the clip's number in the environment's bank; by default a random one.
        deterministic: whether the agent acts without exploring, as at test time. Otherwise it samples; DQN, TD3
            and their variants have no distribution to sample from, and do not explore here.
        seed: seed of the choice of the clip and of the samples.
        names: display names of the agent and the identities; by default the agent's class and indices.

    Raises:
        ValueError: the environment is not an A3D environment, or it has no such clip.
    """
    process, names = process_of(env), names or Names()
    count = len(process.bank)
    if clip is None:
        clip = int(np.random.default_rng(seed).integers(count))
    if not isinstance(clip, int | np.integer) or not 0 <= clip < count:
        raise ValueError(f"there is no clip {clip!r}: the environment has clips 0 to {count - 1}")
    return record_on(
        AttentionProcess(process.bank.one_clip(int(clip)), process.glimpse, process.reward_name),
        _for_one_clip(agent, process, int(clip)),
        deterministic=deterministic,
        seed=seed,
        names=replace(names, agent=names.agent or type(agent).__name__),  # not that of what stands in for it
    )


def record_on(
    process: AttentionProcess,
    agent: Agent,
    *,
    deterministic: bool = True,
    seed: int = 0,
    names: Names | None = None,
) -> Episode:
    """Play one episode on a process over a bank of one clip; see `record_episode`.

    The episode has copies of F_o, F_h and F_c, which later training does not change.
    """
    names = names or Names()
    glimpse = copy.deepcopy(process.glimpse).requires_grad_(False)
    count = glimpse.num_identities
    # The global random generators are restored, so that recording an episode does not change a training.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return play(
            AttentionProcess(process.bank, glimpse, process.reward_name),
            at_test(agent),
            recorded=(),
            forced={},
            deterministic=deterministic,
            agent_name=names.agent or type(agent).__name__,
            identity_names=tuple(names.identities or map(str, range(count))),
            is_sample=not deterministic,
            judge=names.judge,
        )


def _for_one_clip(agent: Agent, process: AttentionProcess, clip: int) -> Agent:
    """Return the agent, or, if it needs other clips, an agent that repeats the bins it looks at in this clip."""
    tested = at_test(agent)
    if isinstance(tested, ControlAgent) and tested.name in OTHER_CLIPS_CONTROLS:
        watched = follow(tested, process, torch.tensor([clip], device=process.bank.device))
        return PlannedAgent(watched.bins[0, 1:])
    return tested
