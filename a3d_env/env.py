"""Attention3DEnv: the Gymnasium environment in which an agent looks at a tracklet."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from a3d_env.bank import FeatureBank
from a3d_env.bank_file import open_playable_bank
from a3d_env.bins import Size3
from a3d_env.interface import (
    ActionMode,
    ShowsProcess,
    action_space,
    as_actions,
    as_numpy,
    glimpse_info,
    observation_space,
)
from a3d_env.playground import playground
from a3d_env.process import AttentionProcess, Episodes, Judgement
from a3d_env.render import draw_glimpses
from backbone.glimpse import GlimpseNetwork


class Attention3DEnv(ShowsProcess, gymnasium.Env):
    """Look at four 3D bins of a clip, one after another, to identify the person (section III-B).

    ## Observation
    A dictionary of float32 arrays. The hidden state already includes the current bin.

    | key | shape | range | meaning |
    |---|---|---|---|
    | `bin` | (C_g,) | finite | mean feature of the current bin |
    | `hidden` | (256,) | [-1, 1] | h_t, the recurrent hidden state |
    | `location` | (3,) | [-1, 1] | the current bin: time, height, width |
    | `overview` | (K C_g,) | finite | only with an overview: the mean features of its K bins, one after another |
    | `looked` | (K,) | 0 to 1 | only if the bank `shows_looked`: the share of each of these bins that was seen |

    ## Action
    `Box(-1, 1, (3,), float32)`: the location to look at next, in the order time, height, width; -1 is the first
    position of a bin along that axis and 1 the last. The nearest bin is taken; numbers outside are clipped.
    With `action_mode="discrete"` the action is a bin's number, with `"multidiscrete"` its position along each axis
    (`a3d_env.interface.action_space`).

    ## Reward
    0 until the last glimpse, then the reward of the chosen name: `identity` (1 if F_c names the right person, else
    0), `log_prob`, `margin`, `rank` or `glimpses` (`a3d_env.rewards`), or `module:name` of a function of your own.

    ## Start and end
    `reset` draws a clip (or takes `options={"clip": number}`) and looks at its centre. The episode is
    `terminated` after T - 1 actions; it is never truncated. With T of 0 or 1 there is nothing to decide: the
    episode ends after one action, which has no effect; with T = 0 the observation shows the centre, and zeros for
    `hidden`.

    ## Info
    `bin`, `frames`, `box`, `tracklet`, `clip`, `hit` (where known), and at the end `identity`, `probability`,
    `true_identity`, `is_success`: see `a3d_env.interface.glimpse_info`.

    Args:
        bank: the bank of clips, or the path of its folder (`a3d bank`); by default a small made-up bank
            (`a3d_env.playground`).
        glimpse: F_o, F_h and F_c; needed if `bank` is a `FeatureBank`, while a folder has its own.
        reward: the reward's name; by default the paper's, as in the recipe paper of a3d train. The recipe strong
            and the other commands take `glimpses`.
        render_mode: `rgb_array` to draw the clip's frames with the visited bins, uint8 (height, width, 3), or
            None.
        overview: numbers of bins along time, height and width that every observation shows, such as (2, 6, 4); by
            default the bank's own (`BinGrid.overview_counts`), which is mostly none.
        action_mode: `continuous`, `discrete` or `multidiscrete`.
        shows_looked: whether observations also have `looked`; it needs an overview, that one or the bank's own.

    Raises:
        ValueError: an unknown or impossible reward or overview, an unknown render or action mode, or a bank
            without its glimpse network.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(
        self,
        bank: FeatureBank | Path | str | None = None,
        glimpse: GlimpseNetwork | None = None,
        reward: str = "identity",
        render_mode: str | None = None,
        overview: Size3 | None = None,
        action_mode: ActionMode = "continuous",
        shows_looked: bool = False,
    ):
        self.process = make_process(bank, glimpse, reward, overview, shows_looked=shows_looked)
        self.render_mode = check_render_mode(render_mode)
        self.observation_space = observation_space(self.process)
        self.action_mode = action_mode
        self.action_space = action_space(self.process.bank.grid, action_mode)
        self.episodes: Episodes | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode. `options={"clip": number}` chooses the clip.

        Raises:
            ValueError: the bank has no clip of that number.
        """
        super().reset(seed=seed)
        count = len(self.process.bank)
        clip = (options or {}).get("clip")
        clip = int(self.np_random.integers(count)) if clip is None else check_clips(clip, count).item()
        self.episodes = self.process.start(torch.tensor([clip], device=self.process.bank.device))
        return self._observation(), self._info()

    def step(self, action: np.ndarray | int) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Look at the bin nearest to `action`, float (3,), or at the bin of that number or position.

        Raises:
            ValueError: the action has another shape, holds NaN, or stands for no bin.
            ResetNeeded: no episode has begun, or the episode is over.
        """
        if self.episodes is None or self.process.is_over(self.episodes):
            raise gymnasium.error.ResetNeeded("no episode has begun, or it is over: call reset() before step()")
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"expected an action of {self.action_space}, got shape {np.shape(action)}")
        actions = as_actions([action], self.action_space, 1)
        self.episodes = self.process.step(self.episodes, actions.to(self.process.bank.device))
        if not self.process.is_over(self.episodes):
            return self._observation(), 0.0, False, False, self._info()
        judgement = self.process.judge(self.episodes)
        return self._observation(), float(judgement.reward), True, False, self._info(judgement)

    def render(self) -> np.ndarray | None:
        """Draw the clip's frames in a row with the bins visited so far, uint8 (height, width, 3)."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() draws nothing: make the environment with render_mode="rgb_array"')
            return None
        if self.episodes is None:
            raise gymnasium.error.ResetNeeded("nothing to draw yet: call reset() before render()")
        return draw_glimpses(self.process.bank, int(self.episodes.clip), self.episodes.bins[0].tolist())

    def _observation(self) -> dict[str, np.ndarray]:
        assert self.episodes is not None
        return {name: value[0].copy() for name, value in as_numpy(self.process.observe(self.episodes)).items()}

    def _info(self, judgement: Judgement | None = None) -> dict[str, Any]:
        assert self.episodes is not None
        return {name: value[0] for name, value in glimpse_info(self.process, self.episodes, judgement).items()}


def make_process(
    bank: FeatureBank | Path | str | None = None,
    glimpse: GlimpseNetwork | None = None,
    reward: str = "identity",
    overview: Size3 | None = None,
    *,
    shows_looked: bool = False,
    exact: bool = True,
    device: torch.device | str | None = None,
) -> AttentionProcess:
    """Return the process over a bank or a bank's folder, or over the playground if no bank is given.

    An overview, if given, replaces the bank's own, and what `shows_looked` asks for is of either (`BinGrid`);
    `exact` is that of `AttentionProcess`. Bank and glimpse network are moved to a device, if one is given.

    Raises:
        ValueError: a bank is given without its glimpse network, the two do not fit each other, or there is no
            overview for `shows_looked`.
    """
    if isinstance(bank, Path | str):
        if glimpse is not None:
            raise ValueError(f"the folder {bank} has its own glimpse network: give no other one")
        bank, glimpse = open_playable_bank(bank)
    if (bank is None) != (glimpse is None):
        raise ValueError("give bank and glimpse together (or neither, for the made-up playground)")
    if bank is None or glimpse is None:
        bank, glimpse = playground()
    if overview is not None or shows_looked:
        bank = bank.with_overview(overview or bank.grid.overview_counts, shows_looked=shows_looked)
    if device is not None:
        bank, glimpse = bank.to(device), glimpse.to(device)
    return AttentionProcess(bank, glimpse, reward, exact=exact)


def check_clips(clip: Any, count: int, name: str = 'options["clip"]') -> np.ndarray:
    """Return clip numbers as int64, after a check that each is in the bank.

    Raises:
        ValueError: a number is not that of a clip.
    """
    clips = np.asarray(clip)
    if not np.issubdtype(clips.dtype, np.integer) or clips.size == 0 or clips.min() < 0 or clips.max() >= count:
        raise ValueError(f"{name} must be whole numbers from 0 to {count - 1}, got {clip!r}")
    return clips.astype(np.int64)


def check_render_mode(render_mode: str | None) -> str | None:
    """Return the render mode, after a check that it is known.

    Raises:
        ValueError: unknown mode.
    """
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"unknown render_mode {render_mode!r}; known: None, rgb_array")
    return render_mode
