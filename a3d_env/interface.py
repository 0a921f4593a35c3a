"""Gymnasium's view of the process: spaces, observations as NumPy arrays, and infos."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from a3d_env.bins import BinGrid
from a3d_env.process import AttentionProcess, Episodes, Judgement
from backbone.glimpse import HIDDEN_SIZE, GlimpseNetwork

# Forms of an action: a location, which stands for the nearest bin; a bin's number; or a bin's positions along
# time, height and width.
ActionMode = Literal["continuous", "discrete", "multidiscrete"]

# Features are finite but have no natural bound, and Gymnasium's Box needs one.
FEATURE_BOUND = 1e6


def observation_space(process: AttentionProcess) -> spaces.Dict:
    """Return the space of one observation, float32.

    Its keys are `bin` (C_g,), `hidden` (256,), `location` (3,) and, with an overview of K bins, `overview` (K
    C_g,), which is flat because stable-baselines3 warns of boxes with two axes; where asked for, also `looked`
    (K,).
    """
    num_channels = process.bank.num_channels
    parts: dict[str, spaces.Space] = {
        "bin": spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, (num_channels,), np.float32),
        "hidden": spaces.Box(-1, 1, (HIDDEN_SIZE,), np.float32),
        "location": spaces.Box(-1, 1, (3,), np.float32),
    }
    if len(process.overview):
        parts["overview"] = OverviewBox(process.overview_locations, num_channels)
        if process.bank.grid.shows_looked:
            parts["looked"] = spaces.Box(0, 1, (len(process.overview),), np.float32)
    return spaces.Dict(parts)


class OverviewBox(spaces.Box):
    """The space of an overview, float32 (K C_g,). Spaces are equal only if their bins' locations are.

    So functions that compare spaces, such as stable-baselines3's `load` and `set_env`, refuse an agent that was
    trained with an overview of other locations.

    Args:
        locations: locations of the overview's bins, float (K, 3).
        num_channels: C_g.
    """

    def __init__(self, locations: Tensor, num_channels: int):
        self.locations = locations.cpu().numpy()
        super().__init__(-FEATURE_BOUND, FEATURE_BOUND, (len(locations) * num_channels,), np.float32)

    def __eq__(self, other: object) -> bool:
        """Tell whether another space has the same shape and the same locations."""
        same = isinstance(other, OverviewBox) and np.array_equal(self.locations, other.locations)
        return same and super().__eq__(other)

    def __repr__(self) -> str:
        """Return the shape and the bins' locations along each axis."""
        axes = zip(("time", "height", "width"), self.locations.T, strict=True)
        places = "; ".join(f"{name} {', '.join(f'{x:.2g}' for x in np.unique(axis))}" for name, axis in axes)
        return f"OverviewBox({self.shape}, bins at {places})"


def action_space(grid: BinGrid, mode: ActionMode = "continuous") -> spaces.Space:
    """Return the space of one action, the choice of the next bin.

    | mode | space |
    |---|---|
    | `continuous` | `Box(-1, 1, (3,), float32)`: a location, time, height, width |
    | `discrete` | `Discrete(num_bins)`: a bin's number |
    | `multidiscrete` | `MultiDiscrete(positions)`: a bin's positions, time, height, width |

    Raises:
        ValueError: unknown mode.
    """
    if mode not in get_args(ActionMode):
        raise ValueError(f"unknown action_mode {mode!r}; known: {', '.join(get_args(ActionMode))}")
    if mode == "discrete":
        return spaces.Discrete(grid.num_bins)
    if mode == "multidiscrete":
        return spaces.MultiDiscrete(np.array(grid.positions))
    return spaces.Box(-1, 1, (3,), np.float32)


def as_actions(actions: Any, space: spaces.Space, count: int) -> Tensor:
    """Return `count` actions of a space as a tensor that `BinGrid.chosen` takes.

    Raises:
        ValueError: the actions have another shape, or are integers in a space of floats, or floats in a space of
            integers.
    """
    array, shape = np.asarray(actions), (count, *(space.shape or ()))
    if isinstance(space, spaces.Box) and np.issubdtype(array.dtype, np.integer):
        mode = "discrete" if array.ndim == 1 else "multidiscrete"
        raise ValueError(
            f"expected locations, floats {shape}, got whole numbers {array.shape}: give locations as floats. If "
            "these are the bins of an agent that chooses among bins, its environment is "
            f"a3d_env.sb3.ActionModeWrapper(env, {mode!r}), which agents.make puts around its environment"
        )
    if array.shape != shape:
        raise ValueError(f"expected {count} actions of {space}, {shape}, got {array.shape}")
    if isinstance(space, spaces.Box):
        return torch.from_numpy(array.astype(np.float32))
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"actions of {space} are whole numbers, got {array.dtype}")
    return torch.from_numpy(array.astype(np.int64))


def as_numpy(observation: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Return an observation (`AttentionProcess.observe`) as NumPy arrays, which share memory with no tensor."""
    # all but the hidden state, a part of the episodes', are newly gathered
    return {name: value.detach().to("cpu", copy=name == "hidden").numpy() for name, value in observation.items()}


def glimpse_info(
    process: AttentionProcess, episodes: Episodes, judgement: Judgement | None = None
) -> dict[str, np.ndarray]:
    """Return the bins that N episodes look at and, given the judgement, their results; the arrays are new copies.

    Episodes that have looked at no bin (T = 0) are shown at the centre.

    Returns:
        `bin`: the bin's corner in cells (N, 3); `frames`: start, stop (N, 2); `box`: x0, y0, x1, y1 in pixels
        (N, 4); `tracklet`: display names (N,), objects; `clip`: the clip's number in the bank (N,); if the bank
        knows the identifying thing, `hit`: whether the bin covers it (N,). At the end also `identity`, the most
        probable identity by F_c (N,), its `probability` (N,), the `true_identity` (N,) and `is_success`, whether
        the two are equal (N,).
    """
    bank = process.bank
    clip, bins = episodes.clip.cpu().numpy().copy(), process.current_bin(episodes).cpu().numpy()
    info: dict[str, Any] = {
        "bin": bank.grid.corners.numpy()[bins],
        "frames": bank.grid.frame_ranges[bins],
        "box": bank.grid.boxes[bins],
        "tracklet": bank.tracklet_names[clip],
        "clip": clip,
    }
    if bank.hits is not None:
        info["hit"] = bank.hits[clip, bins]
    if judgement is not None:
        info["identity"] = judgement.identity.cpu().numpy()
        info["probability"] = judgement.probability.cpu().numpy()
        info["true_identity"] = bank.identity[episodes.clip].cpu().numpy()
        info["is_success"] = judgement.is_right.cpu().numpy()
    return info


class ShowsProcess:
    """Attributes of the process that an environment, single or batched, shows as its own."""

    process: AttentionProcess

    @property
    def glimpse(self) -> GlimpseNetwork:
        """F_o, F_h and F_c."""
        return self.process.glimpse

    @property
    def reward(self) -> str:
        """The reward's name; setting it changes the reward of all later steps."""
        return self.process.reward_name

    @reward.setter
    def reward(self, name: str) -> None:
        self.process.set_reward(name)

    @property
    def num_decisions(self) -> int:
        """The steps of an episode: T - 1, but at least 1."""
        return self.process.num_decisions

    @property
    def overview_locations(self) -> Tensor:
        """Locations of the overview's bins, float32 (K, 3) in [-1, 1]; K = 0 without an overview."""
        return self.process.overview_locations
