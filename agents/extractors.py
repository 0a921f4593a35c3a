"""Feature extractors of policies: the hidden state and, if the observation has one, the overview."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn import functional

from a3d_env.interface import OverviewBox
from backbone.glimpse import HIDDEN_SIZE

KEY_SIZE = 64
NUM_HEADS = 4


class HiddenState(BaseFeaturesExtractor):
    """Takes h_t, which already includes the current bin and its location, out of the observation."""

    def __init__(self, observation_space: gymnasium.spaces.Dict):
        super().__init__(observation_space, features_dim=observation_space["hidden"].shape[0])  # type: ignore[index]

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the hidden state, (N, 256)."""
        return observation["hidden"]


class HiddenStateAndOverview(BaseFeaturesExtractor):
    """Takes [h_t, overview] out of the observation, and what was looked at of the overview if asked for.

    Args:
        observation_space: observation space of an A3D environment.
        looked: whether `looked` follows, (N, K).

    Raises:
        ValueError: the observations lack one of these.
    """

    def __init__(self, observation_space: gymnasium.spaces.Dict, *, looked: bool = False):
        parts = observation_space.spaces
        self.parts = ["hidden", "overview", "looked"] if looked else ["hidden", "overview"]
        if "overview" not in parts:
            raise ValueError(
                "the observations have no overview for the locator 'mixture': make the environment with one, as "
                "overview=(2, 6, 4); a run of a3d train has one by --recipe strong or --attention.overview 2 6 4"
            )
        if looked and "looked" not in parts:
            raise ValueError(
                "the observations don't tell what was looked at, which the policy's inhibition needs: set "
                "attention.shows_looked (or BinGrid.shows_looked), or no policy.inhibition"
            )
        super().__init__(observation_space, sum(gymnasium.spaces.flatdim(parts[name]) for name in self.parts))

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the features, (N, 256 + K C_g), or (N, 256 + K C_g + K).

        Raises:
            ValueError: the observation has no overview.
        """
        if "overview" not in observation:
            raise ValueError("the policy was trained with an overview, and this observation shows none")
        return torch.cat([observation[name] for name in self.parts], dim=1)


class OverviewReader(BaseFeaturesExtractor):
    """h_t and, with an overview, the locations of its bins that score highest, for policies that are plain MLPs.

    An MLP on the overview's thousands of numbers would have to learn separately at each location what is worth a
    look. Here each of 4 heads scores all bins by the same layers, and returns the mean location and mean score
    under the softmax of its scores.

    | quantity | computation |
    |---|---|
    | key of a bin | ReLU(fc [its feature, its location] -> 64) |
    | score of a head | fc key -> 4 |
    | features | h_t; for each head the mean location and the mean score under the scores' softmax: 256 + 4 x 4 |

    Args:
        observation_space: observation space of an A3D environment.
        overview_locations: the environment's `overview_locations`, (K, 3); with K = 0 the features are h_t alone.

    Raises:
        ValueError: `overview_locations` differ from those of the observations' overview.
    """

    locations: Tensor

    def __init__(
        self, observation_space: gymnasium.spaces.Dict, overview_locations: Sequence[Sequence[float]] = ()
    ):
        num_channels = gymnasium.spaces.flatdim(observation_space["bin"])
        locations = overview_places(observation_space, overview_locations)
        super().__init__(observation_space, HIDDEN_SIZE + (NUM_HEADS * 4 if len(locations) else 0))
        keep_places(self, locations)
        if len(locations):
            self.key = nn.Linear(num_channels + 3, KEY_SIZE)
            self.score = nn.Linear(KEY_SIZE, NUM_HEADS)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the features, (N, 256) or (N, 256 + 16)."""
        hidden = observation["hidden"]
        if not len(self.locations):
            return hidden
        bins = observation["overview"].unflatten(1, (len(self.locations), -1))  # (N, K, C_g)
        located = torch.cat([bins, self.locations.expand(bins.shape[0], -1, -1)], dim=2)
        scores = self.score(functional.relu(self.key(located)))  # (N, K, heads)
        weights = scores.softmax(1)
        where = weights.transpose(1, 2) @ self.locations  # (N, heads, 3)
        return torch.cat([hidden, where.flatten(1), (weights * scores).sum(1)], dim=1)


def overview_places(
    observation_space: gymnasium.spaces.Dict, overview_locations: Sequence[Sequence[float]] | Tensor
) -> Tensor:
    """Return the locations of the overview's bins, float32 (K, 3), after a check; K = 0 without an overview.

    Args:
        observation_space: observation space of an A3D environment.
        overview_locations: the locations that a policy was given.

    Raises:
        ValueError: `overview_locations` differ from those of the observations' overview.
    """
    locations = torch.as_tensor(overview_locations, dtype=torch.float32).reshape(-1, 3)
    seen, num_channels = (
        observation_space.spaces.get("overview"),
        gymnasium.spaces.flatdim(observation_space["bin"]),
    )
    num_bins = 0 if seen is None else gymnasium.spaces.flatdim(seen) // num_channels
    if len(locations) != num_bins:
        raise ValueError(
            f"the observations' overview has {num_bins} bins, so that overview_locations has to be "
            f"({num_bins}, 3), got {tuple(locations.shape)}"
        )
    if isinstance(seen, OverviewBox) and not torch.allclose(locations, torch.from_numpy(seen.locations)):
        raise ValueError("overview_locations are not those of the environment: give its own (agents.make does)")
    return locations


def keep_places(module: nn.Module, locations: Tensor) -> None:
    """Register an overview's locations as a module's buffer; it then refuses parameters for other locations."""
    module.register_buffer("locations", locations.clone())
    module.register_load_state_dict_pre_hook(_refuse_other_places)


def _refuse_other_places(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    own, saved = module.get_buffer("locations"), state.get(f"{prefix}locations")
    if saved is not None and (saved.shape != own.shape or not torch.allclose(saved.to(own), own)):
        raise ValueError(
            f"these parameters are of an agent that saw an overview of {len(saved)} bins at other places than "
            f"this one's {len(own)}: make the environment with the overview that it was trained with"
        )
