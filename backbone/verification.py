"""Verification: whether two tracklets are of one person, decided by a threshold on their distance."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from backbone.metrics import Search, compared

MOST_KEPT = 2**25  # 128 MiB; MARS has 22 million pairs
DROPPED_BITS = 7  # of a float32, whose mantissa has 23


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
        different: distances of pairs of two people, ascending, float32; with `counts`, each once.
        counts: number of pairs at each of `different`, int64; None: one each.
    """

    same: np.ndarray
    different: np.ndarray
    counts: np.ndarray | None = None

    @cached_property
    def _up_to(self) -> np.ndarray:
        """The number of pairs of two people before each of `different`, and at the end that of all."""
        counts = np.ones(len(self.different), np.int64) if self.counts is None else self.counts
        return np.concatenate([[0], np.cumsum(counts)])

    def at_distance(self, distance: float) -> Threshold:
        """Return the threshold at a distance, with its rates."""
        false = self._up_to[np.searchsorted(self.different, distance, side="left")] / self._up_to[-1]
        true = np.searchsorted(self.same, distance, side="left") / len(self.same)
        return Threshold(float(distance), float(false), float(true))

    def at_false_accept_rate(self, rate: float) -> Threshold:
        """Return the threshold at the largest distance whose false-accept rate is at most `rate`.

        Raises:
            ValueError: the rate is not in [0, 1).
        """
        if not 0 <= rate < 1:
            raise ValueError(f"a false-accept rate is 0 or more and below 1, got {rate}")
        # 1e-9 against rounding: 0.1 of 10 pairs is 1
        pair = int(rate * self._up_to[-1] + 1e-9)
        return self.at_distance(self.different[np.searchsorted(self._up_to, pair, side="right") - 1])

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


def verify(search: Search, *, chunk_size: int = 256) -> Verification:
    """Compare queries with gallery tracklets, all pairs that count; arguments as for `evaluate_retrieval`.

    Raises:
        ValueError: an argument is invalid, or there is no pair of one person or no pair of two people.
    """
    same: list[np.ndarray] = []
    different = _Distances()
    for _, squared, match, miss in compared(search, chunk_size=chunk_size):
        same.append(_roots(squared[match]))
        different.add(_roots(squared[miss]))
    num_same = sum(map(len, same))
    if not num_same or not different.count:
        raise ValueError(f"there are {num_same} pairs of one person and {different.count} of two: both are needed")
    return Verification(np.sort(np.concatenate(same)), *different.ascending())


def _roots(squared: np.ndarray) -> np.ndarray:
    """Return distances, float32; squared ones of equal descriptors may round to just below 0."""
    return np.sqrt(np.maximum(squared, 0))


class _Distances:
    """Distances, float32 of 0 or more, in memory that is bounded.

    Up to `MOST_KEPT` are kept as they are. Of more, the last `DROPPED_BITS` are dropped, 1.5e-5 of a distance, and
    it is counted how many fall together: the bits of such numbers, as integers, are in the numbers' order.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[np.ndarray] = []
        self._counts: np.ndarray | None = None

    def add(self, distances: np.ndarray) -> None:
        """Add some."""
        self.count += len(distances)
        self._kept.append(distances)
        if self.count <= MOST_KEPT:
            return
        if self._counts is None:
            self._counts = np.zeros(2 ** (31 - DROPPED_BITS), np.int64)
        for part in self._kept:
            found = np.bincount(part.view(np.uint32) >> DROPPED_BITS)
            self._counts[: len(found)] += found
        self._kept = []

    def ascending(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return them in order, float32, and how many there are of each; None: one."""
        if self._counts is None:
            return np.sort(np.concatenate(self._kept)), None
        used = np.flatnonzero(self._counts)
        return (used.astype(np.uint32) << DROPPED_BITS).view(np.float32), self._counts[used]
