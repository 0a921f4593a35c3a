"""The statistics against hand-computed cases and published properties."""

import numpy as np
import pytest

from agents.comparison import (
    interquartile_mean,
    mean,
    paired_clip_interval,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 3, 100], 2.5),  # of four, the middle two
        ([3, 1, 2], 2.0),  # of three, all
        ([5, 1, 2, 3, 1000], 10 / 3),  # of five, the middle three
        ([[0, 8], [2, 4], [6, 100], [-9, 5]], (2 + 4 + 5 + 6) / 4),  # of eight, over both tasks, the middle four
        ([7], 7.0),
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_on_each_side(scores, expected):
    assert stratified_interval(np.array(scores), resamples=10).value == pytest.approx(expected)


def test_the_interquartile_mean_is_invariant_to_outliers_and_moves_with_shift_and_scale():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 3))
    value = interquartile_mean(scores)
    assert interquartile_mean(3 * scores + 2) == pytest.approx(3 * value + 2)
    worse = scores.copy()
    worse.flat[worse.argmax()] = 1e9
    assert interquartile_mean(worse) == pytest.approx(value)
    assert mean(worse) > 1e6


def test_intervals_are_those_of_an_obvious_loop():
    scores, seed = np.array([[1.0, 10], [2, 20], [4, 40]]), 3
    rng = np.random.default_rng(seed)
    chosen = rng.integers(3, size=(200, 3, 2))
    drawn = [np.mean([scores[chosen[r, i, t], t] for i in range(3) for t in range(2)]) for r in range(200)]
    interval = stratified_interval(scores, mean, resamples=200, seed=seed)
    assert interval.value == pytest.approx(77 / 6)
    assert (interval.low, interval.high) == tuple(np.quantile(drawn, [0.025, 0.975]))


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = {20: 0, 5: 0}
    for count in covered:
        for repeat in range(400):
            interval = stratified_interval(rng.normal(size=count), mean, resamples=500, seed=repeat)
            covered[count] += interval.low <= 0 <= interval.high
    assert 0.90 < covered[20] / 400 < 0.96
    assert 0.75 < covered[5] / 400 < 0.90  # too narrow, as the docstring says


def test_equal_runs_have_no_spread():
    interval = stratified_interval(np.full((5, 2), 0.3))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 2, 3], [2], 0.5),  # a win, a tie, a loss
        ([1, 4], [2, 3], 0.5),
        ([3, 4, 0], [1, 2], 4 / 6),
        ([[2, 0], [3, 1]], [[0, 2], [1, 3]], 0.5),  # wins one task, loses the other
    ],
)
def test_the_probability_of_improvement_counts_pairs(first, second, expected):
    interval = probability_of_improvement(np.array(first), np.array(second))
    assert interval.value == pytest.approx(expected)
    assert interval.low <= interval.value <= interval.high
    reverse = probability_of_improvement(np.array(second), np.array(first))
    assert interval.value + reverse.value == pytest.approx(1)


def test_the_profile_falls_from_one_to_zero():
    value, low, high = performance_profile(np.array([1.0, 2, 2, 3]), np.array([0, 1, 1.5, 2, 3]))
    assert value.tolist() == [1, 0.75, 0.75, 0.25, 0]
    assert (low <= value).all()
    assert (value <= high).all()
    assert (low[0], high[-1]) == (1, 0)


def test_clips_are_compared_in_pairs_and_people_are_drawn():
    person = np.repeat(np.arange(10), 3)
    easy = np.random.default_rng(0).normal(size=30) * 100  # how hard a clip is matters to neither
    interval = paired_clip_interval(np.stack([easy + 1, easy + 3]), easy[None], person)
    assert (interval.value, interval.low, interval.high) == pytest.approx((2, 2, 2))
    by_person = easy + np.where(person < 5, 1.0, -1.0)
    interval = paired_clip_interval(by_person[None], easy[None], person)
    assert interval.value == pytest.approx(0)
    assert interval.low < -0.4
    assert interval.high > 0.4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stratified_interval(np.array([1, np.nan])), "NaN"),
        (lambda: stratified_interval(np.zeros((0, 2))), r"got \(0, 2\)"),
        (lambda: stratified_interval(np.zeros(2), confidence=1.0), "confidence"),
        (lambda: probability_of_improvement(np.zeros((2, 2)), np.zeros((2, 3))), "got 2 and 3"),
        (lambda: paired_clip_interval(np.zeros((1, 4)), np.zeros((1, 4)), np.arange(3)), "4, 4 and 3"),
    ],
)
def test_bad_scores_are_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
