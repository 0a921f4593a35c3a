"""Decoded frames and optical flow on disk, so that a second look at a tracklet decodes nothing."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from backbone.data.tracklet import FrameArray, Tracklet
from backbone.flow import optical_flow


def default_cache() -> Path:
    """Return `$A3D_CACHE`, or `a3d` in the user's cache folder."""
    if own := os.environ.get("A3D_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "a3d"


class FrameCache:
    """Tracklets as uint8 frames of one size and their optical flow, memory-mapped from one file each.

    A file's key names all that its content depends on: the source files with their sizes and times, the frame
    size, and the flow method. Files appear complete or not at all, so several processes may share a cache; a
    damaged one is made again.

    Args:
        folder: where the files are.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        flow_method: a name of `backbone.flow.FLOW_METHODS`, or None for no flow.
    """

    def __init__(self, folder: Path, height: int, width: int, flow_method: str | None):
        self.folder = folder
        self.height = height
        self.width = width
        self.flow_method = flow_method

    def frames(self, tracklet: Tracklet) -> np.ndarray:
        """Return the frames at the cache's size, uint8 (num_frames, height, width, 3), RGB.

        Raises:
            ValueError: a frame can't be decoded; the message names its file.
        """
        if isinstance(tracklet.frames, FrameArray):
            array = tracklet.frames.array()
            if array.shape[1:3] == (self.height, self.width):
                return array
        return self._load(self._key(tracklet, "frames"), lambda: self._decode(tracklet))

    def flow(self, tracklet: Tracklet) -> np.ndarray:
        """Return the flow between the frames, float16 (num_frames, height, width, 2), pixels per frame.

        Float16 keeps a displacement of up to 32 px to 1/64 px. The last map is the one before it, repeated.
        """
        if self.flow_method is None:
            raise ValueError("this cache was made without a flow method")
        method = self.flow_method
        return self._load(
            self._key(tracklet, method),
            lambda: optical_flow(np.asarray(self.frames(tracklet)), method).astype(np.float16),
        )

    def missing_bytes(self, tracklet: Tracklet) -> int:
        """Return about how many bytes `frames` and `flow` would write for a tracklet: 0 if both are here."""
        pixels = len(tracklet) * self.height * self.width
        frames_are_here = (
            isinstance(tracklet.frames, FrameArray) or self._path(self._key(tracklet, "frames")).exists()
        )
        flow_is_here = self.flow_method is None or self._path(self._key(tracklet, self.flow_method)).exists()
        return (0 if frames_are_here else 3 * pixels) + (0 if flow_is_here else 4 * pixels)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def _decode(self, tracklet: Tracklet) -> np.ndarray:
        size = (self.width, self.height)
        frames = [
            # area averaging shrinks without aliasing
            cv2.resize(
                frame,
                size,
                interpolation=cv2.INTER_AREA if frame.shape[0] > self.height else cv2.INTER_LINEAR,
            )
            for frame in tracklet.frames.read()
        ]
        if not frames:
            raise ValueError(f"the tracklet {tracklet.source} has no frames")
        return np.stack(frames)

    def _key(self, tracklet: Tracklet, what: str) -> str:
        text = f"{tracklet.frames.key} {self.height}x{self.width} {what}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _load(self, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self._path(key)
        try:
            return np.load(path, mmap_mode="r")
        except (FileNotFoundError, ValueError, EOFError):  # not made yet, or damaged
            array = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
        try:
            with partial.open("wb") as file:
                np.save(file, array)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return array
