"""A mixture of Gaussians over the bins of an overview, as a stable-baselines3 distribution."""

import math

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from backbone.device import is_free


class GaussianMixture(Distribution):
    """a ~ sum_k w_k N(l_k, variance I): look near one of K locations l_k, whose weights w the policy computes.

    If two locations are equally promising, a single Gaussian has to lie between them, at neither; a mixture takes
    one.

    Args:
        locations: l_k, float (K, 3).
        variance: variance of each coordinate; coordinates are in [-1, 1].
    """

    def __init__(self, locations: Tensor, variance: float):
        super().__init__()
        self.locations = locations
        self.variance = variance
        self.log_weights = torch.empty(0)
        self.distribution: torch.distributions.Categorical

    def proba_distribution_net(self, *args: object, **kwargs: object) -> torch.nn.Module:
        """Raise an error, as the policy's locator is the network.

        Raises:
            TypeError: always.
        """
        raise TypeError("the locator makes the scores: a GaussianMixture has no network of its own")

    def proba_distribution(self, scores: Tensor) -> "GaussianMixture":
        """Set the weights w = softmax(scores), float (N, K).

        Raises:
            ValueError: a score is not finite.
        """
        if is_free(scores) and not bool(torch.isfinite(scores).all()):
            raise ValueError("a bin's score is NaN or infinite")
        self.log_weights = scores.log_softmax(1)
        # TRPO bounds the divergence of the weights; that of the mixtures is not larger, as the components are
        # fixed.
        self.distribution = torch.distributions.Categorical(logits=self.log_weights, validate_args=False)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the log-density of actions, (N, 3) -> (N,)."""
        squared = torch.cdist(actions, self.locations, compute_mode="donot_use_mm_for_euclid_dist").square()
        normaliser = 0.5 * actions.shape[1] * math.log(2 * math.pi * self.variance)
        return torch.logsumexp(self.log_weights - 0.5 * squared / self.variance, dim=1) - normaliser

    def entropy(self) -> None:
        """Return None, as there is no closed form; stable-baselines3's algorithms then estimate the entropy."""

    def sample(self) -> Tensor:
        """Draw a location by the weights, and a point near it: (N, 3)."""
        weights = self.distribution.probs  # the draw of torch.multinomial, which waits for a GPU to check them
        drawn = (weights / torch.empty_like(weights).exponential_()).argmax(1)
        chosen = self.locations[drawn]
        return chosen + math.sqrt(self.variance) * torch.randn_like(chosen)

    def mode(self) -> Tensor:
        """Return the location with the largest weight, (N, 3), the policy's action without exploring."""
        return self.locations[self.log_weights.argmax(1)]

    def actions_from_params(self, scores: Tensor, deterministic: bool = False) -> Tensor:
        """Return actions (N, 3) for scores (N, K)."""
        return self.proba_distribution(scores).get_actions(deterministic)

    def log_prob_from_params(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return sampled actions (N, 3) for scores (N, K), and their log-densities (N,)."""
        actions = self.actions_from_params(scores)
        return actions, self.log_prob(actions)
