"""The Gaussian policy with fixed variance, F_a, and the value baseline V, for stable-baselines3 algorithms."""

import math
from typing import Any

import gymnasium
import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

PAPER_VARIANCE = 0.03


class HiddenState(BaseFeaturesExtractor):
    """Take h_t out of the observation: it already includes the current bin and its location."""

    def __init__(self, observation_space: gymnasium.spaces.Dict):
        super().__init__(observation_space, features_dim=observation_space["hidden"].shape[0])  # type: ignore[index]

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the hidden state, (N, 256)."""
        return observation["hidden"]


class AttentionPolicy(ActorCriticPolicy):
    """Equation 5: a_t ~ N(F_a(h_t), variance I), with F_a = tanh of one layer; V(h_t) with a layer between.

    The variance is a buffer: it is saved, moves between devices and is never trained. Log-probabilities are of
    the sample before it is clipped to the action space.

    Args:
        variance: of each coordinate, in [-1, 1] coordinates. The paper's is 0.03.
        value_layers: the sizes of V's hidden layers.
        kwargs: as in `ActorCriticPolicy`.
    """

    def __init__(
        self,
        *args: Any,
        variance: float = PAPER_VARIANCE,
        value_layers: tuple[int, ...] = (256,),
        **kwargs: Any,
    ):
        if not 0 < variance < math.inf:
            raise ValueError(f"the policy's variance must be above 0 and finite, got {variance}")
        self.variance = variance
        self.value_layers = value_layers
        kwargs.setdefault("features_extractor_class", HiddenState)
        kwargs.setdefault("activation_fn", nn.ReLU)
        kwargs["net_arch"] = {"pi": [], "vf": list(value_layers)}
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Sequential(self.action_net, nn.Tanh())
        size = self.log_std.shape
        del self.log_std
        self.register_buffer("log_std", torch.full(size, 0.5 * math.log(self.variance)))
        # made again: the first one holds the deviation as a parameter
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def evaluate_hidden(self, hidden: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return log pi(a | h) and V(h) for hidden states that may carry a gradient; V's stops here.

        Args:
            hidden: float (N, 256).
            actions: float (N, 3), as sampled, not clipped.

        Returns:
            Two float tensors (N,).
        """
        log_prob = self._get_action_dist_from_latent(hidden).log_prob(actions)
        value = self.value_net(self.mlp_extractor.forward_critic(hidden.detach()))
        return log_prob, value.squeeze(1)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        try:
            return super()._get_action_dist_from_latent(latent_pi)
        except ValueError as error:  # torch's own has all the numbers in it
            raise ValueError("the policy's mean became NaN: is a learning rate too high?") from error

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["net_arch"]
        return {**data, "variance": self.variance, "value_layers": self.value_layers}
