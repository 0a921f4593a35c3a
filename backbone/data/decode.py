"""Single clips straight from image files, where there is no room to keep whole tracklets decoded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backbone.data.bad_frames import OnBadFrame
from backbone.data.tracklet import read_image
from backbone.flow import flow_indices, optical_flow

Resize = Callable[[np.ndarray], np.ndarray]
"""Brings a frame, uint8 (height, width, 3), to the size wanted."""


class DecodedClip(NamedTuple):
    """A clip, as it would be cut from its tracklet's frames and flow in a `FrameCache`.

    Attributes:
        frames: uint8 (L, H, W, 3), RGB.
        flow: float16 (L, H, W, 2), pixels per frame; None without a method.
        replaced: the files that could not be read, in whose place others are.
    """

    frames: np.ndarray
    flow: np.ndarray | None
    replaced: tuple[Path, ...]


def decode_clip(
    paths: Sequence[Path],
    frame_indices: np.ndarray,
    resize: Resize,
    flow_method: str | None,
    on_bad_frame: OnBadFrame,
) -> DecodedClip:
    """Decode the frames of a clip, and compute its flow.

    Args:
        paths: the tracklet's frames.
        frame_indices: of the clip, int64 (L,), ascending, neighbours or repeated.
        resize: what is done with each frame.
        flow_method: a name of `backbone.flow.FLOW_METHODS`, or None for no flow.
        on_bad_frame: `error`, or `skip`, as in `FrameCache`.

    Raises:
        ValueError: a frame can't be read, or, where those are replaced, none of the tracklet can.
    """
    # A map leads from its frame to the next; that of a tracklet's last frame is the one before it, repeated.
    maps = np.minimum(flow_indices(frame_indices), max(len(paths) - 2, 0))
    needed = frame_indices if flow_method is None else np.concatenate([frame_indices, maps, maps + 1])
    start, stop = int(needed.min()), min(int(needed.max()) + 1, len(paths))
    decoded, replaced = [], []
    for number in range(start, stop):
        frame, source = _nearest_readable(paths, number, on_bad_frame)
        decoded.append(resize(frame))
        if source != number:
            replaced.append(paths[number])
    frames = np.stack(decoded)
    flow = None
    if flow_method is not None:
        flow = optical_flow(frames, flow_method).astype(np.float16)[maps - start]
    return DecodedClip(frames[frame_indices - start], flow, tuple(replaced))


def _nearest_readable(paths: Sequence[Path], number: int, on_bad_frame: OnBadFrame) -> tuple[np.ndarray, int]:
    """Decode a frame, or the nearest that can be read, the one before of two; return it and its number."""
    first_error = None
    for place in sorted(range(len(paths)), key=lambda place: (abs(place - number), place)):
        try:
            return read_image(paths[place]), place
        except ValueError as error:
            if on_bad_frame == "error":
                raise
            first_error = first_error or error
    raise ValueError(f"no frame of the tracklet can be read: {first_error}")
