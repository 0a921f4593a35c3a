"""Tracklets: short videos of one person, and the places that their frames are read from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np

from backbone.data.frame_files import crop, read_image, read_video
from backbone.data.images import read_sequence


class Frames(Protocol):
    """A run of frames in order. `read` decodes them; `key` names them for a cache."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def read(self) -> Iterator[np.ndarray]:
        """Yield each frame as RGB uint8 (height, width, 3), at its own size."""
        ...

    @property
    def key(self) -> str:
        """A hexadecimal digest that changes when the files behind the frames do."""
        ...


class ImageFiles(Frames, Protocol):
    """Frames that are a file each, so that one can be missing without the others."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in order."""
        ...

    @property
    def key_with_missing(self) -> str:
        """Return a key like `key`, which also holds if a file is missing: it says so."""
        ...


def are_files(frames: Frames) -> TypeGuard[ImageFiles]:
    """Tell whether frames are a file each."""
    return hasattr(type(frames), "key_with_missing")  # of the class: of the object it would look at every file


def file_key(frames: Frames) -> str:
    """Return a digest of the files behind frames, whether or not one of them is missing."""
    return frames.key_with_missing if are_files(frames) else frames.key


def place_of(frames: Frames) -> str:
    """Return a digest of where frames lie, by whatever name their folder is read: the same for the same files."""
    if isinstance(frames, VideoSlice):
        parts = [str(frames.video.resolve()), str(frames.start), frames.boxes[:1].tolist()]
    elif isinstance(frames, FrameArray):
        parts = [str(frames.path.resolve()), frames.row]
    elif are_files(frames):
        parts = [str(frames.paths[0].resolve())]
    elif hasattr(frames, "frames"):  # made of others', as those on which things are planted
        return place_of(frames.frames)
    else:
        parts = [frames.key]
    return digest(parts)


@dataclass(frozen=True)
class Tracklet:
    """A short video of one person by one camera.

    Attributes:
        person: the person's id, as in re-ID code (`pid`).
        camera: the camera's id (`camid`).
        frames: source of the frames: `FrameFiles`, `VideoSlice` or `FrameArray`.
        source: display name of the tracklet, such as `folder/0012/cam1/0003`.
        truth_boxes: boxes of the K identifying things in each frame, float32 (num_frames, K, 4) as x0, y0, x1, y1,
            shares of the frame's width and height; NaN while one is out of sight. None if the truth is not known.
        name: the name inside its data set, the same wherever that lies, such as `0012/cam1/0003`; empty where
            `source` is such a name.
        person_name: display name of the person; empty if the person is unknown.
        clothes: name of the person's clothes, the same for the same clothes of a person; empty if unknown.
    """

    person: int
    camera: int
    frames: Frames
    source: str
    truth_boxes: np.ndarray | None = None
    name: str = ""
    person_name: str = ""
    clothes: str = ""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)


@dataclass(frozen=True)
class FrameFiles:
    """Frames as image files, one a frame, in the order given."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def read(self) -> Iterator[np.ndarray]:
        """Decode file after file.

        Raises:
            ValueError: a file is missing or is no readable image; the message names it.
        """
        for path in self.paths:
            yield read_image(path)

    @cached_property
    def key(self) -> str:
        """A digest of the files' paths, sizes and modification times, looked up once: it costs 20 us a file."""
        return digest([*map(_stamp, self.paths)])

    @cached_property
    def key_with_missing(self) -> str:
        """Return the same digest if every file is there, another if one is missing."""
        return digest([_stamp_or_missing(path) for path in self.paths])


@dataclass(frozen=True, eq=False)
class VideoSlice:
    """Consecutive frames of a video, each cropped to a box.

    Attributes:
        video: the video file, or the folder of its images (`read_video`).
        start: the first frame, 0-based.
        boxes: int (num_frames, 4) as x0, y0, x1, y1 in pixels, half-open, inside the frame.
    """

    video: Path
    start: int
    boxes: np.ndarray

    def __len__(self) -> int:
        """Return the number of boxes, one a frame."""
        return len(self.boxes)

    def read(self) -> Iterator[np.ndarray]:
        """Decode the video up to the slice's end and yield the crops.

        Raises:
            ValueError: the video can't be opened, or ends before the slice does.
        """
        frames = read_video(self.video)
        for frame_index, frame in enumerate(frames):
            if frame_index >= self.start:
                yield crop(frame, self.boxes[frame_index - self.start])
            if frame_index + 1 == self.start + len(self):
                return
        raise ValueError(
            f"{self.video} ends before frame {self.start + len(self)} (1-based), which this slice needs: "
            "is the file truncated?"
        )

    @cached_property
    def key(self) -> str:
        """A digest of the boxes and the video file, or those of its images that are in the slice."""
        files = [self.video]
        if self.video.is_dir():
            files = list(read_sequence(self.video).paths[self.start : self.start + len(self)])
        return digest([*map(_stamp, files), str(self.start), self.boxes.tolist()])


@dataclass(frozen=True)
class FrameArray:
    """A row of a uint8 file (num_tracklets, num_frames, height, width, 3), read by memory map."""

    path: Path
    row: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.array())

    def array(self) -> np.ndarray:
        """Return the frames, uint8 (num_frames, height, width, 3), not yet read from disk."""
        return np.load(self.path, mmap_mode="r")[self.row]

    def read(self) -> Iterator[np.ndarray]:
        """Yield frame after frame."""
        yield from self.array()

    @property
    def key(self) -> str:
        """A digest of the file and the row."""
        return digest([_stamp(self.path), self.row])


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"cannot read the frame {path}: {error.strerror or error}") from error
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _stamp_or_missing(path: Path) -> str:
    try:
        return _stamp(path)
    except ValueError:
        return f"{path.absolute()}:missing"


def digest(parts: list) -> str:
    """Return a hexadecimal digest of what makes up a key, by its representation."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


JUNK = -1
"""The person id of gallery tracklets that count neither as a match nor as a miss."""


UNKNOWN = -2
"""The person id of a tracklet whose person is unknown."""


DISTRACTOR = 0
