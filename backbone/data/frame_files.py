"""Frames out of image files and videos, and what is wrong with a file that has none."""

import io
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from backbone.data.images import read_sequence

MOST_PIXELS = 50_000_000  # of a frame: more than 8K has
LOST_AT_END = 1000  # frames of a video in a row that can't be decoded: it has ended
MOST_BYTES = 2**29  # of its file
SMALL_JPEG = 100_000  # bytes: at most about 100 pixels a byte


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
