"""Learning rates by batch, by hand."""

import pytest

from agents.schedule import learning_rate_factor


def factor(batch, **changes):
    settings = {"num_batches": 110, "schedule": "step", "halve_every": None, "warmup": 0} | changes
    return learning_rate_factor(batch, **settings)


def test_without_anything_it_stays():
    assert {factor(batch) for batch in (0, 50, 109)} == {1.0}


def test_steps_halve():
    assert [factor(batch, halve_every=20) for batch in (0, 19, 20, 39, 40)] == [1, 1, 0.5, 0.5, 0.25]


def test_the_warm_up_rises_from_a_hundredth():
    assert [factor(batch, warmup=10) for batch in (0, 5, 10, 99)] == pytest.approx([0.01, 0.505, 1, 1])


def test_the_cosine_begins_after_the_warm_up_and_ends_at_nought():
    cosine = {"schedule": "cosine", "warmup": 10}
    assert [factor(batch, **cosine) for batch in (10, 60, 110, 500)] == pytest.approx([1, 0.5, 0, 0])
