"""What an agent thinks when it decides: its policy, and what it expects, for any algorithm of the registry."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from a3d_env.interface import as_numpy
from a3d_env.process import AttentionProcess, Episodes
from agents.controls import draws
from agents.mixture import GaussianMixture
from agents.oracles import bin_probabilities
from agents.rollout import Agent, Choosing, agent_choice


@dataclass(frozen=True)
class Decision:
    """One choice of where to look next. Locations are time, height, width in [-1, 1]; NaN is what is not known.

    Attributes:
        action: the location that was chosen, before it is clipped, float32 (3,).
        mean: what the agent does without exploring, float32 (3,): a Gaussian's mean, a mixture's heaviest part.
        deviation: of the Gaussian around it, float32 (3,).
        share: the weight of that Gaussian: 1, or less where it is a part of a mixture.
        log_prob: of the action: a density where actions are locations, a probability where they are bins.
        value: what the agent expects to earn from here: V(h_t), or Q of what it would do.
        probability: how likely the policy's next look is to be at each bin, exact, float32 (num_bins,).
    """

    action: Tensor
    mean: Tensor
    deviation: Tensor
    share: float
    log_prob: float
    value: float
    probability: Tensor

    @classmethod
    def unknown(cls, action: Tensor, num_bins: int) -> "Decision":
        """Return a choice of which nothing but the location is known."""
        nothing = torch.full((3,), torch.nan)
        return cls(action, nothing, nothing, torch.nan, torch.nan, torch.nan, torch.full((num_bins,), torch.nan))


@torch.no_grad()
def decide(
    agent: Agent, process: AttentionProcess, episodes: Episodes, action: Tensor | None, *, deterministic: bool
) -> Decision:
    """Let an agent choose where one episode looks next, and say what it thought.

    Args:
        agent: who decides, at test (`agents.rollout.at_test`).
        process: the decision process.
        episodes: one episode under way.
        action: the location that is taken, float (3,), whatever the agent says; None for the agent's own.
        deterministic: take its mean rather than a sample.
    """
    grid = process.bank.grid
    distribution = _distribution(agent, process, episodes)
    mean = _without_exploring(agent, distribution, process, episodes)
    if action is None:
        action = mean if deterministic else _sample(agent, distribution, process, episodes, mean)
    if draws(agent):
        mean = torch.full((3,), torch.nan)
    log_prob, spread = torch.nan, Spread.unknown(grid.num_bins)
    if distribution is not None:
        log_prob = float(distribution.log_prob(_native(agent, action, process).to(_device(agent))))
        spread = _spread(distribution, process)
    return Decision(
        action.cpu(),
        mean.cpu(),
        spread.deviation.cpu(),
        spread.share,
        log_prob,
        float(state_values(agent, process, episodes)),
        spread.probability.float().cpu(),
    )


@torch.no_grad()
def state_values(agent: Agent, process: AttentionProcess, episodes: Episodes) -> Tensor:
    """Return what the agent expects of N episodes under way, float32 (N,): V, or Q of what it would do; or NaN."""
    if isinstance(policy := getattr(agent, "policy", None), ActorCriticPolicy):
        return policy.predict_values(_observe(agent, process, episodes)).squeeze(1).cpu()
    if (value_of := _action_values(agent, process, episodes)) is None:
        return torch.full((len(episodes),), torch.nan)
    return value_of(agent_choice(agent, process)(episodes))


@torch.no_grad()
def bin_values(agent: Agent, process: AttentionProcess, episodes: Episodes) -> Tensor:
    """Return what the agent expects if one episode's next look is at each bin, float32 (num_bins,).

    That is Q(h_t, bin), or V(h_{t+1}) after that look; NaN for an agent that expects nothing, and for V where
    that look is the last, after which V is never asked.
    """
    num_bins = process.bank.grid.num_bins
    bins = torch.arange(num_bins, device=episodes.clip.device)
    hidden = episodes.hidden
    tried = Episodes(
        episodes.clip.expand(num_bins),
        episodes.bins.expand(num_bins, -1),
        hidden.expand(num_bins, *hidden.shape[1:]),
    )
    if isinstance(getattr(agent, "policy", None), ActorCriticPolicy):
        after = process.look(tried, bins)
        return (
            torch.full((num_bins,), torch.nan) if process.is_over(after) else state_values(agent, process, after)
        )
    value_of = _action_values(agent, process, tried)
    if value_of is None:
        return torch.full((num_bins,), torch.nan)
    return value_of(bins if _chooses_bins(agent) else process.locations)


def _action_values(
    agent: Agent, process: AttentionProcess, episodes: Episodes
) -> Callable[[Tensor], Tensor] | None:
    """Return Q(h_t, .) of N episodes: takes actions (N, 3) or (N,), returns float32 (N,); None without a Q."""
    if isinstance(agent, DQN | QRDQN):
        observation = _observe(agent, process, episodes)
        net = agent.quantile_net if isinstance(agent, QRDQN) else agent.q_net
        values = net(observation)
        values = values.mean(dim=1) if isinstance(agent, QRDQN) else values  # of the quantiles
        return lambda bins: values.gather(1, bins.to(values.device)[:, None]).squeeze(1).cpu()
    if isinstance(agent, SAC | TD3 | TQC):
        observation = _observe(agent, process, episodes)

        def value_of(actions: Tensor) -> Tensor:
            values = agent.critic(observation, actions.to(agent.device))
            if isinstance(agent, TQC):
                return values.mean(dim=(1, 2)).cpu()  # of the critics' quantiles
            return torch.cat(values, dim=1).amin(dim=1).cpu()

        return value_of
    return None


def _distribution(agent: Agent, process: AttentionProcess, episodes: Episodes) -> Distribution | None:
    """Return the policy's distribution of the next action; None where there is none, or it is not known."""
    if isinstance(policy := getattr(agent, "policy", None), ActorCriticPolicy):
        return policy.get_distribution(_observe(agent, process, episodes))
    if isinstance(agent, SAC | TQC):
        mean, log_std, kwargs = agent.actor.get_action_dist_params(_observe(agent, process, episodes))
        return agent.actor.action_dist.proba_distribution(mean, log_std, **kwargs)
    return None


@dataclass(frozen=True)
class Spread:
    """How a policy spreads its choice; see `Decision`."""

    deviation: Tensor
    share: float
    probability: Tensor

    @classmethod
    def unknown(cls, num_bins: int) -> "Spread":
        """Return that of a policy that says nothing."""
        return cls(torch.full((3,), torch.nan), torch.nan, torch.full((num_bins,), torch.nan))


def _spread(distribution: Distribution, process: AttentionProcess) -> Spread:
    """Return the policy's spread for one episode."""
    grid, unknown = process.bank.grid, Spread.unknown(process.bank.grid.num_bins)
    if isinstance(distribution, GaussianMixture):
        weights = distribution.log_weights.exp()
        parts = bin_probabilities(distribution.locations, distribution.variance, grid)
        deviation = torch.full((3,), distribution.variance).sqrt()
        return Spread(deviation, float(weights.max()), (weights @ parts)[0])
    if isinstance(distribution, DiagGaussianDistribution):  # and SAC's, its tanh
        normal = distribution.distribution
        squashed = type(distribution) is not DiagGaussianDistribution
        probability = bin_probabilities(normal.mean, normal.stddev.square(), grid, squashed=squashed)[0]
        if squashed:  # no Gaussian of locations
            return replace(unknown, probability=probability)
        return Spread(normal.stddev[0], 1.0, probability)
    if isinstance(distribution, CategoricalDistribution):
        return replace(unknown, probability=distribution.distribution.probs[0])
    if isinstance(distribution, MultiCategoricalDistribution):
        time, height, width = (part.probs[0] for part in distribution.distribution)
        return replace(unknown, probability=(time[:, None, None] * height[:, None] * width).flatten())
    return unknown


def _without_exploring(
    agent: Agent, distribution: Distribution | None, process: AttentionProcess, episodes: Episodes
) -> Tensor:
    """Return where the agent looks without exploring, (3,), not clipped."""
    if distribution is not None:
        return _location(distribution.get_actions(deterministic=True), process)
    return _location(agent_choice(agent, process)(episodes), process)


def _sample(
    agent: Agent,
    distribution: Distribution | None,
    process: AttentionProcess,
    episodes: Episodes,
    mean: Tensor,
) -> Tensor:
    """Return a location that the exploring agent draws, (3,), before it is clipped.

    DQN's and TD3's kind have no distribution: what they add in training to explore is no part of the agent.
    """
    if isinstance(agent, Choosing | DQN | QRDQN | TD3):
        return mean
    if distribution is not None:
        return _location(distribution.get_actions(deterministic=False), process)  # predict() would clip it
    drawn, _ = agent.predict(as_numpy(process.observe(episodes)), deterministic=False)
    return _location(torch.as_tensor(drawn), process)


def _location(action: Tensor, process: AttentionProcess) -> Tensor:
    """Return where one action (1, ...) looks, float32 (3,), not clipped."""
    if action.is_floating_point():
        return action[0].float()
    return process.locations[process.bank.grid.chosen(action.to(process.locations.device))[0]]


def _native(agent: Agent, location: Tensor, process: AttentionProcess) -> Tensor:
    """Return a location (3,) as an action of the agent's own kind, (1, ...)."""
    grid = process.bank.grid
    if _chooses_bins(agent):
        return grid.nearest(location[None])
    if isinstance(getattr(agent, "action_space", None), spaces.MultiDiscrete):
        return grid.corners.to(location.device)[grid.nearest(location[None])]
    return location[None]


def _chooses_bins(agent: Agent) -> bool:
    return isinstance(getattr(agent, "action_space", None), spaces.Discrete)


def _observe(agent: Agent, process: AttentionProcess, episodes: Episodes) -> dict[str, Tensor]:
    """Return the observation on the agent's device."""
    return {name: value.to(_device(agent)) for name, value in process.observe(episodes).items()}


def _device(agent: Agent) -> torch.device:
    return torch.device(getattr(agent, "device", "cpu"))
