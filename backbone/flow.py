"""Optical flow by method name: the motion that the flow stream of the backbone sees."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np

FlowMethod = Callable[[np.ndarray], np.ndarray]
"""A flow method: takes uint8 RGB frames (n, H, W, 3), n >= 2, returns float32 flow in pixels (n - 1, H, W, 2)."""

PairFlow = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Takes two grey uint8 frames (H, W) and an initial flow, returns float32 flow in pixels (H, W, 2)."""

_SMALLEST_SIDE = 16
"""Padding enlarges smaller frames to this many pixels: DIS takes none below 12, and its patches are 8 wide."""


def optical_flow(frames: np.ndarray, method: str = "dis-fast") -> np.ndarray:
    """Estimate how far each pixel moves from each frame to the next.

    Args:
        frames: uint8 RGB (n, H, W, 3), n >= 1, consecutive frames of any size.
        method: a name in `FLOW_METHODS`.

    Returns:
        float32 (n, H, W, 2): the displacement from frame i to frame i + 1, in pixels per frame, x (to
        the right) before y (downwards). The last map is repeated, so that there are as many maps as
        frames; a single frame has a zero map.

    Raises:
        ValueError: the method is unknown, or the frames are of another type or shape.
    """
    if method not in FLOW_METHODS:
        raise ValueError(f"unknown flow method {method!r}: known are {', '.join(FLOW_METHODS)}")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(
            "optical_flow needs uint8 RGB frames (n, H, W, 3) with n, H, W >= 1, "
            f"got {frames.dtype} of shape {frames.shape}"
        )
    if len(frames) == 1:
        return np.zeros((*frames.shape[:3], 2), np.float32)
    flow_px = FLOW_METHODS[method](frames)
    return np.concatenate([flow_px, flow_px[-1:]])


def mirror_flow(flow_px: np.ndarray) -> np.ndarray:
    """Return the flow (..., H, W, 2) of the clip mirrored left to right, as a copy.

    The maps are flipped like the frames, and motion to the right becomes motion to the left.
    """
    mirrored = flow_px[..., ::-1, :].copy()
    if mirrored.dtype == np.float16:  # the sign's bit: arithmetic of float16 takes many times as long
        mirrored.view(np.uint16)[..., 0] ^= 0x8000
    else:
        mirrored[..., 0] *= -1
    return mirrored


def flow_indices(frame_indices: np.ndarray) -> np.ndarray:
    """Return the indices of the tracklet's flow maps that belong to a clip of it.

    A clip's last map repeats the one before, because the flow of its last frame leads to a frame outside
    the clip. The same holds for frames that a clip repeats at its end as padding. For example,
    frames 4 5 6 7 take maps 4 5 6 6, and the padded clip 4 5 6 6 takes maps 4 5 5 5. Frames that are spread over
    the tracklet keep their own maps, each to the frame that follows it there: 1 4 9 take maps 1 4 9.

    Args:
        frame_indices: int (num_frames,), ascending 0-based indices of the clip's frames.

    Returns:
        int (num_frames,), indices into the maps that `optical_flow` returns for the tracklet. A clip that
        repeats one frame takes that frame's map.

    Raises:
        ValueError: the indices are not one or more integers from 0 up in a one-dimensional array.
    """
    integers = np.issubdtype(frame_indices.dtype, np.integer)
    if frame_indices.ndim != 1 or frame_indices.size == 0 or not integers:
        raise ValueError(
            "flow_indices needs one or more integers (num_frames,), "
            f"got {frame_indices.dtype} of shape {frame_indices.shape}"
        )
    first, last = int(frame_indices.min()), int(frame_indices.max())
    if first < 0:
        raise ValueError(f"flow_indices needs indices from 0 up, got {first}")
    if (np.diff(frame_indices) > 1).any():
        return frame_indices
    return np.minimum(frame_indices, max(last - 1, first))


def _dis(preset: int) -> FlowMethod:
    """Dense inverse search (Kroeger et al., 2016) by one of OpenCV's presets.

    A preset stops at a half or a quarter of the resolution. If a frame is too small for
    that level, OpenCV chooses levels by the width, for the first pair only, and crashes on wide, low frames. So
    small frames are searched to their full resolution from the start, which costs little.
    """

    def flow(frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        dis = cv2.DISOpticalFlow.create(preset)
        if max(height, width) < 96 or min(height, width) < 32:
            dis.setFinestScale(0)
        return _flow_of_pairs(frames, dis.calc)

    return flow


def _farneback(frames: np.ndarray) -> np.ndarray:
    """Polynomial expansion (Farneback, 2003), with the usual parameters of OpenCV's example."""

    def pair_flow(before: np.ndarray, after: np.ndarray, guess: np.ndarray) -> np.ndarray:
        return cv2.calcOpticalFlowFarneback(
            before,
            after,
            guess,
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )

    return _flow_of_pairs(frames, pair_flow)


def _no_flow(frames: np.ndarray) -> np.ndarray:
    return np.zeros((len(frames) - 1, *frames.shape[1:3], 2), np.float32)


def _flow_of_pairs(frames: np.ndarray, pair_flow: PairFlow) -> np.ndarray:
    """Stack the flow of each frame, in grey, to the next; small frames are padded by repeating their edges."""
    num_frames, height, width, _ = frames.shape
    one_image = np.ascontiguousarray(frames).reshape(num_frames * height, width, 3)
    grey = cv2.cvtColor(one_image, cv2.COLOR_RGB2GRAY).reshape(num_frames, height, width)
    # Equal padding on both sides, so that the flow of mirrored frames is the mirrored flow.
    top, left = (max(_SMALLEST_SIDE - side + 1, 0) // 2 for side in (height, width))
    grey = np.pad(grey, ((0, 0), (top, top), (left, left)), mode="edge")
    # Each pair gets a copy, because OpenCV writes the flow into the initial guess.
    no_motion = np.zeros((*grey.shape[1:], 2), np.float32)
    flow_px = np.stack([pair_flow(before, after, no_motion.copy()) for before, after in pairwise(grey)])
    return flow_px[:, top : top + height, left : left + width]


def _raft(name: str, frames: np.ndarray) -> np.ndarray:
    from backbone.raft import raft  # torch takes seconds to import, and other methods need none

    return raft(name, frames)


def _flownet_s(frames: np.ndarray) -> np.ndarray:
    from backbone.flownet import flownet_s

    return flownet_s(frames)


FLOW_METHODS: dict[str, FlowMethod] = {
    "dis-fast": _dis(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "dis-medium": _dis(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    "farneback": _farneback,
    "raft-small": partial(_raft, "raft-small"),
    "raft-large": partial(_raft, "raft-large"),
    "flownet-s": _flownet_s,
    "none": _no_flow,
}
"""Flow methods by name, which is part of the key of the flow cache.

`raft-*` download their weights (`backbone/raft.py`); `flownet-s` needs a file of weights (`backbone/flownet.py`).
"""
