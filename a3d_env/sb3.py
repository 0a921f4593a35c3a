"""Thin adapters: the batched environment as a stable-baselines3 VecEnv, and a wrapper for other action modes."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from a3d_env.bank import FeatureBank
from a3d_env.interface import ActionMode, action_space, as_actions
from a3d_env.process import AttentionProcess
from a3d_env.vector import Attention3DVectorEnv, unbatch


class Attention3DVecEnv(VecEnv):
    """`Attention3DVectorEnv` for stable-baselines3's algorithms; all its episodes share one process.

    Raises:
        ValueError: the environment does not begin the next episodes in the step that ends the previous ones, as
            stable-baselines3 expects.
    """

    def __init__(self, env: Attention3DVectorEnv):
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"stable-baselines3 needs an environment whose autoreset_mode is SAME_STEP, this has "
                f"{env.autoreset_mode.name}"
            )
        self.vector_env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros((env.num_envs, 3), dtype=np.float32)

    def set_bank(self, bank: FeatureBank) -> None:
        """Replace the bank of clips; `reset` must follow."""
        self.vector_env.set_bank(bank)

    def reset(self) -> dict[str, np.ndarray]:
        """Begin all episodes, with the seeds and options given since the last reset.

        Raises:
            ValueError: the options choose a clip for some episodes only.
        """
        clips = [options["clip"] for options in self._options if "clip" in options]
        if len(clips) not in (0, self.num_envs):
            raise ValueError(
                f"options choose a clip for {len(clips)} of {self.num_envs} episodes: choose for all or for none"
            )
        chosen = {"clip": np.array(clips)} if clips else None
        observation, infos = self.vector_env.reset(seed=list(self._seeds), options=chosen)
        self.reset_infos = self._split(infos)
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Take one glimpse in every episode; the info of an episode that ended has `terminal_observation`."""
        observation, rewards, dones, _, infos = self.vector_env.step(self._actions)
        if not dones[0]:
            return observation, rewards.astype(np.float32), dones, self._split(infos)
        final_infos = self._split(infos["final_info"])
        self.reset_infos = self._split({k: v for k, v in infos.items() if k not in ("final_obs", "final_info")})
        for info, terminal_observation in zip(final_infos, infos["final_obs"], strict=True):
            info["terminal_observation"] = terminal_observation
            info["TimeLimit.truncated"] = False
        return observation, rewards.astype(np.float32), dones, final_infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Draw every episode's clip."""
        return self.vector_env.render() or [None] * self.num_envs

    def close(self) -> None:
        """Close the environment."""
        self.vector_env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batched environment, once for each index."""
        return [getattr(self.vector_env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batched environment; the episodes share it."""
        setattr(self.vector_env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batched environment once, and return its result for each index."""
        result = getattr(self.vector_env, method_name)(*method_args, **method_kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each index: there are no single environments that could be wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def _split(self, infos: dict[str, Any]) -> list[dict[str, Any]]:
        return unbatch({key: value for key, value in infos.items() if not key.startswith("_")})


class ActionModeWrapper(VecEnvWrapper):
    """Wrapper of a continuous environment that takes bins' numbers or positions as actions.

    Args:
        venv: the environment, wrapped or not.
        mode: `discrete` or `multidiscrete`.

    Raises:
        ValueError: unknown mode, or an environment that is not continuous.
    """

    def __init__(self, venv: VecEnv, mode: ActionMode):
        if (found := venv.get_attr("action_mode")[0]) != "continuous":
            raise ValueError(f"only a continuous environment can be given another action mode, this is {found}")
        self.mode = mode
        super().__init__(venv, action_space=action_space(process_of(venv).bank.grid, mode))

    def reset(self) -> VecEnvObs:
        """Begin all episodes."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Pass on the locations of the chosen bins."""
        grid = process_of(self.venv).bank.grid  # joint training shows another bank every time
        bins = grid.chosen(as_actions(actions, self.action_space, self.num_envs))
        self.venv.step_async(grid.locations[bins].numpy())

    def step_wait(self) -> VecEnvStepReturn:
        """Take one glimpse in every episode."""
        return self.venv.step_wait()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batched environment; `action_mode` is the wrapper's."""
        values = self.venv.get_attr(attr_name, indices)
        return [self.mode] * len(values) if attr_name == "action_mode" else values


def process_of(env: gymnasium.Env | gymnasium.vector.VectorEnv | VecEnv) -> AttentionProcess:
    """Return the decision process of an A3D environment, single or batched, with or without wrappers.

    Raises:
        ValueError: the environment is not an A3D environment.
    """
    if isinstance(env, VecEnv):
        found = env.get_attr("process")[0] if env.has_attr("process") else None
    else:
        found = getattr(env.unwrapped, "process", None)
    if not isinstance(found, AttentionProcess):
        raise ValueError(f"only an A3D environment has a decision process, got {type(env).__name__}")
    return found
