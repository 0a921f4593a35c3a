"""Statistics for the comparison of algorithms by a few runs of each.

After Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (NeurIPS 2021). The
interquartile mean depends less on a single lucky or failed run than the mean, and is less noisy than the median.
Intervals come from a bootstrap over runs, within each task (stratified). The probability of improvement and the
performance profile compare distributions of scores, not only means. Scores are float (num_runs, num_tasks), or
(num_runs,) for one task.
"""

from collections.abc import Callable

import numpy as np

from agents.statistics import Interval, check_confidence, mean_interval

# An aggregate takes R resamples of scores, (R, num_runs, num_tasks), and returns the statistic of each, (R, ...).
RESAMPLES = 2000  # sets of runs drawn for a probability of improvement, and for a profile

Aggregate = Callable[[np.ndarray], np.ndarray]


def as_scores(scores: np.ndarray) -> np.ndarray:
    """Return scores as float64 (num_runs, num_tasks).

    Raises:
        ValueError: wrong shape, no run, or scores that are not finite.
    """
    array = np.asarray(scores, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"scores are (num_runs, num_tasks) with 1 or more of each, got {np.shape(scores)}")
    if not np.isfinite(array).all():
        raise ValueError("a score is NaN or infinite: leave out runs that failed, and report that they did")
    return array


def mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean over runs and tasks, (..., num_runs, num_tasks) -> (...)."""
    return scores.mean(axis=(-2, -1))


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of all scores, (..., num_runs, num_tasks) -> (...).

    The n // 4 lowest and the n // 4 highest of n scores are left out: one each of 4, none of 3.
    """
    ordered = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def stratified_interval(
    scores: np.ndarray,
    aggregate: Aggregate = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of scores with its percentile interval: runs are drawn with replacement, task by task.

    The interval has no width with one run, and is too narrow with 3 to 5 runs, whose variation a bootstrap
    underestimates: for a mean it then covers the true value in about 75 to 85% of cases instead of 95%.

    Raises:
        ValueError: wrong shape, scores that are not finite, or a confidence that is not between 0 and 1.
    """
    values = as_scores(scores)
    drawn = aggregate(_resampled(values, resamples, np.random.default_rng(seed)))
    return Interval(float(aggregate(values[None])[0]), *map(float, _percentiles(drawn, confidence)))


def probability_of_improvement(scores: np.ndarray, others: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the probability that a run of one agent beats a run of another, over tasks; a tie counts half.

    This is Mann and Whitney's U, divided by the number of pairs. The interval draws runs of both, task by task.

    Args:
        scores: scores of the agent's runs, (num_runs, num_tasks).
        others: scores of the other agent's runs, (num_other_runs, num_tasks).
        seed: seed of the random draws.

    Raises:
        ValueError: wrong shape, scores that are not finite, or different numbers of tasks.
    """
    first, second = as_scores(scores), as_scores(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"both need the same tasks, got {first.shape[1]} and {second.shape[1]}")
    generator = np.random.default_rng(seed)
    drawn = _wins(_resampled(first, RESAMPLES, generator), _resampled(second, RESAMPLES, generator))
    return Interval(float(_wins(first[None], second[None])[0]), *map(float, _percentiles(drawn)))


def performance_profile(
    scores: np.ndarray, thresholds: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of runs that score above each threshold, and its interval: value, low, high, (K,) each.

    Args:
        scores: scores of the runs, (num_runs, num_tasks).
        thresholds: the thresholds, (K,).
        seed: seed of the random draws.

    Raises:
        ValueError: wrong shape, or scores that are not finite.
    """
    values = as_scores(scores)
    drawn = _resampled(values, RESAMPLES, np.random.default_rng(seed))
    shares = np.stack([(drawn > threshold).mean(axis=(1, 2)) for threshold in thresholds], axis=1)
    low, high = _percentiles(shares)
    return (values[:, :, None] > thresholds).mean(axis=(0, 1)), low, high


def paired_clip_interval(scores: np.ndarray, others: np.ndarray, person: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean difference of two agents' scores on the same clips, with a bootstrap over people.

    A clip's score is its mean over an agent's runs, and people are drawn with replacement. So the interval is
    about the same runs on other people, while that of `stratified_interval` is about other runs.

    Args:
        scores: scores of one agent's runs, (num_runs, num_clips).
        others: scores of the other agent's runs on the same clips, (num_other_runs, num_clips).
        person: the person of each clip, (num_clips,).
        seed: seed of the random draws.

    Raises:
        ValueError: different numbers of clips, scores that are not finite, or fewer than two people.
    """
    first, second = as_scores(scores), as_scores(others)
    if first.shape[1] != second.shape[1] or first.shape[1] != len(person):
        raise ValueError(
            f"both need scores on the same clips, got {first.shape[1]}, {second.shape[1]} and {len(person)} people"
        )
    return mean_interval(first.mean(axis=0) - second.mean(axis=0), person, seed=seed)


def _resampled(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw runs with replacement within each task: (num_runs, num_tasks) -> (resamples, num_runs, num_tasks)."""
    num_runs, num_tasks = values.shape
    chosen = generator.integers(num_runs, size=(resamples, num_runs, num_tasks))
    return values[chosen, np.arange(num_tasks)]


def _wins(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the share of pairs in which the first is higher, (R, n, tasks), (R, m, tasks) -> (R,)."""
    pairs = np.sign(first[:, :, None] - second[:, None, :])
    return (pairs.mean(axis=(1, 2, 3)) + 1) / 2


def _percentiles(drawn: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Return the bounds of the middle share `confidence` of resamples, (R, ...) -> (2, ...)."""
    check_confidence(confidence)
    return np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
