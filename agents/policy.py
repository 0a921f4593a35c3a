"""The policy F_a, one Gaussian or a mixture, and the value baseline V, for stable-baselines3 algorithms."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.extractors import HiddenState, HiddenStateAndOverview
from agents.locator import build_locator
from agents.mixture import GaussianMixture
from backbone.glimpse import HIDDEN_SIZE

PAPER_VARIANCE = 0.03


class ActorAndCritic(MlpExtractor):
    """Layers before F_a and V: F_a gets all features, [h_t] or [h_t, overview]; V's layers get h_t alone."""

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return the output of V's hidden layers, (N, size), for features (N, 256 or more)."""
        return super().forward_critic(features[:, :HIDDEN_SIZE])


class AttentionPolicy(ActorCriticPolicy):
    """Equation 5: a_t ~ N(F_a, variance I), or a mixture of such Gaussians; V(h_t) has hidden layers.

    The variance is a buffer: it is saved, moves between devices and is never trained. Log-probabilities are those
    of the sample before it is clipped to the action space.

    Args:
        variance: variance of each coordinate; coordinates are in [-1, 1]. The paper's is 0.03.
        value_layers: the sizes of V's hidden layers.
        locator: F_a: `linear`, the mean of one Gaussian by tanh of one layer on h_t (the paper's); `mixture`, the
            weights of Gaussians at each bin of an overview (`agents.mixture`); or `module:name` of the user's own
            (`agents.locator.OwnLocator`).
        overview_locations: the environment's `overview_locations`, (K, 3), for all but `linear`; `agents.make`
            gives them.
        kwargs: other keyword arguments of stable-baselines3's `ActorCriticPolicy`.

    Raises:
        ValueError: a variance that is not above 0, unknown locator, or a mixture without an overview.
    """

    def __init__(
        self,
        *args: Any,
        variance: float = PAPER_VARIANCE,
        value_layers: tuple[int, ...] = (256,),
        locator: str = "linear",
        overview_locations: Sequence[Sequence[float]] = (),
        **kwargs: Any,
    ):
        if not 0 < variance < math.inf:
            raise ValueError(f"the policy's variance must be above 0 and finite, got {variance}")
        self.variance = variance
        self.value_layers = value_layers
        self.locator = locator
        self.overview_locations = overview_locations
        has_overview = locator == "mixture" or (locator != "linear" and len(overview_locations) > 0)
        kwargs.setdefault("features_extractor_class", HiddenStateAndOverview if has_overview else HiddenState)
        kwargs.setdefault("activation_fn", nn.ReLU)
        kwargs["net_arch"] = {"pi": [], "vf": list(value_layers)}
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = ActorAndCritic(HIDDEN_SIZE, self.net_arch, self.activation_fn, self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        assert isinstance(self.observation_space, spaces.Dict)
        assert isinstance(self.action_net, nn.Linear)
        self.action_net = build_locator(
            self.locator, self.action_net, self.observation_space, self.overview_locations
        )
        size = self.log_std.shape
        del self.log_std
        self.register_buffer("log_std", torch.full(size, 0.5 * math.log(self.variance)))
        # made again, because the first optimizer holds the deviation as a parameter
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    @property
    def sees_overview(self) -> bool:
        """Whether the locator looks at the observations' overview."""
        return isinstance(self.features_extractor, HiddenStateAndOverview)

    def evaluate_hidden(
        self, hidden: Tensor, actions: Tensor, overview: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log pi(a | h) and V(h) for hidden states that may have a gradient; that of V does not reach them.

        Args:
            hidden: float (N, 256).
            actions: float (N, 3), as sampled, not clipped.
            overview: the observations' overview, float (N, K C_g); a linear locator does not need it.

        Returns:
            Two float tensors (N,).
        """
        features = hidden
        if self.sees_overview:
            assert overview is not None
            features = self.features_extractor({"hidden": hidden, "overview": overview})
        log_prob = self._get_action_dist_from_latent(features).log_prob(actions)
        value = self.value_net(self.mlp_extractor.forward_critic(hidden.detach()))
        return log_prob, value.squeeze(1)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        try:
            if (locations := getattr(self.action_net, "locations", None)) is not None:
                mixture = GaussianMixture(locations, self.variance)
                return mixture.proba_distribution(self.action_net(latent_pi))
            return super()._get_action_dist_from_latent(latent_pi)
        except ValueError as error:  # torch's message lists all numbers
            raise ValueError("the policy's output became NaN: is a learning rate too high?") from error

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["net_arch"]
        return {
            **data,
            "variance": self.variance,
            "value_layers": self.value_layers,
            "locator": self.locator,
            "overview_locations": self.overview_locations,
        }
