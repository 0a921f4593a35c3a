"""Networks that score places by what is in them: all bins, positions along each axis, or any location."""

import math
from collections.abc import Sequence

import gymnasium
import torch
from stable_baselines3.common.torch_layers import create_mlp
from torch import Tensor, nn
from torch.nn import functional

from a3d_env.bins import BinGrid, Size3
from agents.extractors import HiddenStateAndOverview, keep_places, overview_places
from agents.locator import KEY_SIZE
from backbone.glimpse import HIDDEN_SIZE

# Squared distance in locations at which a place of the overview counts 1/e of one at the bin or location itself:
# narrow for bins, so that next to nothing but the nearest places counts; wider where an action follows the slope.
BIN_WIDTH = 0.05
LOCATION_WIDTH = 0.2
# Initial factor of the scores under an actor's softmax; scores are differences in reward, about 0.1.
SHARPNESS = 30.0
# Largest coordinate of the mean of a Gaussian that tanh maps to locations, before tanh's inverse becomes infinite.
LARGEST_MEAN = 0.97


class HiddenStateAndPlaces(HiddenStateAndOverview):
    """Takes [h_t, overview] out of the observation, and knows the places of the overview's bins and of all bins.

    Args:
        observation_space: observation space of an A3D environment.
        overview_locations: the environment's `overview_locations`, (K, 3).
        positions: the grid's `positions` (time, height, width).

    Raises:
        ValueError: `overview_locations` differ from those of the observations' overview.
    """

    locations: Tensor

    def __init__(
        self,
        observation_space: gymnasium.spaces.Dict,
        overview_locations: Sequence[Sequence[float]],
        positions: Sequence[int],
    ):
        super().__init__(observation_space)
        time, height, width = positions
        self.positions: Size3 = (time, height, width)
        self.num_channels = gymnasium.spaces.flatdim(observation_space["bin"])
        keep_places(self, overview_places(observation_space, overview_locations))


class PlaceScores(nn.Module):
    """Scores of the overview's bins in a value function, (N, K).

    | quantity | computation |
    |---|---|
    | key of a bin | ReLU(fc [its feature, its location] -> 64) |
    | score of a bin | fc key -> 1, plus fc key -> 1 times fc h_t -> 1 |

    The hidden state has a single number here, not the 64 of the locator `mixture`: values are fitted many times to
    the same few transitions, and a score that can tell clips apart by h_t learns them by heart.
    """

    locations: Tensor

    def __init__(self, places: HiddenStateAndPlaces):
        super().__init__()
        self.key = nn.Linear(places.num_channels + 3, KEY_SIZE)
        self.worth = nn.Linear(KEY_SIZE, 2, bias=False)  # a constant belongs to the value of the state
        self.weight = nn.Linear(HIDDEN_SIZE, 1)
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)
        keep_places(self, places.locations)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> scores, (N, K)."""
        bins = features[:, HIDDEN_SIZE:].unflatten(1, (self.locations.shape[0], -1))  # (N, K, C_g)
        of_feature, of_location = self.key.weight.split([bins.shape[2], 3], dim=1)
        # a layer of the two joined, but without a copy of all features
        keys = functional.linear(bins, of_feature) + functional.linear(self.locations, of_location, self.key.bias)
        always, at_times = self.worth(functional.relu(keys)).unbind(2)
        scores: Tensor = always + self.weight(features[:, :HIDDEN_SIZE]) * at_times
        return scores


def nearness(points: Tensor, places: Tensor, width: float) -> Tensor:
    """Return how much each place counts at each point, with sum 1: float (..., 3) and (K, 3) -> (..., K)."""
    squared = (points[..., None, :] - places).square().sum(-1)
    return (-squared / width).softmax(-1)


class BinScores(nn.Module):
    """Scores of all bins of the grid, (N, num_bins): means of the scores of the overview's bins near each.

    Args:
        places: the features' source.
        scores: layers from [h_t, overview] to the scores of the overview's bins, (N, K).
    """

    near: Tensor

    def __init__(self, places: HiddenStateAndPlaces, scores: nn.Module):
        super().__init__()
        self.scores = scores
        bins = BinGrid(places.positions, (1, 1, 1), places.positions).locations
        self.register_buffer("near", nearness(bins, places.locations, BIN_WIDTH).T.contiguous(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> scores, (N, num_bins)."""
        scores: Tensor = self.scores(features)
        return scores @ self.near


class AxisScores(nn.Module):
    """Scores of the positions along each axis: the logarithms of sums over the softmax of all bins' scores.

    Three independent choices, of a time, a height and a width, can't follow scores of bins in every case: with two
    good bins that differ in two positions, they also choose the two bins that mix these. A choice that prefers one
    good bin to all others can be expressed.

    The arguments are those of `BinScores`.
    """

    def __init__(self, places: HiddenStateAndPlaces, scores: nn.Module):
        super().__init__()
        self.bin_scores = BinScores(places, scores)
        self.positions = places.positions

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> scores, (N, the sum of the numbers of positions)."""
        joint = self.bin_scores(features).unflatten(1, self.positions)
        return torch.cat([joint.logsumexp(others) for others in ((2, 3), (1, 3), (1, 2))], dim=1)


class StateValue(nn.Module):
    """The value of a state, or its quantiles, by an MLP on h_t and the mean of the overview's features.

    Rewards differ between clips much more than between bins of a clip. The overview tells clips apart, so that
    these layers take the first difference away from the scores, which learn the second.
    """

    def __init__(
        self, places: HiddenStateAndPlaces, num_outputs: int, layers: list[int], activation: type[nn.Module]
    ):
        super().__init__()
        self.num_channels = places.num_channels
        self.layers = nn.Sequential(*create_mlp(HIDDEN_SIZE + self.num_channels, num_outputs, layers, activation))

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> values, (N, num_outputs)."""
        mean = features[:, HIDDEN_SIZE:].unflatten(1, (-1, self.num_channels)).mean(1)
        values: Tensor = self.layers(torch.cat([features[:, :HIDDEN_SIZE], mean], dim=1))
        return values


class BinValues(nn.Module):
    """Q of all bins, or its quantiles: the value of the state, plus the bin's score less the mean of all bins'.

    Args:
        places: the features' source.
        num_outputs: number of quantiles; 1 for Q itself.
        layers: sizes of the hidden layers of the state's value.
        activation: their activation.
    """

    def __init__(
        self, places: HiddenStateAndPlaces, num_outputs: int, layers: list[int], activation: type[nn.Module]
    ):
        super().__init__()
        self.bin_scores = BinScores(places, PlaceScores(places))
        self.value = StateValue(places, num_outputs, layers, activation)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> (N, num_outputs num_bins), the bins of one quantile together."""
        scores = self.bin_scores(features)
        scores = scores - scores.mean(1, keepdim=True)
        return (self.value(features)[:, :, None] + scores[:, None]).flatten(1)


class LocationValue(nn.Module):
    """Q of a location, or its quantiles: the value of the state, plus the scores of the overview's bins near it.

    The arguments are those of `BinValues`.
    """

    def __init__(
        self, places: HiddenStateAndPlaces, num_outputs: int, layers: list[int], activation: type[nn.Module]
    ):
        super().__init__()
        self.scores = PlaceScores(places)
        self.value = StateValue(places, num_outputs, layers, activation)

    def place_scores(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> scores of the overview's bins less their mean, (N, K)."""
        scores: Tensor = self.scores(features)
        return scores - scores.mean(1, keepdim=True)

    def forward(self, features_and_location: Tensor) -> Tensor:
        """[h_t, overview, a], (N, 256 + K C_g + 3) -> (N, num_outputs)."""
        features, location = features_and_location[:, :-3], features_and_location[:, -3:]
        near = nearness(location, self.scores.locations, LOCATION_WIDTH)
        score = (near * self.place_scores(features)).sum(1, keepdim=True)
        return score + self.value(features)


class Aim(nn.Module):
    """An actor's location: the mean of the places under the softmax of a critic's scores times a sharpness.

    A critic's slope at one location doesn't tell where a better one is; its scores of all places do. So the actor
    reads them, without changing them: that they are right is the critic's task. It learns the sharpness.

    Args:
        squashed: whether tanh follows, so that its inverse is returned.
    """

    def __init__(self, *, squashed: bool):
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.squashed = squashed
        # in a tuple: the critic's parameters are not also the actor's, which another optimizer trains
        self._critic: tuple[LocationValue, ...] = ()

    def follow(self, critic: LocationValue) -> None:
        """Read this critic's scores from now on."""
        self._critic = (critic,)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> locations, or their inverse under tanh, (N, 3)."""
        (critic,) = self._critic
        with torch.no_grad():
            scores = critic.place_scores(features)
        location = (scores * self.log_sharpness.exp()).softmax(1) @ critic.scores.locations
        return (LARGEST_MEAN * location).atanh() if self.squashed else location


class HiddenPart(nn.Module):
    """h_t of [h_t, overview]."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, 256 + K C_g) -> (N, 256)."""
        return features[:, :HIDDEN_SIZE]
