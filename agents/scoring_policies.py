"""Policies that score places by what is in them, for algorithms other than those of `AttentionPolicy`.

Each is stable-baselines3's policy of an algorithm with other networks in it, which read `HiddenStateAndPlaces`.
"""

from typing import Any

from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from agents.locator import MixtureLocator
from agents.place_scores import (
    Aim,
    AxisScores,
    BinScores,
    BinValues,
    HiddenPart,
    HiddenStateAndPlaces,
    LocationValue,
)
from agents.policy import ActorAndCritic
from backbone.glimpse import HIDDEN_SIZE


class BinScoringPolicy(ActorCriticPolicy):
    """Policy of PPO that chooses a bin, or its position along each axis, by the locator `mixture`'s scores.

    V(h_t) has hidden layers of the sizes in `net_arch`.
    """

    features_extractor: HiddenStateAndPlaces

    def _build_mlp_extractor(self) -> None:
        layers = self.net_arch["vf"] if isinstance(self.net_arch, dict) else self.net_arch
        self.mlp_extractor = ActorAndCritic(HIDDEN_SIZE, {"pi": [], "vf": layers}, nn.ReLU, self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        places = self.features_extractor
        locator = MixtureLocator(places.num_channels, places.locations)
        scores = BinScores if isinstance(self.action_space, spaces.Discrete) else AxisScores
        self.action_net = scores(places, locator)
        # made again, because the first optimizer holds the layers that the scores replace
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )


class BinScoringDQNPolicy(DQNPolicy):
    """Policy of DQN whose Q is the value of the state plus the bin's score (`BinValues`)."""

    def make_q_net(self) -> QNetwork:
        """Return the network that computes Q of all bins."""
        net = super().make_q_net()
        net.q_net = _bin_values(net, 1, self.net_arch)  # type: ignore[assignment]
        return net.to(self.device)


class BinScoringQRDQNPolicy(QRDQNPolicy):
    """Policy of QR-DQN: the bin's score shifts the quantiles of the state's value (`BinValues`)."""

    def make_quantile_net(self) -> QuantileNetwork:
        """Return the network that computes the quantiles of all bins."""
        net = super().make_quantile_net()
        net.quantile_net = _bin_values(net, self.n_quantiles, self.net_arch)  # type: ignore[assignment]
        return net.to(self.device)


def _bin_values(net: QNetwork | QuantileNetwork, num_outputs: int, layers: list[int]) -> BinValues:
    assert isinstance(net.features_extractor, HiddenStateAndPlaces)
    return BinValues(net.features_extractor, num_outputs, layers, net.activation_fn)


class _LocationScoring:
    """Networks of SAC, TQC, TD3 and DDPG: critics that score locations, and an actor that follows the first."""

    def make_actor(self: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Return the actor; `_build` tells it which critic to follow."""
        actor = super().make_actor(features_extractor)  # type: ignore[misc]
        actor.mu = Aim(squashed=not isinstance(self, TD3Policy))
        if not isinstance(self, TD3Policy):
            actor.latent_pi = nn.Identity()
            actor.log_std = nn.Sequential(HiddenPart(), nn.Linear(HIDDEN_SIZE, 3))
        return actor.to(self.device)

    def make_critic(self: Any, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """Return the critics, one network each."""
        critic = super().make_critic(features_extractor)  # type: ignore[misc]
        num_outputs = getattr(critic, "n_quantiles", 1)  # TQC's
        layers, activation = self.critic_kwargs["net_arch"], self.activation_fn
        for number in range(critic.n_critics):
            net = LocationValue(critic.features_extractor, num_outputs, layers, activation)
            critic.q_networks[number] = net
            setattr(critic, f"qf{number}", net)
        return critic.to(self.device)

    def _build(self: Any, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        self.actor.mu.follow(self.critic.q_networks[0])
        if isinstance(self, TD3Policy):
            self.actor_target.mu.follow(self.critic_target.q_networks[0])  # type: ignore[operator]


class LocationScoringSACPolicy(_LocationScoring, SACPolicy):
    """Policy of SAC: Q is the value of the state plus the scores of the places near the location."""


class LocationScoringTQCPolicy(_LocationScoring, TQCPolicy):
    """Policy of TQC: the scores of the places near a location shift the quantiles of the state's value."""


class LocationScoringTD3Policy(_LocationScoring, TD3Policy):
    """Policy of TD3 and DDPG: Q is the value of the state plus the scores of the places near the location."""
