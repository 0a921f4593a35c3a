"""The adapter to stable-baselines3."""

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv


@pytest.fixture
def env(played):
    return Attention3DVecEnv(Attention3DVectorEnv(3, *played, render_mode="rgb_array"))


def test_it_passes_on_what_the_batched_environment_says(env, played):
    reference = Attention3DVectorEnv(3, *played)
    env.seed(7)
    observation, (wanted, wanted_info) = env.reset(), reference.reset(seed=7)
    assert observation.keys() == wanted.keys()
    assert [info["clip"] for info in env.reset_infos] == wanted_info["clip"].tolist()
    rng = np.random.default_rng(0)
    for step in range(6):
        actions = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
        observation, rewards, dones, infos = env.step(actions)
        wanted, wanted_rewards, terminated, _, wanted_info = reference.step(actions)
        for name, value in wanted.items():
            np.testing.assert_array_equal(observation[name], value)
        assert rewards.dtype == np.float32
        assert rewards.tolist() == wanted_rewards.tolist()
        assert dones.tolist() == terminated.tolist() == [step % 3 == 2] * 3
        last = wanted_info["final_info"] if step % 3 == 2 else wanted_info
        assert [info["bin"].tolist() for info in infos] == last["bin"].tolist()
        assert all(("terminal_observation" in info) == dones[0] for info in infos)
        if dones[0]:
            assert [info["is_success"] for info in infos] == last["is_success"].tolist()
            assert not any(info["TimeLimit.truncated"] for info in infos)
            for info, final in zip(infos, wanted_info["final_obs"], strict=True):
                for name, value in final.items():
                    np.testing.assert_array_equal(info["terminal_observation"][name], value)
            # the next episode's first info, as stable-baselines3's own environments keep it
            assert [info["clip"] for info in env.reset_infos] == wanted_info["clip"].tolist()
            assert "final_info" not in env.reset_infos[0]


def test_seeds_and_options_hold_for_one_reset(env):
    assert env.seed(3) == [3, 4, 5]
    env.reset()
    drawn = [info["clip"] for info in env.reset_infos]
    env.reset()
    assert [info["clip"] for info in env.reset_infos] != drawn
    env.seed(3)
    env.set_options([{"clip": 0}, {"clip": 2}, {"clip": 1}])
    env.reset()
    assert [info["clip"] for info in env.reset_infos] == [0, 2, 1]
    env.reset()  # the seed was given, so these are the clips it draws first
    assert [info["clip"] for info in env.reset_infos] == drawn
    env.set_options({"clip": 6})
    env.reset()
    assert [info["clip"] for info in env.reset_infos] == [6, 6, 6]


def test_options_for_some_episodes_only_are_an_error(env):
    env.set_options([{"clip": 0}, {}, {"clip": 1}])
    with pytest.raises(ValueError, match="2 of 3 episodes"):
        env.reset()


def test_vec_monitor_counts_episodes(env):
    monitor = VecMonitor(env)
    monitor.reset()
    for _ in range(3):
        _, rewards, dones, infos = monitor.step(np.zeros((3, 3), dtype=np.float32))
    assert dones.all()
    assert [(info["episode"]["r"], info["episode"]["l"]) for info in infos] == [(r, 3) for r in rewards.tolist()]
    assert monitor.unwrapped is env


def test_attributes_methods_and_pictures(env, random_case):
    env.reset()
    assert env.get_attr("num_decisions") == [3, 3, 3]
    assert env.get_attr("render_mode", indices=[0, 2]) == ["rgb_array"] * 2
    assert len(env.env_method("render", indices=1)) == 1
    env.set_attr("reward", "margin")
    assert env.vector_env.reward == "margin"
    assert env.env_is_wrapped(VecMonitor) == [False] * 3
    images = env.get_images()
    assert len(images) == 3
    assert env.render().shape[0] == 2 * images[0].shape[0]  # three pictures in a 2 x 2 mosaic
    env.set_bank(random_case(num_channels=19)[0])
    env.reset()
    assert {info["tracklet"] for info in env.reset_infos} <= {f"clip {number}" for number in range(4)}
    env.close()


def test_another_reward_that_is_set_is_paid(env, played):
    paid = []
    for name in ("identity", "log_prob"):
        env.set_attr("reward", name)
        assert env.get_attr("reward") == [name] * 3
        env.seed(3)
        env.reset()
        for _ in range(3):
            rewards = env.step(np.zeros((3, 3), np.float32))[1]
        paid.append(rewards)
    assert set(paid[0].tolist()) <= {0.0, 1.0}
    assert (paid[1] <= 0).all()
    assert (paid[1] < 0).any()
    with pytest.raises(ValueError, match="unknown reward 'luck'"):
        env.set_attr("reward", "luck")
    assert env.get_attr("reward")[0] == "log_prob"


def test_without_render_mode_there_are_no_pictures(played):
    env = Attention3DVecEnv(Attention3DVectorEnv(2, *played))
    env.reset()
    assert env.get_images() == [None, None]


def test_stable_baselines3_learns_with_it(env):
    monitor = VecMonitor(env)
    model = PPO("MultiInputPolicy", monitor, n_steps=6, batch_size=18, n_epochs=1, seed=0, device="cpu")
    model.learn(36)
    assert len(model.ep_info_buffer) == 12
    assert len(model.ep_success_buffer) == 12


def test_episodes_have_to_begin_in_the_step_that_ends_others(played):
    with pytest.raises(ValueError, match="autoreset_mode is SAME_STEP, this has NEXT_STEP"):
        Attention3DVecEnv(Attention3DVectorEnv(2, *played, autoreset_mode="NextStep"))
