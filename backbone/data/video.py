"""Tracklets from one video and its tracks: a MOT-format text file of boxes."""

import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np

from backbone.data.tracklet import Tracklet, VideoSlice, crop, read_video

REPORT_NAME = ".cut_report.json"
VALID_ROW = "1,9,312.00,98.56,19.39,46.98,1 (frame from 1, id, left, top, width, height in pixels, confidence)"
SMALLEST_PX = 8
SMALLEST_SHARE = 0.25
LARGEST_INTEGER = 2**31

Progress = Callable[[str, int, int], None]
"""Called with the stage ("counting frames", "cutting"), the frames done and the frames in all."""


@dataclass(frozen=True)
class Omission:
    """What was left out, or altered, for one reason.

    Attributes:
        reason: what was wrong, beginning with the thing counted: row, box, chunk, gap, person.
        count: how many.
        boxes: how many of the file's boxes were lost by it; 0 where they were only altered.
        first: the first few places, as `line 12` or `person 3, frame 40`.
    """

    reason: str
    count: int
    boxes: int
    first: tuple[str, ...]


@dataclass
class Omissions:
    """Omissions by reason, in the order in which they were met."""

    by_reason: dict[str, Omission] = field(default_factory=dict)

    def add(self, reason: str, place: str, boxes: int = 1, count: int = 1) -> None:
        """Count an omission at a place; the first three places are kept."""
        old = self.by_reason.get(reason, Omission(reason, 0, 0, ()))
        self.by_reason[reason] = Omission(reason, old.count + count, old.boxes + boxes, (*old.first, place)[:3])

    def count(self, reason: str) -> int:
        """Return how many were omitted for a reason, 0 where none was."""
        return self.by_reason[reason].count if reason in self.by_reason else 0

    def __str__(self) -> str:
        items = (f"{item.count} x {item.reason} ({', '.join(item.first)})" for item in self.by_reason.values())
        return "; ".join(items) or "nothing omitted"


@dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes of people in a video, sorted by person, then frame.

    Attributes:
        people: int64 (num_boxes,), the ids in the file.
        frame_index: int64 (num_boxes,), 0-based.
        boxes: float64 (num_boxes, 4), left, top, width, height in pixels, as in the file.
    """

    people: np.ndarray
    frame_index: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.people)


@dataclass(frozen=True)
class CutReport:
    """What `cut_video` wrote. `boxes` = `frames` + the boxes of all omissions."""

    video: str
    tracks: str
    chunk_frames: int
    gap_frames: int
    min_frames: int
    boxes: int
    people: int
    people_with_two_views: int
    tracklets: int
    frames: int
    omissions: tuple[Omission, ...]


def read_tracks(path: Path) -> tuple[Tracks, Omissions]:
    """Read a MOT-format file: `frame,id,left,top,width,height,confidence,...`, rows in any order.

    Returns:
        The boxes of all valid rows, and the rows left out, by reason, with their line numbers.

    Raises:
        ValueError: the file is missing, empty, no text, or has no valid row.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the tracks {path}: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or not text.strip():
        state = "is no text file" if text.strip() else "is empty"
        raise ValueError(f"the tracks {path}: the file {state}. A valid row is {VALID_ROW}")
    rows: dict[tuple[int, int], list[float]] = {}
    omissions = Omissions()
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            frame, person, box = _parse_row(line)
            if (person, frame) in rows:
                raise ValueError("row that repeats a frame and id (the first is kept)")
            rows[person, frame] = box
        except ValueError as error:
            omissions.add(str(error), f"line {number}")
    if not rows:
        raise ValueError(f"the tracks {path} have no valid row: {omissions}. A valid row is {VALID_ROW}")
    keys = sorted(rows)
    people, frames = np.array(keys, dtype=np.int64).T
    return Tracks(people, frames - 1, np.array([rows[key] for key in keys])), omissions


def video_tracklets(
    video: Path,
    tracks: Tracks,
    *,
    chunk_frames: int = 32,
    gap_frames: int = 16,
    min_frames: int = 6,
    progress: Progress | None = None,
) -> tuple[list[Tracklet], Omissions]:
    """Cut tracks into tracklets that read their frames from the video (`VideoSlice`).

    Boxes are rounded to pixels and clipped to the frame. A track is split where a frame is missing,
    and cut into chunks; between two chunks of a person lie at least `gap_frames` frames, also across
    a split. The chunks of a person alternate between camera 1 and camera 2 in order of time: one
    camera serves as two views. The video is decoded once, since its header's frame count can lie.

    Args:
        video: the video file.
        tracks: the boxes.
        chunk_frames: frames of a tracklet.
        gap_frames: frames left out between tracklets of a person.
        min_frames: tracklets shorter than this are left out.
        progress: called after each frame decoded.

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
            camera = 2 - number % 2
            frames = VideoSlice(video, int(tracks.frame_index[rows[start]]), boxes[rows[start:stop]])
            source = f"{video.name}/{person:04d}/cam{camera}/{number:04d}"
            tracklets.append(Tracklet(int(person), camera, frames, source))
        if not number:
            omissions.add("person without a tracklet", f"person {person}", boxes=0)
    if not tracklets:
        raise ValueError(
            f"no tracklet remains of {len(tracks)} boxes in {video} ({num_frames} frames of {width} x "
            f"{height} px): {omissions}. Do the tracks belong to this video? Else lower min_frames "
            f"({min_frames})."
        )
    return tracklets, omissions


def cut_video(
    video: Path,
    tracks: Path,
    out: Path,
    *,
    chunk_frames: int = 32,
    gap_frames: int = 16,
    min_frames: int = 6,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CutReport:
    """Write the tracklets of a video as `<out>/<person>/<camera>/<tracklet>/<frame>.png`.

    Frames are named by their 1-based number in the video. After the count of `video_tracklets` the
    video is decoded once more, in one pass for all tracklets. Everything goes to a hidden folder
    beside `out`, which takes its name at the end; after a failure or Ctrl-C nothing of it stays. The
    report is kept in `<out>/.cut_report.json`, which `read_folder` passes over.

    Args:
        video: the video file.
        tracks: the MOT-format file, as `read_tracks` takes it.
        out: the folder to write; missing, or empty.
        chunk_frames: as in `video_tracklets`.
        gap_frames: as in `video_tracklets`.
        min_frames: as in `video_tracklets`.
        overwrite: replace `out` where an earlier cut wrote it, once the new one is complete.
        progress: called after each frame counted and cut.

    Raises:
        ValueError: `out` is in use, or as in `read_tracks` and `video_tracklets`.
        OSError: a file can't be written.
    """
    out = out.resolve()
    _check_out(out, overwrite, (video, tracks))
    rows, omitted = read_tracks(tracks)
    tracklets, lost = video_tracklets(
        video,
        rows,
        chunk_frames=chunk_frames,
        gap_frames=gap_frames,
        min_frames=min_frames,
        progress=progress,
    )
    cameras: dict[int, set[int]] = {}
    for tracklet in tracklets:
        cameras.setdefault(tracklet.person, set()).add(tracklet.camera)
    report = CutReport(
        video=str(video),
        tracks=str(tracks),
        chunk_frames=chunk_frames,
        gap_frames=gap_frames,
        min_frames=min_frames,
        boxes=len(rows) + sum(item.boxes for item in omitted.by_reason.values()),
        people=len(cameras),
        people_with_two_views=sum(len(views) == 2 for views in cameras.values()),
        tracklets=len(tracklets),
        frames=sum(map(len, tracklets)),
        omissions=(*omitted.by_reason.values(), *lost.by_reason.values()),
    )
    missing = [folder for folder in out.parents if not folder.exists()]
    token = secrets.token_hex(4)
    partial, old = (out.with_name(f".{out.name}.{token}.{kind}") for kind in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
        _write_frames(video, tracklets, partial, progress)
        (partial / REPORT_NAME).write_text(json.dumps(asdict(report), indent=2) + "\n")
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(partial, ignore_errors=True)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
    return report


def _parse_row(line: str) -> tuple[int, int, list[float]]:
    """Return frame, id and box; the ValueError's text is the reason to omit the row."""
    columns = line.split(",")[:7]
    if len(columns) < 6:
        raise ValueError("row with fewer than 6 columns")
    if not columns[-1].strip():  # a comma at the end, or an empty confidence
        del columns[6:]
    try:
        numbers = [float(column) for column in columns]
    except ValueError:
        raise ValueError("row with a column that is no number") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError("row with NaN or infinity")
    frame, person, *box = numbers[:6]
    if not (frame.is_integer() and 1 <= frame <= LARGEST_INTEGER):
        raise ValueError("row whose frame is no whole number of 1 or more")
    if not (person.is_integer() and 0 <= person <= LARGEST_INTEGER):
        raise ValueError("row whose id is no whole number of 0 or more (-1 is a box without a track)")
    if box[2] <= 0 or box[3] <= 0:
        raise ValueError("row whose width or height is not positive")
    if numbers[6:] == [0]:
        raise ValueError("row with confidence 0 (MOT's mark for boxes to ignore)")
    return int(frame), int(person), box


def _count_frames(video: Path, omissions: Omissions, progress: Progress | None) -> tuple[int, int, int]:
    """Return the number of frames that can be decoded, and their height and width."""
    capture = cv2.VideoCapture(str(video)) if video.is_file() else None
    promised = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture else 0.0
    if capture:
        capture.release()
    promised_frames = int(promised) if 0 < promised < LARGEST_INTEGER else 0
    num_frames = height = width = 0
    for num_frames, frame in enumerate(read_video(video), start=1):
        height, width = frame.shape[:2]
        if progress:
            progress("counting frames", num_frames, max(promised_frames, num_frames))
    if not num_frames:
        raise ValueError(f"not one frame of {video} can be decoded: is it truncated?")
    if promised_frames > num_frames + 2:
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
    over_the_edge = ((np.rint(low) < 0) | (np.rint(high) > limits)).any(axis=1)
    for row in np.flatnonzero(over_the_edge & inside):
        place = _place(tracks.people[row], tracks.frame_index[row])
        omissions.add("box clipped at the frame's edge (kept)", place, boxes=0)
    return inside, boxes


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


def _check_out(out: Path, overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Refuse a folder in use, unless it may be overwritten: then it must be an earlier cut."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder that is missing or empty")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise ValueError(f"{out} is not empty; name another folder, or overwrite it (--overwrite)")
    if not (out / REPORT_NAME).is_file():
        raise ValueError(f"{out} was not written by a cut (no {REPORT_NAME} in it); remove it yourself first")
    for path in inputs:
        if out in path.resolve().parents:
            raise ValueError(f"{path} lies in {out}, which would be overwritten; name another folder")


def _write_frames(video: Path, tracklets: list[Tracklet], root: Path, progress: Progress | None) -> None:
    """Write all crops in one pass over the video."""
    at_frame: dict[int, list[tuple[np.ndarray, Path]]] = {}
    for tracklet in tracklets:
        folder = root.joinpath(*tracklet.source.split("/")[1:])
        folder.mkdir(parents=True)
        frames = tracklet.frames
        assert isinstance(frames, VideoSlice)
        for offset, box in enumerate(frames.boxes):
            at_frame.setdefault(frames.start + offset, []).append((box, folder))
    last = max(at_frame)
    digits = max(6, len(str(last + 1)))
    for frame_index, frame in enumerate(read_video(video)):
        for box, folder in at_frame.pop(frame_index, ()):
            # to memory, then to disk: OpenCV's own writing says nothing of a full disk
            _, data = cv2.imencode(".png", crop(frame, box)[:, :, ::-1])
            (folder / f"{frame_index + 1:0{digits}d}.png").write_bytes(data.tobytes())
        if progress:
            progress("cutting", frame_index + 1, last + 1)
        if frame_index == last:
            return
    raise ValueError(f"{video} ended before frame {last + 1}, which could be decoded a moment ago")
