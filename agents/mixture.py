"""A mixture of Gaussians over the bins of an overview, as a stable-baselines3 distribution."""

import math

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor


class GaussianMixture(Distribution):
    """a ~ sum_k w_k N(l_k, variance I): look near one of K places l_k, whose weights w the policy learns.

    One Gaussian has to lie between two places that look alike promising, at neither; a mixture takes one of them.

    Args:
        locations: l_k, float (K, 3).
        variance: of each coordinate, in [-1, 1] coordinates.
    """

    def __init__(self, locations: Tensor, variance: float):
        super().__init__()
        self.locations = locations
        self.variance = variance
        self.log_weights = torch.empty(0)
        self.distribution: torch.distributions.Categorical

    def proba_distribution_net(self, *args: object, **kwargs: object) -> torch.nn.Module:
        """Say that the policy's locator is the network.

        Raises:
            TypeError: always.
        """
        raise TypeError("the locator makes the scores: there is no other network")

    def proba_distribution(self, scores: Tensor) -> "GaussianMixture":
        """Set the weights w = softmax(scores), float (N, K).

        Raises:
            ValueError: a score is not finite.
        """
        # an exported model can't ask
        if not torch.compiler.is_compiling() and not bool(torch.isfinite(scores).all()):
            raise ValueError("a bin's score is NaN or infinite")
        self.log_weights = scores.log_softmax(1)
        # Also what TRPO bounds: the components are fixed, so that two mixtures differ at most as their weights do.
        self.distribution = torch.distributions.Categorical(logits=self.log_weights, validate_args=False)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the log-density of actions, (N, 3) -> (N,)."""
        squared = torch.cdist(actions, self.locations, compute_mode="donot_use_mm_for_euclid_dist").square()
        normaliser = 0.5 * actions.shape[1] * math.log(2 * math.pi * self.variance)
        return torch.logsumexp(self.log_weights - 0.5 * squared / self.variance, dim=1) - normaliser

    def entropy(self) -> None:
        """Return None: it has no closed form, and stable-baselines3's algorithms then estimate it."""

    def sample(self) -> Tensor:
        """Draw a place by its weight, and a point near it: (N, 3)."""
        chosen = self.locations[self.distribution.sample()]
        return chosen + math.sqrt(self.variance) * torch.randn_like(chosen)

    def mode(self) -> Tensor:
        """Return the place with the largest weight, (N, 3): what the policy does without exploring."""
        return self.locations[self.log_weights.argmax(1)]

    def actions_from_params(self, scores: Tensor, deterministic: bool = False) -> Tensor:
        """Return actions (N, 3) for scores (N, K)."""
        return self.proba_distribution(scores).get_actions(deterministic)

    def log_prob_from_params(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return sampled actions (N, 3) for scores (N, K), and their log-densities (N,)."""
        actions = self.actions_from_params(scores)
        return actions, self.log_prob(actions)
