"""Follow an agent through episodes, without an environment around them."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.interface import as_numpy
from a3d_env.process import AttentionProcess, Episodes
from agents.collected import reads_process
from agents.policy import AttentionPolicy

# A choice takes N unfinished episodes and returns an action for each, in any action mode (`BinGrid.chosen`).
Choice = Callable[[Episodes], Tensor]


class Agent(Protocol):
    """Protocol of agents, which choose locations: any stable-baselines3 algorithm, or a control."""

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions, float (N, 3), and a recurrent state, which is ignored."""
        ...


@runtime_checkable
class ProcessAgent(Protocol):
    """Protocol of agents that need the decision process, not only an observation, as the control `truth` does."""

    def choose(self, process: AttentionProcess, episodes: Episodes) -> Tensor:
        """Return the bin that each of the unfinished episodes looks at next, int64 (N,)."""
        ...


@runtime_checkable
class RandomAgent(Protocol):
    """Protocol of agents that draw random numbers at test time, too."""

    def at_test(self) -> Agent:
        """Return a copy of the agent with newly seeded random numbers, apart from those of its training."""
        ...


def at_test(agent: Agent) -> Agent:
    """Return the agent prepared for test: its random numbers depend only on its seed."""
    return agent.at_test() if isinstance(agent, RandomAgent) else agent


def chosen_hits(bank: FeatureBank, episodes: Episodes) -> np.ndarray:
    """Return, for each episode's chosen bins (glimpses 2 to T), whether they cover the identifying thing.

    Returns:
        float64 (N, T - 1), 1 or 0; NaN if no bin of the clip covers the thing, or its place is unknown.
    """
    clip, chosen = episodes.clip.cpu().numpy(), episodes.bins[:, 1:].cpu().numpy()
    if bank.hits is None:
        return np.full(chosen.shape, np.nan)
    hits = bank.hits[clip]
    return np.where(hits.any(axis=1, keepdims=True), np.take_along_axis(hits, chosen, axis=1), np.nan)


def hit_shares(bank: FeatureBank, episodes: Episodes) -> np.ndarray:
    """Return the share of each episode's chosen bins that cover the identifying thing (`chosen_hits`).

    Returns:
        float64 (N,); NaN if no bin covers the thing, its place is unknown, or the episode has no choice.
    """
    hits = chosen_hits(bank, episodes)
    return hits.mean(axis=1) if hits.shape[1] else np.full(len(hits), np.nan)


def found_shares(bank: FeatureBank, episodes: Episodes) -> np.ndarray:
    """Return the share of each clip's visible identifying things that a chosen bin (glimpses 2 to T) covers.

    Returns:
        float64 (N,); NaN if none is visible or known, or the episode has no choice.
    """
    clip, chosen = episodes.clip.cpu().numpy(), episodes.bins[:, 1:].cpu().numpy()
    if bank.hits_by_thing is None or chosen.shape[1] == 0:
        return np.full(len(clip), np.nan)
    hits = bank.hits_by_thing[clip]  # (N, K, num_bins)
    found = np.take_along_axis(hits, chosen[:, None], axis=2).any(axis=2)
    visible = hits.any(axis=2).sum(axis=1)
    return np.where(visible > 0, found.sum(axis=1) / np.maximum(visible, 1), np.nan)


def overlap_shares(bank: FeatureBank, episodes: Episodes) -> np.ndarray:
    """Return the mean share of a chosen bin (glimpses 2 to T) that another one covers, over all pairs of them.

    Returns:
        float64 (N,), from 0 (no two have a cell in common) to 1 (all are one bin); NaN with fewer than two.
    """
    chosen = episodes.bins[:, 1:].cpu()
    first, second = torch.triu_indices(chosen.shape[1], chosen.shape[1], offset=1)
    if len(first) == 0:
        return np.full(len(chosen), np.nan)
    return bank.grid.overlap(chosen[:, first], chosen[:, second]).double().mean(dim=1).numpy()


def hit_rate(bank: FeatureBank, episodes: Episodes) -> Tensor | None:
    """Return the share of chosen bins that cover the thing, over episodes on clips that show it.

    Returns:
        float64 tensor without axes, on the bank's device; None if nothing is chosen, or no clip shows the thing.
    """
    chosen = episodes.bins[:, 1:]
    if bank.hits is None or not bank.hits.any() or not chosen.shape[1]:
        return None
    hits = torch.from_numpy(bank.hits).to(bank.device, non_blocking=True)
    shown = hits.any(1)[episodes.clip].double()
    return (hits[episodes.clip[:, None], chosen].double().mean(1) * shown).sum() / shown.sum()


def agent_choice(agent: Agent, process: AttentionProcess, *, deterministic: bool = True) -> Choice:
    """Return the choice of an agent: by its `choose` if it has one, otherwise by its `predict`.

    A policy that can reads the process (`agents.collected.reads_process`) rather than observations.

    Args:
        agent: the agent.
        process: the decision process.
        deterministic: whether to take the policy's mean (as at test time) rather than a sample.
    """
    policy = getattr(agent, "policy", None)
    if isinstance(policy, AttentionPolicy) and reads_process(policy, process):
        return _PolicyChoice(policy, process, deterministic)

    def choose(episodes: Episodes) -> Tensor:
        if isinstance(agent, ProcessAgent):
            return agent.choose(process, episodes)
        action, _ = agent.predict(as_numpy(process.observe(episodes)), deterministic=deterministic)
        return torch.as_tensor(action, device=episodes.clip.device)

    return choose


class _PolicyChoice:
    """The choice of a policy that reads the process; overviews are looked over once for the steps of episodes."""

    def __init__(self, policy: AttentionPolicy, process: AttentionProcess, deterministic: bool):
        self.policy, self.process, self.deterministic = policy, process, deterministic
        self._clip: Tensor | None = None
        self._seen: Tensor | None = None
        self._row: Tensor | None = None

    @torch.no_grad()
    def __call__(self, episodes: Episodes) -> Tensor:
        self.policy.set_training_mode(False)
        if self.policy.sees_overview and self._clip is not episodes.clip:
            overview, self._row = self.process.overviews(episodes.clip)
            self._clip, self._seen = episodes.clip, self.policy.look_over(overview)
        looked = self.process.looked(episodes.bins) if self.policy.inhibition else None
        chosen = self.policy.choose(self.process.hidden(episodes), self._seen, self._row, looked)
        return chosen.get_actions(self.deterministic).clamp(-1, 1)


def check_that_it_decides(whose: str, num_glimpses: int) -> None:
    """Refuse episodes in which nothing is decided.

    Raises:
        ValueError: there are fewer than two glimpses.
    """
    if num_glimpses < 2:
        raise ValueError(
            f"{whose} {num_glimpses} glimpses: 2 or more are needed, as the first is always the centre"
        )


def finish(process: AttentionProcess, episodes: Episodes, choose: Choice) -> Episodes:
    """Continue the episodes to their end at the bins that `choose` returns."""
    while not process.is_over(episodes):
        episodes = process.step(episodes, choose(episodes))
    return episodes


def follow(
    agent: Agent, process: AttentionProcess, clip: Tensor | None = None, *, deterministic: bool = True
) -> Episodes:
    """Run one episode on each clip to its end, and return the finished episodes.

    Args:
        agent: the agent.
        process: the decision process.
        clip: clip numbers, int64 (N,); by default every clip of the bank, once.
        deterministic: whether to take the policy's mean (as at test time) rather than a sample.
    """
    return finish(process, process.start(clip), agent_choice(agent, process, deterministic=deterministic))
