"""Confidence intervals: over people by a bootstrap, over seeds by Student's t."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A statistic takes values (N,) and weights (R, N), and returns its value under each row of weights, (R,).
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Most numbers in the table of weights in memory at a time: 128 MB.
MAX_WEIGHTS = 2**24


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: the estimate.
        low: lower bound; NaN if there are too few measurements for bounds, such as a single run.
        high: upper bound; NaN if `low` is.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_bounds(self) -> bool:
        """Whether there are bounds."""
        return not math.isnan(self.low)

    def __format__(self, spec: str) -> str:
        """Return `value [low, high]`, or the value alone without bounds; each number is formatted by `spec`."""
        value = format(self.value, spec)
        return f"{value} [{self.low:{spec}}, {self.high:{spec}}]" if self.has_bounds else value

    def __str__(self) -> str:
        """Return the value with its interval, to three decimals."""
        return f"{self:.3f}"

    def to_json(self) -> dict[str, float | None]:
        """Return value, low and high for JSON, which has no NaN: missing bounds are None."""
        bounds = (self.low, self.high) if self.has_bounds else (None, None)
        return {"value": self.value, "low": bounds[0], "high": bounds[1]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Interval":
        """Return the interval that `to_json` has written; other names in `values` are ignored."""
        return cls(*(math.nan if values[name] is None else values[name] for name in ("value", "low", "high")))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values (N,) under each row of weights (R, N); all clips count equally."""
    return weights @ values / weights.sum(axis=1)


def bootstrap_interval(
    values_by_person: Sequence[np.ndarray | Sequence[float]] | np.ndarray,
    statistic: Statistic = weighted_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return a statistic over clips with its percentile interval, by drawing people with replacement.

    Clips of one person are similar, so that they are drawn together. With few people the interval is too narrow:
    with 10 by about a fifth.

    Args:
        values_by_person: each person's values, one for each clip.
        statistic: the statistic; its weights are the number of times that each value was drawn.
        confidence: level of the interval, between 0 and 1.
        resamples: number of sets of people drawn.
        seed: seed of the random draws.

    Returns:
        The statistic of all values, and its interval.

    Raises:
        ValueError: fewer than two people, a person without values, values that are not finite, or a confidence
            that is not between 0 and 1.
    """
    check_confidence(confidence)
    groups = [np.asarray(values, dtype=np.float64).reshape(-1) for values in values_by_person]
    if len(groups) < 2 or not all(len(group) for group in groups):
        raise ValueError(
            f"a bootstrap needs 2 or more people with 1 value or more each, got {len(groups)} people, with "
            f"{min(map(len, groups), default=0)} values at the least"
        )
    values = _finite(np.concatenate(groups))
    person = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    generator = np.random.default_rng(seed)
    drawn = []
    for count in _parts(resamples, max(1, MAX_WEIGHTS // len(values))):
        times = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=count)
        drawn.append(statistic(values, times[:, person].astype(np.float64)))
    low, high = np.quantile(np.concatenate(drawn), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(values, np.ones((1, len(values))))[0]), float(low), float(high))


def mean_interval(values: np.ndarray, person: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean over clips with the interval of `bootstrap_interval`, fast for many clips a person.

    Args:
        values: a value for each clip (or query), (N,); NaN, a missing measurement, is left out.
        person: the person of each clip, (N,).
        seed: seed of the random draws; equal people and seed give equal sets.

    Raises:
        ValueError: fewer than two people with a value, or infinite values.
    """
    values, person = (np.asarray(array)[~np.isnan(values)] for array in (values, person))
    _, number = np.unique(person, return_inverse=True)
    counts, sums = np.bincount(number), np.bincount(number, weights=values)
    return bootstrap_interval(
        sums[:, None], lambda total, weights: weights @ total / (weights @ counts), seed=seed
    )


def paired_interval(differences: Sequence[float] | np.ndarray, *, confidence: float = 0.95) -> Interval:
    """Return the mean of differences, one for each seed, with Student's t interval.

    Args:
        differences: differences between two methods, one for each seed.
        confidence: level of the interval, between 0 and 1.

    Raises:
        ValueError: fewer than two differences, values that are not finite, or a confidence not between 0 and 1.
    """
    from scipy.special import stdtrit  # takes longer to import than all else here

    check_confidence(confidence)
    values = _finite(np.asarray(differences, dtype=np.float64).reshape(-1))
    if len(values) < 2:
        raise ValueError(f"an interval needs the differences of 2 seeds or more, got {len(values)}")
    mean = float(values.mean())
    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    margin = quantile * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - margin, mean + margin)


def mean_over_runs(values: Sequence[float] | np.ndarray) -> Interval:
    """Return the mean of values, one for each run, with Student's t interval; without bounds for one run."""
    return Interval(float(values[0])) if len(values) == 1 else paired_interval(values)


def mean_over_people(values: np.ndarray, person: np.ndarray) -> Interval | None:
    """Return the mean of the values that are not NaN, with its interval over people by `mean_interval`.

    Args:
        values: a value for each clip (or query), (N,); NaN is a missing measurement.
        person: the person of each clip, (N,).

    Returns:
        The mean with its interval, without bounds for clips of one person; None if all values are NaN.
    """
    num_people = len(np.unique(person[~np.isnan(values)]))
    if num_people < 2:
        return Interval(float(np.nanmean(values))) if num_people else None
    return mean_interval(values, person)


def _parts(total: int, most: int) -> list[int]:
    """Split a number into parts of at most `most`."""
    return [min(most, total - start) for start in range(0, total, most)]


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("a value is NaN or infinite: an interval needs finite values")
    return values


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
