"""Exact values against slow and obvious loops, and against samples."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess
from a3d_env.rewards import REWARDS
from agents import oracles
from agents.controls import centre_agent, truth_agent
from agents.oracles import (
    best_bins,
    bin_probabilities,
    most_central,
    next_values,
    truth_bins,
)
from agents.rollout import agent_choice, finish

TINY = BinGrid((2, 3, 4), (1, 2, 3), (2, 6, 8))  # 2 x 2 x 2 bins
CASES = {"paper's grid": {"num_clips": 3}, "tiny grid": {"grid": TINY, "num_clips": 5, "num_glimpses": 3}}


def expected_reward(values, mean, variance, grid):
    return (bin_probabilities(mean, variance, grid) * values).sum(1)


def stay(episodes):
    return episodes.bins[:, -1]


def play(process, clip, bins):
    """Play one episode, alone."""
    episodes = process.start(torch.tensor([clip]))
    for number in bins:
        episodes = process.look(episodes, torch.tensor([number]))
    return process.judge(episodes).reward.item()


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(oracles, "CHUNK_ROWS", 20)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reward", REWARDS)
def test_next_values_are_those_of_episodes_played_one_by_one(random_case, case, reward, small_chunks):
    process = AttentionProcess(*random_case(**CASES[case]), reward)
    num_bins, clips = process.bank.grid.num_bins, torch.tensor([2, 0, 2])
    firsts = list(itertools.accumulate([5] * (process.num_decisions - 1), lambda a, b: (a + b) % num_bins))
    episodes = process.start(clips)
    for first in firsts:
        episodes = process.look(episodes, torch.full_like(clips, first))
    values = next_values(process, episodes)
    assert values.shape == (3, num_bins)
    for row, clip in enumerate(clips.tolist()):
        for last in range(0, num_bins, 7):
            assert values[row, last].item() == pytest.approx(play(process, clip, [*firsts, last]), abs=1e-5)


def test_earlier_values_follow_the_policy(played, small_chunks):
    process = AttentionProcess(*played)
    episodes = process.start(torch.arange(3))
    towards_corner = lambda now: torch.full((len(now), 3), -2.0)  # an action, beyond the first bin  # noqa: E731
    for follow, rest in ((stay, lambda first: [first] * 2), (towards_corner, lambda _: [0, 0])):
        values = next_values(process, episodes, follow, reward="margin")
        for clip, first in itertools.product(range(3), (0, 60, 197)):
            expected = play(AttentionProcess(*played, "margin"), clip, [first, *rest(first)])
            assert values[clip, first].item() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(next_values(process, episodes, stay), next_values(process, episodes, stay, "identity"))


def test_values_need_a_decision_and_what_comes_after_it(random_case):
    process = AttentionProcess(*random_case())
    episodes = process.start(torch.tensor([0]))
    with pytest.raises(ValueError, match="not the last decision"):
        next_values(process, episodes)
    with pytest.raises(ValueError, match="unknown reward"):
        next_values(process, episodes, stay, "praise")
    with pytest.raises(ValueError, match="there is no next bin"):
        next_values(process, finish(process, episodes, stay))


def test_an_agents_choice_is_what_it_predicts_or_knows(played):
    process = AttentionProcess(*played)
    episodes = finish(process, process.start(torch.tensor([4, 5])), agent_choice(centre_agent(), process))
    assert episodes.bins[:, 1:].unique().tolist() == [process.bank.grid.centre]
    knowing = finish(process, process.start(torch.tensor([4, 5])), agent_choice(truth_agent(), process))
    assert process.bank.hits[np.array([[4], [5]]), knowing.bins[:, 1:].numpy()].all()


def test_probabilities_by_hand():
    """Three positions at -1, 0, 1 along the height; midpoints at -0.5 and 0.5, one deviation from the mean."""
    grid = BinGrid((1, 4, 2), (1, 2, 1), (1, 4, 2))  # 1 x 3 x 2 positions
    below, between = 0.15865525, 0.68268949
    probabilities = bin_probabilities(torch.tensor([[0.3, 0.0, 0.0]]), 0.25, grid)
    expected = [share * 0.5 for share in (below, below, between, between, below, below)]
    assert probabilities[0].tolist() == pytest.approx(expected, abs=1e-6)
    own_variance = bin_probabilities(torch.tensor([[0.3, 0.0, 0.5]]), torch.tensor([9.0, 0.25, 0.25]), grid)
    expected = [a * b for a in (below, between, below) for b in (below, 1 - below)]
    assert own_variance[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("grid", [BinGrid(), TINY, BinGrid((1, 3, 3), (1, 3, 3), (1, 3, 3))])
@pytest.mark.parametrize("variance", [0.001, 0.03, 0.3])
def test_probabilities_are_the_shares_of_samples(grid, variance):
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([[0.1, -0.4, 0.9], [-1.0, 1.0, 0.0]])
    samples = mean + math.sqrt(variance) * torch.randn(200_000, 2, 3, generator=generator)
    bins = grid.nearest(samples)
    probabilities = bin_probabilities(mean, variance, grid)
    assert probabilities.sum(1).tolist() == pytest.approx([1, 1])
    for row in range(2):
        shares = torch.bincount(bins[:, row], minlength=grid.num_bins) / len(bins)
        assert (shares - probabilities[row]).abs().max() < 5 * math.sqrt(0.25 / len(bins))


def test_expected_reward_is_the_mean_of_sampled_rewards(random_case):
    process = AttentionProcess(*random_case(num_glimpses=2), "log_prob")
    values = next_values(process, process.start(torch.arange(4)))
    generator = torch.Generator().manual_seed(1)
    mean = torch.rand(4, 3, generator=generator) * 2 - 1
    samples = mean + math.sqrt(0.3) * torch.randn(100_000, 4, 3, generator=generator)
    rewards = values.gather(1, process.bank.grid.nearest(samples).T)
    error = 5 * rewards.std(1) / math.sqrt(100_000)
    assert ((rewards.mean(1) - expected_reward(values, mean, 0.3, process.bank.grid)).abs() < error).all()
    constant = expected_reward(torch.full_like(values, 3.5), mean, 0.3, process.bank.grid)
    assert constant.tolist() == pytest.approx([3.5] * 4)


def test_the_gradient_is_reinforces(random_case):
    """E[(R - b) d log pi(a) / d mean] = d E[R] / d mean, where the left side is sampled."""
    process = AttentionProcess(*random_case(num_glimpses=2, num_clips=2), "log_prob")
    values = next_values(process, process.start(torch.arange(2)))
    mean = torch.tensor([[0.2, -0.7, 0.4], [0.0, 0.9, -0.5]], requires_grad=True)
    expected_reward(values, mean, 0.03, process.bank.grid).sum().backward()

    generator = torch.Generator().manual_seed(2)
    noise = math.sqrt(0.03) * torch.randn(400_000, 2, 3, generator=generator)
    rewards = values.gather(1, process.bank.grid.nearest(mean.detach() + noise).T).T  # (samples, 2)
    terms = (rewards - rewards.mean(0))[..., None] * noise / 0.03
    error = 5 * terms.std(0) / math.sqrt(len(terms))
    assert ((terms.mean(0) - mean.grad).abs() < error).all()
    assert (mean.grad.abs() > error).sum() >= 4  # the gradient is told from zero


def test_probabilities_pass_the_gradient_check():
    mean = torch.tensor([[0.2, -0.7, 0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: bin_probabilities(m, 0.3, TINY), mean)


@pytest.mark.parametrize(
    ("mean", "variance", "message"),
    [
        (torch.zeros(3), 0.1, r"means are \(N, 3\)"),
        (torch.zeros(2, 2), 0.1, r"means are \(N, 3\)"),
        (torch.zeros(2, 3), 0.0, "variance must be above 0"),
        (torch.zeros(2, 3), torch.nan, "variance must be above 0"),
    ],
)
def test_wrong_policies_are_errors(mean, variance, message):
    with pytest.raises(ValueError, match=message):
        bin_probabilities(mean, variance, TINY)


def test_one_decision_has_a_best_bin(random_case):
    process = AttentionProcess(*random_case(num_glimpses=2), "log_prob")
    clip = torch.arange(4)
    best = next_values(process, process.start(clip)).argmax(1)
    assert best_bins(process, clip, stay).bins[:, 1].tolist() == best.tolist()


@pytest.mark.slow
def test_looking_for_the_best_bins_pays_on_the_playground(played):
    process = AttentionProcess(*played, "log_prob")
    clip = torch.arange(64)
    generator = torch.Generator().manual_seed(0)
    rewards = {
        "random": finish(
            process, process.start(clip), lambda now: torch.randint(198, (len(now),), generator=generator)
        ),
        "truth": finish(process, process.start(clip), truth_bins(process)),
        "best": best_bins(process, clip, stay),
    }
    rewards = {name: process.judge(episodes).reward for name, episodes in rewards.items()}
    assert rewards["random"].mean() < -1
    assert rewards["truth"].mean() > -0.3
    assert rewards["best"].min() > -0.01


def test_greedy_bins_beat_the_policy_that_they_follow(random_case):
    process = AttentionProcess(*random_case(num_clips=6), "log_prob")
    clip = torch.arange(6)
    policy = agent_choice(centre_agent(), process)
    rewards = [
        process.judge(episodes).reward
        for episodes in (best_bins(process, clip, policy), finish(process, process.start(clip), policy))
    ]
    assert (rewards[0] > rewards[1]).all()
    own = best_bins(AttentionProcess(process.bank, process.glimpse, "margin"), clip, policy, reward=None)
    assert own.bins.shape == (6, 4)


def test_the_most_central_of_the_bins_that_hit_by_hand():
    grid = BinGrid((1, 5, 5), (1, 1, 1), (1, 5, 5))  # 25 bins of one cell, the middle one is number 12
    hits = torch.zeros(4, 25, dtype=torch.bool)
    hits[0, [0, 1, 2, 5, 6, 7]] = True  # two rows of three: between 1 and 6, of which the first is taken
    hits[1, [8, 3, 13, 9]] = True  # a cross without its left arm, around 8
    hits[2, [0, 24]] = True  # the middle of two corners is hit by neither: one of them
    assert most_central(hits, grid).tolist() == [1, 8, 0, 12]


def test_the_most_central_bin_does_not_depend_on_the_batch():
    generator = torch.Generator().manual_seed(0)
    hits = torch.rand(300, 198, generator=generator) < 0.1
    together = most_central(hits, BinGrid())
    assert together.tolist() == [most_central(row[None], BinGrid()).item() for row in hits]


def test_truth_bins_are_central_wherever_the_thing_can_be_seen(played):
    bank, glimpse = played
    hidden = bank.truth_boxes.copy()
    hidden[7] = np.nan
    process = AttentionProcess(dataclasses.replace(bank, truth_boxes=hidden), glimpse)
    bins = truth_bins(process)(process.start(torch.tensor([3, 7, 3])))
    assert bins[0] == bins[2] == most_central(torch.from_numpy(bank.hits[3:4]), bank.grid)
    assert process.bank.hits[3, bins[0]]
    assert bins[1] == bank.grid.centre
    with pytest.raises(ValueError, match="no truth_boxes"):
        truth_bins(AttentionProcess(dataclasses.replace(bank, truth_boxes=None), glimpse))
