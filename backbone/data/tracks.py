"""Tracks of people in a video, from a MOT-format text file of boxes, and what had to be left out."""

import codecs
import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VALID_ROW = "1,9,312.00,98.56,19.39,46.98,1 (frame from 1, id, left, top, width, height in pixels, confidence)"
LARGEST_INTEGER = 2**31
MOST_BYTES = 2**30  # of the file: 20 million boxes
LARGEST_ID = 2**62
CUT_REPORT = ".cut_report.json"  # in a folder of tracklets, what it was cut from
LOOKED_AT = 1000  # lines that tell what separates the columns


@dataclass(frozen=True)
class Omission:
    """Boxes that were left out, or altered, for one reason.

    Attributes:
        reason: reason, beginning with the thing counted: row, box, chunk, gap, person.
        count: number of things counted.
        boxes: number of the file's boxes that were lost; 0 if boxes were only altered, below 0 if boxes were
            added.
        first: the first few places, as `line 12` or `person 3, frame 40` (of the video's, from 1).
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
class TrackFormat:
    """Format of a file of tracks, if it differs from MOT's; and what of it is used."""

    first_frame: int | None = None
    """Number that the tracks give the video's first frame, 0 or 1; by default 0 if they have a frame 0."""
    corners: bool = False
    """Read the boxes as left, top, right, bottom."""
    classes: tuple[int, ...] = ()
    """Classes (column 8) of people, as in 1 for MOT17's pedestrians; by default all."""
    min_visibility: float = 0.0
    """Leave out boxes of which less than this share is visible (column 9)."""
    bridge_gaps: int = 0
    """Put boxes into gaps of up to this many frames in a track, on a line from the last box to the next. A tracker
    that misses one frame in five leaves tracklets too short to keep."""

    def __post_init__(self) -> None:
        if self.bridge_gaps < 0:
            raise ValueError(f"bridge_gaps must be 0 frames or more, got {self.bridge_gaps}")
        if self.first_frame not in (None, 0, 1):
            raise ValueError(f"the first frame's number is 0 or 1, got {self.first_frame}")


@dataclass(frozen=True)
class _Row:
    """A valid line."""

    frame: int
    person: int
    box: list[float]
    kind: int | None


def name_of_video(video: Path, tracks: Path) -> str:
    """Return a name for display of a video's people by a tracker: others have the same video's or file's name."""
    both = hashlib.sha256(f"{video.resolve()}\n{tracks.resolve()}".encode(errors="surrogateescape"))
    return f"{video.name} {both.hexdigest()[:4]}"


def read_tracks(path: Path, how: TrackFormat | None = None) -> tuple[Tracks, Omissions]:
    """Read a MOT-format file: `frame,id,left,top,width,height,confidence,class,visibility`, rows in any order.

    Columns are separated by commas, semicolons (numbers may have decimal commas then), tabs or spaces, whichever
    gives most rows six of them; the text is UTF-8, or UTF-16 with its mark. Quotes around numbers are passed over.

    Args:
        path: the file.
        how: format of the file, if it differs from MOT's.

    Returns:
        The boxes of all valid rows and of bridged gaps, and the rows left out, by reason, with their line numbers.

    Raises:
        ValueError: the file is missing, empty, no text, or has no valid row; or its boxes are shares of the frame.
    """
    how = how or TrackFormat()
    lines = _read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    separator = _separator(lines)
    rows: dict[tuple[int, int], _Row] = {}
    places: dict[tuple[int, int], int] = {}
    omissions = Omissions()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _parse_row(_columns(line, separator), how)
            if (row.person, row.frame) in rows:
                raise ValueError("row that repeats a frame and id (the first is kept)")
            rows[row.person, row.frame] = row
            places[row.person, row.frame] = number
        except ValueError as error:
            omissions.add(str(error), f"line {number}")
    if not rows:
        raise ValueError(f"the tracks {path} have no valid row: {omissions}. A valid row is {VALID_ROW}")
    keys = sorted(rows)
    boxes = np.array([rows[key].box for key in keys])
    if (boxes <= 1).all():
        raise ValueError(
            f"the tracks {path} have boxes of at most 1 pixel: are they shares of the frame? Multiply them by its "
            f"width and height. A valid row is {VALID_ROW}"
        )
    first_frame, earliest = how.first_frame, min(keys, key=lambda key: key[1])
    if first_frame is None:
        first_frame = 1 if earliest[1] else 0
        if first_frame == 0:
            reason = "file that counts frames from 0 (if it does not, say --first-frame 1)"
            omissions.add(reason, f"line {places[earliest]}", boxes=0)
    if how.first_frame == 1 and earliest[1] == 0:
        for key in [key for key in keys if key[1] == 0]:
            omissions.add("row whose frame is 0, where frames count from 1", f"line {places[key]}")
        kept = np.array([key[1] > 0 for key in keys])
        keys, boxes = [key for key in keys if key[1] > 0], boxes[kept]
        if not keys:
            raise ValueError(f"the tracks {path} have no valid row: {omissions}. A valid row is {VALID_ROW}")
    kinds = Counter(rows[key].kind for key in keys if rows[key].kind is not None)
    if len(kinds) > 1 and not how.classes:
        counts = ", ".join(f"{kind}: {count:,} boxes" for kind, count in sorted(kinds.items()))
        reason = f"file with several classes, all taken for people (--classes chooses): {counts}"
        omissions.add(reason, "column 8", boxes=0)
    people, frames = np.array(keys, dtype=np.int64).T
    tracks = Tracks(people, frames - first_frame, boxes)
    return bridge_gaps(tracks, how.bridge_gaps, omissions), omissions


def bridge_gaps(tracks: Tracks, most_frames: int, omissions: Omissions) -> Tracks:
    """Put boxes into short gaps of tracks, on straight lines in time from the box before to the box after.

    Args:
        tracks: the boxes.
        most_frames: longest gap that is filled, in frames.
        omissions: omissions, to which the boxes put in are added, as lost boxes below 0.

    Returns:
        Tracks with the old boxes and the new ones.
    """
    steps = np.diff(tracks.frame_index)
    gaps = np.flatnonzero((np.diff(tracks.people) == 0) & (steps > 1) & (steps <= most_frames + 1))
    people, frames, boxes = [tracks.people], [tracks.frame_index], [tracks.boxes]
    for row in gaps:
        inside = np.arange(1, steps[row])
        share = (inside / steps[row])[:, None]
        people.append(np.full(len(inside), tracks.people[row]))
        frames.append(tracks.frame_index[row] + inside)
        boxes.append((1 - share) * tracks.boxes[row] + share * tracks.boxes[row + 1])
        place = f"person {tracks.people[row]}, frame {tracks.frame_index[row] + 2}"
        reason = f"box put into a gap of at most {most_frames} frames"
        omissions.add(reason, place, boxes=-len(inside), count=len(inside))
    order = np.lexsort((np.concatenate(frames), np.concatenate(people)))
    return Tracks(np.concatenate(people)[order], np.concatenate(frames)[order], np.concatenate(boxes)[order])


def _read_text(path: Path) -> str:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise ValueError(f"the tracks {path} are no regular file of at most {MOST_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the tracks {path}: {error.strerror or error}") from error
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or not text.strip():
        state = "is no text file" if text.strip() else "is empty"
        raise ValueError(f"the tracks {path}: the file {state}. A valid row is {VALID_ROW}")
    return text


def _separator(lines: list[str]) -> str | None:
    """Return what separates the columns: the first of comma, semicolon, tab and spaces that does so best."""
    some = [line for line in lines if line.strip()][:LOOKED_AT]
    separators = (",", ";", "\t", None)
    return max(separators, key=lambda one: sum(_has_numbers(_columns(line, one)) for line in some))


def _has_numbers(columns: list[str]) -> bool:
    return len(columns) >= 6 and all(_number(column) is not None for column in columns[:6])


def _number(column: str) -> float | None:
    try:
        return float(column)
    except ValueError:
        return None


def _columns(line: str, separator: str | None) -> list[str]:
    columns = [column.strip().strip("\"'").strip() for column in line.strip().split(separator)]
    return columns if separator == "," else [column.replace(",", ".") for column in columns]


def _parse_row(columns: list[str], how: TrackFormat) -> _Row:
    """Return frame, id, box and class; the ValueError's text is the reason to omit the row."""
    if len(columns) < 6:
        raise ValueError("row with fewer than 6 columns")
    numbers = [number for column in columns[:6] if (number := _number(column)) is not None]
    if len(numbers) < 6:
        raise ValueError("row with a column that is no number")
    if not all(map(math.isfinite, numbers)):
        raise ValueError("row with NaN or infinity")
    frame, person, *box = numbers
    # A tracker that writes something else there, or nothing, does not know these columns.
    known = [_number(column) for column in [*columns[6:9], "", "", ""][:3]]
    confidence, kind, visibility = [-1.0 if one is None or not math.isfinite(one) else one for one in known]
    if not (frame.is_integer() and 0 <= frame <= LARGEST_INTEGER):
        raise ValueError("row whose frame is no whole number of 0 or more")
    if not (person.is_integer() and 0 <= person <= LARGEST_ID):
        raise ValueError("row whose id is no whole number of 0 or more (-1 is a box without a track)")
    if how.corners:
        box[2:] = [box[2] - box[0], box[3] - box[1]]
    if box[2] <= 0 or box[3] <= 0:
        raise ValueError("row whose width or height is not positive")
    if confidence == 0:
        raise ValueError("row with confidence 0 (MOT's mark for boxes to ignore)")
    if how.classes and kind not in how.classes:
        raise ValueError(f"row of another class than {', '.join(map(str, how.classes))}")
    if how.min_visibility and visibility < how.min_visibility:
        raise ValueError(f"row of which less than {how.min_visibility:g} is visible")
    # float has no 64 bits for an id
    exact = int(columns[1]) if columns[1].isdecimal() else int(person)
    return _Row(int(frame), exact, box, int(kind) if kind >= 0 and kind.is_integer() else None)
