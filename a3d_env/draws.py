"""Draws: clip numbers from the random generators of single environments, many at a time."""

from collections.abc import Sequence

import numpy as np

MOST_AHEAD = 64


class Draws:
    """Clip numbers below `count` by several generators, the same as if each were drawn when it is asked for.

    A call of a generator takes as long as a hundred of its numbers, so that they are drawn ahead: one, then two,
    four, ... `give_back` returns the generators to where they would be.

    Args:
        generators: the generators, one for each number that a call returns.
        count: the number that all are below.
    """

    def __init__(self, generators: Sequence[np.random.Generator], count: int):
        self.generators, self.count = generators, count
        self._before: list[dict] = []
        self._drawn = np.empty((len(generators), 0), dtype=np.int64)
        self._used = 0

    def __call__(self) -> np.ndarray:
        """Return a number by each generator, int64 (generators,)."""
        if self._used == self._drawn.shape[1]:
            ahead = min(max(1, 2 * self._used), MOST_AHEAD)
            if ahead == 1:  # a number by itself takes a fraction of the time of an array
                self._drawn = np.array([[one.integers(self.count)] for one in self.generators])
            else:
                self._before = [dict(one.bit_generator.state) for one in self.generators]
                self._drawn = np.stack([one.integers(self.count, size=ahead) for one in self.generators])
            self._used = 0
        self._used += 1
        return self._drawn[:, self._used - 1]

    def give_back(self) -> None:
        """Let the generators go on behind the last number that was returned."""
        if self._used < self._drawn.shape[1]:
            for one, state in zip(self.generators, self._before, strict=True):
                one.bit_generator.state = state
                one.integers(self.count, size=self._used)
        self._drawn, self._used = self._drawn[:, :0], 0
