"""Decoded frames and optical flow on disk, so that a second look at a tracklet decodes nothing."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from backbone.data.array_file import is_intact, read_array, read_verified, write_array
from backbone.data.bad_frames import OnBadFrame, describe_replaced, may_pass, nearest_readable
from backbone.data.decode import decode_clip
from backbone.data.frame_files import read_image
from backbone.data.inputs import cut_clip, resize_frame
from backbone.data.tracklet import FrameArray, FrameFiles, Tracklet, are_files
from backbone.files import atomic_file
from backbone.flow import optical_flow

LOG = logging.getLogger("a3d")

Numbers = tuple[int, ...]
"""Numbers of frames in a tracklet, from 0, ascending."""
Arrays = tuple[np.ndarray, np.ndarray | None]
"""Frames, uint8 (..., height, width, 3), RGB, and flow, float16 (..., height, width, 2), or None."""


def default_cache() -> Path:
    """Return `$A3D_CACHE`, or `a3d` in the user's cache folder."""
    if own := os.environ.get("A3D_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "a3d"


@dataclass(eq=False)
class FrameCache:
    """Tracklets as uint8 frames of one size and their optical flow, memory-mapped from one file each.

    A file's key names all that its content depends on: the source files with their sizes and times, the frame
    size, the flow method, and which frames were replaced because they could not be read. Files appear complete or
    not at all, so several processes may share a cache. Each is compared with its digest when a process first reads
    it; a damaged one is made again, which is logged. Tracklets without a bad frame
    have the same files whatever is to be done with bad frames.

    Args:
        folder: folder of the files.
        height: height of the frames, in pixels.
        width: width of the frames, in pixels.
        flow_method: a name of `backbone.flow.FLOW_METHODS`, or None for no flow.
        on_bad_frame: treatment of an image file that is missing or can't be decoded: `error`, or `skip`, put the
            nearest readable frame of the tracklet in its place, the one before of two. The tracklet keeps its
            length.
        decode_anew: whether to keep nothing of image files on disk: `clip` decodes them.

    Attributes:
        replaced: image files that were replaced, by the name of their tracklet, of all tracklets looked at so far;
            by worker processes, too (`backbone.data.loader.load_ahead`).

    Raises:
        ValueError: unknown `on_bad_frame`.
    """

    folder: Path
    height: int
    width: int
    flow_method: str | None
    on_bad_frame: OnBadFrame = "error"
    decode_anew: bool = field(default=False, kw_only=True)
    replaced: dict[str, tuple[Path, ...]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.on_bad_frame not in get_args(OnBadFrame):
            known = ", ".join(get_args(OnBadFrame))
            raise ValueError(f"unknown on_bad_frame {self.on_bad_frame!r}; known: {known}")

    def frames(self, tracklet: Tracklet) -> np.ndarray:
        """Return the frames at the cache's size (`resize_frame`), uint8 (num_frames, height, width, 3), RGB.

        Raises:
            ValueError: a frame can't be decoded or, if bad frames are replaced, none can; the message names it.
        """
        return self._frames(tracklet)[0]

    def flow(self, tracklet: Tracklet) -> np.ndarray:
        """Return the flow between the frames, float16 (num_frames, height, width, 2), pixels per frame.

        The last map is the one before it, repeated. Float16 rounds each component to the nearest of its numbers,
        so that it is off by at most 2^-11 (0.05 %) of itself: 1/128 px below 32 px, 1/16 px below 256 px. Below
        2^-14 px, where its numbers are 2^-24 px apart, it is off by at most 2^-25 px. The largest is 65,504 px,
        which is more than the side of any frame.
        """
        if self.flow_method is None:
            raise ValueError("this cache was made without a flow method")
        if (stored := self._stored(self._key(tracklet, self.flow_method))) is not None:
            return stored
        frames, replaced = self._frames(tracklet)
        key = self._key(tracklet, self.flow_method, replaced)
        if replaced and (stored := self._stored(key)) is not None:
            return stored
        flow = optical_flow(np.asarray(frames), self.flow_method).astype(np.float16)
        write_array(self._path(key), flow)
        return flow

    def arrays(self, tracklet: Tracklet) -> Arrays:
        """Return `frames` and `flow` of a tracklet; flow is None without a method."""
        return self.frames(tracklet), None if self.flow_method is None else self.flow(tracklet)

    def clip(
        self, tracklet: Tracklet, frame_indices: np.ndarray, arrays: Callable[[], Arrays] | None = None
    ) -> Arrays:
        """Return a clip's frames, uint8 (L, height, width, 3), RGB, and flow, float16 (L, height, width, 2).

        They are cut from `frames` and `flow` (`backbone.flow.flow_indices`); decoding image files anew comes to
        the same. Flow is None without a method.

        Args:
            tracklet: tracklet of the clip.
            frame_indices: numbers of the clip's frames, int64 (L,), ascending.
            arrays: function that returns the tracklet's frames and flow, if these are wanted, from a memory in
                front of the cache; by default the cache's own `arrays`.

        Raises:
            ValueError: a frame can't be decoded, like `frames`.
        """
        if self.decode_anew and are_files(tracklet.frames):
            paths, method = tracklet.frames.paths, self.flow_method
            clip = decode_clip(paths, frame_indices, self.resized, method, self.on_bad_frame)
            self.note_replaced(tracklet.source, clip.replaced)
            return clip.frames, clip.flow
        return cut_clip(*(self.arrays(tracklet) if arrays is None else arrays()), frame_indices)

    def note_replaced(self, source: str, paths: Sequence[Path]) -> None:
        """Keep in mind which files of a tracklet were replaced, each once."""
        if paths:
            self.replaced[source] = tuple(sorted({*self.replaced.get(source, ()), *paths}))

    def missing_bytes(self, tracklet: Tracklet) -> int:
        """Return about how many bytes `frames` and `flow` would write for a tracklet: 0 if both are here."""
        pixels = len(tracklet) * self.height * self.width
        versions = {(), self._recorded(tracklet)}

        def is_here(what: str) -> bool:
            return any(self._is_here(self._key(tracklet, what, replaced)) for replaced in versions)

        frames_are_here = isinstance(tracklet.frames, FrameArray) or is_here("frames")
        flow_is_here = self.flow_method is None or is_here(self.flow_method)
        return (0 if frames_are_here else 3 * pixels) + (0 if flow_is_here else 4 * pixels)

    def remove_damaged(self, tracklet: Tracklet) -> int:
        """Remove those of a tracklet's files that do not hold what was written, by digest, and count them."""
        paths = [
            self._path(self._key(tracklet, what, replaced))
            for what in ("frames", self.flow_method)
            for replaced in {(), self._recorded(tracklet)}
            if what is not None
        ]
        damaged = [path for path in paths if path.exists() and not is_intact(path)]
        for path in damaged:
            path.unlink(missing_ok=True)
        return len(damaged)

    def has_frames(self, tracklet: Tracklet) -> bool:
        """Tell whether the tracklet's frames are here, none of them replaced."""
        return self._is_here(self._key(tracklet, "frames"))

    def keep_frames(self, tracklet: Tracklet, frames: np.ndarray) -> None:
        """Keep frames that the caller has decoded and `resized`, uint8 (num_frames, height, width, 3), RGB."""
        write_array(self._path(self._key(tracklet, "frames")), frames)

    def resized(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame, uint8 (H, W, 3) of any size, at the cache's size."""
        return resize_frame(frame, self.height, self.width)

    def describe_replaced(self) -> str:
        """Say in a line how many frames were replaced so far, and which; nothing if bad frames are errors."""
        return "" if self.on_bad_frame == "error" else describe_replaced(self.replaced)

    def _frames(self, tracklet: Tracklet) -> tuple[np.ndarray, Numbers]:
        """Return the frames, and which of them were replaced, which is kept in mind."""
        if isinstance(tracklet.frames, FrameArray):
            array = tracklet.frames.array()
            if array.shape[1:3] == (self.height, self.width):
                return array, ()
        replaced: Numbers = ()
        stored = self._stored(self._key(tracklet, "frames"))
        if stored is None and (replaced := self._recorded(tracklet)):
            stored = self._stored(self._key(tracklet, "frames", replaced))
        if stored is None:
            stored, replaced = self._decode_and_store(tracklet)
        if replaced and are_files(tracklet.frames):
            paths = tracklet.frames.paths
            self.note_replaced(tracklet.source, [paths[number] for number in replaced])
        return stored, replaced

    def _decode_and_store(self, tracklet: Tracklet) -> tuple[np.ndarray, Numbers]:
        array, errors = self._decode(tracklet)
        replaced = tuple(sorted(errors))
        if not errors:
            write_array(self._path(self._key(tracklet, "frames")), array)
        elif self._will_last(tracklet, errors):
            write_array(self._path(self._key(tracklet, "frames", replaced)), array)
            with atomic_file(self._record_path(tracklet), is_precious=False) as file:
                file.write(json.dumps(replaced).encode())
        return array, replaced

    @staticmethod
    def _will_last(tracklet: Tracklet, errors: dict[int, ValueError]) -> bool:
        """Tell whether the frames that could not be read will be unreadable as long as the key is the same."""
        if any(map(may_pass, errors.values())) or not are_files(tracklet.frames):
            return False
        # Files may have vanished, or come back, since the key was made.
        return FrameFiles(tracklet.frames.paths).key_with_missing == tracklet.frames.key_with_missing

    def _decode(self, tracklet: Tracklet) -> tuple[np.ndarray, dict[int, ValueError]]:
        """Return the frames, and by number why those that were replaced could not be read."""
        errors: dict[int, ValueError] = {}
        if self.on_bad_frame == "skip" and are_files(tracklet.frames):
            readable = {}
            for number, path in enumerate(tracklet.frames.paths):
                try:
                    readable[number] = self.resized(read_image(path))
                except ValueError as error:
                    errors[number] = error
            if errors and not readable:
                raise ValueError(f"no frame of the tracklet {tracklet.source} can be read: {errors[0]}")
            places = nearest_readable([*readable], len(tracklet)) if errors else np.arange(len(tracklet))
            frames = [readable[place] for place in places.tolist()]
        else:
            frames = [self.resized(frame) for frame in tracklet.frames.read()]
        if not frames:
            raise ValueError(f"the tracklet {tracklet.source} has no frames")
        return np.stack(frames), errors

    def _recorded(self, tracklet: Tracklet) -> Numbers:
        """Return which frames were replaced when the tracklet was decoded, if that was written down."""
        if self.on_bad_frame == "error" or not are_files(tracklet.frames):
            return ()
        try:
            return tuple(map(int, json.loads(self._record_path(tracklet).read_bytes())))
        except (FileNotFoundError, ValueError, TypeError):  # there is none, or it is damaged
            return ()

    def _record_path(self, tracklet: Tracklet) -> Path:
        return self._path(self._key(tracklet, "replaced")).with_suffix(".json")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def _key(self, tracklet: Tracklet, what: str, replaced: Numbers = ()) -> str:
        skips = self.on_bad_frame == "skip"
        source = tracklet.frames.key_with_missing if skips and are_files(tracklet.frames) else tracklet.frames.key
        text = f"{source} {self.height}x{self.width} {what}" + (f" without {replaced}" if replaced else "")
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _stored(self, key: str) -> np.ndarray | None:
        if (found := read_verified(path := self._path(key))) is None and path.exists():
            LOG.warning("%s is damaged, and made anew", path)
        return found

    def _is_here(self, key: str) -> bool:
        return read_array(self._path(key)) is not None
