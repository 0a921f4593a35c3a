"""Follow an agent through episodes, without an environment around them."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from a3d_env.interface import as_numpy
from a3d_env.process import AttentionProcess, Episodes


class Agent(Protocol):
    """Whatever says where to look next: any stable-baselines3 algorithm, or a control."""

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions, float (N, 3), and a state that is not used."""
        ...


def follow(agent: Agent, process: AttentionProcess, clip: Tensor, *, deterministic: bool = True) -> Episodes:
    """Run one episode on each clip to its end.

    Args:
        agent: who decides.
        process: the decision process.
        clip: clip numbers, int64 (N,).
        deterministic: take the policy's mean (as at test time) rather than a sample.

    Returns:
        The finished episodes.
    """
    episodes = process.start(clip)
    while not process.is_over(episodes):
        action, _ = agent.predict(as_numpy(process.observe(episodes)), deterministic=deterministic)
        episodes = process.step(episodes, torch.as_tensor(action, device=clip.device))
    return episodes
