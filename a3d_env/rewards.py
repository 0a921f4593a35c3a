"""Rewards at an episode's end, by name: equation 7, and other interpretations of "rank and accuracy"."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from backbone.glimpse import GlimpseNetwork
from backbone.own import is_own, load_own, shape_of


@dataclass(frozen=True)
class Verdict:
    """F_c's logits for N finished episodes of T glimpses, and all else that a reward is computed from.

    Attributes:
        logits: F_c's logits by the global feature and all glimpses, float32 (N, num_identities).
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


# A reward takes the verdict on N episodes and returns a float32 tensor (N,).
Reward = Callable[[Verdict], Tensor]


def identity(verdict: Verdict) -> Tensor:
    """1 if the most probable identity is the true one, else 0 (equation 7)."""
    return (verdict.logits.argmax(1) == verdict.truth).float()


def log_prob(verdict: Verdict) -> Tensor:
    """The logarithm of the true identity's probability, at most 0; it also differs between wrong predictions."""
    return verdict.logits.log_softmax(1).gather(1, verdict.truth[:, None]).squeeze(1)


def margin(verdict: Verdict) -> Tensor:
    """The true identity's logit less the largest other one: positive if the prediction is right."""
    truth = verdict.truth[:, None]
    others = verdict.logits.scatter(1, truth, -torch.inf)
    return verdict.logits.gather(1, truth).squeeze(1) - others.amax(1)


def rank(verdict: Verdict) -> Tensor:
    """1 / rank of the true identity among all; ties count against it."""
    true_logit = verdict.logits.gather(1, verdict.truth[:, None])
    return 1 / (verdict.logits >= true_logit).sum(1).float()


def glimpses(verdict: Verdict) -> Tensor:
    """The mean over glimpses of the true identity's log-probability, by that glimpse and the global feature alone.

    It rewards bins that show what the clip as a whole does not.
    """
    return _mean_log_prob(verdict.glimpse.identify_glimpses(verdict.global_feature, verdict.hidden), verdict.truth)


def prefixes(verdict: Verdict) -> Tensor:
    """The mean over glimpses of the true identity's log-probability, by the global feature and all until then.

    It rewards a glimpse that adds to those before it, the sooner the better.
    """
    return _mean_log_prob(verdict.glimpse.identify_prefixes(verdict.global_feature, verdict.hidden), verdict.truth)


def _mean_log_prob(logits: Tensor, truth: Tensor) -> Tensor:
    """Logits (N, T, num_identities), true identities (N,) -> the mean log-probability of these over T, (N,)."""
    truth = truth[:, None, None].expand(-1, logits.shape[1], 1)
    return logits.log_softmax(2).gather(2, truth).squeeze(2).mean(1)


REWARDS: dict[str, Reward] = {
    "identity": identity,
    "log_prob": log_prob,
    "margin": margin,
    "rank": rank,
    "glimpses": glimpses,
    "prefixes": prefixes,
}
OF_GLIMPSES = ("glimpses", "prefixes")  # rewards that need a glimpse


def get_reward(name: str, num_glimpses: int) -> Reward:
    """Return the reward of that name, for episodes of `num_glimpses` glimpses.

    Args:
        name: a name of `REWARDS`, or `module:name` of a function of the user's own that takes a `Verdict` on N
            episodes and returns what they pay, a tensor (N,) of finite numbers.
        num_glimpses: T.

    Raises:
        ValueError: unknown name, no such function, or a reward for glimpses where there are none.
    """
    if is_own(name):
        return _own_reward(name)
    if name not in REWARDS:
        raise ValueError(f"unknown reward {name!r}; known: {', '.join(REWARDS)}, or module:name of your own")
    if name in OF_GLIMPSES and num_glimpses == 0:
        raise ValueError(f"the reward {name!r} judges each glimpse, and with num_glimpses = 0 there are none")
    return REWARDS[name]


def _own_reward(name: str) -> Reward:
    """Return a reward of the user's own, which raises a `ValueError` where it does not pay (N,) finite numbers."""
    pay = load_own(name, "reward")
    if not callable(pay):
        raise ValueError(f"the reward {name} has to be a function of a Verdict, got a {type(pay).__name__}")

    def checked(verdict: Verdict) -> Tensor:
        paid = pay(verdict)
        if not isinstance(paid, Tensor) or paid.shape != verdict.truth.shape:
            raise ValueError(
                f"the reward {name} paid {shape_of(paid)} for {len(verdict.truth)} episodes: a tensor "
                f"{tuple(verdict.truth.shape)}, a number for each, is needed"
            )
        if not bool(torch.isfinite(paid).all()):
            raise ValueError(f"the reward {name} paid NaN or infinity: each episode's has to be finite")
        return paid.float()

    return checked
