"""REINFORCE with a baseline (equation 13, derived in 9 to 12), a stable-baselines3 algorithm."""

from typing import Any, Literal, TypeVar, get_args

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from torch import Tensor
from torch.nn import functional

from agents.advantages import leave_one_out
from agents.policy import AttentionPolicy
from backbone.glimpse import GlimpseNetwork

Self = TypeVar("Self", bound="REINFORCE")

Baseline = Literal["value", "clip"]


class REINFORCE(OnPolicyAlgorithm):
    """Monte Carlo policy gradient on whole episodes, one gradient step for each rollout.

    The gradient is equation 13's, summed over an episode's steps and averaged over episodes: that of
    stable-baselines3's A2C with gamma = gae_lambda = 1, times the episode's length.

    If the environment's glimpse network requires gradients (in joint training), the hidden states are computed
    again from the bins in the buffer, so that the policy gradient reaches F_a, F_h and F_o through all steps
    and stops at the bins' features. This class updates F_a and V alone; `SharedFeatureCallback` updates the
    glimpse network. If the glimpse network is frozen, or `gradient_to_glimpse` is False, the hidden states of the
    observations are used as they are.

    Actions without effect get no gradient: with T of 0 or 1 only V learns.

    Args:
        policy: `AttentionPolicy`.
        env: an A3D environment, single or batched.
        learning_rate: learning rate of F_a and V.
        n_steps: steps per environment and rollout, a multiple of the episode's length; by default one episode.
        normalize_advantage: whether to centre the advantages of a rollout and divide them by their standard
            deviation; a single advantage stays as it is.
        vf_coef: weight of the squared error of V.
        max_grad_norm: norm to which the gradient of F_a and V is clipped; None for no clipping.
        policy_weight: weight of equation 13. With 0 there is no RL objective (Table VII): F_a stays as
            initialised, the agent looks where it samples, and F_h and F_o learn from the supervised losses alone.
        baseline: baseline that is subtracted from an episode's return: `value`, V's estimate (the paper's), or
            `clip`, the mean return of the rollout's other episodes on the same clip
            (`agents.advantages.leave_one_out`), with which an episode that is alone on its clip has no gradient. V
            is trained in either case.
        gradient_to_glimpse: whether the policy gradient reaches F_h and F_o, too (as in the paper). Otherwise they
            learn from the supervised losses alone.
        stats_window_size: number of episodes over which the logged reward is averaged. This and the following
            arguments are stable-baselines3's; its `gamma`, `gae_lambda` and `ent_coef` are fixed by equation 13.
        tensorboard_log: folder of the TensorBoard log.
        policy_kwargs: settings of the policy.
        verbose: verbosity; 1 prints the log.
        seed: seed of initial weights and exploration.
        device: device of the policy.

    Raises:
        ValueError: the environment has no fixed number of decisions, `n_steps` cuts an episode, or unknown
            baseline.
    """

    rollout_buffer: DictRolloutBuffer
    policy: AttentionPolicy

    def __init__(
        self,
        policy: type[AttentionPolicy],
        env: GymEnv,
        learning_rate: float | Schedule = 2e-4,
        n_steps: int | None = None,
        normalize_advantage: bool = False,
        vf_coef: float = 0.5,
        max_grad_norm: float | None = None,
        policy_weight: float = 1.0,
        baseline: Baseline = "value",
        gradient_to_glimpse: bool = True,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ):
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps=n_steps or 0,
            gamma=1.0,
            gae_lambda=1.0,
            ent_coef=0.0,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,  # type: ignore[arg-type]
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            supported_action_spaces=(spaces.Box,),
            _init_setup_model=False,
        )
        self.normalize_advantage = normalize_advantage
        self.policy_weight = policy_weight
        if baseline not in get_args(Baseline):
            raise ValueError(f"unknown baseline {baseline!r}; known: {', '.join(get_args(Baseline))}")
        self.baseline = baseline
        self.gradient_to_glimpse = gradient_to_glimpse
        self._clips: list[list[int]] = []  # clips of the rollout's episodes, step by step
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if self.env is not None:  # None: loaded without an environment, with the n_steps of the file
            self.n_steps = self.n_steps or self.episode_length
            self._check_whole_episodes()
        super()._setup_model()

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Train on another environment; see stable-baselines3's `BaseAlgorithm.set_env`.

        Raises:
            ValueError: `n_steps` is not a multiple of the length of its episodes.
        """
        super().set_env(env, force_reset)
        self._check_whole_episodes()

    def _check_whole_episodes(self) -> None:
        length = self.episode_length
        if self.n_steps % length:
            raise ValueError(
                f"n_steps = {self.n_steps} would cut episodes of {length} steps: take a multiple of {length}"
            )

    @property
    def episode_length(self) -> int:
        """The number of steps of every episode: T - 1, but at least 1.

        Raises:
            ValueError: the environment has no fixed number of decisions.
        """
        if self.env is None or not self.env.has_attr("num_decisions"):
            raise ValueError("REINFORCE needs an environment with a fixed number of decisions: an A3D one")
        return self.env.get_attr("num_decisions")[0]

    def train(self) -> None:
        """Take one gradient step on the episodes of the rollout (equation 13)."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        # Buffers are (n_steps, n_envs, ...); an episode's steps become rows of (episodes, length, ...).
        actions = self._by_episode(self.rollout_buffer.actions)
        returns = self._by_episode(self.rollout_buffer.returns)
        advantages = self._advantages()

        hidden = self._hidden_states()
        overview = None
        if self.policy.sees_overview:
            overview = self._by_episode(self.rollout_buffer.observations["overview"]).flatten(0, 1)
        log_prob, values = self.policy.evaluate_hidden(hidden.flatten(0, 1), actions.flatten(0, 1), overview)
        log_prob = log_prob.view_as(advantages)
        policy_loss = -(advantages * log_prob).sum(1).mean()  # equation 13, to be minimised
        value_loss = functional.mse_loss(values, returns.flatten())

        loss = self.vf_coef * value_loss
        if self._scores_actions:
            loss = self.policy_weight * policy_loss + loss
        self.policy.optimizer.zero_grad()
        loss.backward()
        parameters = list(self.policy.parameters())
        self.logger.record("train/locator_gradient_norm", gradient_norm(self.policy.action_net))
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.policy.optimizer.step()

        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/policy_loss", policy_loss.item())
        self.logger.record("train/value_loss", value_loss.item())
        self.logger.record("train/log_prob", log_prob.mean().item())

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """Play the episodes of a rollout; see stable-baselines3's `OnPolicyAlgorithm.collect_rollouts`."""
        self._clips = []
        return super().collect_rollouts(*args, **kwargs)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        self._clips.append([info["clip"] for info in infos])

    def learn(
        self: Self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for that many environment steps; see stable-baselines3's `OnPolicyAlgorithm.learn`."""
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_clips"]

    @property
    def _glimpse(self) -> GlimpseNetwork:
        assert self.env is not None
        return self.env.get_attr("glimpse")[0]

    @property
    def _scores_actions(self) -> bool:
        return self.policy_weight != 0 and self._glimpse.num_glimpses > 1

    def _advantages(self) -> Tensor:
        """Return the advantage of each step: its return less the baseline, float32 (episodes, length)."""
        if self.baseline == "clip" and self._scores_actions:
            # From the rewards, in float64, so that equal returns have exactly equal advantages, and so deviation
            # 0.
            rewards = self._by_episode(self.rollout_buffer.rewards).double()
            returns = rewards.flip(1).cumsum(1).flip(1)
            clip = self._by_episode(np.array(self._clips))[:, 0]
            advantages = leave_one_out(returns, clip).float()
        else:
            advantages = self._by_episode(self.rollout_buffer.advantages)
        if self.normalize_advantage and advantages.numel() > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def _hidden_states(self) -> Tensor:
        """Return h_1..h_{T-1} of every episode, (episodes, length, 256), with gradient in joint training."""
        assert self.env is not None
        glimpse, observations = self._glimpse, self.rollout_buffer.observations
        is_learning = any(parameter.requires_grad for parameter in glimpse.parameters())
        if not (is_learning and self.gradient_to_glimpse and self._scores_actions):
            return self._by_episode(observations["hidden"])
        if len(set(map(id, self.env.get_attr("glimpse")))) > 1:
            raise ValueError("the environments do not share one glimpse network: use the batched environment")
        if self._vec_normalize_env is not None and self._vec_normalize_env.norm_obs:
            raise ValueError(
                "the glimpse network takes features as they are: use VecNormalize with norm_obs=False"
            )
        return glimpse.unroll(self._by_episode(observations["bin"]), self._by_episode(observations["location"]))

    def _by_episode(self, steps: Any) -> Tensor:
        """(n_steps, n_envs, ...) -> (n_steps / length * n_envs, length, ...)."""
        steps = torch.as_tensor(steps, device=self.device)
        return steps.unflatten(0, (-1, self.episode_length)).transpose(1, 2).flatten(0, 1)


def gradient_norm(module: torch.nn.Module) -> float:
    """Return the norm of all gradients of a module, 0 if it has none."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
