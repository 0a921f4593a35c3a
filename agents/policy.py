"""The policy F_a, one Gaussian or a mixture, and the value baseline V, for stable-baselines3 algorithms."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.extractors import HiddenState, HiddenStateAndOverview
from agents.locator import MixtureLocator, build_locator
from agents.mixture import GaussianMixture
from agents.policy_config import PAPER_VARIANCE
from backbone.device import is_free
from backbone.glimpse import HIDDEN_SIZE

DIVERGED = "the policy's output became NaN: is a learning rate too high?"


class ActorAndCritic(MlpExtractor):
    """Layers before F_a and V: F_a gets all features, [h_t] or [h_t, overview]; V's layers get h_t alone."""

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return the output of V's hidden layers, (N, size), for features (N, 256 or more)."""
        return super().forward_critic(features[:, :HIDDEN_SIZE])


class Gaussian(DiagGaussianDistribution):
    """stable-baselines3's Gaussian, which does not look at its numbers: on a GPU that would wait for them."""

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor) -> "Gaussian":
        """Set the means, float (N, 3), and the logarithms of the standard deviations, float (3,).

        Raises:
            ValueError: a mean is NaN, where looking is free.
        """
        if is_free(mean_actions) and bool(torch.isnan(mean_actions).any()):
            raise ValueError("a mean is NaN")
        deviation = log_std.exp().expand_as(mean_actions)
        self.distribution = torch.distributions.Normal(mean_actions, deviation, validate_args=False)
        return self


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
        inhibition: inhibition of return of the locator `mixture`; 0 for none.
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
        inhibition: float = 0.0,
        **kwargs: Any,
    ):
        if not 0 < variance < math.inf:
            raise ValueError(f"the policy's variance must be above 0 and finite, got {variance}")
        self.variance = variance
        self.value_layers = value_layers
        self.locator = locator
        self.overview_locations = overview_locations
        self.inhibition = inhibition
        has_overview = locator == "mixture" or (locator != "linear" and len(overview_locations) > 0)
        kwargs.setdefault("features_extractor_class", HiddenStateAndOverview if has_overview else HiddenState)
        if inhibition and locator == "mixture":
            kwargs["features_extractor_kwargs"] = {"looked": True}
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
            self.locator, self.action_net, self.observation_space, self.overview_locations, self.inhibition
        )
        self.action_dist = Gaussian(spaces.utils.flatdim(self.action_space))
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

    def look_over(self, overview: Tensor | None) -> Tensor | None:
        """Return what `choose` needs of clips' overviews, float (clips, K C_g), computed once for all steps."""
        if overview is None or not self.sees_overview:
            return None
        return self.action_net.keys(overview) if isinstance(self.action_net, MixtureLocator) else overview

    def choose(
        self,
        hidden: Tensor,
        seen: Tensor | None = None,
        clip: Tensor | None = None,
        looked: Tensor | None = None,
    ) -> Distribution:
        """Return pi(a | h) for hidden states that may have a gradient.

        Args:
            hidden: float (N, 256).
            seen: by default nothing, for a policy that sees no overview; the clips' overviews by `look_over`; or,
                without `clip`, the overview of each hidden state, float (N, K C_g).
            clip: each hidden state's row of `seen`, int64 (N,).
            looked: with inhibition, the share of each of the overview's bins that was looked at, float (N, K).
        """
        if not self.sees_overview:
            return self._get_action_dist_from_latent(hidden)
        assert seen is not None
        if clip is not None and isinstance(self.action_net, MixtureLocator):
            return self._distribution(self.action_net.scores(hidden, seen, clip, looked))
        features = {"hidden": hidden, "overview": seen if clip is None else seen[clip]}
        if looked is not None:
            features["looked"] = looked
        return self._get_action_dist_from_latent(self.features_extractor(features))

    def evaluate_hidden(
        self,
        hidden: Tensor,
        actions: Tensor,
        seen: Tensor | None = None,
        clip: Tensor | None = None,
        looked: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return log pi(a | h) and V(h), two float tensors (N,), for `choose`'s arguments.

        Args:
            hidden: float (N, 256).
            actions: float (N, 3), as sampled, not clipped.
            seen: as for `choose`.
            clip: as for `choose`.
            looked: as for `choose`.
        """
        return self.choose(hidden, seen, clip, looked).log_prob(actions), self.value(hidden)

    def value(self, hidden: Tensor) -> Tensor:
        """Return V(h) for hidden states, float (N, 256) -> (N,); its gradient does not reach them."""
        return self.value_net(self.mlp_extractor.forward_critic(hidden.detach())).squeeze(1)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        return self._distribution(self.action_net(latent_pi))

    def _distribution(self, found: Tensor) -> Distribution:
        """Return the distribution of a locator's means, (N, 3), or of its scores of its locations, (N, M)."""
        try:
            if (locations := getattr(self.action_net, "locations", None)) is not None:
                return GaussianMixture(locations, self.variance).proba_distribution(found)
            assert isinstance(self.action_dist, Gaussian)
            return self.action_dist.proba_distribution(found, self.log_std)
        except ValueError as error:
            raise ValueError(DIVERGED) from error

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["net_arch"]
        return {
            **data,
            "variance": self.variance,
            "value_layers": self.value_layers,
            "locator": self.locator,
            "overview_locations": self.overview_locations,
            "inhibition": self.inhibition,
        }
