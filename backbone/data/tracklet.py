"""Tracklets: short videos of one person, and the places that their frames are read from."""

import hashlib
import io
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeGuard

import cv2
import numpy as np
from PIL import Image

from backbone.data.images import read_sequence

MOST_PIXELS = 50_000_000  # of a frame: more than 8K has
LOST_AT_END = 1000  # frames of a video in a row that can't be decoded: it has ended
MOST_BYTES = 2**29  # of its file
SMALL_JPEG = 100_000  # bytes: at most about 100 pixels a byte


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


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to RGB uint8 (height, width, 3).

    Raises:
        ValueError: the file is missing, empty, truncated or no image that OpenCV can decode.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise ValueError(f"the frame {path} is no regular file of at most {MOST_BYTES:,} bytes")
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ValueError(f"cannot read the frame {path}: {error.strerror or error}") from error
    if is_truncated(data):  # what is left of it may be decoded, the rest grey
        raise ValueError(
            f"{path} ({data.size} bytes) ends before its image does: it is truncated. Replace the file, or "
            "remove it from the tracklet."
        )
    if (pixels := _announced_pixels(data)) > MOST_PIXELS:
        raise ValueError(
            f"{path} announces {pixels:,} pixels, and at most {MOST_PIXELS:,} are decoded: is it of a person?"
        )
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # such as a size beyond all bounds
        image = None
    if image is None:
        raise ValueError(
            f"{path} ({data.size} bytes) is no image that can be decoded: is it truncated? "
            "Replace the file, or remove it from the tracklet."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _announced_pixels(data: np.ndarray) -> int:
    """Return how many pixels an image file's header announces, without decoding them; 0 if it can't be told.

    A small JPEG can't hold many pixels, and is passed over, as looking takes 0.1 ms.
    """
    if data.size < SMALL_JPEG and data[:2].tobytes() == b"\xff\xd8":
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data.tobytes())) as image:
                return image.width * image.height
    except Image.DecompressionBombError:
        return MOST_PIXELS + 1
    except Exception:  # of many types for damaged files, which the decoder then tells of
        return 0


def is_truncated(data: np.ndarray) -> bool:
    """Tell whether the bytes of a JPEG or PNG file, uint8, end without the mark that they have to end with.

    Other bytes may follow the mark, as some cameras leave them.
    """
    content = data.tobytes()
    if content.startswith(b"\xff\xd8"):
        # The end comes after the last scan begins; the end of a thumbnail, before.
        return content.rfind(b"\xff\xd9") < max(content.rfind(b"\xff\xda"), 0)
    return content.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" not in content


def read_video(path: Path, tell_lost: Callable[[int], None] = lambda number: None) -> Iterator[np.ndarray]:
    """Yield each frame of a video, RGB uint8 (height, width, 3), to its end, whatever its header says of its end.

    Frames are upright: a video that says by how much it is to be turned, as phones' do, is turned. In the place of
    a frame that can't be decoded is the one before it (of the first, the one after it), so that those that follow
    keep their numbers.

    Args:
        path: a file, or a folder of images (`backbone.data.images.read_sequence`).
        tell_lost: function called with the number, 0-based, of each frame that can't be decoded and that others
            follow.

    Raises:
        ValueError: the file is missing or no video that OpenCV can open, its frames are of several sizes, or
            an image of the folder can't be read.
    """
    if path.is_dir():
        yield from _read_images(read_sequence(path).paths)
        return
    if not path.is_file():
        raise ValueError(f"there is no video at {path}")
    # FFmpeg draws a text file as a film of its letters; people swap --video and --tracks.
    with path.open("rb") as file:
        head = file.read(1024)
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        raise ValueError(f"{path} is a text file, no video")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise ValueError(f"{path} is no video that OpenCV can open: is it truncated?")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        number, before, lost = 0, None, 0
        while lost < LOST_AT_END:
            decoded, image = capture.read()
            if not decoded:
                lost += 1
                continue
            frame = np.ascontiguousarray(image[:, :, ::-1])
            before = frame if before is None else before
            for _ in range(lost):
                tell_lost(number)
                yield before
                number += 1
            if frame.shape != before.shape:
                (height, width), (wanted_height, wanted_width) = frame.shape[:2], before.shape[:2]
                raise ValueError(
                    f"frame {number + 1} of {path} is of {width} x {height} pixels, those before it of "
                    f"{wanted_width} x {wanted_height}: boxes need frames of one size"
                )
            yield frame
            number, before, lost = number + 1, frame, 0
    finally:
        capture.release()


def _read_images(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    size = None
    for path in paths:
        frame = read_image(path)
        if size not in (None, frame.shape):
            raise ValueError(f"{path} is of another size than the images before it, which no video is")
        size = frame.shape
        yield frame


def crop(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of a frame (height, width, 3) inside a half-open box x0, y0, x1, y1."""
    x0, y0, x1, y1 = (int(edge) for edge in box)
    return frame[y0:y1, x0:x1]


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
