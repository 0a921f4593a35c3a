"""Advantages over the other episodes on the same clip: a baseline that needs no network."""

import torch
from torch import Tensor


def leave_one_out(returns: Tensor, clip: Tensor) -> Tensor:
    """Return each episode's returns less the mean of the other episodes' returns on the same clip.

    The others' mean does not depend on the episode's own actions, so that the policy gradient stays unbiased, and
    differences in difficulty between clips cancel (Kool et al., "Buy 4 REINFORCE samples, get a baseline for
    free!", 2019).

    Args:
        returns: float (N, steps), one row for each episode.
        clip: number of the clip that each episode looked at, int64 (N,).

    Returns:
        (N, steps), of `returns`' dtype; 0 for an episode that is alone on its clip.

    Raises:
        ValueError: no two episodes are on one clip.
    """
    _, group, counts = clip.unique(return_inverse=True, return_counts=True)
    others = (counts[group] - 1)[:, None]
    if not bool((others > 0).any()):
        raise ValueError(
            f"each of the {len(clip)} episodes is alone on its clip: the baseline 'clip' compares episodes of one "
            "clip, so let 2 or more look at each (episodes_per_clip)"
        )
    totals = returns.new_zeros(len(counts), returns.shape[1]).index_add(0, group, returns)
    mean_of_others = (totals[group] - returns) / others.clamp(min=1)
    return torch.where(others > 0, returns - mean_of_others, 0.0)
