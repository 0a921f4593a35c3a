"""Agents without learning: where they look, alone and as stable-baselines3 algorithms."""

import itertools

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import agents
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv
from agents.controls import CONTROLS, ControlAgent, centre_agent, random_agent, truth_agent
from agents.oracles import most_central
from agents.rollout import at_test, follow
from agents.state import load_training_state, training_state


class Visits(BaseCallback):
    """Keeps the bins of the finished episodes."""

    def __init__(self):
        super().__init__()
        self.clips, self.bins = [], []

    def _on_step(self) -> bool:
        finished = self.training_env.unwrapped.vector_env.finished
        if self.locals["dones"].all():
            self.clips.append(finished.clip)
            self.bins.append(finished.bins[:, 1:])
        return True


def make(name: str, num_envs: int = 64, seed: int = 0, **settings):
    return agents.make(name, VecMonitor(Attention3DVecEnv(Attention3DVectorEnv(num_envs))), seed=seed, **settings)


def trained_bins(agent, rollouts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Train and return clips (N,) and the chosen bins (N, T - 1)."""
    visits = Visits()
    agent.learn(rollouts * agent.n_envs * agent.n_steps, callback=visits, reset_num_timesteps=False)
    return torch.cat(visits.clips), torch.cat(visits.bins)


def nearest_shares(count: int) -> np.ndarray:
    """How often a uniform number of [-1, 1] is nearest to each of `count` positions: half as often at the ends."""
    shares = np.ones(count)
    shares[[0, -1]] = 0.5
    return shares / shares.sum()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["training", "test"])
def test_random_bins_are_uniform_in_place(place):
    agent, process = make("random"), AttentionProcess(*playground())
    if place == "training":
        _, bins = trained_bins(agent, 60)
    else:
        bins = follow(at_test(agent), process, torch.arange(64).repeat(60)).bins[:, 1:]
    corners = process.bank.grid.corners[bins.flatten()].numpy()  # 11,520 of them
    for axis, count in enumerate(process.bank.grid.positions):
        shares = np.bincount(corners[:, axis], minlength=count) / len(corners)
        np.testing.assert_allclose(shares, nearest_shares(count), atol=0.02)  # four deviations at 1/2
    assert np.abs(np.corrcoef(corners.T) - np.eye(3)).max() < 0.05
    assert np.abs(np.corrcoef(bins.numpy().T) - np.eye(3)).max() < 0.07  # nor do choices know of earlier ones


@pytest.mark.parametrize("place", ["training", "test", "alone"])
def test_centre_bins_are_those_that_episodes_begin_at(place):
    process, clips = AttentionProcess(*playground()), torch.arange(64)
    grid = process.bank.grid
    if place == "training":
        bins = trained_bins(make("centre"), 2)[1]
    else:
        bins = follow(at_test(make("centre")) if place == "test" else centre_agent(), process, clips).bins
    assert (bins == grid.centre).all()
    assert grid.nearest(torch.zeros(3)) != grid.centre  # with 6 positions of the width, 0 is between two


@pytest.mark.slow
def test_centre_actions_lead_to_the_centre_bin_of_any_grid(random_case):
    for counts in itertools.product((1, 2, 3, 4, 14), repeat=3):
        grid = BinGrid(counts, (1, 1, 1), counts)
        process = AttentionProcess(*random_case(num_clips=1, grid=grid))
        action = CONTROLS["centre"](2, (process, process.start(torch.tensor([0, 0]))), np.random.default_rng(0))
        assert (action.shape, action.dtype) == ((2, 3), np.float32)
        assert grid.nearest(torch.from_numpy(action)).tolist() == [grid.centre] * 2


@pytest.mark.parametrize("place", ["training", "test"])
def test_the_truth_agent_stays_on_the_bin_of_truth(place):
    agent, process = make("truth"), AttentionProcess(*playground())
    if place == "training":
        clips, bins = trained_bins(agent, 1)
    else:
        clips = torch.arange(64)
        bins = follow(at_test(agent), process, clips).bins[:, 1:]
    expected = most_central(torch.from_numpy(process.bank.hits), process.bank.grid)[clips]
    assert torch.equal(bins, expected[:, None].expand_as(bins))
    assert process.bank.hits[clips.numpy()[:, None], bins.numpy()].all()  # every clip has bins that hit


def test_without_truth_the_truth_agent_says_what_is_missing(random_case):
    bank, glimpse = random_case()
    with pytest.raises(ValueError, match="no truth_boxes"):
        follow(truth_agent(), AttentionProcess(bank, glimpse), torch.tensor([0]))
    env = Attention3DVecEnv(Attention3DVectorEnv(2, bank, glimpse))
    agent = agents.make("truth", env)
    with pytest.raises(ValueError, match="no truth_boxes"):
        agent.learn(6)
    with pytest.raises(ValueError, match="not in an observation"):
        agent.predict(env.reset())


@pytest.mark.parametrize("name", ["random", "centre", "truth"])
def test_the_seed_says_what_is_drawn_in_training_and_at_test(name):
    process, clips = AttentionProcess(*playground()), torch.arange(64)

    def draw(seed: int) -> list:
        agent = make(name, seed=seed)
        before = follow(at_test(agent), process, clips).bins
        trained = trained_bins(agent, 2)[1]
        assert torch.equal(before, follow(at_test(agent), process, clips).bins)
        assert torch.equal(before, follow(ControlAgent(name, seed), process, clips).bins)
        return [before.tolist(), trained.tolist()]

    assert draw(1) == draw(1)
    if name == "random":
        assert all(one != other for one, other in zip(draw(1), draw(2), strict=True))


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, stopped, resumed = (make("random", seed=3) for _ in range(3))
    reference = trained_bins(whole, 2)[1]
    assert torch.equal(trained_bins(stopped, 1)[1], reference[:64])
    follow(at_test(stopped), AttentionProcess(*playground()), torch.arange(9))  # a score in between
    torch.save({"parameters": stopped.get_parameters(), "training": training_state(stopped)}, tmp_path / "state")

    state = torch.load(tmp_path / "state", weights_only=True)
    resumed.set_parameters(state["parameters"])
    load_training_state(resumed, state["training"])
    assert torch.equal(trained_bins(resumed, 1)[1], reference[64:])
    assert resumed.num_timesteps == 2 * 64 * 3


@pytest.mark.parametrize("name", ["random", "centre", "truth"])
def test_they_have_nothing_to_learn_and_are_saved_and_loaded(name, tmp_path):
    agent = make(name)
    assert not list(agent.policy.parameters())
    agent.learn(2 * 64 * 3)
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", env=agent.env)
    process, clips = AttentionProcess(*playground()), torch.arange(64)
    assert torch.equal(follow(at_test(agent), process, clips).bins, follow(at_test(loaded), process, clips).bins)


@pytest.mark.parametrize("name", ["random", "centre", "truth"])
def test_single_environments_will_do(name):
    agent = agents.make(name, DummyVecEnv([Attention3DEnv] * 3), seed=0)
    agent.learn(9)
    assert agent.num_timesteps == 9


@pytest.mark.parametrize("agent", [random_agent(), centre_agent()])
def test_predict_needs_observations_only(agent):
    seen = Attention3DVectorEnv(5).reset(seed=0)[0]
    actions, _ = agent.predict(seen)
    assert (actions.shape, actions.dtype) == ((5, 3), np.float32)
    assert np.abs(actions).max() <= 1
    as_algorithm, _ = make("random").predict(seen)
    assert (as_algorithm.shape, as_algorithm.dtype) == ((5, 3), np.float32)


def test_the_untrained_policy_samples_and_stays_as_it_was_made():
    agent = make("untrained", policy_kwargs={"variance": 0.3})
    weights = agent.policy.action_net[0].weight.clone()
    _, bins = trained_bins(agent, 4)
    assert torch.equal(agent.policy.action_net[0].weight, weights)
    assert len(bins.unique()) > 50  # sampled
    process = AttentionProcess(*playground())
    first, second = (follow(at_test(agent), process, torch.arange(5)).bins for _ in range(2))
    assert torch.equal(first, second)  # the mean


def test_unknown_controls_list_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown control 'luck'; known: random, centre, mean, swapped, best, truth"
    ):
        ControlAgent("luck")
