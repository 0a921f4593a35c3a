"""The episodes of one rollout as tensors: played through the decision process, or read from a buffer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from torch import Tensor

from a3d_env.interface import glimpse_info
from a3d_env.process import AttentionProcess, Episodes, Judgement
from a3d_env.sb3 import Attention3DVecEnv
from a3d_env.vector import Attention3DVectorEnv, unbatch
from agents.extractors import HiddenState, HiddenStateAndOverview
from agents.policy import AttentionPolicy


@dataclass(frozen=True)
class Collected:
    """E whole episodes of S steps.

    Attributes:
        actions: the actions as sampled, not clipped, float32 (E, S, 3).
        rewards: what each step paid, float32 (E, S).
        hidden: h_1..h_S, which the actions were chosen by, float32 (E, S, 256).
        bin: the features of the bins looked at until then, float32 (E, S, C_g).
        location: their locations, float32 (E, S, 3).
        clip: number of each episode's clip, int64 (E,), below `num_clips`.
        num_clips: number of clips that `clip` counts.
        overview: overviews of clips, float32 (clips, K C_g); None if the policy sees none.
        row: each episode's row of `overview`, int64 (E,); None: each of the E S steps has its own row.
        returns: the sum of an episode's rewards from each step on, float32 (E, S).
        advantages: the returns less V's estimate when the actions were chosen, float32 (E, S); None: not computed.
        looked: share of each of the overview's bins that was looked at until then, float32 (E, S, K); None if the
            policy has no inhibition.
    """

    actions: Tensor
    rewards: Tensor
    hidden: Tensor
    bin: Tensor
    location: Tensor
    clip: Tensor
    num_clips: int
    overview: Tensor | None
    row: Tensor | None
    returns: Tensor
    advantages: Tensor | None = None
    looked: Tensor | None = None

    @classmethod
    def of(
        cls,
        process: AttentionProcess,
        finished: list[Episodes],
        actions: list[Tensor],
        rewards: list[Tensor],
        policy: AttentionPolicy,
    ) -> "Collected":
        """Return finished episodes, one after another, with their actions (N, S, 3) and rewards (N,) each.

        Args:
            process: the decision process.
            finished: the episodes.
            actions: the actions as sampled.
            rewards: the rewards at the end.
            policy: the policy that chose the actions.
        """
        clip, num_steps = torch.cat([one.clip for one in finished]), actions[0].shape[1]
        bins = torch.cat([one.bins for one in finished])[:, :num_steps]
        looked = None
        if policy.inhibition:
            looked = torch.stack([process.looked(bins[:, : step + 1]) for step in range(num_steps)], dim=1)
        hidden = torch.cat([one.hidden for one in finished])[:, :num_steps]
        if not bins.shape[1]:  # no glimpse is taken: the centre is shown, and h_0
            bins = torch.full_like(clip, process.bank.grid.centre)[:, None]
            hidden = process.glimpse.first_hidden(len(clip))[:, None]
        paid = torch.cat(rewards)
        overview, row = process.overviews(clip) if policy.sees_overview else (None, None)
        return cls(
            actions=torch.cat(actions),
            rewards=torch.cat([paid.new_zeros(len(paid), num_steps - 1), paid[:, None]], dim=1),
            hidden=hidden,
            bin=process.bank.bins[clip[:, None], bins],
            location=process.locations[bins],
            clip=clip,
            num_clips=len(process.bank),
            overview=overview,
            row=row,
            returns=paid[:, None].expand(-1, num_steps),
            looked=looked,
        )


def tensor_env(env: VecEnv | None, policy: object) -> Attention3DVectorEnv | None:
    """Return the batched environment that a policy can play as tensors on its own device; None if it can't.

    It can if the policy is an `AttentionPolicy` with its own features, and no wrapper but the one that counts
    rewards is between them; any other wrapper may change what is seen or paid.
    """
    inner = env.venv if type(env) is VecMonitor and env.results_writer is None else env
    if not isinstance(inner, Attention3DVecEnv) or not reads_process(policy, inner.vector_env.process):
        return None
    return inner.vector_env if inner.vector_env.action_mode == "continuous" else None


def reads_process(policy: object, process: AttentionProcess) -> bool:
    """Tell whether a policy can choose by a process's tensors as it does by observations."""
    return (
        type(policy) is AttentionPolicy
        and type(policy.features_extractor) in (HiddenState, HiddenStateAndOverview)
        and policy.device == process.bank.device
        and (not policy.sees_overview or len(process.overview) > 0)
    )


def from_buffer(
    buffer: DictRolloutBuffer, clips: list[list[int]], length: int, policy: AttentionPolicy
) -> Collected:
    """Return the rollout in stable-baselines3's buffer, whose arrays are (n_steps, n_envs, ...).

    Args:
        buffer: the buffer.
        clips: the clip of each environment's episode, step by step.
        length: the number of steps of an episode.
        policy: the policy that chose the actions.
    """

    def by_episode(steps: Any) -> Tensor:
        """(n_steps, n_envs, ...) -> (n_steps / length * n_envs, length, ...)."""
        steps = torch.as_tensor(steps, device=buffer.device)
        return steps.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)

    seen, clip = buffer.observations, by_episode(np.array(clips))[:, 0]
    return Collected(
        actions=by_episode(buffer.actions),
        rewards=by_episode(buffer.rewards),
        hidden=by_episode(seen["hidden"]),
        bin=by_episode(seen["bin"]),
        location=by_episode(seen["location"]),
        clip=clip,
        num_clips=int(clip.max()) + 1,
        overview=by_episode(seen["overview"]).flatten(0, 1) if policy.sees_overview else None,
        row=None,
        returns=by_episode(buffer.returns),
        advantages=by_episode(buffer.advantages),
        looked=by_episode(seen["looked"]) if policy.inhibition else None,
    )


class LateInfos(Sequence[dict[str, Any]]):
    """The infos of N episodes, made when a callback first looks at one (`a3d_env.interface.glimpse_info`)."""

    def __init__(self, process: AttentionProcess, episodes: Episodes, judgement: Judgement | None):
        self._parts = process, episodes, judgement
        self._made: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self._parts[1])

    def __getitem__(self, index: Any) -> Any:
        """Return the info of an episode."""
        if self._made is None:
            self._made = unbatch(glimpse_info(*self._parts))
        return self._made[index]
