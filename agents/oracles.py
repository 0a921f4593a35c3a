"""Exact values computed from a bank: the reward of each next bin, and a policy's probability of choosing it.

A clip has few bins (198 at 6 x 16 x 8 cells), so that every next choice can be tried, and the probabilities of a
Gaussian policy's choices (the locator `linear`) can be computed without sampling.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess, Episodes
from a3d_env.rewards import get_reward
from agents.rollout import Choice, finish

# Glimpses computed at a time, which bounds the memory to about 200 MB with 2048 channels.
CHUNK_ROWS = 8192


@torch.no_grad()
def next_values(
    process: AttentionProcess, episodes: Episodes, follow: Choice | None = None, reward: str | None = None
) -> Tensor:
    """Return the reward of each episode for every bin that could be chosen next.

    Args:
        process: the decision process.
        episodes: N unfinished episodes.
        follow: the choice of the bins after that; not needed for the last decision.
        reward: name of the reward; by default the process's own.

    Returns:
        float32 (N, num_bins).

    Raises:
        ValueError: the episodes are over, `follow` is needed and not given, or unknown reward.
    """
    pay = process.reward if reward is None else get_reward(reward, process.glimpse.num_glimpses)
    return next_measures(process, episodes, follow, lambda finished: pay(process.verdict(finished)))


@torch.no_grad()
def next_measures(
    process: AttentionProcess, episodes: Episodes, follow: Choice | None, measure: Callable[[Episodes], Tensor]
) -> Tensor:
    """Return what is measured on each episode's end for every bin that could be chosen next.

    Args:
        process: the decision process.
        episodes: N unfinished episodes.
        follow: the choice of the bins after that; not needed for the last decision.
        measure: function from R finished episodes to measurements, float (R, ...).

    Returns:
        (N, num_bins, ...).

    Raises:
        ValueError: the episodes are over, or `follow` is needed and not given.
    """
    if process.is_over(episodes):
        raise ValueError("the episodes are over: there is no next bin")
    if follow is None and episodes.num_glimpses + 1 < process.glimpse.num_glimpses:
        raise ValueError("this is not the last decision: give the choice of later bins (follow)")
    num_bins = process.bank.grid.num_bins
    values = []
    for part in torch.arange(len(episodes)).split(max(1, CHUNK_ROWS // num_bins)):
        rows = part.to(episodes.clip.device).repeat_interleave(num_bins)
        tried = replace(episodes, clip=episodes.clip[rows], bins=episodes.bins[rows], hidden=episodes.hidden[rows])
        tried = process.look(tried, torch.arange(num_bins, device=rows.device).repeat(len(part)))
        if follow is not None:
            tried = finish(process, tried, follow)
        values.append(measure(tried).unflatten(0, (len(part), num_bins)))
    return torch.cat(values)


def bin_probabilities(mean: Tensor, variance: float | Tensor, grid: BinGrid, *, squashed: bool = False) -> Tensor:
    """Return the probability that a Gaussian action's nearest bin is each of the bins; differentiable.

    `BinGrid.nearest` rounds each coordinate to a position, so that a position's probability is that of the
    interval between the midpoints to its neighbours; the first and last position get the tails.

    Args:
        mean: float (N, 3), order time, height, width, in [-1, 1] coordinates.
        variance: variance of each coordinate: a number, (3,) or (N, 3).
        grid: the grid of bins.
        squashed: whether the action is tanh of the Gaussian with this mean and variance (SAC's).

    Returns:
        (N, num_bins), of `mean`'s dtype; rows sum to 1.

    Raises:
        ValueError: wrong shape, or a variance that is not above 0.
    """
    if mean.ndim != 2 or mean.shape[1] != 3:
        raise ValueError(f"means are (N, 3): time, height, width; got {tuple(mean.shape)}")
    spread = torch.as_tensor(variance, dtype=torch.float64, device=mean.device).expand(mean.shape).sqrt()
    if not bool((spread > 0).all()):
        raise ValueError(f"the variance must be above 0, got {variance}")
    shares = []
    for axis, count in enumerate(grid.positions):
        corner = torch.arange(count - 1, dtype=torch.float64, device=mean.device)
        midpoint = 2 * (corner + 0.5) / max(count - 1, 1) - 1  # none if there is one position
        if squashed:
            midpoint = torch.atanh(midpoint)
        below = torch.special.ndtr((midpoint - mean[:, axis, None]) / spread[:, axis, None])
        below = functional.pad(functional.pad(below, (1, 0), value=0.0), (0, 1), value=1.0)
        shares.append(below.diff(dim=1))
    time, height, width = shares
    product = time[:, :, None, None] * height[:, None, :, None] * width[:, None, None, :]
    return product.flatten(1).to(mean.dtype)


def best_bins(
    process: AttentionProcess, clip: Tensor | None, follow: Choice, reward: str | None = "log_prob"
) -> Episodes:
    """Take at each glimpse the bin with the largest reward if the rest of the episode follows a policy.

    Args:
        process: the decision process.
        clip: clip numbers, int64 (N,); None for every clip of the bank, once.
        follow: the choice of that policy.
        reward: name of the reward; by default the true identity's log-probability; None for the process's own.

    Returns:
        The finished episodes.
    """
    return finish(process, process.start(clip), best_choice(process, follow, reward))


def best_choice(process: AttentionProcess, follow: Choice, reward: str | None = "log_prob") -> Choice:
    """Return the choice of the bin with the largest reward; arguments as in `best_bins`."""
    return lambda now: next_values(process, now, follow, reward).argmax(1)


def truth_bins(process: AttentionProcess) -> Choice:
    """Return the choice of the bin on the identifying thing: of those that cover it the most central.

    This is the bin whose location is nearest to the mean location of all bins that hit the thing, the same at each
    glimpse; it is the centre if the thing is never visible in the clip. Of several things, those that are visible
    take turns.

    Raises:
        ValueError: the bank has no boxes of the identifying thing.
    """
    bank = process.bank
    if bank.hits_by_thing is None:
        raise ValueError("the bank has no truth_boxes, so that the place of the identifying thing is unknown")
    hits = torch.from_numpy(bank.hits_by_thing)  # (N, K, num_bins)
    bins = torch.stack([most_central(one, bank.grid) for one in hits.unbind(1)], dim=1)
    is_seen = hits.any(2)
    first_seen = is_seen.int().argsort(dim=1, descending=True, stable=True)
    bins, num_seen = bins.gather(1, first_seen).to(bank.device), is_seen.sum(1).clamp(min=1).to(bank.device)

    def choose(episodes: Episodes) -> Tensor:
        turn = (episodes.num_glimpses - 1) % num_seen[episodes.clip]
        return bins[episodes.clip, turn]

    return choose


def most_central(hits: Tensor, grid: BinGrid) -> Tensor:
    """Return the bin nearest to the middle of the bins that hit, bool (N, num_bins) -> int64 (N,).

    If no bin hits, the grid's centre is returned.
    """
    marked, locations = hits.float(), grid.locations.to(hits.device)
    middle = marked @ locations / marked.sum(1, keepdim=True).clamp(min=1)  # (N, 3)
    # Not by a matrix product, whose rounding depends on the batch, and so would the choice among equals.
    distance = torch.cdist(middle, locations, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(hits.any(1), distance.masked_fill(~hits, torch.inf).argmin(1), grid.centre)
