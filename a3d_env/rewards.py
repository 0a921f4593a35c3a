"""Rewards by name: what the end of an episode pays (equation 7, and other readings of "rank and accuracy")."""

from collections.abc import Callable

import torch
from torch import Tensor

# Takes logits (N, num_identities) and the true identity (N,), returns the reward (N,), float32.
Reward = Callable[[Tensor, Tensor], Tensor]


def identity(logits: Tensor, truth: Tensor) -> Tensor:
    """1 if the most probable identity is the true one, else 0 (equation 7)."""
    return (logits.argmax(1) == truth).float()


def log_prob(logits: Tensor, truth: Tensor) -> Tensor:
    """The logarithm of the true identity's probability, at most 0: a reward where all answers are wrong."""
    return logits.log_softmax(1).gather(1, truth[:, None]).squeeze(1)


def margin(logits: Tensor, truth: Tensor) -> Tensor:
    """The true identity's logit less the largest other one: positive if the answer is right."""
    true_logit = logits.gather(1, truth[:, None]).squeeze(1)
    others = logits.scatter(1, truth[:, None], -torch.inf)
    return true_logit - others.amax(1)


def rank(logits: Tensor, truth: Tensor) -> Tensor:
    """1 / rank of the true identity among all; ties count against it."""
    true_logit = logits.gather(1, truth[:, None])
    return 1 / (logits >= true_logit).sum(1).float()


REWARDS: dict[str, Reward] = {"identity": identity, "log_prob": log_prob, "margin": margin, "rank": rank}


def get_reward(name: str) -> Reward:
    """Return the reward of that name.

    Raises:
        ValueError: unknown name.
    """
    if name not in REWARDS:
        raise ValueError(f"unknown reward {name!r}; known: {', '.join(REWARDS)}")
    return REWARDS[name]
