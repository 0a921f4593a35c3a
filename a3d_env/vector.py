"""Attention3DVectorEnv: many episodes at once, batched in torch."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.bins import Size3
from a3d_env.draws import Draws
from a3d_env.env import Attention3DEnv, check_clips, check_render_mode, make_process
from a3d_env.interface import ActionMode, as_actions, as_numpy, glimpse_info
from a3d_env.process import Episodes
from a3d_env.render import draw_glimpses
from a3d_env.tensors import EpisodeBatch
from backbone.glimpse import GlimpseNetwork


class Attention3DVectorEnv(EpisodeBatch, VectorEnv):
    """`Attention3DEnv` for `num_envs` episodes, which all take their glimpses together.

    Observations, actions, rewards and infos are those of `Attention3DEnv`, with a leading axis; with `exact`, on
    the CPU they are equal, bit for bit. All episodes end together. Gymnasium's `AutoresetMode` (by its name:
    `SameStep`, `NextStep`, `Disabled`) says when the next episodes begin; each mode works as in Gymnasium's
    `SyncVectorEnv`:

    | mode | the next episodes begin |
    |---|---|
    | `SAME_STEP` | in the step that ends the last ones (whose end is `info["final_obs"]`, `info["final_info"]`) |
    | `NEXT_STEP` | in the step after that, whose actions are ignored; many of Gymnasium's wrappers need this |
    | `DISABLED` | by `reset`; a step before it is an error |

    Args:
        num_envs: number of episodes that run at once; several may look at one clip.
        bank: the bank of clips, or its folder, as for `Attention3DEnv`; `set_bank` replaces it.
        glimpse: F_o, F_h and F_c; needed if `bank` is a `FeatureBank`.
        reward: the reward's name (`a3d_env.rewards`).
        render_mode: `rgb_array` to draw every episode's clip, or None.
        clips: numbers of the clips that `reset` draws from; by default all. `options` can still choose others.
        episodes_per_clip: number of consecutive environments that share a clip; the first of them draws it.
        overview: numbers of bins along time, height and width in every observation, as for `Attention3DEnv`; they
            are the same for all banks.
        action_mode: `continuous`, `discrete` or `multidiscrete`.
        autoreset_mode: the mode of the table above; stable-baselines3's adapter (`a3d_env.sb3`) needs `SAME_STEP`.
        exact: whether numbers are bit for bit those of single environments (`AttentionProcess`), at several times
            the cost of a step; otherwise they are alike to rounding.
        shows_looked: whether observations also tell what was looked at of the overview, as for `Attention3DEnv`.

    Attributes:
        finished: all episodes that ended last, with their T bins; None before the first end.
    """

    metadata = Attention3DEnv.metadata

    def __init__(
        self,
        num_envs: int = 1,
        bank: FeatureBank | Path | str | None = None,
        glimpse: GlimpseNetwork | None = None,
        reward: str = "identity",
        render_mode: str | None = None,
        clips: np.ndarray | None = None,
        episodes_per_clip: int = 1,
        overview: Size3 | None = None,
        action_mode: ActionMode = "continuous",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        exact: bool = False,
        shows_looked: bool = False,
    ):
        known = [mode.value for mode in AutoresetMode]
        if autoreset_mode not in (*known, *AutoresetMode):
            raise ValueError(f"unknown autoreset_mode {autoreset_mode!r}; known: {', '.join(known)}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        process = make_process(bank, glimpse, reward, overview, shows_looked=shows_looked, exact=exact)
        super().__init__(process, num_envs, episodes_per_clip, action_mode)
        self.render_mode = check_render_mode(render_mode)
        count = len(process.bank)
        self._clips = np.arange(count) if clips is None else check_clips(clips, count, "clips")
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [np.random.default_rng() for _ in range(num_envs)]
        self._draws = self._new_draws()

    def set_bank(self, bank: FeatureBank) -> None:
        """Replace the bank and draw from all of its clips; `reset` must follow (`EpisodeBatch.set_bank`)."""
        super().set_bank(bank)
        self._draws.give_back()
        self._clips = np.arange(len(bank))
        self._draws = self._new_draws()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin all episodes. Episode i's seed is `seed + i`; `options={"clip": (num_envs,)}` chooses the clips.

        Raises:
            ValueError: a clip is not in the bank, the number of seeds is not that of episodes, or `options` asks
                to reset only some of the episodes.
        """
        super().reset(seed=None)
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"{self.num_envs} episodes need as many seeds, got {len(seeds)}")
        if any(own_seed is not None for own_seed in seeds):
            self._draws.give_back()
            for i, own_seed in enumerate(seeds):
                if own_seed is not None:
                    self._generators[i] = gymnasium.utils.seeding.np_random(own_seed)[0]
            self._draws = self._new_draws()
        options = options or {}
        if "reset_mask" in options and not np.all(options["reset_mask"]):
            raise ValueError("all episodes are reset together: reset_mask must be True for all")
        clips = options.get("clip")
        if clips is not None:
            clips = check_clips(np.broadcast_to(clips, self.num_envs), len(self.process.bank))
        return self._begin(clips)

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Look at the bins nearest to the actions, float (num_envs, 3), or of those numbers or positions.

        Raises:
            ValueError: the actions have another shape, hold NaN, or stand for no bin.
            ResetNeeded: `reset` was not called since the environment or its bank is new, or the episodes are over
                and the mode is `DISABLED`.
        """
        if self.episodes is None:
            raise gymnasium.error.ResetNeeded("call reset() before step(), and after set_bank()")
        if self.process.is_over(self.episodes):
            if self.autoreset_mode == AutoresetMode.DISABLED:
                raise gymnasium.error.ResetNeeded("the episodes are over: call reset(), as autoreset is disabled")
            observation, info = self._begin(None)
            no_end = np.zeros(self.num_envs, dtype=bool)
            return observation, np.zeros(self.num_envs), no_end, no_end.copy(), info
        chosen = as_actions(actions, self.single_action_space, self.num_envs)
        judgement = self.advance(chosen.to(self.process.bank.device))
        info = _with_masks(glimpse_info(self.process, self.episodes, judgement))
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        if judgement is not None:
            rewards[:] = judgement.reward.cpu().numpy()
            if self.autoreset_mode == AutoresetMode.SAME_STEP:
                info = self._restart(info)
        terminated = np.full(self.num_envs, judgement is not None)
        return self._observation(self.episodes), rewards, terminated, np.zeros_like(terminated), info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Draw each episode's clip with the bins visited so far, uint8 (height, width, 3) each."""
        if self.render_mode is None:
            return None
        if self.episodes is None:
            raise gymnasium.error.ResetNeeded("nothing to draw yet: call reset() before render()")
        pairs = zip(self.episodes.clip.tolist(), self.episodes.bins.tolist(), strict=True)
        return tuple(draw_glimpses(self.process.bank, clip, bins) for clip, bins in pairs)

    def _restart(self, final_info: dict[str, Any]) -> dict[str, Any]:
        assert self.finished is not None
        final_obs = np.empty(self.num_envs, dtype=object)
        final_obs[:] = unbatch(self._observation(self.finished))
        self.begin()
        assert self.episodes is not None
        info = glimpse_info(self.process, self.episodes)
        return _with_masks({**info, "final_obs": final_obs, "final_info": final_info})

    def _begin(self, clips: np.ndarray | None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        episodes = self.begin(None if clips is None else self._on_device(clips))
        return self._observation(episodes), _with_masks(glimpse_info(self.process, episodes))

    def draw(self) -> Tensor:
        """Return the clips that the next episodes begin on, int64 (num_envs,), on the bank's device."""
        return self._on_device(np.repeat(self._clips[self._draws()], self.episodes_per_clip))

    def _new_draws(self) -> Draws:
        return Draws(self._generators[:: self.episodes_per_clip], len(self._clips))

    def _on_device(self, clips: np.ndarray) -> Tensor:
        return torch.as_tensor(clips).to(self.process.bank.device, non_blocking=True)

    def _observation(self, episodes: Episodes) -> dict[str, np.ndarray]:
        return as_numpy(self.process.observe(episodes))


def unbatch(observation: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Split a batched observation into one dictionary for each episode."""
    rows = zip(*observation.values(), strict=True)
    return [dict(zip(observation, row, strict=False)) for row in rows]  # strict takes half as long again


def _with_masks(info: dict[str, Any]) -> dict[str, Any]:
    """Add Gymnasium's `_key` masks of the episodes that have a key (here always all)."""
    count = len(info["bin"])
    return {**info, **{f"_{key}": np.ones(count, dtype=bool) for key in info}}
