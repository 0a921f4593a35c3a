"""What every bin pays as the look after the centre, and what retrieval gains by it, over all clips of a set."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import log_prob
from agents.oracles import best_choice, next_measures
from agents.probes import EpisodeRule
from agents.rollout import Agent, Choice, agent_choice, at_test, finish
from agents.runs.scoring import labels
from backbone.data.tracklet import JUNK, Tracklet
from backbone.descriptor import as_linear
from backbone.protocol import OTHER_CAMERA, Protocol
from scripts.probe.clip_set import ClipSet

MOST_SCORES = 2**23  # scores of clips and gallery tracklets in memory at a time: 32 MB


class NextLooks:
    """Every bin tried as the look after the centre, while the agent decides the rest.

    Retrieval searches the gallery by one clip alone: 1 / rank of its person's first tracklet.

    Args:
        clips: clips.
        gallery: tracklets that are searched.
        descriptors: descriptors of the gallery, float32 (G, K).
        locations: locations that the agent looked at in each clip, float32 (num_clips, T - 1, 3).
        protocol: filter of the pairs that count.

    Attributes:
        correlation: over the bins of each clip, the correlation of the reward with what retrieval gains, float64
            (num_clips,); NaN where either is the same for all bins, or nothing was tried.
    """

    def __init__(
        self,
        clips: ClipSet,
        gallery: Sequence[Tracklet],
        descriptors: Tensor,
        locations: Tensor,
        protocol: Protocol = OTHER_CAMERA,
    ):
        run, self.locations = clips.run, locations
        kept = [row for row, tracklet in enumerate(gallery) if tracklet.person != JUNK]
        self.asked, self.searched = labels(clips.tracklets, [gallery[row] for row in kept])
        self.counts, self.tracklet = protocol.counts, clips.tracklet
        targets = descriptors[kept].to(run.representation.device)
        self.weight, self.bias = as_linear(run.representation.comparison, targets)
        self.correlation = np.full(len(clips.tracklet), np.nan)
        self.positions = run.grid.positions
        self._total = torch.zeros(run.grid.num_bins, 2, dtype=torch.float64)
        self._count = torch.zeros(run.grid.num_bins, 2, dtype=torch.float64)

    def best_bins(self, process: AttentionProcess, numbers: Tensor, clip: Tensor, follow: Choice) -> Episodes:
        """Take the bins with the largest log_prob as `agents.oracles.best_bins` does, and record the first look's.

        Args:
            process: process of some of the clips, which pays the reward.
            numbers: numbers of these among all clips, int64, on the CPU.
            clip: numbers of the process's clips to look at, int64 (N,).
            follow: choice that decides the rest.
        """
        asked = self.asked.part(self.tracklet[numbers.numpy()])
        same_person, counts = asked.people[:, None] == self.searched.people, self.counts(asked, self.searched)
        match, miss = (
            torch.from_numpy(mask).to(process.bank.device)
            for mask in (same_person & counts, ~same_person & counts)
        )

        def measure(episodes: Episodes) -> Tensor:
            verdict, rows = process.verdict(episodes), max(1, MOST_SCORES // len(self.bias))
            parts = zip(process.descriptor(episodes).split(rows), episodes.clip.split(rows), strict=True)
            found = [reciprocal_rank(read @ self.weight.T + self.bias, match[of], miss[of]) for read, of in parts]
            return torch.stack([log_prob(verdict), process.reward(verdict), torch.cat(found)], dim=1)

        start = process.start(clip)
        tried = next_measures(process, start, follow, measure)  # (N, num_bins, 3)
        rows = numbers[clip.cpu()]
        planned = self.locations[rows].to(process.bank.device)
        agents_own = measure(finish(process, start, lambda now: planned[:, now.num_glimpses - 1]))[:, None, 2]
        paid, gained = tried[..., 1].cpu().double(), (tried[..., 2] - agents_own).cpu().double()
        self.correlation[rows.numpy()] = correlation(paid, gained).numpy()
        both = torch.stack([paid, gained], dim=2)
        self._total += both.nansum(0)
        self._count += (~both.isnan()).sum(0)
        return finish(process, process.look(start, tried[..., 0].argmax(1)), best_choice(process, follow))

    def following(self, agent: Agent) -> EpisodeRule:
        """Return the rule that takes the best bins on all clips, the agent deciding the rest."""
        tested = at_test(agent)

        def watch(process: AttentionProcess, numbers: Tensor) -> Episodes:
            clip = torch.arange(len(process.bank), device=process.bank.device)
            return self.best_bins(process, numbers, clip, agent_choice(tested, process))

        return watch

    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean reward and the mean gain of retrieval by place: float64 (time, height, width) each."""
        paid, gained = (self._total / self._count).T.unflatten(1, self.positions).numpy()
        return paid, gained


def reciprocal_rank(scores: Tensor, match: Tensor, miss: Tensor) -> Tensor:
    """Return 1 / rank of the first match; a miss with the same score is before it.

    Args:
        scores: score of each gallery tracklet, the nearest with the largest, float (N, G).
        match: mask of the tracklets to find, bool (N, G).
        miss: mask of those of others, bool (N, G).

    Returns:
        float32 (N,); NaN where there is nothing to find.
    """
    best = scores.masked_fill(~match, -torch.inf).amax(1, keepdim=True)
    rank = 1 + (miss & (scores >= best)).sum(1).float()
    return torch.where(match.any(1), 1 / rank, torch.nan)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of each row, float (N, K) twice -> (N,); NaN where a row is constant."""
    varies = torch.stack([(one.amax(1) > one.amin(1)) for one in (first, second)]).all(0)
    first, second = (one - one.mean(1, keepdim=True) for one in (first, second))
    product = (first * second).sum(1) / (first.square().sum(1) * second.square().sum(1)).sqrt()
    return torch.where(varies, product, torch.nan)
