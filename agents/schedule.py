"""Learning rates by batch: warm-up, then steps or a cosine."""

import math
from typing import Literal

Schedule = Literal["step", "cosine"]

# Share of the learning rate with which the warm-up begins.
FIRST_SHARE = 0.01


def learning_rate_factor(
    batch: int, *, num_batches: int, schedule: Schedule, halve_every: int | None, warmup: int
) -> float:
    """Return the factor of the initial learning rate for a batch.

    Args:
        batch: number of the batch, from 0.
        num_batches: number of batches in the whole training.
        schedule: `step` halves the rate after every `halve_every` batches; `cosine` lowers it to 0 along half a
            cosine.
        halve_every: number of batches between halvings by `step`; None: never.
        warmup: number of first batches in which the rate rises linearly from a hundredth.

    Returns:
        A number in [0, 1].
    """
    rising = 1.0 if batch >= warmup else FIRST_SHARE + (1 - FIRST_SHARE) * batch / warmup
    if schedule == "cosine":
        share = (batch - warmup) / max(num_batches - warmup, 1)
        return rising * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
    return rising * (0.5 ** (batch // halve_every) if halve_every else 1.0)
