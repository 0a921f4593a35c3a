"""Measures of batches, kept on the device that computes them and read together, so that no batch waits."""

from collections.abc import Mapping

from torch import Tensor

from backbone.device import is_free, read

Values = dict[str, Tensor | float]


class Measures:
    """Numbers by name, batch by batch, until they are due.

    Args:
        every: number of batches that are read together. On a CPU, where reading costs nothing, each is read at
            once.
    """

    def __init__(self, every: int):
        self.every = every
        self._kept: list[Values] = []

    def add(self, values: Mapping[str, Tensor | float]) -> list[dict[str, float]]:
        """Keep a batch's measures. Return those of all batches kept, in order, if they are due; else none."""
        self._kept.append(dict(values))
        waits = any(isinstance(value, Tensor) and not is_free(value) for value in values.values())
        return [] if waits and len(self._kept) < self.every else self.read()

    def read(self) -> list[dict[str, float]]:
        """Return the measures of all batches kept, in order, and keep none."""
        kept, self._kept = self._kept, []
        numbers = read(
            {f"{row} {name}": value for row, values in enumerate(kept) for name, value in values.items()}
        )
        return [{name: numbers[f"{row} {name}"] for name in values} for row, values in enumerate(kept)]
