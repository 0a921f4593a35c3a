import numpy as np
import pytest

from backbone.metrics import Search, compared
from backbone.verification import Verification, verify

# Same person: 1, 2, 3, 6. Different people: 2.5, 4, 5, 7, 8, 9, 10, 11, 12, 13.
BY_HAND = Verification(
    np.array([1, 2, 3, 6], dtype=np.float32), np.array([2.5, 4, 5, 7, 8, 9, 10, 11, 12, 13], dtype=np.float32)
)


@pytest.mark.parametrize(
    ("rate", "distance", "accepted"),
    [(0.0, 2.5, 0.5), (0.1, 4, 0.75), (0.19, 4, 0.75), (0.2, 5, 0.75), (0.3, 7, 1.0)],
)
def test_the_largest_distance_with_a_false_accept_rate(rate, distance, accepted):
    threshold = BY_HAND.at_false_accept_rate(rate)
    assert threshold.distance == distance
    assert threshold.true_accept_rate == accepted
    assert threshold.false_accept_rate <= rate


def test_the_equal_error_rate_by_hand():
    # below 5 a fifth of the wrong pairs and three quarters of the right ones: errors of 0.2 and 0.25
    assert BY_HAND.equal_error_rate == pytest.approx((0.2 + 0.25) / 2)
    assert BY_HAND.equal_error.distance == 5
    perfect = Verification(np.array([1.0, 2]), np.array([3.0, 4]))
    assert perfect.equal_error_rate == 0
    assert 2 < perfect.equal_error.distance <= 3
    generator = np.random.default_rng(0)
    worst = Verification(np.array([2.0, 2]), np.array([1.0, 1]))
    assert worst.equal_error_rate == 1
    chance = Verification(np.sort(generator.random(2000)), np.sort(generator.random(2000)))
    assert chance.equal_error_rate == pytest.approx(0.5, abs=0.03)


def test_two_gaussians_have_their_closed_form():
    generator = np.random.default_rng(0)
    same, different = (np.sort(generator.normal(mean, 1, 200_000)) for mean in (0, 2))
    found = Verification(same, different)
    assert found.equal_error_rate == pytest.approx(0.1587, abs=0.003)  # Phi(-1), half-way
    assert found.equal_error.distance == pytest.approx(1, abs=0.02)
    at_one_percent = found.at_false_accept_rate(0.01)
    assert at_one_percent.distance == pytest.approx(2 - 2.3263, abs=0.03)
    assert at_one_percent.true_accept_rate == pytest.approx(0.3721, abs=0.01)  # Phi(-0.3263)


def test_pairs_are_those_that_retrieval_counts():
    query, gallery = np.zeros((1, 2), np.float32), np.array([[1, 0], [0, 2], [3, 4], [0, 6]], dtype=np.float32)
    # the same camera's and junk do not count
    search = Search(query, gallery, [7], [7, 7, 5, -1], [0], [0, 1, 1, 1])
    found = verify(search)
    np.testing.assert_allclose(found.same, [2])
    np.testing.assert_allclose(found.different, [5])
    ((_, squared, match, miss),) = compared(search)
    assert squared.tolist() == [[1, 4, 25]]
    assert match.tolist() == [[False, True, False]]
    assert miss.tolist() == [[False, False, True]]


def test_what_cannot_be_said_is_an_error():
    with pytest.raises(ValueError, match="0 or more and below 1, got 1"):
        BY_HAND.at_false_accept_rate(1)
    with pytest.raises(ValueError, match="1 pairs of one person and 0 of two"):
        verify(Search(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), [7], [7], [0], [1]))


def test_of_many_pairs_the_distances_are_counted_to_the_printed_digit(monkeypatch):
    generator = np.random.default_rng(0)
    people, others = generator.integers(0, 20, 60), generator.integers(0, 20, 300)
    search = Search(
        generator.normal(size=(60, 8)).astype(np.float32), generator.normal(size=(300, 8)).astype(np.float32),
        people, others, np.zeros(60, np.int64), np.ones(300, np.int64),
    )  # fmt: skip
    exact = verify(search, chunk_size=7)
    monkeypatch.setattr("backbone.verification.MOST_KEPT", 5000)
    counted = verify(search, chunk_size=7)
    assert exact.counts is None
    assert counted.counts.sum() == len(exact.different)
    assert len(counted.different) < len(exact.different)
    assert (np.diff(counted.different) > 0).all()
    np.testing.assert_allclose(np.repeat(counted.different, counted.counts), exact.different, rtol=2e-5)
    np.testing.assert_array_equal(counted.same, exact.same)
    assert counted.equal_error_rate == pytest.approx(exact.equal_error_rate, abs=1e-3)
    for rate in (0.0, 0.001, 0.01, 0.1, 0.999):
        one, other = counted.at_false_accept_rate(rate), exact.at_false_accept_rate(rate)
        assert one.distance == pytest.approx(other.distance, rel=2e-5)
        assert one.false_accept_rate <= rate
        assert one.true_accept_rate == pytest.approx(other.true_accept_rate, abs=2e-3)
