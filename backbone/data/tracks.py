"""Tracks of people in a video, from a MOT-format text file of boxes, and what had to be left out."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VALID_ROW = "1,9,312.00,98.56,19.39,46.98,1 (frame from 1, id, left, top, width, height in pixels, confidence)"
LARGEST_INTEGER = 2**31


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
