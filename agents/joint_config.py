"""How the representation is trained beside the agent."""

import math
from dataclasses import dataclass
from typing import Literal

from agents.schedule import Schedule, learning_rate_factor
from backbone.losses import Distance


@dataclass(frozen=True)
class JointConfig:
    """How the representation is trained."""

    learning_rate: float = 2e-4
    """Adam's learning rate, for the backbone, F_o, F_h and F_c."""
    backbone_rate: float = 1.0
    """The backbone's learning rate as a multiple of the others'."""
    weight_decay: float = 0.0
    """Adam's weight decay."""
    warmup: int = 0
    """Batches in which all learning rates rise linearly from a hundredth to their full size."""
    schedule: Schedule = "step"
    """How learning rates fall. step: halved after every halve_every batches; cosine: to 0 at the last batch."""
    halve_every: int | None = None
    """For the step schedule: batches after which all learning rates are halved, again and again."""
    average_decay: float | None = None
    """Test with an exponential moving average of the weights, of which each batch keeps this share, as in 0.99;
    None: with the last weights."""
    episodes_per_clip: int = 4
    """M, the episodes that look at each clip of a batch."""
    triplet_on: Literal["concatenation", "global"] = "concatenation"
    """What the triplet loss acts on: concatenation, [f_g, h_1..h_T] (the paper's), or global, the pooled feature
    map, before the neck."""
    triplet_distance: Distance = "squared"
    """The triplet loss' distance: squared Euclidean (equation 14), or euclidean."""
    margin: float | None = 0.3
    """Margin of the triplet loss (equation 14); None: the soft margin."""
    mining: Literal["batch_hard", "batch_all"] = "batch_hard"
    """Which triplets the loss takes: the hardest of each clip, or all."""
    triplet_weight: float = 1.0
    """Weight of the triplet loss beside the cross entropy."""
    label_smoothing: float = 0.0
    """Smoothing of the labels in the cross entropy (equation 15)."""
    center_weight: float = 0.0
    """Weight of the centre loss, which pulls each clip's pooled feature map towards a trained centre of its
    person."""
    glimpse_weight: float = 0.0
    """Weight of the glimpse loss, which is not the paper's: the cross entropy of each glimpse judged by itself,
    beside the global feature, averaged over the T glimpses. A bin that shows nothing more is then known to be
    worth nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.glimpse_weight < math.inf:
            raise ValueError(f"glimpse_weight must be 0 or more, and finite, got {self.glimpse_weight}")
        if self.episodes_per_clip < 1:
            raise ValueError(f"episodes_per_clip must be 1 or more, got {self.episodes_per_clip}")
        if self.halve_every is not None and self.halve_every < 1:
            raise ValueError(f"halve_every must be None or 1 and more, got {self.halve_every}")
        if self.average_decay is not None and not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must be None, or 0 or more and below 1, got {self.average_decay}")
        for name in ("warmup", "backbone_rate", "center_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, and finite, got {getattr(self, name)}")

    def learning_rate_factor(self, batch: int, num_batches: int) -> float:
        """Return what all learning rates are multiplied by for batch number `batch`, from 0."""
        return learning_rate_factor(
            batch,
            num_batches=num_batches,
            schedule=self.schedule,
            halve_every=self.halve_every,
            warmup=self.warmup,
        )
