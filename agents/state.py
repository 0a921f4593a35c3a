"""The training state of a stable-baselines3 agent: all that it needs, besides parameters, to continue training.

`BaseAlgorithm.save` pickles objects; here they are tensors and numbers, which `torch.load(weights_only=True)`
reads.
"""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

# The last two are DQN's: _n_calls says when the target network is due, exploration_rate how often to explore.
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")


def training_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """Return counters, variables outside of networks (SAC's entropy coefficient), random state, replay buffer."""
    return {
        "counters": {name: getattr(agent, name) for name in COUNTERS if hasattr(agent, name)},
        "variables": {name: variable.detach() for name, variable in variables(agent).items()},
        # off-policy algorithms draw their first actions from the space
        "action_space": agent.action_space.np_random.bit_generator.state,
        "replay": None if (replay := _replay(agent)) is None else _replay_state(replay),
    }


def load_training_state(agent: BaseAlgorithm, state: dict[str, Any]) -> None:
    """Restore the state that `training_state` returned; `set_parameters` restores the parameters."""
    for name in COUNTERS:
        if name in state["counters"]:  # other names in a file could be methods of the agent
            setattr(agent, name, state["counters"][name])
    for name, variable in variables(agent).items():
        variable.data.copy_(state["variables"][name])
    agent.action_space.np_random.bit_generator.state = state["action_space"]
    replay = _replay(agent)
    if replay is not None:
        replay.pos, replay.full = state["replay"]["pos"], state["replay"]["full"]
        for array, rows in zip(_arrays(replay), state["replay"]["arrays"], strict=True):
            array[: len(rows)] = rows.numpy()


def variables(agent: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """Return what an agent trains outside of its networks, by name: SAC's entropy coefficient."""
    _, names = agent._get_torch_save_params()
    return {name: operator.attrgetter(name)(agent) for name in names}


def _replay(agent: BaseAlgorithm) -> DictReplayBuffer | None:
    replay = agent.replay_buffer if isinstance(agent, OffPolicyAlgorithm) else None
    return replay if isinstance(replay, DictReplayBuffer) else None


def _replay_state(replay: DictReplayBuffer) -> dict[str, Any]:
    used = replay.size()
    return {
        "pos": replay.pos,
        "full": replay.full,
        "arrays": [torch.from_numpy(array[:used]).clone() for array in _arrays(replay)],
    }


def _arrays(replay: DictReplayBuffer) -> Iterator[np.ndarray]:
    for key in sorted(replay.observations):
        yield replay.observations[key]
        yield replay.next_observations[key]
    yield from (replay.actions, replay.rewards, replay.dones, replay.timeouts)
