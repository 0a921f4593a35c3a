"""Glimpse network: F_o and F_h update the hidden state, F_c predicts the identity (Table IV)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_GLIMPSES = 64  # of an episode. A bound, because F_c grows with it and a file could ask for any number.
HIDDEN_SIZE = 256
EMBEDDING_SIZE = 128


_ROW_BY_ROW = ContextVar("row_by_row", default=True)


@contextmanager
def row_by_row(exact: bool) -> Iterator[None]:
    """Let products be the same in every batch, bit for bit (`RowwiseLinear`), or one for all rows."""
    if torch.compiler.is_compiling():  # they are one for all rows
        yield
        return
    token = _ROW_BY_ROW.set(exact)
    try:
        yield
    finally:
        _ROW_BY_ROW.reset(token)


class RowwiseLinear(nn.Linear):
    """A linear layer whose output for a row is the same, bit for bit, in every batch.

    A matrix product rounds differently for another number of rows, so an episode stepped alone would drift
    from the same episode in a batch. On the CPU, if no gradient is recorded, each row is a product of its own, of
    one fixed shape. This takes several times as long as one large product, which `row_by_row(False)` allows.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        return rowwise_linear(rows, self.weight, self.bias)


def rowwise_linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer's weight (O, I) and bias (O,) to rows (N, I), as `RowwiseLinear` does: (N, O)."""
    if (
        torch.is_grad_enabled()
        or rows.device.type != "cpu"
        or torch.compiler.is_compiling()
        or not _ROW_BY_ROW.get()
    ):
        return functional.linear(rows, weight, bias)
    count, (num_outputs, num_inputs) = len(rows), weight.shape
    expanded = weight.t().expand(count, num_inputs, num_outputs)
    return torch.baddbmm(bias.expand(count, 1, num_outputs), rows.unsqueeze(1), expanded).squeeze(1)


class ObservationEmbedding(nn.Module):
    """F_o (equation 3): the sum of an embedding of the bin's content and one of its location.

    bin mean (C_g) -> fc 128 -> fc 256; location (3) -> fc 128 -> fc 256; their sum.
    """

    def __init__(self, num_channels: int):
        super().__init__()
        self.what = nn.Sequential(
            RowwiseLinear(num_channels, EMBEDDING_SIZE), nn.ReLU(), RowwiseLinear(EMBEDDING_SIZE, HIDDEN_SIZE)
        )
        self.where = nn.Sequential(
            RowwiseLinear(3, EMBEDDING_SIZE), nn.ReLU(), RowwiseLinear(EMBEDDING_SIZE, HIDDEN_SIZE)
        )

    def forward(self, bin_feature: Tensor, location: Tensor) -> Tensor:
        """(N, C_g), (N, 3) -> o_t, (N, 256)."""
        return self.what(bin_feature) + self.where(location)


class HiddenEmbedding(nn.Module):
    """F_h (equation 4): h_t = tanh(fc_i2h(o_t) + fc_h2h(h_{t-1}))."""

    def __init__(self) -> None:
        super().__init__()
        self.i2h = RowwiseLinear(HIDDEN_SIZE, HIDDEN_SIZE)
        self.h2h = RowwiseLinear(HIDDEN_SIZE, HIDDEN_SIZE)

    def forward(self, observation: Tensor, hidden: Tensor) -> Tensor:
        """(N, 256), (N, 256) -> h_t, (N, 256), in [-1, 1]."""
        return torch.tanh(self.i2h(observation) + self.h2h(hidden))


class GlimpseNetwork(nn.Module):
    """F_o, F_h and F_c: one module, shared by the environment, the agent and joint training.

    Attributes:
        embed_observation: F_o.
        embed_hidden: F_h.
        identify: F_c (equation 6), one layer from [f_g, h_1..h_T] to the training identities.
        num_glimpses: T; with 0, F_c judges by f_g alone.
        num_identities: the number of identities that F_c distinguishes.
        is_tied: whether F_c has the same weights for each of h_1..h_T (`tie_glimpses`).

    Raises:
        ValueError: a size is below 1, or the number of glimpses below 0.
    """

    def __init__(self, num_channels: int, num_glimpses: int, num_identities: int):
        super().__init__()
        if num_glimpses > MOST_GLIMPSES:
            raise ValueError(f"an episode has {MOST_GLIMPSES} glimpses at most, got {num_glimpses}")
        if min(num_channels, num_glimpses + 1, num_identities) < 1:
            raise ValueError(
                f"num_channels and num_identities must be 1 or more and num_glimpses 0 or more, "
                f"got {num_channels}, {num_identities} and {num_glimpses}"
            )
        self.num_channels = num_channels
        self.num_glimpses = num_glimpses
        self.num_identities = num_identities
        self.is_tied = False
        self.embed_observation = ObservationEmbedding(num_channels)
        self.embed_hidden = HiddenEmbedding()
        self.identify = RowwiseLinear(num_channels + HIDDEN_SIZE * num_glimpses, num_identities)

    @classmethod
    def of_weights(
        cls, state: Mapping[str, Tensor], num_channels: int, num_glimpses: int, num_identities: int
    ) -> "GlimpseNetwork":
        """Return a network with these weights, without drawing from the global random generator.

        Shapes are compared before memory is taken for the network.

        Raises:
            RuntimeError: the weights have other shapes.
            ValueError: a size is out of range, as for the class.
        """
        sizes = (num_channels, num_glimpses, num_identities)
        with torch.device("meta"):
            cls(*sizes).load_state_dict(state, assign=True)
        with torch.random.fork_rng(devices=[]):
            network = cls(*sizes)
        network.load_state_dict(state)
        return network

    def tie_glimpses(self) -> None:
        """Give F_c the same weights for each of h_1..h_T, and keep them so in training.

        F_c then reads their sum. The weights stay as many, and equal.
        """
        self.is_tied = True

        def same(weight: Tensor) -> Tensor:
            seen = weight[:, self.num_channels :].unflatten(1, (self.num_glimpses, HIDDEN_SIZE))
            same_for_each = seen.mean(1, keepdim=True).expand_as(seen).flatten(1)
            return torch.cat([weight[:, : self.num_channels], same_for_each], dim=1)

        if self.num_glimpses > 1:
            with torch.no_grad():
                self.identify.weight.copy_(same(self.identify.weight))
            self.identify.weight.register_hook(same)

    def first_hidden(self, count: int) -> Tensor:
        """Return h_0 = 0 for `count` episodes, (count, 256)."""
        return self.identify.weight.new_zeros(count, HIDDEN_SIZE)

    def glimpse(self, bin_feature: Tensor, location: Tensor, hidden: Tensor) -> Tensor:
        """One glimpse: (N, C_g), (N, 3) and h_{t-1} (N, 256) -> h_t (N, 256)."""
        return self.embed_hidden(self.embed_observation(bin_feature, location), hidden)

    def unroll(self, bin_features: Tensor, locations: Tensor) -> Tensor:
        """Look at several bins one after another: (N, K, C_g), (N, K, 3) -> h_1..h_K, (N, K, 256)."""
        hidden = self.first_hidden(len(bin_features))
        steps = []
        for bin_feature, location in zip(bin_features.unbind(1), locations.unbind(1), strict=True):
            hidden = self.glimpse(bin_feature, location, hidden)
            steps.append(hidden)
        return torch.stack(steps, dim=1) if steps else hidden[:, None][:, :0]

    @property
    def glimpse_weights(self) -> Tensor:
        """F_c's weights for each of h_1..h_T, (T, num_identities, 256): views."""
        weight = self.identify.weight[:, self.num_channels :]
        return weight.unflatten(1, (self.num_glimpses, HIDDEN_SIZE)).transpose(0, 1)

    def identify_glimpses(self, global_feature: Tensor, hidden: Tensor) -> Tensor:
        """Return F_c's logits for each glimpse alone, together with the global feature.

        F_c is linear in [f_g, h_1..h_T], so its logits are a sum of terms, of which only those of f_g, h_t and the
        bias are kept: W_g f_g + W_t h_t + b. Glimpses are then compared given what the clip as a whole already
        shows.

        Args:
            global_feature: f_g, float (N, C_g).
            hidden: h_1..h_T, float (N, T, 256), with T of 1 or more.

        Returns:
            float (N, T, num_identities).
        """
        known, seen = self._terms(global_feature, hidden)
        return known[:, None] + seen

    def identify_prefixes(self, global_feature: Tensor, hidden: Tensor) -> Tensor:
        """Return F_c's logits after each glimpse: those of the global feature and of all glimpses up to it.

        The terms of later glimpses are left out (`identify_glimpses`). The last row are F_c's own logits. A second
        look at the same thing adds little to the first; one at another thing does.

        Args:
            global_feature: f_g, float (N, C_g).
            hidden: h_1..h_T, float (N, T, 256), with T of 1 or more.

        Returns:
            float (N, T, num_identities).
        """
        known, seen = self._terms(global_feature, hidden)
        return known[:, None] + seen.cumsum(1)

    def _terms(self, global_feature: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return F_c's terms: W_g f_g + b, (N, num_identities), and W_t h_t, (N, T, num_identities)."""
        weight, bias = self.identify.weight, self.identify.bias
        known = rowwise_linear(global_feature, weight[:, : self.num_channels], bias)
        steps = zip(hidden.unbind(1), self.glimpse_weights.unbind(0), strict=True)
        seen = [rowwise_linear(row, own, torch.zeros_like(bias)) for row, own in steps]
        return known, torch.stack(seen, dim=1)


def describe(global_feature: Tensor, hidden: Tensor) -> Tensor:
    """Concatenate [f_g, h_1..h_T]: (N, C_g), (N, T, 256) -> (N, C_g + 256 T)."""
    return torch.cat([global_feature, hidden.flatten(1)], dim=1)
