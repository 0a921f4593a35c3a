"""Supervised losses: triplet (equation 14), identity (equation 15) and centre loss."""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from backbone.config import Distance

# Least value under the square root of a distance, so that its gradient is finite for equal descriptors.
SMALLEST_SQUARE = 1e-12


def triplet_loss(
    descriptors: Tensor,
    labels: Tensor,
    *,
    margin: float | None = 0.3,
    mining: str = "batch_hard",
    distance: Distance = "squared",
) -> Tensor:
    """Pull descriptors of one person together and push those of others away (equation 14).

    For an anchor a, a positive p (the same person, but not a itself) and a negative n (another
    person) the loss is [d(a, p) - d(a, n) + margin]_+ with squared Euclidean distances d (the paper's),
    or unsquared ones. Squared distances shrink the descriptors where they are not normalised: a smaller
    scale satisfies the margin with less. Distances are computed in float32 at least, even under
    autocast, and have finite gradients everywhere.

    Args:
        descriptors: float (N, D), one for each clip.
        labels: int64 (N,), the person of each clip.
        margin: the least difference d(a, n) - d(a, p) without loss, in units of the distance. None takes
            the soft margin, log(1 + exp(d(a, p) - d(a, n))), instead of the hinge (Hermans et al., "In
            Defense of the Triplet Loss for Person Re-Identification", 2017).
        mining: `batch_hard` takes each anchor's farthest positive and nearest negative, and the mean
            over anchors. `batch_all` takes every triplet, and, as is usual, the mean over those with
            a loss above zero.
        distance: `squared` (the paper's) or `euclidean`.

    Returns:
        A float scalar. Anchors without a positive or without a negative don't count; if no anchor is
        left, it is a zero whose gradient is zero.

    Raises:
        ValueError: the shapes don't fit each other, or the mining or the distance is unknown.
    """
    if descriptors.ndim != 2 or len(descriptors) == 0 or labels.shape != descriptors.shape[:1]:
        raise ValueError(
            "triplet_loss needs descriptors (N, D) and labels (N,) with N >= 1, "
            f"got {tuple(descriptors.shape)} and {tuple(labels.shape)}"
        )
    if mining not in TRIPLET_MINING:
        raise ValueError(f"unknown triplet mining {mining!r}: known are {', '.join(TRIPLET_MINING)}")
    if distance not in get_args(Distance):
        raise ValueError(f"unknown distance {distance!r}: known are {', '.join(get_args(Distance))}")
    same = labels[:, None] == labels[None, :]  # (N, N)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    distances = squared_distances(descriptors)
    if distance == "euclidean":
        distances = distances.clamp(min=SMALLEST_SQUARE).sqrt()
    return TRIPLET_MINING[mining](distances, same & ~itself, ~same, margin)


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


def center_loss(descriptors: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Pull each descriptor towards its person's centre (Wen et al., ECCV 2016; Luo et al., CVPRW 2019).

    Args:
        descriptors: float (N, D).
        labels: int64 (N,), in [0, num_identities).
        centers: float (num_identities, D), one for each person, trained with the networks.

    Returns:
        Half the mean squared Euclidean distance to the centre, a float scalar.
    """
    return 0.5 * (_at_least_float32(descriptors) - centers[labels]).square().sum(1).mean()


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


def _batch_hard(distance: Tensor, positive: Tensor, negative: Tensor, margin: float | None) -> Tensor:
    farthest_positive = distance.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distance.masked_fill(~negative, torch.inf).amin(dim=1)
    # An anchor that lacks one of the two has a loss of [-inf]_+ = 0.
    losses = _hinge(farthest_positive - nearest_negative, margin)
    num_anchors = (positive.any(dim=1) & negative.any(dim=1)).sum()
    return losses.sum() / num_anchors.clamp(min=1)


def _batch_all(distance: Tensor, positive: Tensor, negative: Tensor, margin: float | None) -> Tensor:
    violation = distance[:, :, None] - distance[:, None, :]  # (anchor, positive, negative)
    losses = _hinge(violation, margin) * (positive[:, :, None] & negative[:, None, :])
    return losses.sum() / (losses > 0).sum().clamp(min=1)


def _hinge(violation: Tensor, margin: float | None) -> Tensor:
    """[x + margin]_+, or log(1 + e^x) without a margin."""
    return functional.softplus(violation) if margin is None else (violation + margin).relu()


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


TripletMining = Callable[[Tensor, Tensor, Tensor, float | None], Tensor]
"""Takes distances, masks of positives and of negatives (each N x N, a row for each anchor) and the margin;
returns the loss."""

TRIPLET_MINING: dict[str, TripletMining] = {"batch_hard": _batch_hard, "batch_all": _batch_all}
