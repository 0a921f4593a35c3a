"""REINFORCE with a baseline (equation 13, derived in 9 to 12), a stable-baselines3 algorithm."""

import time
from collections import deque
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from torch import Tensor
from torch.nn import functional

from a3d_env.process import Judgement
from a3d_env.vector import Attention3DVectorEnv
from agents.advantages import leave_one_out, normalized
from agents.collected import Collected, LateInfos, from_buffer, tensor_env
from agents.policy import DIVERGED, AttentionPolicy
from agents.policy_config import Baseline
from backbone.device import is_free, read
from backbone.glimpse import GlimpseNetwork

Self = TypeVar("Self", bound="REINFORCE")


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

    In the batched environment, with or without a `VecMonitor`, the episodes are played on the policy's device,
    through the decision process: no observation is made, `collected` has the rollout, and `rollout_buffer` stays
    empty. Callbacks find `actions` and `rewards` as tensors. In any other environment, and where a subclass has a
    `train` of its own, rollouts are stable-baselines3's. Both draw the same random numbers, and have the same
    gradient.

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

    Attributes:
        collected: the episodes of the last rollout, if they were played as tensors, else None.

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
        self.collected: Collected | None = None
        self._judged: deque[Judgement] = deque(maxlen=stats_window_size)  # not read yet
        self._measured: dict[str, Tensor] = {}  # of the last update, not read yet
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
        rollout = self.collected or from_buffer(self.rollout_buffer, self._clips, self.episode_length, self.policy)
        hidden, seen, row = self._hidden_states(rollout), rollout.overview, rollout.row
        looked = None if rollout.looked is None else rollout.looked.flatten(0, 1)
        if row is not None:
            seen, row = self.policy.look_over(seen), row.repeat_interleave(hidden.shape[1])
        log_prob, values = self.policy.evaluate_hidden(
            hidden.flatten(0, 1), rollout.actions.flatten(0, 1), seen, row, looked
        )
        log_prob, values = log_prob.view_as(rollout.returns), values.view_as(rollout.returns)
        advantages = self._advantages(rollout, values.detach())
        policy_loss = -(advantages * log_prob).sum(1).mean()  # equation 13, to be minimised
        value_loss = functional.mse_loss(values, rollout.returns)

        loss = self.vf_coef * value_loss
        if self._scores_actions:
            loss = self.policy_weight * policy_loss + loss
        self.policy.optimizer.zero_grad()
        loss.backward()
        norm = gradient_norm(self.policy.action_net)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

        self._n_updates += 1
        self._measured = {
            "policy_loss": policy_loss.detach(),
            "value_loss": value_loss.detach(),
            "log_prob": log_prob.detach().mean(),
            "locator_gradient_norm": norm,
        }
        if is_free(loss):
            self._read()

    def _read(self) -> None:
        """Read what was kept on the device: the measures of the last update, and how late episodes ended."""
        if self._measured:
            measured, self._measured = read(self._measured), {}
            if not np.isfinite(measured["log_prob"]):
                raise ValueError(DIVERGED)
            self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
            for name, value in measured.items():
                self.logger.record(f"train/{name}", value)
        if self._judged:
            rewards = torch.cat([one.reward for one in self._judged]).tolist()
            is_right = torch.cat([one.is_right for one in self._judged]).tolist()
            self._judged.clear()
            assert self.ep_info_buffer is not None
            assert self.ep_success_buffer is not None
            self.ep_success_buffer.extend(is_right)
            if isinstance(self.env, VecMonitor):
                seconds, length = time.time() - self.env.t_start, self.episode_length
                self.ep_info_buffer.extend({"r": reward, "l": length, "t": seconds} for reward in rewards)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log; see stable-baselines3's `OnPolicyAlgorithm.dump_logs`.

        Raises:
            ValueError: the policy has diverged.
        """
        self._read()
        super().dump_logs(iteration)

    @property
    def tensor_env(self) -> Attention3DVectorEnv | None:
        """The batched environment, if the episodes are played in it as tensors on the policy's device."""
        if self.env is None or type(self).train is not REINFORCE.train:
            return None
        return tensor_env(self.env, self.policy)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Play the episodes of a rollout; see stable-baselines3's `OnPolicyAlgorithm.collect_rollouts`."""
        self._clips, self.collected = [], None
        tensors = self.tensor_env
        if tensors is None:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        if tensors.episodes is None or tensors.episodes.num_glimpses > 1:
            tensors.begin()
        finished, actions, rewards = [], [], []
        for _ in range(n_rollout_steps // self.episode_length):
            played = self._play(tensors, callback)
            if played is None:
                return False
            assert tensors.finished is not None
            finished.append(tensors.finished)
            actions.append(played[0])
            rewards.append(played[1].reward)
        self.collected = Collected.of(tensors.process, finished, actions, rewards, self.policy)
        self._last_obs = {}  # not None: the environment need not be reset before it goes on
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    @torch.no_grad()
    def _play(self, env: Attention3DVectorEnv, callback: BaseCallback) -> tuple[Tensor, Judgement] | None:
        """Play an episode in each environment, and begin the next: the actions (N, S, 3), and how it ended."""
        process, episodes = env.process, env.episodes
        assert episodes is not None
        overview, row = process.overviews(episodes.clip) if self.policy.sees_overview else (None, None)
        seen, chosen, judgement = self.policy.look_over(overview), [], None
        while judgement is None:
            assert env.episodes is not None
            looked = process.looked(env.episodes.bins) if self.policy.inhibition else None
            actions = self.policy.choose(process.hidden(env.episodes), seen, row, looked).get_actions()
            chosen.append(actions)
            judgement = env.advance(actions)
            now = env.episodes
            rewards = actions.new_zeros(len(now)) if judgement is None else judgement.reward
            dones = np.full(len(now), judgement is not None)
            infos = LateInfos(process, now, judgement)
            if judgement is not None:
                self._judged.append(judgement)
                env.begin_when_asked()
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return None
        if is_free(rewards):
            self._read()
        return torch.stack(chosen, dim=1), judgement

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
        return [*super()._excluded_save_params(), "_clips", "collected", "_judged", "_measured"]

    @property
    def _glimpse(self) -> GlimpseNetwork:
        assert self.env is not None
        return self.env.get_attr("glimpse")[0]

    @property
    def _scores_actions(self) -> bool:
        return self.policy_weight != 0 and self._glimpse.num_glimpses > 1

    def _advantages(self, rollout: Collected, values: Tensor) -> Tensor:
        """Return the advantage of each step: its return less the baseline, float32 (episodes, length)."""
        if self.baseline == "clip" and self._scores_actions:
            # From the rewards, in float64, so that equal returns have exactly equal advantages, and so deviation
            # 0.
            returns = rollout.rewards.double().flip(1).cumsum(1).flip(1)
            advantages = leave_one_out(returns, rollout.clip, rollout.num_clips).float()
        elif rollout.advantages is not None:
            advantages = rollout.advantages
        else:
            advantages = rollout.returns - values
        return normalized(advantages) if self.normalize_advantage else advantages

    def _hidden_states(self, rollout: Collected) -> Tensor:
        """Return h_1..h_{T-1} of every episode, (episodes, length, 256), with gradient in joint training."""
        assert self.env is not None
        glimpse = self._glimpse
        is_learning = any(parameter.requires_grad for parameter in glimpse.parameters())
        if not (is_learning and self.gradient_to_glimpse and self._scores_actions):
            return rollout.hidden
        if len(set(map(id, self.env.get_attr("glimpse")))) > 1:
            raise ValueError("the environments do not share one glimpse network: use the batched environment")
        if self._vec_normalize_env is not None and self._vec_normalize_env.norm_obs:
            raise ValueError(
                "the glimpse network takes features as they are: use VecNormalize with norm_obs=False"
            )
        return glimpse.unroll(rollout.bin, rollout.location)


def gradient_norm(module: torch.nn.Module) -> Tensor:
    """Return the norm of all gradients of a module, a tensor without axes; 0 if it has none."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
