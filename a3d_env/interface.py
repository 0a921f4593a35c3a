"""What Gymnasium sees of the process: the spaces, observations as NumPy, and the infos."""

from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from a3d_env.process import AttentionProcess, Episodes, Judgement
from backbone.glimpse import HIDDEN_SIZE

# Features are finite but have no natural bound; Gymnasium asks for one.
FEATURE_BOUND = 1e6


def observation_space(process: AttentionProcess) -> spaces.Dict:
    """Return the space of one observation, float32.

    It is `bin` (C_g,), `hidden` (256,), `location` (3,) and, with an overview of K bins, `overview` (K C_g,). That
    is flat, as stable-baselines3 warns of boxes with two axes.
    """
    num_channels, num_overview = process.bank.num_channels, len(process.overview)
    parts: dict[str, spaces.Space] = {
        "bin": spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, (num_channels,), np.float32),
        "hidden": spaces.Box(-1, 1, (HIDDEN_SIZE,), np.float32),
        "location": spaces.Box(-1, 1, (3,), np.float32),
    }
    if num_overview:
        shape = (num_overview * num_channels,)
        parts["overview"] = spaces.Box(-FEATURE_BOUND, FEATURE_BOUND, shape, np.float32)
    return spaces.Dict(parts)


def action_space() -> spaces.Box:
    """Return the space of one action: where to look next (time, height, width), float32 in [-1, 1]."""
    return spaces.Box(-1, 1, (3,), np.float32)


def as_numpy(observation: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy an observation to NumPy, so that it shares memory with nothing."""
    return {name: value.detach().cpu().numpy().copy() for name, value in observation.items()}


def glimpse_info(
    process: AttentionProcess, episodes: Episodes, judgement: Judgement | None = None
) -> dict[str, np.ndarray]:
    """Say where N episodes look and, given the judgement, how they ended. The arrays are the caller's.

    Where no bin has been looked at (T = 0) it is the centre that is shown.

    Returns:
        `bin`: the bin's corner in cells (N, 3); `frames`: start, stop (N, 2); `box`: x0, y0, x1, y1 in pixels
        (N, 4); `tracklet`: names (N,), objects; `clip`: its number in the bank (N,). Where the truth is known,
        `hit`: whether the bin covers the identifying thing (N,). At the end also `identity`, the identity
        that F_c names (N,), its `probability` (N,), the `true_identity` (N,) and `is_success` (N,).
    """
    bank = process.bank
    clip, bins = episodes.clip.cpu().numpy().copy(), process.current_bin(episodes).cpu().numpy()
    info: dict[str, Any] = {
        "bin": bank.grid.corners.numpy()[bins],
        "frames": bank.grid.frame_ranges[bins],
        "box": bank.grid.boxes[bins],
        "tracklet": np.array(bank.tracklet, dtype=object)[clip],
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
