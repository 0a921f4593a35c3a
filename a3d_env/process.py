"""The Markov decision process itself, for a batch of episodes, in torch (section III-B, Algorithm 1).

Environments wrap it for Gymnasium and stable-baselines3; evaluation runs it directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.embedded import EmbeddedBins
from a3d_env.rewards import Verdict, get_reward
from backbone.device import is_free
from backbone.glimpse import GlimpseNetwork, describe, row_by_row


@dataclass(frozen=True)
class Episodes:
    """The state of N episodes after the same number K of glimpses.

    Attributes:
        clip: number of the clip in the bank that each episode looks at, int64 (N,).
        bins: the bins seen so far, int64 (N, K).
        hidden: h_1..h_K, float32 (N, K, 256).
        asked: whether the only step of episodes without a decision (T of 0 or 1) is taken; it leads to the
            judgement.
    """

    clip: Tensor
    bins: Tensor
    hidden: Tensor
    asked: bool = False

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.clip)

    @property
    def num_glimpses(self) -> int:
        """K, the number of glimpses so far."""
        return self.bins.shape[1]


@dataclass(frozen=True)
class Judgement:
    """F_c's predictions for N finished episodes, and their rewards.

    Attributes:
        identity: the most probable identity, int64 (N,).
        probability: the probability of that identity, float32 (N,).
        is_right: whether that identity is the true one, bool (N,).
        reward: the reward, float32 (N,).
    """

    identity: Tensor
    probability: Tensor
    is_right: Tensor
    reward: Tensor


class AttentionProcess:
    """Episodes over the clips of a bank: they start at the centre, go from bin to bin, and are judged at the end.

    With T = 1 (only the centre is seen) or T = 0 (no bin is seen) there is nothing to decide. Such an episode has
    one step, which leads to the judgement and whose action has no effect, so that every agent can run it
    unchanged.

    Args:
        bank: the clips.
        glimpse: F_o, F_h and F_c, on the bank's device.
        reward: the name of a reward in `a3d_env.rewards.REWARDS`, or `module:name` of the user's own.
        exact: whether an episode's numbers are the same, bit for bit, alone and beside any others (on the CPU);
            otherwise glimpses and judgements of a batch are one product for all rows, several times as fast, and
            what a glimpse network that does not learn takes in of a bin is computed once (`EmbeddedBins`).

    Raises:
        ValueError: unknown reward, or one that T = 0 does not allow, or a bank whose features or identities do not
            fit the glimpse network.
    """

    def __init__(
        self, bank: FeatureBank, glimpse: GlimpseNetwork, reward: str = "identity", *, exact: bool = True
    ):
        if bank.num_channels != glimpse.num_channels:
            raise ValueError(
                f"the bank's features have {bank.num_channels} numbers, "
                f"the glimpse network takes {glimpse.num_channels}"
            )
        identity = bank.identity
        if is_free(identity) and (identity.min() < 0 or identity.max() >= glimpse.num_identities):
            raise ValueError(
                f"the bank's identities run from {int(identity.min())} to {int(identity.max())}, "
                f"the glimpse network's from 0 to {glimpse.num_identities - 1}"
            )
        self.bank = bank
        self.glimpse = glimpse
        self.exact = exact
        self._embedded: EmbeddedBins | None = None
        self._judges: Sequence[GlimpseNetwork] = ()
        self._fold = bank.identity
        self.set_reward(reward)
        self.locations, self.overview, self.cover = _places(bank.grid, bank.device)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: the table of embedded bins, up to a gigabyte, is begun anew."""
        return {**vars(self), "_embedded": None}

    def set_reward(self, name: str) -> None:
        """Change the reward of later steps, named as on building.

        Raises:
            ValueError: unknown reward, or one that T = 0 does not allow.
        """
        self.reward = get_reward(name, self.glimpse.num_glimpses)
        self.reward_name = name

    def pay_by(self, judges: Sequence[GlimpseNetwork], fold: Tensor) -> None:
        """Let judges in F_c's place pay each episode: that of the fold of its clip.

        Args:
            judges: glimpse networks that differ from the process's in F_c alone.
            fold: number of the judge for each clip of the bank, int64 (num_clips,); F_c pays at `len(judges)`.
        """
        self._judges, self._fold = judges, fold

    @torch.no_grad()
    def pay(self, episodes: Episodes, verdict: Verdict) -> Tensor:
        """Return the reward of finished episodes, float32 (N,), by F_c or by the judges of `pay_by`."""
        with row_by_row(self.exact):
            by_f_c = self.reward(verdict)
            if not self._judges:
                return by_f_c
            read = self.descriptor(episodes)
            paid = [self.reward(replace(verdict, logits=one.identify(read), glimpse=one)) for one in self._judges]
        return torch.stack([*paid, by_f_c], dim=1).gather(1, self._fold[episodes.clip][:, None]).squeeze(1)

    @property
    def num_decisions(self) -> int:
        """The number of an episode's steps: T - 1, as the first of the T bins is the centre, but at least 1."""
        return max(self.glimpse.num_glimpses - 1, 1)

    @property
    def overview_locations(self) -> Tensor:
        """Locations of the overview's bins, float32 (K, 3) in [-1, 1]; K = 0 without an overview."""
        return self.locations[self.overview]

    def start(self, clip: Tensor | None = None) -> Episodes:
        """Begin an episode on each of the clips, int64 (N,), and look at the centre if T > 0.

        Args:
            clip: clip numbers; by default every clip of the bank, once.
        """
        clip = torch.arange(len(self.bank), device=self.bank.device) if clip is None else clip
        count = len(clip)
        empty = Episodes(
            clip=clip,
            bins=clip.new_zeros(count, 0),
            hidden=self.glimpse.first_hidden(count)[:, None][:, :0],
        )
        return self._glimpse(empty, self.current_bin(empty)) if self.glimpse.num_glimpses else empty

    def step(self, episodes: Episodes, action: Tensor) -> Episodes:
        """Move each episode to the bin that its action stands for (`BinGrid.chosen`), and look."""
        return self.look(episodes, self.bank.grid.chosen(action))

    def look(self, episodes: Episodes, bins: Tensor) -> Episodes:
        """Move the episodes to bins, int64 (N,), and look; with T of 0 or 1 the bins have no effect."""
        if self.glimpse.num_glimpses < 2:
            return replace(episodes, asked=True)
        return self._glimpse(episodes, bins)

    @torch.no_grad()
    def _glimpse(self, episodes: Episodes, bins: Tensor) -> Episodes:
        """Take one glimpse: h_{t+1} = F_h(F_o(g, a_t), h_t) at the bins (N,), by look-up in the table."""
        with row_by_row(self.exact):
            if (embedded := self._embedded_bins()) is not None:
                known = episodes.hidden[:, -1] if episodes.num_glimpses else None
                hidden = embedded.look(episodes.clip, bins, known)
            else:
                features, locations = self.bank.bins[episodes.clip, bins], self.locations[bins]
                hidden = self.glimpse.glimpse(features, locations, self.hidden(episodes))
        return replace(
            episodes,
            bins=torch.cat([episodes.bins, bins[:, None]], dim=1),
            hidden=torch.cat([episodes.hidden, hidden[:, None]], dim=1),
        )

    def _embedded_bins(self) -> EmbeddedBins | None:
        """Return the table of what bins add to the hidden state, if one is kept."""
        if self.exact or torch.compiler.is_compiling():
            return None
        if self._embedded is None or not self._embedded.is_current:
            fits = EmbeddedBins.fits(self.bank, self.glimpse)
            self._embedded = EmbeddedBins(self.bank, self.locations, self.glimpse) if fits else None
        return self._embedded

    def current_bin(self, episodes: Episodes) -> Tensor:
        """Return the bin that was looked at last, int64 (N,), or the centre if none was."""
        if episodes.num_glimpses:
            return episodes.bins[:, -1]
        return torch.full_like(episodes.clip, self.bank.grid.centre)

    def observe(self, episodes: Episodes) -> dict[str, Tensor]:
        """Return the observation: `bin` (N, C_g), `hidden` (N, 256) and `location` (N, 3), float32.

        If no glimpse was taken (T = 0) the observation is that of the centre, with h_0 = 0. With an overview of K
        bins, `overview` (N, K C_g) has their features, one bin after another, and `looked` (N, K), if the grid
        asks for it, how much of each was looked at.
        """
        bins = self.current_bin(episodes)
        observation = {
            "bin": self.bank.bins[episodes.clip, bins],
            "hidden": self.hidden(episodes),
            "location": self.locations[bins],
        }
        if len(self.overview):
            observation["overview"] = self.bank.bins[episodes.clip[:, None], self.overview].flatten(1)
            if self.bank.grid.shows_looked:
                observation["looked"] = self.looked(episodes.bins)
        return observation

    def looked(self, bins: Tensor) -> Tensor:
        """Return the largest share of each of the overview's K bins that bins cover, int64 (N, T) -> (N, K).

        Raises:
            ValueError: the grid of bins does not ask for it.
        """
        if self.cover is None:
            raise ValueError("what was looked at is not kept: make the bank's BinGrid with shows_looked=True")
        if not bins.shape[1]:
            return self.locations.new_zeros(len(bins), len(self.overview))
        return self.cover[bins].amax(dim=1)

    def overviews(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Return the overviews of the clips that N episodes look at, once each.

        Args:
            clip: number of the clip that each episode looks at, int64 (N,).

        Returns:
            The overviews, float32 (clips, K C_g), and each episode's row among them, int64 (N,): those of the
            whole bank if it has no more clips than there are episodes.
        """
        clips, row = None, clip
        if len(self.bank) > len(clip):
            clips, row = clip.unique(return_inverse=True)
        features = (
            self.bank.bins[:, self.overview] if clips is None else self.bank.bins[clips[:, None], self.overview]
        )
        return features.flatten(1), row

    def is_over(self, episodes: Episodes) -> bool:
        """Tell whether all T glimpses are taken; with T of 0 or 1, whether the only step is taken."""
        num_glimpses = self.glimpse.num_glimpses
        return episodes.asked if num_glimpses < 2 else episodes.num_glimpses == num_glimpses

    def hidden(self, episodes: Episodes) -> Tensor:
        """Return the last hidden state, (N, 256)."""
        return episodes.hidden[:, -1] if episodes.num_glimpses else self.glimpse.first_hidden(len(episodes))

    def descriptor(self, episodes: Episodes) -> Tensor:
        """Return [f_g, h_1..h_T] of finished episodes, float32 (N, C_g + 256 T)."""
        return describe(self.bank.global_feature[episodes.clip], episodes.hidden)

    @torch.no_grad()
    def verdict(self, episodes: Episodes) -> Verdict:
        """Return F_c's logits for finished episodes, and all else that rewards are computed from."""
        clip = episodes.clip
        with row_by_row(self.exact):
            logits = self.glimpse.identify(self.descriptor(episodes))
        return Verdict(
            logits, self.bank.identity[clip], self.bank.global_feature[clip], episodes.hidden, self.glimpse
        )

    @torch.no_grad()
    def judge(self, episodes: Episodes) -> Judgement:
        """Return F_c's predicted identities for finished episodes, and the rewards."""
        verdict = self.verdict(episodes)
        # argmax of the logits, as in the reward: the softmax can round two different logits to the same
        # probability.
        identity = verdict.logits.argmax(1)
        probability = verdict.logits.softmax(1).gather(1, identity[:, None]).squeeze(1)
        return Judgement(identity, probability, identity == verdict.truth, self.pay(episodes, verdict))


# Copied once for each device: joint training begins a process for every batch.
@lru_cache(maxsize=16)
def _places(grid: BinGrid, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return locations of all bins, the overview's bins and, if asked for, what each bin covers of them."""
    cover = grid.overview_cover.to(device) if grid.shows_looked else None
    return grid.locations.to(device), grid.overview.to(device), cover
