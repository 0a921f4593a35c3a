"""Controls as stable-baselines3 algorithms, for joint training, callbacks and checkpoints."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes
from agents.controls import ControlAgent, FullState, as_bins, get_control


class ControlPolicy(BasePolicy):
    """A policy without parameters that looks as a control does.

    It draws random numbers from its action space's generator, which the algorithm seeds.

    Args:
        observation_space: observation space of an A3D environment.
        action_space: action space of that environment.
        lr_schedule: ignored.
        use_sde: ignored.
        control: a name of `agents.controls.CONTROLS`.

    Attributes:
        scenes: the processes and episodes behind the observations, while training.

    Raises:
        ValueError: unknown control.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        use_sde: bool = False,
        control: str = "random",
    ):
        super().__init__(observation_space, action_space)
        self.control = get_control(control)
        self.full_states: Callable[[], list[FullState]] | None = None

    def forward(self, observation: dict[str, Tensor], deterministic: bool = False) -> tuple[Tensor, ...]:
        """Return actions for training, (N, 3), and zeros for their values, (N, 1), and log-probabilities, (N,)."""
        assert self.full_states is not None
        actions = np.concatenate([self.act(len(full_state[1]), full_state) for full_state in self.full_states()])
        zeros = torch.zeros(len(actions))
        return torch.from_numpy(actions), zeros[:, None], zeros

    def predict_values(self, observation: dict[str, Tensor]) -> Tensor:
        """Return zeros, (N, 1)."""
        return torch.zeros(len(observation["location"]), 1)

    def act(self, count: int, full_state: FullState | None = None) -> np.ndarray:
        """Return actions, float32 (count, 3)."""
        return self.control(count, full_state, self.action_space.np_random)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        return torch.from_numpy(self.act(len(observation["location"])))


class ControlAlgorithm(OnPolicyAlgorithm):
    """An algorithm that looks as a control does and learns nothing, for training a representation on its bins.

    Args:
        policy: `ControlPolicy`.
        env: an A3D environment, single or batched.
        learning_rate: ignored.
        n_steps: steps per environment and rollout.
        policy_kwargs: settings of `ControlPolicy`: `control`, the control's name.
        verbose: stable-baselines3's verbosity; 1 prints the log.
        seed: seed of the control's random numbers.
        device: ignored.
    """

    policy: ControlPolicy  # type: ignore[assignment]

    def __init__(
        self,
        policy: type[ControlPolicy],
        env: GymEnv,
        learning_rate: float | Schedule = 0.0,
        n_steps: int = 1,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,  # type: ignore[arg-type]
            env,
            learning_rate,
            n_steps=n_steps,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=0.0,
            max_grad_norm=0.0,
            use_sde=False,
            sde_sample_freq=-1,
            supported_action_spaces=(spaces.Box,),
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        self.policy.full_states = self._scenes

    def train(self) -> None:
        """Do nothing: a control does not learn."""

    def choose(self, process: AttentionProcess, episodes: Episodes) -> Tensor:
        """Return the bin that each episode looks at next, int64 (N,).

        Raises:
            ValueError: the control is `truth`, and the bank does not know the identifying thing.
        """
        return as_bins(self.policy.act(len(episodes), (process, episodes)), process)

    def at_test(self) -> ControlAgent:
        """Return the control as an agent of its own, with newly seeded random numbers."""
        return ControlAgent(self.policy_kwargs.get("control", "random"), self.seed or 0)

    def _scenes(self) -> list[FullState]:
        assert self.env is not None
        pairs = zip(self.env.get_attr("process"), self.env.get_attr("episodes"), strict=True)
        # All episodes of a batched environment return the same process.
        return list({id(episodes): (process, episodes) for process, episodes in pairs}.values())

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], []  # there is no optimiser
