"""The environment for TorchRL: its own check, a rollout, and the tensor environment's numbers."""

import pytest
import torch

from a3d_env.env import make_process
from a3d_env.tensors import Attention3DTensorEnv

torchrl_utils = pytest.importorskip("torchrl.envs.utils")
from a3d_env.torchrl import TorchRLEnv  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # of other libraries


@pytest.mark.parametrize("mode", ["continuous", "discrete", "multidiscrete"])
@pytest.mark.parametrize(("overview", "num_glimpses"), [(None, 4), ((1, 2, 2), 1)])
def test_torchrls_own_check(random_case, mode, overview, num_glimpses):
    bank, glimpse = random_case(19, num_glimpses=num_glimpses)
    process = make_process(bank, glimpse, overview=overview, shows_looked=overview is not None)
    torchrl_utils.check_env_specs(TorchRLEnv(Attention3DTensorEnv(3, process, action_mode=mode, autoreset=False)))


def test_a_rollout_is_episodes_of_the_tensor_environment(random_case):
    process = make_process(*random_case(19), "log_prob")
    env = TorchRLEnv(Attention3DTensorEnv(3, process, autoreset=False))
    reference = Attention3DTensorEnv(3, process)
    env.set_seed(5)
    rollout = env.rollout(6, break_when_any_done=False)  # two episodes, (3, 6)
    observation = reference.reset(seed=5)
    for step in range(6):
        torch.testing.assert_close(rollout["hidden"][:, step], observation["hidden"])
        observation, reward, terminated, _, _ = reference.step(rollout["action"][:, step])
        torch.testing.assert_close(rollout["next", "reward"][:, step, 0], reward)
        assert torch.equal(rollout["next", "done"][:, step, 0], terminated)
        assert terminated.all() == (step % 3 == 2)


def test_episodes_are_reset_together(random_case):
    tensors = Attention3DTensorEnv(2, make_process(*random_case(19)))
    with pytest.raises(ValueError, match="autoreset=False"):
        TorchRLEnv(tensors)
    tensors.autoreset = False
    env = TorchRLEnv(tensors)
    started = env.reset()
    with pytest.raises(ValueError, match="all episodes are reset together"):
        env.reset(started.set("_reset", torch.tensor([[True], [False]])))
