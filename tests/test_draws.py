"""Numbers drawn ahead are those drawn one at a time, and leave the generators where those would."""

import numpy as np
import pytest

from a3d_env.draws import Draws


@pytest.mark.parametrize("count", [1, 3, 64, 1000])
@pytest.mark.parametrize("number", [0, 1, 2, 5, 150])
def test_drawing_ahead_is_drawing_one_at_a_time(count, number):
    ahead, singly = ([np.random.default_rng(seed) for seed in range(3)] for _ in range(2))
    draws = Draws(ahead, count)
    for _ in range(number):
        assert draws().tolist() == [one.integers(count) for one in singly]
    draws.give_back()
    assert [one.bit_generator.state for one in ahead] == [one.bit_generator.state for one in singly]
    draws.give_back()
    assert draws().tolist() == [one.integers(count) for one in singly]
