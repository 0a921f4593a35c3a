"""TorchRLEnv: the tensor environment for TorchRL (the extra `torchrl`)."""

from typing import Any

import torch
from gymnasium import spaces
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from a3d_env.tensors import Attention3DTensorEnv


class TorchRLEnv(EnvBase):
    """`Attention3DTensorEnv` as a TorchRL environment, whose batch is the episodes that run at once.

    | key | shape | meaning |
    |---|---|---|
    | `bin`, `hidden`, `location`, `overview`, `looked` | (num_envs, ...) | the observation (`Attention3DEnv`) |
    | `action` | (num_envs, 3) or (num_envs,) | a location, or a bin by number or position |
    | `reward` | (num_envs, 1) | the reward, 0 until the end |
    | `is_success` | (num_envs, 1) | at the end, whether F_c named the right person |
    | `done`, `terminated` | (num_envs, 1) | whether the episodes are over |

    All episodes end together, and are reset together.

    Args:
        env: the tensor environment, made with `autoreset=False`: TorchRL resets by itself.

    Raises:
        ValueError: the environment resets by itself, too.
    """

    def __init__(self, env: Attention3DTensorEnv):
        if env.autoreset:
            raise ValueError("TorchRL resets an environment by itself: make this one with autoreset=False")
        num_envs = env.num_envs
        super().__init__(device=env.device, batch_size=torch.Size([num_envs]))
        self.env = env
        assert isinstance(env.single_observation_space, spaces.Dict)
        shown = {name: self._spec(space) for name, space in env.single_observation_space.items()}
        shape, on = (num_envs, 1), env.device
        self.observation_spec = Composite(
            **shown, is_success=Binary(shape=shape, device=on, dtype=torch.bool), shape=self.batch_size, device=on
        )
        self.action_spec = self._spec(env.single_action_space)
        self.reward_spec = Unbounded(shape, device=on, dtype=torch.float32)

    def _spec(self, space: spaces.Space) -> TensorSpec:
        """Return TorchRL's form of a space, once for each episode."""
        shape = torch.Size([*self.batch_size, *(space.shape or ())])
        if isinstance(space, spaces.Discrete):
            return Categorical(int(space.n), shape, device=self.device)
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(space.nvec.tolist(), shape, device=self.device)
        assert isinstance(space, spaces.Box)
        low, high = float(space.low.min()), float(space.high.max())
        return Bounded(low, high, shape, device=self.device, dtype=torch.float32)

    def _reset(self, tensordict: TensorDictBase | None, **kwargs: Any) -> TensorDictBase:
        asked = None if tensordict is None else tensordict.get("_reset", None)
        if asked is not None and not bool(asked.all()):
            raise ValueError("all episodes are reset together: _reset must be True for all")
        return self._seen(self.env.reset(), torch.zeros(self.batch_size, dtype=torch.bool, device=self.device))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        observation, reward, terminated, _, info = self.env.step(tensordict["action"])
        result = self._seen(observation, info.get("is_success", torch.zeros_like(terminated)))
        ends = terminated[:, None]
        return result.update({"reward": reward[:, None], "done": ends, "terminated": ends.clone()})

    def _seen(self, observation: dict[str, Tensor], is_success: Tensor) -> TensorDictBase:
        parts = {**observation, "is_success": is_success[:, None]}
        return TensorDict(parts, self.batch_size, device=self.device)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self.env.seed(seed)
