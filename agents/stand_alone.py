"""Stand-alone algorithms: classes with `learn` and `predict` that do not inherit from stable-baselines3's."""

import inspect
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor

Self = TypeVar("Self", bound="StandAlone")


class _Stopped(BaseException):
    """Ends the algorithm's own loop; not an Exception, since the algorithm might catch those."""


def stands_alone(found: object) -> bool:
    """Tell whether an object is a stand-alone algorithm, or the class of one."""
    return all(callable(getattr(found, name, None)) for name in ("learn", "predict"))


class NoPolicy(BasePolicy):
    """Placeholder for the policy of an algorithm that has none."""

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("this algorithm decides by its own predict")


class StandAlone(BaseAlgorithm):
    """Adapter of a stand-alone algorithm to the interface of stable-baselines3's, which the commands use.

    `predict(observation, deterministic=...)` takes a dictionary of batched observations and returns a tuple that
    begins with the actions; `learn(total_timesteps)` plays in the environment that the algorithm was given, a
    stable-baselines3 VecEnv. An algorithm with `get_parameters` and `set_parameters` can be saved.

    Args:
        env: an A3D environment, batched.
        algorithm: the algorithm's class, which is called with the environment, the settings and, if it takes one,
            a `seed`; or an object with a method `set_env`.
        seed: seed of the environment and of all global random generators.
        settings: keyword arguments of the class.

    Raises:
        ValueError: the algorithm is an object without `set_env`.
    """

    def __init__(self, env: VecEnv, algorithm: Any, /, seed: int | None = None, **settings: Any):
        super().__init__(
            NoPolicy,
            env,
            learning_rate=0.0,
            seed=seed,
            device="cpu",
            support_multi_env=True,
            supported_action_spaces=None,
        )
        self.set_random_seed(seed)
        self.policy = NoPolicy(self.observation_space, self.action_space)
        assert self.env is not None
        self._watched = Watched(self.env, self)
        self.settings = settings
        if isinstance(algorithm, type):
            if "seed" in inspect.signature(algorithm).parameters:
                settings = {"seed": seed, **settings}
            self.algorithm = algorithm(self._watched, **settings)
        elif hasattr(algorithm, "set_env"):
            self.algorithm = algorithm
            algorithm.set_env(self._watched)
        else:
            raise ValueError(f"{algorithm!r} has no set_env to be given the environment: name its class instead")

    def _setup_model(self) -> None:
        """Do nothing: the algorithm sets itself up."""

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Let the algorithm learn for that many environment steps; callbacks see each, and may stop it."""
        total, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        assert self.env is not None
        self.env.seed(self.seed)  # the algorithm itself calls reset
        callback.on_training_start(locals(), globals())
        self._watched.callback = callback
        try:
            with suppress(_Stopped):
                self.algorithm.learn(total)
        finally:
            self._watched.callback = None
            callback.on_training_end()
        return self

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return the algorithm's actions."""
        actions, *_ = self.algorithm.predict(observation, deterministic=deterministic)
        return np.asarray(actions), None

    def get_parameters(self) -> dict[str, Any]:
        """Return the algorithm's parameters; empty if it has no methods to get and set them."""
        return self.algorithm.get_parameters() if self._can_be_loaded else {}

    @property
    def _can_be_loaded(self) -> bool:
        return all(hasattr(self.algorithm, name) for name in ("get_parameters", "set_parameters"))

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """Set the parameters that `get_parameters` returned.

        Raises:
            ValueError: the algorithm has no methods to get and set parameters.
        """
        if not self._can_be_loaded:
            raise ValueError(
                f"{self.algorithm!r} has no get_parameters and set_parameters, so that it was not saved"
            )
        self.algorithm.set_parameters(load_path_or_dict)


class Watched(VecEnvWrapper):
    """Wrapper that calls callbacks at each step, for an algorithm that does not."""

    def __init__(self, venv: VecEnv, agent: StandAlone):
        super().__init__(venv)
        self.agent = agent
        self.callback: BaseCallback | None = None

    def reset(self) -> VecEnvObs:
        """Begin all episodes."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Pass the actions on."""
        if self.callback is not None:
            self.callback.on_rollout_start()
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Take one glimpse in every episode.

        Raises:
            _Stopped: a callback stops the training.
        """
        result = self.venv.step_wait()
        if self.callback is not None:
            self.agent.num_timesteps += self.num_envs
            self.agent._update_info_buffer(result[3], result[2])
            if not self.callback.on_step():
                raise _Stopped
        return result
