"""Learning rates by batch: warm-up, then steps or a cosine."""

import math
from typing import Literal

Schedule = Literal["step", "cosine"]

# What the warm-up begins with.
FIRST_SHARE = 0.01


def learning_rate_factor(
    batch: int, *, num_batches: int, schedule: Schedule, halve_every: int | None, warmup: int
) -> float:
    """Return what the initial learning rate is multiplied by for a batch.

    Args:
        batch: its number, from 0.
        num_batches: of the whole training.
        schedule: `step` halves it after every `halve_every` batches; `cosine` goes to 0 along half a cosine.
        halve_every: for `step`; None: never.
        warmup: batches in which it rises linearly, from a hundredth.

    Returns:
        A number in [0, 1].
    """
    rising = 1.0 if batch >= warmup else FIRST_SHARE + (1 - FIRST_SHARE) * batch / warmup
    if schedule == "cosine":
        share = (batch - warmup) / max(num_batches - warmup, 1)
        return rising * 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
    return rising * (0.5 ** (batch // halve_every) if halve_every else 1.0)
