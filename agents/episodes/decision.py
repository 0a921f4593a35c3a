"""An agent's decision at one glimpse, with its policy and expected value, for any algorithm of the registry."""

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
    SquashedDiagGaussianDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from a3d_env.interface import as_numpy
from a3d_env.process import AttentionProcess, Episodes
from agents.controls import draws
from agents.mixture import GaussianMixture
from agents.oracles import bin_probabilities
from agents.rollout import Agent, ProcessAgent, agent_choice


@dataclass(frozen=True)
class Decision:
    """One choice of the next bin. Locations are time, height, width in [-1, 1]; unknown numbers are NaN.

    Attributes:
        action: the chosen location, before it is clipped, float32 (3,).
        mean: the agent's action without exploring, float32 (3,): a Gaussian's mean, or the mean of the mixture's
            component with the largest weight.
        deviation: standard deviation of the Gaussian around `mean`, float32 (3,).
        share: weight of that Gaussian: 1, or less if it is a component of a mixture.
        log_prob: logarithm of the action's density if actions are locations, of its probability if they are bins.
        value: the return that the agent expects: V(h_t), or Q of its action without exploring.
        probability: exact probability by the policy that the next glimpse is at each bin, float32 (num_bins,).
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
        """Return a choice with a known location and nothing else known."""
        nothing = torch.full((3,), torch.nan)
        return cls(action, nothing, nothing, torch.nan, torch.nan, torch.nan, torch.full((num_bins,), torch.nan))


@torch.no_grad()
def decide(
    agent: Agent, process: AttentionProcess, episodes: Episodes, action: Tensor | None, *, deterministic: bool
) -> Decision:
    """Let an agent choose the next bin of one episode, and return the choice with its policy and expected value.

    Args:
        agent: the agent, prepared for test (`agents.rollout.at_test`).
        process: the decision process.
        episodes: one unfinished episode.
        action: a location that replaces the agent's choice, float (3,); None for the agent's own choice.
        deterministic: whether to take the policy's mean rather than a sample.
    """
    grid = process.bank.grid
    distribution = _distribution(agent, process, episodes)
    mean = _without_exploring(agent, distribution, process, episodes)
    if action is None:
        action = mean if deterministic else _sample(agent, distribution, process, episodes, mean)
    if draws(agent):
        mean = torch.full((3,), torch.nan)
    log_prob, spread = torch.nan, Dispersion.unknown(grid.num_bins)
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
    """Return the expected returns of N unfinished episodes, float32 (N,): V, Q of the agent's action, or NaN."""
    if isinstance(policy := getattr(agent, "policy", None), ActorCriticPolicy):
        return policy.predict_values(_observe(agent, process, episodes)).squeeze(1).cpu()
    if (value_of := _action_values(agent, process, episodes)) is None:
        return torch.full((len(episodes),), torch.nan)
    return value_of(agent_choice(agent, process)(episodes))


@torch.no_grad()
def bin_values(agent: Agent, process: AttentionProcess, episodes: Episodes) -> Tensor:
    """Return the return that the agent expects if one episode's next glimpse is at each bin, float32 (num_bins,).

    This is Q(h_t, bin), or V(h_{t+1}) after that glimpse; NaN for an agent that has neither, and for V if that
    glimpse is the last, since V is not trained on finished episodes.
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
        values = values.mean(dim=1) if isinstance(agent, QRDQN) else values  # mean of the quantiles
        return lambda bins: values.gather(1, bins.to(values.device)[:, None]).squeeze(1).cpu()
    if isinstance(agent, SAC | TD3 | TQC):
        observation = _observe(agent, process, episodes)

        def value_of(actions: Tensor) -> Tensor:
            values = agent.critic(observation, actions.to(agent.device))
            if isinstance(agent, TQC):
                return values.mean(dim=(1, 2)).cpu()  # mean of the critics' quantiles
            return torch.cat(values, dim=1).amin(dim=1).cpu()

        return value_of
    return None


def _distribution(agent: Agent, process: AttentionProcess, episodes: Episodes) -> Distribution | None:
    """Return the policy's distribution of the next action; None if it has none, or it is not known."""
    if isinstance(policy := getattr(agent, "policy", None), ActorCriticPolicy):
        return policy.get_distribution(_observe(agent, process, episodes))
    if isinstance(agent, SAC | TQC):
        mean, log_std, kwargs = agent.actor.get_action_dist_params(_observe(agent, process, episodes))
        return agent.actor.action_dist.proba_distribution(mean, log_std, **kwargs)
    return None


@dataclass(frozen=True)
class Dispersion:
    """The dispersion of a policy's next action; attributes as those of `Decision`."""

    deviation: Tensor
    share: float
    probability: Tensor

    @classmethod
    def unknown(cls, num_bins: int) -> "Dispersion":
        """Return the dispersion of a policy whose distribution is not known: NaN."""
        return cls(torch.full((3,), torch.nan), torch.nan, torch.full((num_bins,), torch.nan))


def _spread(distribution: Distribution, process: AttentionProcess) -> Dispersion:
    """Return the dispersion of a policy's distribution for one episode."""
    grid, unknown = process.bank.grid, Dispersion.unknown(process.bank.grid.num_bins)
    if isinstance(distribution, GaussianMixture):
        weights = distribution.log_weights.exp()
        parts = bin_probabilities(distribution.locations, distribution.variance, grid)
        deviation = torch.full((3,), distribution.variance).sqrt()
        return Dispersion(deviation, float(weights.max()), (weights @ parts)[0])
    if isinstance(distribution, DiagGaussianDistribution):
        normal = distribution.distribution
        squashed = isinstance(distribution, SquashedDiagGaussianDistribution)  # SAC's
        probability = bin_probabilities(normal.mean, normal.stddev.square(), grid, squashed=squashed)[0]
        if squashed:  # the tanh of a Gaussian is not a Gaussian
            return replace(unknown, probability=probability)
        return Dispersion(normal.stddev[0], 1.0, probability)
    if isinstance(distribution, CategoricalDistribution):
        return replace(unknown, probability=distribution.distribution.probs[0])
    if isinstance(distribution, MultiCategoricalDistribution):
        time, height, width = (part.probs[0] for part in distribution.distribution)
        return replace(unknown, probability=(time[:, None, None] * height[:, None] * width).flatten())
    return unknown


def _without_exploring(
    agent: Agent, distribution: Distribution | None, process: AttentionProcess, episodes: Episodes
) -> Tensor:
    """Return the location that the agent looks at without exploring, (3,), not clipped."""
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

    DQN, TD3 and their variants have no distribution: the noise that they add in training is no part of the agent.
    """
    if isinstance(agent, ProcessAgent | DQN | QRDQN | TD3):
        return mean
    if distribution is not None:
        return _location(distribution.get_actions(deterministic=False), process)  # predict() would clip it
    drawn, _ = agent.predict(as_numpy(process.observe(episodes)), deterministic=False)
    return _location(torch.as_tensor(drawn), process)


def _location(action: Tensor, process: AttentionProcess) -> Tensor:
    """Return the location of one action (1, ...), float32 (3,), not clipped."""
    if action.is_floating_point():
        return action[0].float()
    return process.locations[process.bank.grid.chosen(action.to(process.locations.device))[0]]


def _native(agent: Agent, location: Tensor, process: AttentionProcess) -> Tensor:
    """Return a location (3,) as an action in the agent's action mode, (1, ...)."""
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
