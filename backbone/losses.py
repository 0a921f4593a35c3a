"""What the descriptor learns from: the triplet loss (equation 14) and the identity loss (equation 15)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def triplet_loss(
    descriptors: Tensor, labels: Tensor, *, margin: float = 0.3, mining: str = "batch_hard"
) -> Tensor:
    """Pull descriptors of one person together and push those of others away (equation 14).

    For an anchor a, a positive p (the same person, but not a itself) and a negative n (another
    person) the loss is [d(a, p) - d(a, n) + margin]_+ with squared Euclidean distances d. They are
    computed in float32 at least, even under autocast, and have finite gradients everywhere.

    Args:
        descriptors: float (N, D), one a clip.
        labels: int64 (N,), the person of each clip.
        margin: how much farther a negative should be than a positive, in squared distance.
        mining: `batch_hard` takes each anchor's farthest positive and nearest negative, and the mean
            over anchors. `batch_all` takes every triplet, and, as is usual, the mean over those with
            a loss above zero.

    Returns:
        A float scalar. Anchors without a positive or without a negative don't count; if no anchor is
        left, it is a zero whose gradient is zero.

    Raises:
        ValueError: the shapes don't fit each other, or the mining is unknown.
    """
    if descriptors.ndim != 2 or len(descriptors) == 0 or labels.shape != descriptors.shape[:1]:
        raise ValueError(
            "triplet_loss needs descriptors (N, D) and labels (N,) with N >= 1, "
            f"got {tuple(descriptors.shape)} and {tuple(labels.shape)}"
        )
    if mining not in TRIPLET_MINING:
        raise ValueError(f"unknown triplet mining {mining!r}: known are {', '.join(TRIPLET_MINING)}")
    same = labels[:, None] == labels[None, :]  # (N, N)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return TRIPLET_MINING[mining](squared_distances(descriptors), same & ~itself, ~same, margin)


def identity_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of the identity head (equation 15), the mean over clips.

    Args:
        logits: float (N, num_identities); float16 and bfloat16 are computed in float32.
        labels: int64 (N,), in [0, num_identities).
        label_smoothing: the share, in [0, 1], of the target spread evenly over all identities.

    Returns:
        A float scalar, in nats.

    Raises:
        ValueError: the shapes don't fit each other, or the smoothing is out of range.
    """
    if logits.ndim != 2 or len(logits) == 0 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "identity_loss needs logits (N, num_identities) and labels (N,) with N >= 1, "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"identity_loss needs a label_smoothing in [0, 1], got {label_smoothing}")
    return functional.cross_entropy(_at_least_float32(logits), labels, label_smoothing=label_smoothing)


def squared_distances(descriptors: Tensor) -> Tensor:
    """Return the squared Euclidean distances (N, N) among descriptors (N, D), in float32 at least.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y takes one matrix product, and unlike a root it has a gradient
    where x = y. Moving the origin to the mean changes no distance and keeps the terms, which cancel,
    small.
    """
    with torch.autocast(descriptors.device.type, enabled=False):
        x = _at_least_float32(descriptors)
        x = x - x.detach().mean(dim=0)
        squared_norm = (x * x).sum(dim=1)
        return (squared_norm[:, None] + squared_norm[None, :] - 2 * x @ x.T).clamp(min=0)


def _batch_hard(distance: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    farthest_positive = distance.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distance.masked_fill(~negative, torch.inf).amin(dim=1)
    # An anchor that lacks one of the two has a loss of [-inf]_+ = 0.
    losses = (farthest_positive - nearest_negative + margin).relu()
    num_anchors = (positive.any(dim=1) & negative.any(dim=1)).sum()
    return losses.sum() / num_anchors.clamp(min=1)


def _batch_all(distance: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    violation = distance[:, :, None] - distance[:, None, :] + margin  # (anchor, positive, negative)
    losses = violation.relu() * (positive[:, :, None] & negative[:, None, :])
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


TripletMining = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Squared distances, who is whose positive, who is whose negative (N, N each) and margin to a loss."""

TRIPLET_MINING: dict[str, TripletMining] = {"batch_hard": _batch_hard, "batch_all": _batch_all}
