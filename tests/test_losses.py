"""The losses against hand-computed numbers, an obvious loop and numerical gradients."""

import math

import pytest
import torch
from torch import Tensor

from backbone.losses import TRIPLET_MINING, center_loss, identity_loss, squared_distances, triplet_loss

# Four points on a line, persons 0, 0, 1, 1.
# Squared distances: 0-1: 1, 0-2: 4, 0-3: 16, 1-2: 1, 1-3: 9, 2-3: 4.
POINTS = torch.tensor([[0.0], [1.0], [2.0], [4.0]])
PEOPLE = torch.tensor([0, 0, 1, 1])


def triplet_loop(descriptors: Tensor, labels: Tensor, margin: float, mining: str) -> float:
    """Equation 14 as one would say it."""
    losses: list[float] = []
    for a in range(len(labels)):
        positives = [
            float((descriptors[a] - descriptors[p]).square().sum())
            for p in range(len(labels))
            if p != a and labels[p] == labels[a]
        ]
        negatives = [
            float((descriptors[a] - descriptors[n]).square().sum())
            for n in range(len(labels))
            if labels[n] != labels[a]
        ]
        if mining == "batch_hard" and positives and negatives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
        if mining == "batch_all":
            triplets = [max(0.0, p - n + margin) for p in positives for n in negatives]
            losses.extend(loss for loss in triplets if loss > 0)
    return sum(losses) / len(losses) if losses else 0.0


def test_batch_hard_by_hand() -> None:
    # d(a, p) - d(a, n) + margin of the four anchors: 1 - 4, 1 - 1, 4 - 1, 4 - 9, each + .3
    assert triplet_loss(POINTS, PEOPLE).item() == pytest.approx((0 + 0.3 + 3.3 + 0) / 4)


def test_batch_all_by_hand() -> None:
    # above zero: anchor 1 against 2, anchor 2 against 0 and against 1
    loss = triplet_loss(POINTS, PEOPLE, mining="batch_all")
    assert loss.item() == pytest.approx((0.3 + 0.3 + 3.3) / 3)


@pytest.mark.parametrize("mining", TRIPLET_MINING)
@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_the_loop(mining: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(12, 5, generator=generator)
    labels = torch.randint(0, 2 + seed, (12,), generator=generator)
    margin = 0.3 + seed
    expected = triplet_loop(descriptors, labels, margin, mining)
    assert triplet_loss(descriptors, labels, margin=margin, mining=mining).item() == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("mining", TRIPLET_MINING)
def test_gradient(mining: str) -> None:
    descriptors = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    assert torch.autograd.gradcheck(
        lambda x: triplet_loss(x, labels, margin=2.0, mining=mining), descriptors.requires_grad_()
    )


@pytest.mark.parametrize("mining", TRIPLET_MINING)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5]], ids=["no positive", "no negative"])
def test_zero_with_a_graph_where_no_triplet_exists(mining: str, labels: list[int]) -> None:
    descriptors = POINTS.clone().requires_grad_()
    loss = triplet_loss(descriptors, torch.tensor(labels), mining=mining)
    (gradient,) = torch.autograd.grad(loss, descriptors)
    assert loss.item() == 0
    assert torch.equal(gradient, torch.zeros_like(POINTS))


def test_a_lone_person_is_a_negative_but_no_anchor() -> None:
    loss = triplet_loss(POINTS[:3], PEOPLE[:3])
    assert loss.item() == pytest.approx((0 + 0.3) / 2)


@pytest.mark.parametrize("mining", TRIPLET_MINING)
def test_finite_where_descriptors_coincide(mining: str) -> None:
    descriptors = torch.full((4, 8), 1000.0, requires_grad=True)
    loss = triplet_loss(descriptors, PEOPLE, mining=mining)
    (gradient,) = torch.autograd.grad(loss, descriptors)
    assert loss.item() == pytest.approx(0.3)
    assert gradient.isfinite().all()


def test_float32_under_autocast() -> None:
    descriptors = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    expected = triplet_loss(descriptors, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = triplet_loss(descriptors, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_distances_far_from_the_origin() -> None:
    descriptors = 1000 + torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    expected = torch.tensor([[0.0, 25.0, 1.0], [25.0, 0.0, 18.0], [1.0, 18.0, 0.0]])
    torch.testing.assert_close(squared_distances(descriptors), expected, atol=1e-3, rtol=0)


def test_identity_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # probabilities 1/4, 3/4 and 1/2, 1/2
    labels = torch.tensor([1, 0])
    assert identity_loss(logits, labels).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    # smoothing .2: the target is .9 for the true identity and .1 for the other one
    smoothed = (0.9 * math.log(4 / 3) + 0.1 * math.log(4) + math.log(2)) / 2
    assert identity_loss(logits, labels, label_smoothing=0.2).item() == pytest.approx(smoothed)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"'semi_hard': known are batch_hard, batch_all"):
        triplet_loss(POINTS, PEOPLE, mining="semi_hard")
    with pytest.raises(ValueError, match=r"got \(4, 1\) and \(3,\)"):
        triplet_loss(POINTS, PEOPLE[:3])
    with pytest.raises(ValueError, match=r"got \(4, 1\) and \(3,\)"):
        identity_loss(POINTS, PEOPLE[:3])
    with pytest.raises(ValueError, match=r"label_smoothing in \[0, 1\], got 2"):
        identity_loss(POINTS, PEOPLE * 0, label_smoothing=2)


def test_plain_distances_and_the_soft_margin_by_hand() -> None:
    # farthest positive less nearest negative of the four anchors: 1 - 2, 1 - 1, 2 - 1, 2 - 3
    violations = [-1, 0, 1, -1]
    hinge = triplet_loss(POINTS, PEOPLE, distance="euclidean")
    assert float(hinge) == pytest.approx(sum(max(0, x + 0.3) for x in violations) / 4)
    soft = triplet_loss(POINTS, PEOPLE, distance="euclidean", margin=None)
    assert float(soft) == pytest.approx(sum(math.log(1 + math.exp(x)) for x in violations) / 4)


def test_plain_distances_have_finite_gradients_where_points_are_equal() -> None:
    points = torch.zeros(4, 3, requires_grad=True)
    triplet_loss(points, PEOPLE, distance="euclidean").backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()


def test_unknown_distance() -> None:
    with pytest.raises(ValueError, match="unknown distance 'cosine': known are squared, euclidean"):
        triplet_loss(POINTS, PEOPLE, distance="cosine")  # type: ignore[arg-type]


def test_centre_loss_by_hand() -> None:
    centers = torch.tensor([[0.0], [3.0]], requires_grad=True)
    loss = center_loss(POINTS, PEOPLE, centers)
    assert float(loss.detach()) == pytest.approx((0 + 1 + 1 + 1) / 4 / 2)
    loss.backward()
    assert centers.grad is not None
    assert centers.grad.flatten().tolist() == pytest.approx([-0.25, 0.0])
