"""The leave-one-out baseline by hand and by a slow loop."""

import pytest
import torch

from agents.advantages import leave_one_out


def test_by_hand():
    returns = torch.tensor([[1.0], [0], [0.5], [7], [0]])
    clip = torch.tensor([4, 4, 9, 2, 9])
    assert leave_one_out(returns, clip).tolist() == [[1], [-1], [0.5], [0], [-0.5]]  # clip 2 has one episode


def test_it_is_the_slow_loop():
    generator = torch.Generator().manual_seed(0)
    clip = torch.randint(12, (40,), generator=generator)
    returns = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    expected = torch.zeros_like(returns)
    for episode in range(40):
        others = [other for other in range(40) if other != episode and clip[other] == clip[episode]]
        if others:
            expected[episode] = returns[episode] - sum(returns[other] for other in others) / len(others)
    assert (expected == 0).any()
    torch.testing.assert_close(leave_one_out(returns, clip), expected)


def test_equal_returns_have_no_advantage():
    returns = torch.full((24, 3), -0.1, dtype=torch.float64)
    assert leave_one_out(returns, torch.arange(24) % 3).abs().max() < 1e-12


def test_it_needs_two_episodes_on_a_clip():
    with pytest.raises(ValueError, match="each of the 4 episodes is alone on its clip"):
        leave_one_out(torch.zeros(4, 3), torch.arange(4))
