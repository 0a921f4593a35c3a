"""EmbeddedBins: what the hidden state takes in of a bin, computed when the bin is first looked at."""

import itertools

import torch
from torch import Tensor, nn

from a3d_env.bank import FeatureBank
from backbone.device import is_free
from backbone.glimpse import HIDDEN_SIZE, GlimpseNetwork

MOST_NUMBERS = 2**28  # of a table: a gigabyte, of which only the rows looked at take memory


class EmbeddedBins:
    """Table of fc_i2h(F_o(g, a)) + fc_h2h's bias, by clip and bin, for a glimpse network that does not learn.

    Neither term depends on the hidden state (equations 3 and 4), so that a glimpse at a known bin is one row
    look-up and one product: h_t = tanh(row + W_h2h h_{t-1}). A row is computed when its bin is first looked at.

    A change of the features or weights is noticed (`is_current`), unless it is made in place through `.data`, of
    which torch keeps no count.

    Args:
        bank: the clips.
        locations: the location of each bin, float32 (num_bins, 3).
        glimpse: F_o and F_h.
    """

    def __init__(self, bank: FeatureBank, locations: Tensor, glimpse: GlimpseNetwork):
        self.bank, self.glimpse, self.locations, self.num_bins = bank, glimpse, locations, bank.grid.num_bins
        self.features = bank.bins.flatten(0, 1)
        self._owners = self._current_owners()
        _, *networks = self._owners
        self._sources = [bank.bins, *(one for network in networks for one in network.parameters())]
        self._read_at = self._state()
        with torch.inference_mode(False):  # tensors of that mode can't be written to outside of it
            self.rows = torch.empty(len(self.features), HIDDEN_SIZE)
            self.is_known = torch.zeros(len(self.features), dtype=torch.bool)

    @classmethod
    def fits(cls, bank: FeatureBank, glimpse: GlimpseNetwork) -> bool:
        """Tell whether a table can be kept: numbers can be read at no cost, do not learn, and are not too many."""
        numbers = itertools.chain([bank.bins], glimpse.parameters())
        return (
            all(is_free(one) and not one.requires_grad and not one.is_inference() for one in numbers)
            and bank.bins.is_contiguous()
            and bank.bins.shape[:2].numel() * HIDDEN_SIZE <= MOST_NUMBERS
        )

    @property
    def is_current(self) -> bool:
        """Whether the bank's features and the network's weights are as they were."""
        same = all(one is now for one, now in zip(self._owners, self._current_owners(), strict=True))
        return same and self._read_at == self._state()

    def look(self, clip: Tensor, bins: Tensor, hidden: Tensor | None) -> Tensor:
        """One glimpse: clips (N,), bins (N,) and h_{t-1} (N, 256), None for h_0 = 0 -> h_t, (N, 256)."""
        number = clip * self.num_bins + bins
        is_known = self.is_known[number]
        if not is_known.all():
            self._embed(number[~is_known])
        taken_in = self.rows.index_select(0, number)
        if hidden is not None:
            taken_in += hidden @ self.glimpse.embed_hidden.h2h.weight.t()
        return taken_in.tanh_()

    def _embed(self, number: Tensor) -> None:
        """Compute rows, int64 (M,); several may be the same."""
        number = number.unique()
        seen = self.glimpse.embed_observation(self.features[number], self.locations[number % self.num_bins])
        self.rows[number] = self.glimpse.embed_hidden.i2h(seen) + self.glimpse.embed_hidden.h2h.bias
        self.is_known[number] = True

    def _current_owners(self) -> tuple[Tensor, nn.Module, nn.Module]:
        """Return the features and the networks that bank and glimpse network have now."""
        return self.bank.bins, self.glimpse.embed_observation, self.glimpse.embed_hidden

    def _state(self) -> list[tuple[int, int]]:
        """Return what an in-place change of the features or weights changes."""
        return [(one._version, one.data_ptr()) for one in self._sources]
