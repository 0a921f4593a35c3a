"""Settings of the representation's training, beside that of the agent."""

import math
from dataclasses import dataclass
from typing import Literal

from agents.schedule import Schedule, learning_rate_factor
from backbone.config import Distance

PaidBy = Literal["f_c", "other_tracklets", "other_cameras"]


@dataclass(frozen=True)
class JointConfig:
    """Settings of the representation's training: optimizer, schedule and losses."""

    learning_rate: float = 2e-4
    """Learning rate of the Adam optimizer of the backbone, F_o, F_h and F_c."""
    backbone_rate: float = 1.0
    """Learning rate of the backbone as a multiple of the other networks'."""
    weight_decay: float = 0.0
    """Weight decay of the Adam optimizer of the backbone, F_o, F_h and F_c."""
    warmup: int = 0
    """Number of first batches in which all learning rates rise linearly from a hundredth of their value."""
    schedule: Schedule = "step"
    """Schedule of the learning rates. step: halved after every halve_every batches; cosine: to 0 at the end."""
    halve_every: int | None = None
    """Number of batches after which the step schedule halves all learning rates, each time; None: never."""
    average_decay: float | None = None
    """Decay of the exponential moving average of the weights that is tested, such as 0.99; None: test the last
    weights."""
    episodes_per_clip: int = 4
    """M, the number of episodes on each clip of a batch."""
    triplet_on: Literal["concatenation", "global"] = "concatenation"
    """Features that the triplet loss acts on: concatenation, [f_g, h_1..h_T] (the paper's), or global, the pooled
    feature map before the neck."""
    triplet_distance: Distance = "squared"
    """Distance in the triplet loss: squared, the squared Euclidean distance (equation 14), or euclidean."""
    margin: float | None = 0.3
    """Margin of the triplet loss (equation 14); None: the soft margin."""
    mining: Literal["batch_hard", "batch_all"] = "batch_hard"
    """Choice of triplets: batch_hard, the hardest of each clip, or batch_all."""
    triplet_weight: float = 1.0
    """Weight of the triplet loss; the cross entropy has weight 1."""
    label_smoothing: float = 0.0
    """Smoothing of the labels in the cross entropy (equation 15)."""
    center_weight: float = 0.0
    """Weight of the centre loss, which pulls each clip's pooled feature map towards a trained centre of its
    person."""
    glimpse_weight: float = 0.0
    """Weight of the glimpse loss, which is not the paper's: the mean over glimpses of the cross entropy of F_c's
    logits by this glimpse and the global feature alone (or as glimpses_judged says). It trains F_c to give no
    credit to bins that show nothing beyond the global feature."""

    glimpses_judged: Literal["alone", "prefixes"] = "alone"
    """Logits of the glimpse loss. alone: by each glimpse and the global feature; prefixes: by the global feature
    and all glimpses until then, so that F_c reads any number of glimpses."""

    paid_by: PaidBy = "f_c"
    """Classifier that the reward is computed with, in training. f_c: F_c, which was trained on the clip;
    other_tracklets or other_cameras: a judge like F_c that was trained on other tracklets of the same people, or
    on those by other cameras (agents/judges.py)."""

    sync_batch_norm: bool = False
    """Let batch normalisations normalise over the clips of all processes of a training (docs/gpu_and_cluster.md),
    which takes GPUs; otherwise each normalises over its own clips."""

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
        """Return the factor of all learning rates for batch number `batch`, counted from 0."""
        return learning_rate_factor(
            batch,
            num_batches=num_batches,
            schedule=self.schedule,
            halve_every=self.halve_every,
            warmup=self.warmup,
        )
