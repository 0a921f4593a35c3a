"""Rewards by name: what the end of an episode pays (equation 7, and other readings of "rank and accuracy")."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backbone.glimpse import GlimpseNetwork


@dataclass(frozen=True)
class Verdict:
    """What F_c says of N finished episodes, of T glimpses each.

    Attributes:
        logits: of all that was seen, float32 (N, num_identities).
        truth: the true identity, int64 (N,).
        global_feature: f_g, float32 (N, C_g).
        hidden: h_1..h_T, float32 (N, T, 256).
        glimpse: the network that F_c is part of.
    """

    logits: Tensor
    truth: Tensor
    global_feature: Tensor
    hidden: Tensor
    glimpse: GlimpseNetwork


# Takes the verdict on N episodes, returns the reward (N,), float32.
Reward = Callable[[Verdict], Tensor]


def identity(verdict: Verdict) -> Tensor:
    """1 if the most probable identity is the true one, else 0 (equation 7)."""
    return (verdict.logits.argmax(1) == verdict.truth).float()


def log_prob(verdict: Verdict) -> Tensor:
    """The logarithm of the true identity's probability, at most 0: a reward where all answers are wrong."""
    return verdict.logits.log_softmax(1).gather(1, verdict.truth[:, None]).squeeze(1)


def margin(verdict: Verdict) -> Tensor:
    """The true identity's logit less the largest other one: positive if the answer is right."""
    truth = verdict.truth[:, None]
    others = verdict.logits.scatter(1, truth, -torch.inf)
    return verdict.logits.gather(1, truth).squeeze(1) - others.amax(1)


def rank(verdict: Verdict) -> Tensor:
    """1 / rank of the true identity among all; ties count against it."""
    true_logit = verdict.logits.gather(1, verdict.truth[:, None])
    return 1 / (verdict.logits >= true_logit).sum(1).float()


def glimpses(verdict: Verdict) -> Tensor:
    """The mean over h_1..h_T of the true identity's log-probability by that glimpse, beside the global feature.

    What pays is to see in every bin what the clip as a whole does not show.
    """
    logits = verdict.glimpse.identify_glimpses(verdict.global_feature, verdict.hidden)
    by_glimpse = logits.log_softmax(2)  # (N, T, num_identities)
    truth = verdict.truth[:, None, None].expand(-1, by_glimpse.shape[1], 1)
    return by_glimpse.gather(2, truth).squeeze(2).mean(1)


REWARDS: dict[str, Reward] = {
    "identity": identity,
    "log_prob": log_prob,
    "margin": margin,
    "rank": rank,
    "glimpses": glimpses,
}


def get_reward(name: str, num_glimpses: int) -> Reward:
    """Return the reward of that name, for episodes of so many glimpses.

    Raises:
        ValueError: unknown name, or a reward for glimpses where there are none.
    """
    if name not in REWARDS:
        raise ValueError(f"unknown reward {name!r}; known: {', '.join(REWARDS)}")
    if name == "glimpses" and num_glimpses == 0:
        raise ValueError("the reward 'glimpses' judges each glimpse, and with num_glimpses = 0 there are none")
    return REWARDS[name]
