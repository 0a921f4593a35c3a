"""Rewards by hand."""

import math

import pytest
import torch

from a3d_env.rewards import REWARDS, get_reward

# Right, second, tied with one other for the first place, last.
LOGITS = torch.tensor([[3.0, 1, 0], [3, 1, 0], [2, 2, 0], [5, 4, 3]])
TRUTH = torch.tensor([0, 1, 1, 2])


def log_softmax(row, index):
    return row[index] - math.log(sum(math.exp(logit) for logit in row))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", [1, 0, 0, 0]),  # of a tie the first is taken
        ("margin", [2, -2, 0, -2]),
        ("rank", [1, 1 / 2, 1 / 2, 1 / 3]),  # a tie counts against the truth
        (
            "log_prob",
            [log_softmax(row, index) for row, index in zip(LOGITS.tolist(), TRUTH.tolist(), strict=True)],
        ),
    ],
)
def test_rewards(name, expected):
    reward = get_reward(name)(LOGITS, TRUTH)
    assert reward.dtype == torch.float32
    torch.testing.assert_close(reward, torch.tensor(expected, dtype=torch.float32))


def test_rank_of_all_ties_is_the_last():
    assert get_reward("rank")(torch.zeros(1, 8), torch.tensor([3])).item() == 1 / 8


@pytest.mark.parametrize("name", REWARDS)
def test_the_right_answer_pays_most_and_logits_stay(name):
    logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    before, answer = logits.clone(), logits.argmax(1)
    reward = get_reward(name)
    assert (reward(logits, answer) > reward(logits, (answer + 1) % 5)).all()
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_an_unknown_reward_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown reward 'luck'; known: identity, log_prob, margin, rank"):
        get_reward("luck")
