"""Optical flow by method name: the motion that the flow stream of the backbone sees."""

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np

from backbone.flownet import flownet_s
from backbone.raft import raft

FlowMethod = Callable[[np.ndarray], np.ndarray]
"""From uint8 RGB frames (n, H, W, 3), n >= 2, to float32 flow in pixels (n - 1, H, W, 2)."""

PairFlow = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From two grey uint8 frames (H, W) and a first guess to float32 flow in pixels (H, W, 2)."""

_SMALLEST_SIDE = 16
"""Smaller frames are padded to this many pixels: DIS takes none below 12, and its patches are 8 wide."""


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
    mirrored[..., 0] *= -1
    return mirrored


def flow_indices(frame_indices: np.ndarray) -> np.ndarray:
    """Return which of a tracklet's flow maps belong to a clip of it.

    A clip's last map is the repeat of the one before, as the map that follows its last frame leads out
    of the clip. The same goes for the frames that a clip repeats at its end as padding. For example,
    frames 4 5 6 7 take maps 4 5 6 6, and the padded clip 4 5 6 6 takes maps 4 5 5 5. Frames that are spread over
    the tracklet keep their own maps, each to the frame that follows it there: 1 4 9 take maps 1 4 9.

    Args:
        frame_indices: int (num_frames,), ascending 0-based indices of the clip's frames.

    Returns:
        int (num_frames,), indices into what `optical_flow` returns for the tracklet. A clip of one
        frame repeated takes that frame's map.

    Raises:
        ValueError: the indices aren't a row of one or more integers from 0 up.
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

    A preset stops at a half or a quarter of the resolution. Where a frame has no level so coarse,
    OpenCV chooses levels by its width, for the first pair only, and crashes if it is wide and flat. So
    small frames are searched to their full resolution from the start, which costs them little.
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
    """Stack the flow of each frame, in grey, to the next; small frames get their edges repeated around."""
    num_frames, height, width, _ = frames.shape
    one_image = np.ascontiguousarray(frames).reshape(num_frames * height, width, 3)
    grey = cv2.cvtColor(one_image, cv2.COLOR_RGB2GRAY).reshape(num_frames, height, width)
    # As much on either side, so that flow of the mirrored frames is the mirrored flow.
    top, left = (max(_SMALLEST_SIDE - side + 1, 0) // 2 for side in (height, width))
    grey = np.pad(grey, ((0, 0), (top, top), (left, left)), mode="edge")
    # A copy for each pair, because OpenCV writes the flow into the guess.
    no_motion = np.zeros((*grey.shape[1:], 2), np.float32)
    flow_px = np.stack([pair_flow(before, after, no_motion.copy()) for before, after in pairwise(grey)])
    return flow_px[:, top : top + height, left : left + width]


FLOW_METHODS: dict[str, FlowMethod] = {
    "dis-fast": _dis(cv2.DISOPTICAL_FLOW_PRESET_FAST),
    "dis-medium": _dis(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
    "farneback": _farneback,
    "raft-small": raft("raft-small"),
    "raft-large": raft("raft-large"),
    "flownet-s": flownet_s,
    "none": _no_flow,
}
"""Methods by name. A cache of flow carries the name in its key.

`raft-*` fetch their weights (`backbone/raft.py`), `flownet-s` takes a file of yours (`backbone/flownet.py`).
"""
