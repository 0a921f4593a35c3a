"""Intervals against textbook numbers, and against how often they hold what they should."""

import itertools
import math

import numpy as np
import pytest

from agents import statistics
from agents.statistics import (
    Interval,
    bootstrap_interval,
    mean_interval,
    mean_over_people,
    mean_over_runs,
    paired_interval,
    weighted_mean,
)


def t_quantile(probability, freedom):
    """What Student's t is below with that probability, read from the interval of so many values."""
    values = np.arange(freedom + 1.0)
    interval = paired_interval(values, confidence=2 * probability - 1)
    return (interval.high - interval.value) * math.sqrt(freedom + 1) / values.std(ddof=1)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_t_is_the_textbooks(freedom, expected):
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-4)


def test_t_at_other_levels():
    assert t_quantile(0.5 + 1e-12, 7) == pytest.approx(0, abs=1e-9)
    assert t_quantile(0.75, 1) == pytest.approx(1, abs=1e-9)  # Cauchy's quartile
    # of two degrees of freedom t = 2 a / sqrt(2 (1 - a^2)) at the probability (1 + a) / 2
    assert t_quantile(0.975, 2) == pytest.approx(1.9 / math.sqrt(2 * (1 - 0.95**2)), abs=1e-9)
    assert t_quantile(0.995, 4) == pytest.approx(4.604, abs=5e-4)
    assert t_quantile(0.975, 10_000) == pytest.approx(1.9602, abs=1e-4)  # the normal's, nearly


def test_a_paired_interval_by_hand():
    """Mean 3, deviation sqrt(2.5), five values: 3 -+ 2.776 sqrt(2.5 / 5)."""
    interval = paired_interval([1, 2, 3, 4, 5])
    assert interval.value == 3
    assert interval.low == pytest.approx(3 - 1.9632, abs=1e-3)
    assert interval.high == pytest.approx(3 + 1.9632, abs=1e-3)
    assert str(interval) == "3.000 [1.037, 4.963]"
    assert paired_interval([2.0, 2.0]).high == 2
    assert paired_interval([1, 2, 3, 4, 5], confidence=0.5).high < interval.high


def test_paired_intervals_hold_the_mean_as_often_as_they_say():
    samples = np.random.default_rng(0).normal(1.0, 3.0, (2000, 5))
    held = [interval.low < 1 < interval.high for interval in map(paired_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_a_bootstrap_of_two_people_by_hand():
    """Both drawn alike: 0, the mean of all or 3, with probabilities 1/4, 1/2 and 1/4."""
    interval = bootstrap_interval([[0.0, 0.0, 0.0], [3.0]])
    assert interval.value == 0.75  # of clips
    assert (interval.low, interval.high) == (0, 3)
    narrow = bootstrap_interval([[0.0, 0.0, 0.0], [3.0]], confidence=0.4)
    assert (narrow.low, narrow.high) == (0.75, 0.75)


def test_the_bootstrap_is_that_of_every_possible_draw():
    people = [[1.0, 2.0], [5.0], [2.0, 2.0, 8.0], [0.0]]
    means = [
        np.concatenate([people[number] for number in draw]).mean()
        for draw in itertools.product(range(4), repeat=4)
    ]
    interval = bootstrap_interval(people, confidence=0.8, resamples=50_000)
    expected = np.quantile(means, [0.1, 0.9])
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
def test_clips_of_one_person_count_together():
    """A hundred clips of each of 10 people tell of 10 people, not of 1000 clips."""
    generator = np.random.default_rng(0)
    people = generator.normal(0, 1, 10)
    by_person = bootstrap_interval([np.full(100, value) for value in people])
    by_clip = bootstrap_interval([[value] for value in np.repeat(people, 100)])
    assert by_person.high - by_person.low > 7 * (by_clip.high - by_clip.low)
    # the interval of a mean: 1.96 deviations to each side
    expected = 2 * 1.96 * people.std() / np.sqrt(10)
    assert by_person.high - by_person.low == pytest.approx(expected, rel=0.05)


def test_other_statistics():
    def share_of_positive(values, weights):
        return weighted_mean((values > 0).astype(float), weights)

    interval = bootstrap_interval([[-1.0, 2.0], [3.0, 4.0]], share_of_positive)
    assert (interval.value, interval.low, interval.high) == (0.75, 0.5, 1.0)


def test_memory_is_bounded_and_the_seed_decides(monkeypatch):
    people = [[1.0, 2.0], [5.0], [2.0, 2.0, 8.0], [0.0]]
    whole = bootstrap_interval(people)
    assert bootstrap_interval(people) == whole
    monkeypatch.setattr(statistics, "MAX_WEIGHTS", 7 * 300)
    assert bootstrap_interval(people) == whole
    assert bootstrap_interval(people, resamples=101, seed=0) != bootstrap_interval(people, resamples=101, seed=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_interval([1.0]), "2 seeds or more, got 1"),
        (lambda: paired_interval([1.0, np.nan]), "NaN"),
        (lambda: paired_interval([1.0, 2.0], confidence=1.0), "between 0 and 1, got 1"),
        (
            lambda: bootstrap_interval([[1.0, 2.0]]),
            "needs 2 or more people with 1 value or more each, got 1 people",
        ),
        (lambda: bootstrap_interval([[1.0], []]), "got 2 people, with 0 values"),
        (lambda: bootstrap_interval([[1.0], [np.inf]]), "infinite"),
        (lambda: bootstrap_interval([[1.0], [2.0]], confidence=0), "between 0 and 1, got 0"),
    ],
)
def test_what_has_no_interval(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_mean_by_sums_per_person_is_the_bootstrap_of_all_clips():
    generator = np.random.default_rng(0)
    person = generator.integers(0, 12, 300)
    values = generator.normal(person, 1)
    expected = bootstrap_interval([values[person == number] for number in np.unique(person)])
    got = mean_interval(
        np.append(values, np.nan), np.append(person, 99)
    )  # what was not measured counts for nothing
    assert [got.value, got.low, got.high] == pytest.approx([expected.value, expected.low, expected.high])


def test_an_interval_goes_to_json_and_back():
    interval = Interval(0.5, 0.25, 1.0)
    assert interval.to_json() == {"value": 0.5, "low": 0.25, "high": 1.0}
    assert Interval.from_json({**interval.to_json(), "count": 7}) == interval
    assert f"{interval:.1f}" == "0.5 [0.2, 1.0]"
    alone = Interval(0.5)
    assert alone.to_json() == {"value": 0.5, "low": None, "high": None}
    assert not Interval.from_json(alone.to_json()).has_bounds
    assert f"{alone:.1f}" == "0.5"


def test_too_little_has_no_bounds_and_nothing_no_interval():
    with pytest.raises(ValueError, match="got 0"):
        mean_over_runs([])
    assert str(mean_over_runs([2.0])) == "2.000"
    assert mean_over_runs([1.0, 3.0]) == paired_interval([1.0, 3.0])
    values, person = np.array([1.0, 3.0, np.nan, 4.0]), np.array([0, 0, 1, 2])
    assert mean_over_people(values, person) == mean_interval(values, person)
    assert str(mean_over_people(values[:3], person[:3])) == "2.000"
    assert mean_over_people(values[2:3], person[2:3]) is None
