"""Tracklets from one video and the tracks of the people in it."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from backbone.data.frame_files import read_video
from backbone.data.images import read_sequence
from backbone.data.tracklet import Tracklet, VideoSlice
from backbone.data.tracks import LARGEST_INTEGER, Omissions, Tracks
from backbone.progress import Progress

SMALLEST_PX = 8
SMALLEST_SHARE = 0.25


def video_tracklets(
    video: Path,
    tracks: Tracks,
    *,
    chunk_frames: int = 32,
    gap_frames: int = 16,
    min_frames: int = 6,
    num_views: int = 2,
    progress: Progress | None = None,
) -> tuple[list[Tracklet], Omissions]:
    """Cut tracks into tracklets that read their frames from the video (`VideoSlice`).

    Boxes are rounded to pixels and clipped to the frame. A track is split where a frame is missing,
    and cut into chunks; between two chunks of a person lie at least `gap_frames` frames, also across
    a split. The chunks of a person alternate between camera 1 and camera 2 in order of time: one
    camera serves as two views (`num_views`). The video is decoded once, since its header's frame count can lie.

    Args:
        video: the video file, or a folder of its frames (`backbone.data.images.read_sequence`).
        tracks: the boxes.
        chunk_frames: number of frames of a tracklet.
        gap_frames: number of frames left out between tracklets of a person.
        min_frames: fewest frames of a tracklet; shorter ones are left out.
        num_views: number of cameras that the chunks are given in turns.
        progress: function called after each frame decoded.

    Returns:
        The tracklets by person, then time, and all that was omitted.

    Raises:
        ValueError: a setting is out of its range, the video can't be decoded, or no tracklet remains.
    """
    if not (1 <= min_frames <= chunk_frames and gap_frames >= 0):
        raise ValueError(
            f"chunk_frames={chunk_frames}, gap_frames={gap_frames}, min_frames={min_frames}: "
            "needed are 1 <= min_frames <= chunk_frames and gap_frames >= 0"
        )
    omissions = Omissions()
    num_frames, height, width = _count_frames(video, omissions, progress)
    inside, boxes = _boxes_inside(tracks, num_frames, height, width, omissions)
    tracklets = []
    for person in np.unique(tracks.people):
        rows = np.flatnonzero(inside & (tracks.people == person))
        chunks = _chunks(int(person), tracks.frame_index[rows], chunk_frames, gap_frames, min_frames, omissions)
        number = 0
        for number, (start, stop) in enumerate(chunks, start=1):
            camera = 1 + (number - 1) % num_views
            frames = VideoSlice(video, int(tracks.frame_index[rows[start]]), boxes[rows[start:stop]])
            name = f"{person:04d}/cam{camera}/{number:04d}"
            tracklets.append(Tracklet(int(person), camera, frames, f"{video.name}/{name}", name=name))
        if not number:
            omissions.add("person without a tracklet", f"person {person}", boxes=0)
    if not tracklets:
        raise ValueError(
            f"no tracklet remains of {len(tracks)} boxes in {video} ({num_frames} frames of {width} x "
            f"{height} px): {omissions}. Do the tracks belong to this video? Else lower min_frames "
            f"({min_frames})."
        )
    return tracklets, omissions


def _count_frames(video: Path, omissions: Omissions, progress: Progress | None) -> tuple[int, int, int]:
    """Return the number of frames that can be decoded, and their height and width."""
    capture = cv2.VideoCapture(str(video)) if video.is_file() else None
    promised = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture else 0.0
    if capture:
        capture.release()
    if video.is_dir():
        promised = read_sequence(video).length
    promised_frames = int(promised) if 0 < promised < LARGEST_INTEGER else 0
    num_frames = height = width = 0

    def tell_lost(number: int) -> None:
        reason = "video frame that can't be decoded (its neighbour takes its place)"
        omissions.add(reason, f"frame {number + 1}", boxes=0)

    for num_frames, frame in enumerate(read_video(video, tell_lost), start=1):
        height, width = frame.shape[:2]
        if progress:
            progress("counting frames", num_frames, max(promised_frames, num_frames))
    if not num_frames:
        raise ValueError(f"not one frame of {video} can be decoded: is it truncated?")
    if promised_frames > num_frames + (0 if video.is_dir() else 2):  # headers of files are about right
        reason = "video frame that the header promises and that can't be decoded (a truncated file?)"
        place = f"{num_frames} of {promised_frames} decoded"
        omissions.add(reason, place, boxes=0, count=promised_frames - num_frames)
    return num_frames, height, width


def _boxes_inside(
    tracks: Tracks, num_frames: int, height: int, width: int, omissions: Omissions
) -> tuple[np.ndarray, np.ndarray]:
    """Return which boxes can be cut, bool (num_boxes,), and int x0, y0, x1, y1 clipped to the frame."""
    limits = np.array([width, height])
    low, size = tracks.boxes[:, :2], tracks.boxes[:, 2:]
    with np.errstate(over="ignore"):
        high = low + size
    clipped_low, clipped_high = np.clip(low, 0, limits), np.clip(high, 0, limits)
    share = ((clipped_high - clipped_low) / size).prod(axis=1)
    boxes = np.rint(np.hstack([clipped_low, clipped_high])).astype(np.int64)
    wrong = {
        "box in a frame beyond the video's end": tracks.frame_index >= num_frames,
        "box wholly outside the frame": ((high <= 0) | (low >= limits)).any(axis=1),
        "box with less than a quarter of its area inside the frame": share < SMALLEST_SHARE,
        f"box smaller than {SMALLEST_PX} x {SMALLEST_PX} px after clipping": (
            (boxes[:, 2:] - boxes[:, :2] < SMALLEST_PX).any(axis=1)
        ),
    }
    inside = np.ones(len(tracks), dtype=bool)
    for reason, rows in wrong.items():
        for row in np.flatnonzero(rows & inside):
            omissions.add(reason, _place(tracks.people[row], tracks.frame_index[row]))
        inside &= ~rows
    _refuse_corners(tracks, limits, inside)
    over_the_edge = ((np.rint(low) < 0) | (np.rint(high) > limits)).any(axis=1)
    for row in np.flatnonzero(over_the_edge & inside):
        place = _place(tracks.people[row], tracks.frame_index[row])
        omissions.add("box clipped at the frame's edge (kept)", place, boxes=0)
    return inside, boxes


def _refuse_corners(tracks: Tracks, limits: np.ndarray, inside: np.ndarray) -> None:
    """Refuse boxes most of which reach beyond the frame, and would not as left, top, right, bottom."""
    low, last = tracks.boxes[:, :2], tracks.boxes[:, 2:]
    could_be_corners = (last > low).all(axis=1) & (last <= limits + 1).all(axis=1)
    beyond = (last > limits + 1 - low).any(axis=1) & could_be_corners & inside
    if beyond.sum() > len(tracks) / 2:
        raise ValueError(
            f"{beyond.sum():,} of {len(tracks):,} boxes reach beyond the frame of {limits[0]} x {limits[1]} "
            "pixels, and would not as left, top, right, bottom: if that is what they are, a3d data cut --corners"
        )


def _chunks(
    person: int,
    frame_index: np.ndarray,
    chunk_frames: int,
    gap_frames: int,
    min_frames: int,
    omissions: Omissions,
) -> Iterator[tuple[int, int]]:
    """Yield the chunks of one person's sorted frames as half-open ranges of rows."""
    free_from = 0  # the first frame that lies gap_frames after the last chunk
    edges = np.flatnonzero(np.diff(frame_index) != 1) + 1
    for row, stop in zip([0, *edges.tolist()], [*edges.tolist(), len(frame_index)], strict=True):
        while row < stop:
            place = _place(person, frame_index[row])
            skipped = min(free_from - int(frame_index[row]), stop - row)
            if skipped > 0:
                omissions.add(f"gap between chunks (gap_frames {gap_frames})", place, boxes=skipped)
                row += skipped
                continue
            end = min(row + chunk_frames, stop)
            if end - row < min_frames:
                omissions.add(f"chunk shorter than min_frames {min_frames}", place, boxes=end - row)
            else:
                yield row, end
                free_from = int(frame_index[end - 1]) + 1 + gap_frames
            row = end


def _place(person: int, frame_index: int) -> str:
    return f"person {person}, frame {frame_index + 1}"
