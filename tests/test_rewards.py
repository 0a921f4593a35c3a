"""Rewards by hand."""

import math

import gymnasium
import numpy as np
import pytest
import torch

from a3d_env.process import AttentionProcess
from a3d_env.rewards import OF_GLIMPSES, REWARDS, Verdict, get_reward
from backbone.glimpse import GlimpseNetwork

# Right, second, tied with one other for the first place, last.
LOGITS = torch.tensor([[3.0, 1, 0], [3, 1, 0], [2, 2, 0], [5, 4, 3]])
TRUTH = torch.tensor([0, 1, 1, 2])


def verdict(logits, truth, num_glimpses=2):
    """Logits that are given, beside a global feature and hidden states of zeros."""
    network = GlimpseNetwork(1, num_glimpses, logits.shape[1])
    return Verdict(
        logits, truth, torch.zeros(len(logits), 1), torch.zeros(len(logits), num_glimpses, 256), network
    )


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
    reward = get_reward(name, 2)(verdict(LOGITS, TRUTH))
    assert reward.dtype == torch.float32
    torch.testing.assert_close(reward, torch.tensor(expected, dtype=torch.float32))


def test_rank_of_all_ties_is_the_last():
    assert get_reward("rank", 2)(verdict(torch.zeros(1, 8), torch.tensor([3]))).item() == 1 / 8


def test_glimpses_pay_what_each_earns_beside_the_global_feature():
    """Two glimpses of two people; each glimpse's first number speaks for person 0, the bias for person 1."""
    network = GlimpseNetwork(1, 2, 2)
    with torch.no_grad():
        network.identify.weight.zero_()
        network.identify.weight[:, 0] = torch.tensor([1.0, 0])  # of f_g
        network.identify.weight[0, 1] = 2.0  # of h_1
        network.identify.weight[0, 1 + 256] = 3.0  # of h_2
        network.identify.bias.copy_(torch.tensor([0.0, 1]))
    hidden = torch.zeros(2, 2, 256)
    hidden[0, :, 0] = torch.tensor([0.5, -1])
    global_feature = torch.tensor([[4.0], [-2]])
    logits = [[[5.0, 1], [1, 1]], [[-2, 1], [-2, 1]]]  # by hand: episodes, glimpses, people
    truth = torch.tensor([0, 1])
    expected = [
        sum(log_softmax(row, person) for row in rows) / 2
        for rows, person in zip(logits, truth.tolist(), strict=True)
    ]
    torch.testing.assert_close(network.identify_glimpses(global_feature, hidden), torch.tensor(logits))
    reward = get_reward("glimpses", 2)(Verdict(torch.zeros(2, 2), truth, global_feature, hidden, network))
    torch.testing.assert_close(reward, torch.tensor(expected))


def test_prefixes_pay_what_each_glimpse_adds_to_those_before():
    """The network of `test_glimpses_...`, whose second glimpse undoes the first."""
    network = GlimpseNetwork(1, 2, 2)
    with torch.no_grad():
        network.identify.weight.zero_()
        network.identify.weight[:, 0] = torch.tensor([1.0, 0])
        network.identify.weight[0, 1] = 2.0
        network.identify.weight[0, 1 + 256] = 3.0
        network.identify.bias.copy_(torch.tensor([0.0, 1]))
    hidden = torch.zeros(1, 2, 256)
    hidden[0, :, 0] = torch.tensor([0.5, -1])
    logits = [[5.0, 1], [2, 1]]  # by hand: 4 + 2 x 0.5, and 3 x -1 more
    expected = sum(log_softmax(row, 0) for row in logits) / 2
    features = torch.tensor([[4.0]])
    torch.testing.assert_close(network.identify_prefixes(features, hidden), torch.tensor([logits]))
    reward = get_reward("prefixes", 2)(Verdict(torch.zeros(1, 2), torch.tensor([0]), features, hidden, network))
    assert reward.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("name", OF_GLIMPSES)
def test_without_glimpses_there_is_no_reward_for_them(name, random_case):
    with pytest.raises(ValueError, match="num_glimpses = 0"):
        get_reward(name, 0)
    with pytest.raises(ValueError, match="num_glimpses = 0"):
        AttentionProcess(*random_case(num_glimpses=0), name)


@pytest.mark.parametrize("name", [name for name in REWARDS if name not in OF_GLIMPSES])
def test_the_right_answer_pays_most_and_logits_stay(name):
    logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    before, answer = logits.clone(), logits.argmax(1)
    reward = get_reward(name, 2)
    assert (reward(verdict(logits, answer)) > reward(verdict(logits, (answer + 1) % 5))).all()
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_an_unknown_reward_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown reward 'luck'; known: identity, log_prob, margin, rank, glimpses, prefixes"
    ):
        get_reward("luck", 2)


def confident(verdict):
    return verdict.logits.argmax(1) == verdict.truth


def one_number(verdict):
    return verdict.logits.mean()


def a_list(verdict):
    return [0.0] * len(verdict.truth)


def endless(verdict):
    return verdict.truth / 0


def test_a_function_of_the_users_own_pays(played):
    name = f"{__name__}:confident"
    paid = get_reward(name, 2)(verdict(LOGITS, TRUTH))
    torch.testing.assert_close(paid, get_reward("identity", 2)(verdict(LOGITS, TRUTH)))
    environments = [
        gymnasium.make("a3d_env:A3D/Attention3D-v0", bank=played[0], glimpse=played[1], reward=reward)
        for reward in (name, "identity")
    ]
    assert environments[0].unwrapped.reward == name
    for env in environments:
        env.reset(seed=0, options={"clip": 3})
    for _ in range(3):
        (_, own, *_), (_, theirs, *_) = (env.step(np.zeros(3, np.float32)) for env in environments)
        assert own == theirs


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one_number", r"one_number paid \(\) for 3 episodes: a tensor \(3,\), a number for each, is needed"),
        ("a_list", r"a_list paid an object of type list for 3 episodes"),
        ("endless", r"endless paid NaN or infinity"),
    ],
)
def test_what_pays_something_else_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        get_reward(f"{__name__}:{name}", 2)(verdict(torch.zeros(3, 2), torch.ones(3, dtype=torch.int64)))


def test_what_is_no_function_is_no_reward():
    with pytest.raises(ValueError, match=r"LOGITS has to be a function of a Verdict, got a Tensor"):
        get_reward(f"{__name__}:LOGITS", 2)
