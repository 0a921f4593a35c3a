"""Advantages: over the other episodes on the same clip, a baseline that needs no network, and normalised."""

import torch
from torch import Tensor

from backbone.device import is_free
from backbone.distributed import gather


def leave_one_out(returns: Tensor, clip: Tensor, num_clips: int | None = None) -> Tensor:
    """Return each episode's returns less the mean of the other episodes' returns on the same clip.

    The others' mean does not depend on the episode's own actions, so that the policy gradient stays unbiased, and
    differences in difficulty between clips cancel (Kool et al., "Buy 4 REINFORCE samples, get a baseline for
    free!", 2019).

    Args:
        returns: float (N, steps), one row for each episode.
        clip: number of the clip that each episode looked at, int64 (N,).
        num_clips: a number that all of `clip` are below; by default the least.

    Returns:
        (N, steps), of `returns`' dtype; 0 for an episode that is alone on its clip.

    Raises:
        ValueError: no two episodes are on one clip; on a GPU this is not looked for, and all are 0.
    """
    num_clips = int(clip.max()) + 1 if num_clips is None else num_clips
    counts = clip.new_zeros(num_clips).index_add(0, clip, torch.ones_like(clip))
    others = (counts[clip] - 1)[:, None]
    if is_free(others) and not bool((others > 0).any()):
        raise ValueError(
            f"each of the {len(clip)} episodes is alone on its clip: the baseline 'clip' compares episodes of one "
            "clip, so let 2 or more look at each (episodes_per_clip)"
        )
    totals = returns.new_zeros(num_clips, returns.shape[1]).index_add(0, clip, returns)
    mean_of_others = (totals[clip] - returns) / others.clamp(min=1)
    return torch.where(others > 0, returns - mean_of_others, 0.0)


def normalized(advantages: Tensor) -> Tensor:
    """Return advantages, float of any shape, less their mean, divided by their standard deviation.

    Mean and deviation are those over all ranks (`backbone.distributed`), each of which has as many; a single
    advantage stays as it is.
    """
    everyone = gather(advantages)
    return advantages if everyone.numel() < 2 else (advantages - everyone.mean()) / (everyone.std() + 1e-8)
