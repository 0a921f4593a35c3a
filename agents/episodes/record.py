"""Episodes, recorded."""

import copy
from collections.abc import Sequence

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from a3d_env.process import AttentionProcess
from a3d_env.sb3 import process_of
from agents.controls import OTHER_CLIPS_CONTROLS, ControlAgent, PlannedAgent
from agents.episodes.episode import F_C, Episode, play
from agents.rollout import Agent, at_test, follow


def record_episode(
    env: gymnasium.Env | gymnasium.vector.VectorEnv | VecEnv,
    agent: Agent,
    *,
    clip: int | None = None,
    deterministic: bool = True,
    seed: int = 0,
    agent_name: str | None = None,
    identity_names: Sequence[str] | None = None,
) -> Episode:
    """Play one episode, and record all that the agent thought. The environment's own episodes stay as they are.

    Args:
        env: an A3D environment, single or batched, wrapped or not, whose clips and networks are taken.
        agent: any algorithm of the registry, or a control.
        clip: the clip's number in the environment's bank; by default one that the seed draws.
        deterministic: what the agent does without exploring, as at test time; else a sample. DQN's and TD3's kind
            have no distribution to sample from, and do not explore here.
        seed: of the clip and the sample.
        agent_name: for people; by default the class's name.
        identity_names: of F_c's outputs; by default their numbers.

    Raises:
        ValueError: it is no A3D environment, or there is no such clip.
    """
    process = process_of(env)
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
        agent_name=agent_name or type(agent).__name__,
        identity_names=identity_names,
    )


def record_on(
    process: AttentionProcess,
    agent: Agent,
    *,
    deterministic: bool = True,
    seed: int = 0,
    agent_name: str | None = None,
    identity_names: Sequence[str] | None = None,
    judge: str = F_C,
) -> Episode:
    """Play one episode on a process over a bank of one clip; see `record_episode`.

    Training that goes on does not change the episode's F_o, F_h and F_c: it has copies of its own.
    """
    glimpse = copy.deepcopy(process.glimpse).requires_grad_(False)
    count = glimpse.num_identities
    # What is drawn is the episode's own: training, on whatever device, goes on as if nothing had been.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return play(
            AttentionProcess(process.bank, glimpse, process.reward_name),
            at_test(agent),
            recorded=(),
            forced={},
            deterministic=deterministic,
            agent_name=agent_name or type(agent).__name__,
            identity_names=tuple(identity_names or map(str, range(count))),
            is_sample=not deterministic,
            judge=judge,
        )


def _for_one_clip(agent: Agent, process: AttentionProcess, clip: int) -> Agent:
    """Return the agent, or if it goes by other clips, one that looks where it looks in this one."""
    tested = at_test(agent)
    if isinstance(tested, ControlAgent) and tested.name in OTHER_CLIPS_CONTROLS:
        watched = follow(tested, process, torch.tensor([clip], device=process.bank.device))
        return PlannedAgent(watched.bins[0, 1:])
    return tested
