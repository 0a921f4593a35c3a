"""Frames that can't be read: their replacement if work is to go on, and the message about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

OnBadFrame = Literal["error", "skip"]
"""error: stop, and name the file; skip: put its nearest readable neighbour in its place, and count it."""

SHOWN = 5  # names of files in a printed line


def nearest_readable(readable: Sequence[int], num_frames: int) -> np.ndarray:
    """Return the number of the frame to show in each frame's place: itself, or the nearest that can be read.

    Args:
        readable: numbers of the frames that can be read, from 0, ascending, one or more.
        num_frames: number of frames of the tracklet.

    Returns:
        Frame numbers, int64 (num_frames,); of two that are equally near the one before.
    """
    there = np.asarray(readable, dtype=np.int64)
    return there[np.abs(np.arange(num_frames)[:, None] - there).argmin(axis=1)]


def may_pass(error: ValueError) -> bool:
    """Tell whether a frame could be readable the next time without its file's size or time having changed.

    It could if the system refused to read a file that is there: for its permissions, a network, a worn disk.
    """
    return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError)


def describe_replaced(replaced: Mapping[str, Sequence[Path]]) -> str:
    """Say in a line how many frames were replaced, and name the first few.

    Args:
        replaced: files, by the tracklet's name.
    """
    names = [str(path) for _, paths in sorted(replaced.items()) for path in paths]
    if not names:
        return "every frame could be read, none was replaced"
    one_frame, one_tracklet = len(names) == 1, len(replaced) == 1
    return (
        f"{len(names):,} {'frame' if one_frame else 'frames'} of "
        f"{len(replaced):,} {'tracklet' if one_tracklet else 'tracklets'} could not be read and "
        f"{'was replaced by its neighbour' if one_frame else 'were replaced by their neighbours'}: "
        + ", ".join(names[:SHOWN])
        + (", ..." if len(names) > SHOWN else "")
    )
