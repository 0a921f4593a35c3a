"""The tensor environment is the vector environment, without NumPy."""

import gymnasium
import numpy as np
import pytest
import torch

from a3d_env.env import make_process
from a3d_env.tensors import Attention3DTensorEnv
from a3d_env.vector import Attention3DVectorEnv


@pytest.mark.parametrize("mode", ["continuous", "discrete", "multidiscrete"])
@pytest.mark.parametrize(("overview", "num_glimpses"), [(None, 4), ((1, 2, 2), 3), ((1, 2, 2), 1), (None, 0)])
def test_observations_and_rewards_are_the_vector_environments(random_case, mode, overview, num_glimpses):
    bank, glimpse = random_case(19, num_glimpses=num_glimpses)
    parts = bank, glimpse, "log_prob"
    shown = {"overview": overview, "shows_looked": overview is not None}
    tensors = Attention3DTensorEnv(6, make_process(*parts, **shown), action_mode=mode)
    arrays = Attention3DVectorEnv(6, *parts, **shown, action_mode=mode, exact=True, autoreset_mode="Disabled")
    arrays.action_space.seed(0)
    observation = tensors.reset(seed=3)
    for _ in range(3):
        wanted, _ = arrays.reset(options={"clip": tensors.episodes.clip.numpy()})
        is_over = False
        while not is_over:
            assert_same(observation, wanted)
            actions = arrays.action_space.sample()
            observation, reward, terminated, truncated, info = tensors.step(torch.from_numpy(actions))
            wanted, wanted_pay, is_over, _, wanted_info = arrays.step(actions)
            is_over = is_over.all()
            assert (reward.dtype, reward.tolist()) == (torch.float32, wanted_pay.tolist())
            assert terminated.tolist() == [is_over] * 6
            assert truncated.tolist() == [False] * 6
        assert_same(info["final_obs"], wanted)
        assert info["is_success"].tolist() == wanted_info["is_success"].tolist()


def assert_same(tensors, arrays):
    assert tensors.keys() == arrays.keys()
    for name, value in tensors.items():
        assert isinstance(value, torch.Tensor)
        np.testing.assert_array_equal(value.numpy(), arrays[name])


def test_a_seed_draws_the_same_clips_and_groups_share_them(played):
    one, other = (Attention3DTensorEnv(6, make_process(*played), episodes_per_clip=3) for _ in range(2))
    drawn = []
    for env in (one, other):
        env.reset(seed=4)
        drawn.append([env.begin().clip.tolist() for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert all(len(set(clips[:3])) == len(set(clips[3:])) == 1 for clips in drawn[0])
    assert len({clips[0] for clips in drawn[0]}) > 5
    clips = torch.tensor([5, 4, 3, 2, 1, 0])
    one.reset(clip=clips)
    assert torch.equal(one.episodes.clip, clips)


def test_wrong_use_is_an_error(played):
    env = Attention3DTensorEnv(2, make_process(*played), autoreset=False)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(torch.zeros(2, 3))
    env.reset()
    for actions in (torch.zeros(3), torch.zeros(2, 3, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"expected actions of Box.*, floats \(2, 3\), got"):
            env.step(actions)
    with pytest.raises(ValueError, match=r"2 episodes need as many clips, got \(1,\)"):
        env.reset(clip=torch.zeros(1, dtype=torch.long))
    for _ in range(3):
        *_, terminated, _, _ = env.step(torch.zeros(2, 3))
    assert terminated.all()
    with pytest.raises(gymnasium.error.ResetNeeded, match="are over"):
        env.step(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="num_envs must be 1 or more"):
        Attention3DTensorEnv(0)
