"""Locators F_a by name: networks from the agent's features to the parameters of its next location."""

import math
from collections.abc import Sequence

import gymnasium
import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.extractors import keep_places, overview_places
from agents.policy_config import check_locator
from backbone.device import is_free
from backbone.glimpse import HIDDEN_SIZE
from backbone.own import is_own, make_own, shape_of

KEY_SIZE = 64


class LinearLocator(nn.Sequential):
    """Equation 5's mean, as in the paper: tanh of one layer on the hidden state.

    Args:
        layer: the linear layer, 256 -> 3.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__(layer, nn.Tanh())


class MixtureLocator(nn.Module):
    """The locator `mixture`: score the bins of an overview by how promising each one looks.

    | quantity | computation |
    |---|---|
    | key of a bin | ReLU(fc [its feature, its location] -> 64) |
    | query | fc h_t -> 64 |
    | score of a bin | key . query / 8 + fc key -> 1 |

    The key describes the content of a bin. The second term of the score depends on the key alone: whether such a
    bin is worth a look at all. The first term also depends on h_t: whether the bin is worth a look after those
    before.

    The policy is a mixture of Gaussians, one at each of the bins, whose weights are the softmax of the scores
    (`agents.mixture`). With inhibition of return, the score of a bin is lowered by the inhibition times the share
    of the bin that was looked at. Without, h_t would have to learn to remember that, and the locator to read it.

    Args:
        num_channels: C_g.
        overview_locations: locations of the overview's bins, float (K, 3).
        inhibition: what the score of a bin that was looked at is lowered by; 0 for no inhibition.
    """

    locations: Tensor

    def __init__(self, num_channels: int, overview_locations: Tensor, inhibition: float = 0.0):
        super().__init__()
        self.inhibition = inhibition
        self.key = nn.Linear(num_channels + 3, KEY_SIZE)
        self.query = nn.Linear(HIDDEN_SIZE, KEY_SIZE)
        self.worth = nn.Linear(KEY_SIZE, 1)
        keep_places(self, overview_locations)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g), with `looked` behind it if there is inhibition -> scores, (N, K)."""
        num_looked = len(self.locations) if self.inhibition else 0
        hidden, overview, looked = features.tensor_split([HIDDEN_SIZE, features.shape[1] - num_looked], dim=1)
        first, clip = _clips(overview)
        keys = self.keys(overview if first is None else overview[first])
        return self.scores(hidden, keys, clip, looked if num_looked else None)

    def keys(self, overview: Tensor) -> Tensor:
        """Overviews (clips, K C_g) -> keys, (clips, K, 64)."""
        bins = overview.unflatten(1, (len(self.locations), -1))  # (clips, K, C_g)
        located = torch.cat([bins, self.locations.expand(bins.shape[0], -1, -1)], dim=2)
        return functional.relu(self.key(located))

    def scores(self, hidden: Tensor, keys: Tensor, clip: Tensor | None, looked: Tensor | None = None) -> Tensor:
        """Return the scores, (N, K).

        Args:
            hidden: h_t, (N, 256).
            keys: (clips, K, 64).
            clip: each row's clip, int64 (N,); None: its own.
            looked: share of each bin that was looked at, (N, K), if there is inhibition.
        """
        worth = self.worth(keys).squeeze(2)
        if clip is not None:
            keys, worth = keys.index_select(0, clip), worth.index_select(0, clip)
        scores = (keys @ self.query(hidden)[:, :, None]).squeeze(2) / math.sqrt(KEY_SIZE) + worth
        if not self.inhibition:
            return scores
        assert looked is not None
        return scores - self.inhibition * looked


def _clips(overview: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return each clip's first row, int64 (clips,), and the number of each row's clip, int64 (N,).

    Consecutive observations of one clip have the same overview, (N, K C_g), so that its keys are computed once.
    Where that can't be seen at no cost, as on a GPU or in an exported model, each row counts as a clip: None.
    """
    if not is_free(overview):
        return None, None
    overview = overview.detach()
    begins = torch.ones(overview.shape[0], dtype=torch.bool)
    begins[1:] = (overview[1:] != overview[:-1]).any(dim=1)
    return begins.nonzero().squeeze(1), begins.cumsum(0) - 1


class OwnLocator(nn.Module):
    """Adapter of a user's own locator to the policy's features.

    Args:
        name: `module:name` of a class, or a function, that makes a torch.nn.Module of the keywords `num_channels`,
            C_g, and `overview_locations`, float (K, 3), K = 0 without an overview. The module takes hidden states,
            float (N, 256), and overviews, float (N, K, C_g), and returns the means of the policy's Gaussians,
            float (N, 3) in [-1, 1]. A module with a buffer `locations`, float (M, 3), returns a score for each of
            these, (N, M): the policy is a mixture of Gaussians there then.
        num_channels: C_g.
        overview_locations: locations of the overview's bins, float (K, 3).

    Raises:
        ValueError: unknown name, an object that is no module, or an output of another shape in a trial.
    """

    def __init__(self, name: str, num_channels: int, overview_locations: Tensor):
        super().__init__()
        self.overview_size = len(overview_locations), num_channels
        self.network = make_own(
            name, "locator", nn.Module, num_channels=num_channels, overview_locations=overview_locations.clone()
        )
        if (places := self.locations) is not None and (len(places) == 0 or shape_of(places) != (len(places), 3)):
            raise ValueError(
                f"the `locations` of the locator {name} have to be a tensor (M, 3), M above 0, got "
                f"{shape_of(places)}: are they an overview's, and there is none (--attention.overview)?"
            )
        with torch.no_grad():
            found = self.eval()(torch.zeros(2, HIDDEN_SIZE + len(overview_locations) * num_channels))
        self.train()
        what, count = ("a location", 3) if places is None else ("a score for each of its `locations`", len(places))
        if shape_of(found) != (2, count):
            raise ValueError(
                f"the locator {name} returned {shape_of(found)} for 2 observations: {what} for each is needed, "
                f"{(2, count)}"
            )

    @property
    def locations(self) -> Tensor | None:
        """The places of the mixture's Gaussians, float (M, 3); None where the policy is one Gaussian."""
        return getattr(self.network, "locations", None)

    def forward(self, features: Tensor) -> Tensor:
        """[h_t, overview], (N, 256 + K C_g) -> means, (N, 3), or scores, (N, M)."""
        overview = features[:, HIDDEN_SIZE:].unflatten(1, self.overview_size)
        result: Tensor = self.network(features[:, :HIDDEN_SIZE], overview)
        return result


def build_locator(
    name: str,
    layer: nn.Linear,
    observation_space: gymnasium.spaces.Dict,
    overview_locations: Sequence[Sequence[float]] | Tensor,
    inhibition: float = 0.0,
) -> nn.Module:
    """Return the locator of that name.

    Args:
        name: linear, mixture, or module:name of the user's own (`OwnLocator`).
        layer: the initialised layer of the linear locator, 256 -> 3.
        observation_space: observation space of the environment.
        overview_locations: locations of the overview's bins, (K, 3); K = 0 without an overview.
        inhibition: that of the mixture.

    Raises:
        ValueError: unknown name, a mixture without an overview, inhibition without a mixture, or locations that
            are not the observations'.
    """
    check_locator(name)
    if inhibition and name != "mixture":
        raise ValueError(f"only the locator mixture has an inhibition (policy.inhibition), and this is {name}")
    if name == "linear":
        return LinearLocator(layer)
    num_channels = gymnasium.spaces.flatdim(observation_space["bin"])
    if is_own(name):
        return OwnLocator(name, num_channels, overview_places(observation_space, overview_locations))
    if len(overview_locations) == 0:
        raise ValueError(
            "the locator 'mixture' chooses among the bins of an overview: make the environment with one, as "
            "overview=(2, 6, 4), and give the policy the environment's overview_locations (agents.make does)"
        )
    return MixtureLocator(num_channels, overview_places(observation_space, overview_locations), inhibition)
