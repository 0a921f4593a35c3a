"""Any stable-baselines3 algorithm, unchanged, on the ranks of one training (`backbone.distributed`)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.advantages import normalized
from agents.reinforce import REINFORCE
from agents.state import variables
from backbone.distributed import average_after_backward, copy_from_main, rank, world_size


def learn_together(agent: BaseAlgorithm, seed: int) -> None:
    """Let the agents of all ranks, built alike, learn as one: from the mean of their gradients.

    Each explores by random numbers of its own. Settings such as `batch_size` and `buffer_size` are a rank's. The
    advantages of a minibatch are normalised over all ranks' parts of it.

    Args:
        agent: this rank's agent.
        seed: seed of the run.

    Raises:
        ValueError: the algorithm stops its updates, or bounds them, by what a rank measures on its own episodes.
    """
    if world_size() == 1:
        return
    if (bound := getattr(agent, "target_kl", None)) is not None:
        raise ValueError(
            f"{type(agent).__name__} ends or bounds its updates by target_kl = {bound}, measured on each rank's "
            "episodes alone, so that ranks would part: leave target_kl out, or take an agent without (not TRPO)"
        )
    copy_from_main(agent.policy)
    average_after_backward([*agent.policy.parameters(), *variables(agent).values()])
    if isinstance(agent, OnPolicyAlgorithm) and not isinstance(agent, REINFORCE):
        _normalise_together(agent)
    explore_apart(agent, seed)


def explore_apart(agent: BaseAlgorithm, *seeds: int) -> None:
    """Seed what a rank draws by its number; rank 0 draws what a process alone does."""
    if rank():
        agent.set_random_seed(int(np.random.SeedSequence([*seeds, rank()]).generate_state(1)[0]))


def _normalise_together(agent: Any) -> None:
    """Normalise advantages where a minibatch is drawn, over all ranks, in the place of the algorithm's own way."""
    if not getattr(agent, "normalize_advantage", False):
        return
    buffer, train = agent.rollout_buffer, agent.train
    draw = buffer.get

    def get(batch_size: int | None = None) -> Iterator[Any]:
        for samples in draw(batch_size):
            yield samples._replace(advantages=normalized(samples.advantages))

    def train_on_normalised() -> None:
        agent.normalize_advantage = False
        train()
        agent.normalize_advantage = True  # as it was set, which is written to files

    buffer.get, agent.train = get, train_on_normalised
