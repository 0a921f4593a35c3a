"""Attention3DTensorEnv: many episodes at once as tensors on one device, and what it shares with the NumPy one."""

from typing import Any

import gymnasium
import torch
from torch import Tensor

from a3d_env.bank import FeatureBank
from a3d_env.env import make_process
from a3d_env.interface import ActionMode, ShowsProcess, action_space, observation_space
from a3d_env.process import AttentionProcess, Episodes, Judgement


class EpisodeBatch(ShowsProcess):
    """Episodes of one process that take their glimpses together, as tensors: the base of batched environments.

    Args:
        process: the decision process.
        num_envs: number of episodes that run at once.
        episodes_per_clip: number of consecutive episodes that share a clip.
        action_mode: `continuous`, `discrete` or `multidiscrete`.

    Attributes:
        finished: all episodes that ended last, with their T bins; None before the first end.
    """

    def __init__(
        self, process: AttentionProcess, num_envs: int, episodes_per_clip: int, action_mode: ActionMode
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be 1 or more, got {num_envs}")
        if episodes_per_clip < 1 or num_envs % episodes_per_clip:
            raise ValueError(
                f"episodes_per_clip must be 1 or more and divide num_envs = {num_envs}, got {episodes_per_clip}"
            )
        self.process = process
        self.num_envs = num_envs
        self.episodes_per_clip = episodes_per_clip
        self.action_mode = action_mode
        self.single_observation_space: gymnasium.spaces.Space = observation_space(process)
        self.single_action_space = action_space(process.bank.grid, action_mode)
        self._episodes: Episodes | None = None
        self._due: Tensor | None = None  # clips of episodes that have not looked at the centre yet
        self.finished: Episodes | None = None

    @property
    def episodes(self) -> Episodes | None:
        """The episodes; None before they begin, and after `set_bank`."""
        if self._due is not None:
            self.begin(self._due)
        return self._episodes

    @episodes.setter
    def episodes(self, episodes: Episodes | None) -> None:
        self._episodes, self._due = episodes, None

    def set_bank(self, bank: FeatureBank) -> None:
        """Replace the bank and draw from all of its clips; `reset` must follow. The overview stays.

        Raises:
            ValueError: the bank does not fit the glimpse network, or its grid has other positions, so that the
                overview or the actions would stand for other locations.
        """
        if self.action_mode != "continuous" and bank.grid.positions != self.process.bank.grid.positions:
            raise ValueError(
                f"actions choose among {self.process.bank.grid.positions} positions, the other bank has "
                f"{bank.grid.positions}"
            )
        grid = self.process.bank.grid
        bank = bank.with_overview(grid.overview_counts, shows_looked=grid.shows_looked)
        process = AttentionProcess(bank, self.glimpse, self.reward, exact=self.process.exact)
        if bank.grid != grid and not torch.equal(process.overview_locations.cpu(), self.overview_locations.cpu()):
            raise ValueError(
                f"the overview has {len(process.overview)} bins in the other bank's {bank.grid.positions} "
                f"positions, before {len(self.process.overview)} in {self.process.bank.grid.positions}: "
                "observations would be of other locations"
            )
        self.process = process
        self.episodes = None

    def draw(self) -> Tensor:
        """Return the clips that the next episodes begin on, int64 (num_envs,), on the bank's device."""
        raise NotImplementedError

    def begin(self, clips: Tensor | None = None) -> Episodes:
        """Begin all episodes without an observation, for an agent that reads the process.

        Args:
            clips: the clips, int64 (num_envs,), on the bank's device; by default they are drawn, as by `reset`.
        """
        self.episodes = self.process.start(self.draw() if clips is None else clips)
        return self.episodes

    def begin_when_asked(self) -> None:
        """Draw the next clips; their episodes begin when `episodes` is read, if no other bank comes before."""
        self._episodes, self._due = None, self.draw()

    def advance(self, actions: Tensor) -> Judgement | None:
        """Take a step of all episodes without an observation (`begin` begins the next ones).

        Args:
            actions: as for `step`, a tensor on the bank's device.

        Returns:
            The judgement of the episodes if they are over.
        """
        assert self.episodes is not None
        self.episodes = self.process.step(self.episodes, actions)
        if not self.process.is_over(self.episodes):
            return None
        self.finished = self.episodes
        return self.process.judge(self.episodes)


class Attention3DTensorEnv(EpisodeBatch):
    """`Attention3DEnv` for `num_envs` episodes as tensors on the bank's device: nothing passes through NumPy.

    Observations, actions and rewards are those of `Attention3DVectorEnv`, which also has Gymnasium's interface, as
    tensors. All episodes end together, and the next begin in the step that ends the last ones, as in Gymnasium's
    `AutoresetMode.SAME_STEP`.

    Args:
        num_envs: number of episodes that run at once; several may look at one clip.
        process: the decision process (`a3d_env.env.make_process` makes one of a bank, on a device); by default
            that of the playground.
        action_mode: `continuous`, `discrete` or `multidiscrete`.
        episodes_per_clip: number of consecutive episodes that share a clip.
        autoreset: whether the next episodes begin in the step that ends the last ones; otherwise `reset` has to
            begin them.
    """

    def __init__(
        self,
        num_envs: int = 1,
        process: AttentionProcess | None = None,
        *,
        action_mode: ActionMode = "continuous",
        episodes_per_clip: int = 1,
        autoreset: bool = True,
    ):
        process = process or make_process(exact=False)
        super().__init__(process, num_envs, episodes_per_clip, action_mode)
        self.autoreset = autoreset
        self._generator = torch.Generator(self.device)
        self._generator.seed()

    @property
    def device(self) -> torch.device:
        """The device of the bank, and of all tensors."""
        return self.process.bank.device

    def seed(self, seed: int) -> None:
        """Seed the clips that are drawn from now on."""
        self._generator.manual_seed(seed)

    def reset(self, seed: int | None = None, clip: Tensor | None = None) -> dict[str, Tensor]:
        """Begin all episodes.

        Args:
            seed: seed of the clips that are drawn from now on; None: those that would follow.
            clip: clip of each episode, int64 (num_envs,); by default they are drawn.

        Returns:
            The observation (`AttentionProcess.observe`), float32: `bin` (num_envs, C_g), `hidden` (num_envs, 256),
            `location` (num_envs, 3) and, with an overview of K bins, `overview` (num_envs, K C_g) and, if asked
            for, `looked` (num_envs, K).

        Raises:
            ValueError: there are more or fewer clips than episodes.
        """
        if seed is not None:
            self.seed(seed)
        if clip is not None and clip.shape != (self.num_envs,):
            raise ValueError(f"{self.num_envs} episodes need as many clips, got {tuple(clip.shape)}")
        return self._observe(self.begin(clip))

    def step(self, actions: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor, dict[str, Any]]:
        """Look at the bins that the actions stand for (`BinGrid.chosen`).

        Args:
            actions: locations, float (num_envs, 3), or bins by number or position, according to the action mode.

        Returns:
            The observation; the reward, float32 (num_envs,); whether the episodes are over, bool (num_envs,);
            whether they were cut, bool (num_envs,), always False; and infos: at the end `final_obs`, the last
            observation, and `is_success`, bool (num_envs,), whether F_c named the right person.

        Raises:
            ResetNeeded: the episodes have not begun, or are over and `autoreset` is False.
            ValueError: the actions have another shape, or, where it can be seen at no cost, stand for no bin.
        """
        if self.episodes is None or self.process.is_over(self.episodes):
            raise gymnasium.error.ResetNeeded("the episodes have not begun, or are over: call reset()")
        shape = (self.num_envs, *(self.single_action_space.shape or ()))
        is_location = self.action_mode == "continuous"
        if actions.shape != shape or actions.is_floating_point() != is_location:
            kind = "floats" if is_location else "whole numbers"
            raise ValueError(
                f"expected actions of {self.single_action_space}, {kind} {shape}, got {actions.dtype} "
                f"{tuple(actions.shape)}"
            )
        judgement = self.advance(actions)
        observation = self._observe(self.episodes)
        no_end = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        if judgement is None:
            return observation, torch.zeros_like(no_end, dtype=torch.float32), no_end, no_end.clone(), {}
        info = {"final_obs": observation, "is_success": judgement.is_right}
        if self.autoreset:
            observation = self._observe(self.begin())
        return observation, judgement.reward, ~no_end, no_end, info

    def draw(self) -> Tensor:
        """Return the clips that the next episodes begin on, int64 (num_envs,), on the bank's device."""
        drawn = torch.randint(
            len(self.process.bank),
            (self.num_envs // self.episodes_per_clip,),
            generator=self._generator,
            device=self.device,
        )
        return drawn.repeat_interleave(self.episodes_per_clip, output_size=self.num_envs)

    def _observe(self, episodes: Episodes) -> dict[str, Tensor]:
        """Return the observation, which shares no memory with the episodes."""
        observation = self.process.observe(episodes)
        return {**observation, "hidden": observation["hidden"].clone()}
