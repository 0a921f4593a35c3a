"""Verification: whether two tracklets are of one person, decided by a threshold on their distance."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backbone.metrics import Search, compared


@dataclass(frozen=True)
class Threshold:
    """A threshold: pairs nearer than `distance` are accepted as one person.

    Attributes:
        distance: the threshold on the Euclidean distance.
        false_accept_rate: the share of pairs of two people that are accepted, in [0, 1].
        true_accept_rate: the share of pairs of one person that are accepted, in [0, 1].
    """

    distance: float
    false_accept_rate: float
    true_accept_rate: float


@dataclass(frozen=True)
class Verification:
    """Distances of pairs of one person and of pairs of two people, and the error rates of thresholds on them.

    Attributes:
        same: distances of pairs of one person in two cameras, ascending, float32.
        different: distances of pairs of two people, ascending, float32.
    """

    same: np.ndarray
    different: np.ndarray

    def at_distance(self, distance: float) -> Threshold:
        """Return the threshold at a distance, with its rates."""
        accepted = (
            np.searchsorted(part, distance, side="left") / len(part) for part in (self.different, self.same)
        )
        return Threshold(float(distance), *map(float, accepted))

    def at_false_accept_rate(self, rate: float) -> Threshold:
        """Return the threshold at the largest distance whose false-accept rate is at most `rate`.

        Raises:
            ValueError: the rate is not in [0, 1).
        """
        if not 0 <= rate < 1:
            raise ValueError(f"a false-accept rate is 0 or more and below 1, got {rate}")
        # 1e-9 against rounding: 0.1 of 10 pairs is 1
        return self.at_distance(self.different[int(rate * len(self.different) + 1e-9)])

    @property
    def equal_error(self) -> Threshold:
        """The threshold at which the false-accept rate and the false-reject rate are nearest to each other."""

        def excess(distance: float) -> float:
            threshold = self.at_distance(distance)
            return threshold.false_accept_rate - (1 - threshold.true_accept_rate)

        # False accepts grow with the distance and false rejects fall: they meet between two of `different`.
        place = bisect_left(range(len(self.different) - 1), 0.0, key=lambda at: excess(float(self.different[at])))
        low, high = self.different[max(place - 1, 0)], self.different[place]
        between = self.same[np.searchsorted(self.same, low) : np.searchsorted(self.same, high, side="right")]
        candidates = [low, high, np.nextafter(high, np.inf), *between, *np.nextafter(between, np.inf)]
        return self.at_distance(min(candidates, key=lambda distance: abs(excess(distance))))

    @property
    def equal_error_rate(self) -> float:
        """The mean of the false-accept rate and the false-reject rate at `equal_error`, in [0, 1]."""
        threshold = self.equal_error
        return (threshold.false_accept_rate + 1 - threshold.true_accept_rate) / 2


def verify(search: Search) -> Verification:
    """Compare queries with gallery tracklets, all pairs that count; arguments as for `evaluate_retrieval`.

    Raises:
        ValueError: an argument is invalid, or there is no pair of one person or no pair of two people.
    """
    same: list[np.ndarray] = []
    different: list[np.ndarray] = []
    for _, squared, match, miss in compared(search, chunk_size=256):
        same.append(squared[match])
        different.append(squared[miss])
    parts: Sequence[np.ndarray] = [np.concatenate(part) for part in (same, different)]
    if not all(map(len, parts)):
        raise ValueError(
            f"there are {len(parts[0])} pairs of one person and {len(parts[1])} of two: both are needed"
        )
    # Squared distances of equal descriptors may round to just below 0.
    return Verification(*(np.sort(np.sqrt(np.maximum(part, 0))) for part in parts))
