"""Single clips straight from image files, if there is no room to keep whole tracklets decoded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backbone.data.bad_frames import OnBadFrame
from backbone.data.frame_files import read_image
from backbone.flow import flow_indices, optical_flow

Resize = Callable[[np.ndarray], np.ndarray]
"""Function that brings a frame, uint8 (height, width, 3), to the size wanted."""


class DecodedClip(NamedTuple):
    """A clip, the same as one cut from its tracklet's frames and flow in a `FrameCache`.

    Attributes:
        frames: frames, uint8 (L, H, W, 3), RGB.
        flow: flow, float16 (L, H, W, 2), pixels per frame; None without a method.
        replaced: files that could not be read, in whose place others are.
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
        paths: files of the tracklet's frames.
        frame_indices: numbers of the clip's frames, int64 (L,), ascending.
        resize: function that each decoded frame goes through.
        flow_method: a name of `backbone.flow.FLOW_METHODS`, or None for no flow.
        on_bad_frame: `error`, or `skip`, as in `FrameCache`.

    Raises:
        ValueError: a frame can't be read or, if bad frames are replaced, none of the tracklet can.
    """
    # A map leads from its frame to the next; that of a tracklet's last frame is the one before it, repeated.
    maps = np.minimum(flow_indices(frame_indices), max(len(paths) - 2, 0))
    needed = set(frame_indices.tolist())
    if flow_method is not None and len(paths) > 1:
        needed |= set(maps.tolist()) | set((maps + 1).tolist())
    decoded, replaced = {}, []
    for number in sorted(needed):
        frame, source = _nearest_readable(paths, number, on_bad_frame)
        decoded[number] = resize(frame)
        if source != number:
            replaced.append(paths[number])
    frames = np.stack([decoded[number] for number in frame_indices.tolist()])
    flow = None if flow_method is None else _flow_maps(decoded, maps, flow_method)
    return DecodedClip(frames, flow, tuple(replaced))


def _flow_maps(decoded: dict[int, np.ndarray], maps: np.ndarray, method: str) -> np.ndarray:
    """Return the flow from frame maps[i] to the next, float16 (L, height, width, 2), of frames by number."""
    by_frame: dict[int, np.ndarray] = {}
    runs = np.split(unique := np.unique(maps), np.flatnonzero(np.diff(unique) > 1) + 1)
    for run in runs:  # neighbours share frames, so that their flow is computed at once
        numbers = [*run.tolist(), int(run[-1]) + 1]
        frames = np.stack([decoded[number] for number in numbers if number in decoded])
        by_frame |= dict(zip(run.tolist(), optical_flow(frames, method).astype(np.float16), strict=False))
    return np.stack([by_frame[number] for number in maps.tolist()])


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
