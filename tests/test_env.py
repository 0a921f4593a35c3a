"""The single environment: Gymnasium's contract, what it says, and what it refuses."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics
from stable_baselines3.common.env_checker import check_env as check_env_of_stable_baselines3

from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess

ENV_ID = "a3d_env:A3D/Attention3D-v0"


@pytest.fixture
def env(played):
    return Attention3DEnv(*played, render_mode="rgb_array")


@pytest.mark.parametrize("overview", [None, (2, 6, 4)])
@pytest.mark.parametrize("num_glimpses", [0, 1, 4])
@pytest.mark.parametrize("check", [check_env, check_env_of_stable_baselines3])
def test_checkers_find_nothing(check, num_glimpses, overview):
    bank, glimpse = playground(num_glimpses=num_glimpses)
    env = gymnasium.make(ENV_ID, bank=bank, glimpse=glimpse, render_mode="rgb_array", overview=overview)
    check(env.unwrapped)  # a warning would be an error here


@pytest.mark.parametrize("num_glimpses", [0, 1])
def test_an_episode_without_decisions_can_be_drawn_and_ends_once(num_glimpses):
    env = Attention3DEnv(*playground(num_glimpses=num_glimpses), render_mode="rgb_array")
    _, info = env.reset(seed=0)
    assert info["bin"].tolist() == [1, 5, 3]
    before = env.render()
    assert env.step(np.ones(3, dtype=np.float32))[2]
    np.testing.assert_array_equal(env.render(), before)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(3))


def test_spaces(random_case):
    env = Attention3DEnv(*random_case(num_channels=2048))
    assert {name: (space.shape, space.dtype) for name, space in env.observation_space.items()} == {
        "bin": ((2048,), np.float32),
        "hidden": ((256,), np.float32),
        "location": ((3,), np.float32),
    }
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    with_overview = Attention3DEnv(*random_case(num_channels=2048), overview=(2, 6, 4))
    assert with_overview.observation_space["overview"].shape == (48 * 2048,)
    assert with_overview.overview_locations.shape == (48, 3)
    grid = BinGrid(overview_counts=(1, 2, 3))  # the bank's own
    looked = Attention3DEnv(*random_case(grid=grid), shows_looked=True).observation_space["looked"]
    assert looked.shape == (6,)
    with pytest.raises(ValueError, match="there is no overview"):
        Attention3DEnv(shows_looked=True)
    assert env.overview_locations.shape == (0, 3)
    with pytest.raises(ValueError, match="an overview is 3 counts"):
        Attention3DEnv(*random_case(), overview=(0, 6, 4))


def test_make_takes_a_bank_and_a_network(random_case):
    bank, glimpse = random_case()
    env = gymnasium.make(ENV_ID, bank=bank, glimpse=glimpse, reward="margin")
    assert env.unwrapped.process.bank is bank
    assert env.unwrapped.glimpse is glimpse
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0] in env.observation_space


@pytest.mark.parametrize("num_glimpses", [0, 1, 2, 4, 5])
def test_an_episode_is_the_processs(random_case, num_glimpses):
    bank, glimpse = random_case(num_glimpses=num_glimpses)
    env, process = Attention3DEnv(bank, glimpse, "log_prob"), AttentionProcess(bank, glimpse, "log_prob")
    last = max(num_glimpses - 1, 1)
    assert env.num_decisions == last
    observation, info = env.reset(options={"clip": 2})
    episodes = process.start(torch.tensor([2]))
    rng = np.random.default_rng(0)
    for step in range(last + 1):
        for name, value in process.observe(episodes).items():
            np.testing.assert_array_equal(observation[name], value[0].numpy())
        bin_number = episodes.bins[0, -1].item() if num_glimpses else bank.grid.centre
        assert info["bin"].tolist() == bank.grid.corners[bin_number].tolist()
        assert info["frames"].tolist() == bank.grid.frame_ranges[bin_number].tolist()
        assert info["box"].tolist() == bank.grid.boxes[bin_number].tolist()
        assert (info["tracklet"], info["clip"]) == ("clip 2", 2)
        assert "hit" not in info
        assert ("identity" in info) == (step == last)
        if step == last:
            break
        action = rng.uniform(-1, 1, 3).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        episodes = process.step(episodes, torch.from_numpy(action)[None])
        assert (terminated, truncated) == (step == last - 1, False)
        assert type(reward) is float
        assert terminated or reward == 0
    judgement = process.judge(episodes)
    assert reward == judgement.reward.item()
    assert info["identity"] == judgement.identity.item()
    assert info["probability"] == judgement.probability.item()
    assert info["true_identity"] == bank.identity[2].item()
    assert info["is_success"] == judgement.is_right.item()


def test_hit_says_whether_the_bin_covers_the_truth(env):
    hits = env.process.bank.hits
    for clip in range(8):
        _, info = env.reset(options={"clip": clip})
        assert info["hit"] == hits[clip, env.process.bank.grid.centre]
        *_, info = env.step(np.full(3, -1, dtype=np.float32))
        assert info["hit"] == hits[clip, 0]


@pytest.mark.slow
def test_the_seed_draws_the_clips(env):
    def draw(seed):
        return [env.reset(seed=seed if number == 0 else None)[1]["clip"] for number in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len({clip for seed in range(30) for clip in draw(seed)}) == len(env.process.bank)


def test_observations_share_no_memory(env):
    env = Attention3DEnv(env.process.bank, env.glimpse, overview=(2, 6, 4))
    observations = [env.reset(seed=0)[0], *(env.step(np.zeros(3, dtype=np.float32))[0] for _ in range(3))]
    kept = [{name: value.copy() for name, value in observation.items()} for observation in observations]
    arrays = [value for observation in observations for value in observation.values()]
    features, states = env.process.bank.bins.numpy(), env.episodes.hidden.numpy()
    for number, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in (*arrays[:number], features, states))
        array[:] = 9
    _, info = env.reset(seed=0)
    info["bin"][:] = info["box"][:] = info["frames"][:] = 0
    again, info = env.reset(seed=0)
    np.testing.assert_array_equal(again["hidden"], kept[0]["hidden"])
    assert info["bin"].tolist() == [1, 5, 3]


@pytest.mark.parametrize(
    ("action", "message"),
    [(np.zeros(2), "got shape \\(2,\\)"), (np.zeros((1, 3)), "got shape \\(1, 3\\)"), ([0, np.nan, 0], "NaN")],
)
def test_a_wrong_action_is_an_error_and_changes_nothing(env, action, message):
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert env.episodes.num_glimpses == 1


def test_step_and_render_need_an_episode(env):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(3))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.render()
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(3))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(3))
    assert env.render().dtype == np.uint8  # the finished episode


@pytest.mark.parametrize("clip", [-1, 64, 1.0, "1", np.array([], dtype=int), [0, 1]])
def test_no_such_clip(env, clip):
    with pytest.raises(ValueError, match=r'options\["clip"\]|size 1'):
        env.reset(options={"clip": clip})


def test_wrong_parts_are_errors(random_case):
    bank, glimpse = random_case()
    with pytest.raises(ValueError, match="bank and glimpse together"):
        Attention3DEnv(bank)
    with pytest.raises(ValueError, match="bank and glimpse together"):
        Attention3DEnv(glimpse=glimpse)
    with pytest.raises(ValueError, match="unknown reward 'luck'"):
        Attention3DEnv(bank, glimpse, reward="luck")
    with pytest.raises(ValueError, match="unknown render_mode 'human'"):
        Attention3DEnv(bank, glimpse, render_mode="human")


def test_gymnasiums_wrappers(env):
    env = FlattenObservation(RecordEpisodeStatistics(env))
    observation, _ = env.reset(seed=0, options={"clip": 0})
    for _ in range(3):
        assert observation.shape == env.observation_space.shape == (19 + 256 + 3,)
        observation, reward, terminated, _, info = env.step(env.action_space.sample())
    assert terminated
    assert (info["episode"]["r"], info["episode"]["l"]) == (reward, 3)
