"""Listings: where published data sets say what tracklets they have, and of each its person, camera and clothes.

A listing is a function of the data's folder that returns one part's tracklets. Three kinds are made here:
`folders` (a folder for each tracklet), `lines` (a text file with a line for each) and `tracks` (a list of frames,
and a table of the frames that belong together). What a listing leaves open, the names of its frames say.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from backbone.data.images import IMAGE_ENDINGS
from backbone.data.sets.mat import read_table
from backbone.data.tracklet import JUNK, FrameFiles, Tracklet

Listing = Callable[[Path], list[Tracklet]]
Said = Mapping[str, str]
"""What a line, folder or frame says, by the groups of its pattern: person, camera, clothes, ..."""


@dataclass(frozen=True, eq=False)
class NamedFrames:
    """Frames as image files in a folder; paths are made when needed.

    Attributes:
        folder: folder of the files.
        names: names of the files, in order.
        letters: number of letters at the start of a name that are the name of a folder in between.
    """

    folder: Path
    names: tuple[str, ...]
    letters: int = 0

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(self.folder / name[: self.letters] / name for name in self.names)

    def read(self) -> Iterator[np.ndarray]:
        """Decode file after file; see `FrameFiles.read`."""
        return FrameFiles(self.paths).read()

    @cached_property
    def key(self) -> str:
        """A digest of the files' paths, sizes and modification times."""
        return FrameFiles(self.paths).key

    @cached_property
    def key_with_missing(self) -> str:
        """Return a key like `key`, in which missing files are named."""
        return FrameFiles(self.paths).key_with_missing


def camera_said(said: Said) -> int:
    """Return the number of the camera that is said."""
    return int(said["camera"])


def folders(where: str, frame: str) -> Listing:
    """Return the listing of a folder `<where>/<person>/<tracklet>/<frame>`; empty ones are passed over.

    Args:
        where: folder of the part.
        frame: pattern of a frame's name, with the groups `camera` and `frame`, a number that orders the frames.
    """

    def listing(root: Path) -> list[Tracklet]:
        found = []
        for person in _folders(root / where):
            if not person.name.isdecimal():
                raise ValueError(f"{person} is no person's folder: its name has to be a number")
            for folder in _folders(person):
                if images := _images(folder):
                    name, said = folder.relative_to(root).as_posix(), {"person": person.name}
                    found.append(_tracklet(folder, images, name, said, frame, camera_said))
        return found

    return listing


def lines(file: str, line: str, frame: str, camera: Callable[[Said], int] = camera_said) -> Listing:
    """Return the listing of a text file with a line for each tracklet.

    Args:
        file: file of the part.
        line: pattern of a line, with the groups `path` (a folder of frames, or how the paths of the frames begin),
            `person` and, if it says so, `clothes` and what `camera` takes.
        frame: pattern of a frame's name, with the group `frame`, a number that orders the frames, and, if it says
            so, `camera`.
        camera: function that returns the camera's id from what the line and the frames say.
    """

    def listing(root: Path) -> list[Tracklet]:
        rows = []
        for number, text in enumerate(_text(root / file).splitlines(), 1):
            if not text.strip():
                continue
            if (match := re.fullmatch(line, text.strip())) is None:
                raise ValueError(f"{root / file}, line {number}: {text!r} is no line as {line}")
            path = Path(match["path"])
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{root / file}, line {number}: {path} is not in the folder of the data")
            rows.append(match.groupdict())
        frames = _frames_of(root, [row["path"] for row in rows])
        return [
            _tracklet(
                *frames[row["path"]], row["path"], {key: one for key, one in row.items() if one}, frame, camera
            )
            for row in rows
        ]

    return listing


def tracks(
    half: str, table: str, *, names: str, first: int, columns: Sequence[str], variable: str = ""
) -> Listing:
    """Return the listing of a table of first and last frame, person and more, over a list of the frames' names.

    The frames are at `bbox_<half>/<first four letters of the name>/<name>`.

    Args:
        half: train or test.
        table: file of the table: MATLAB's, or text.
        names: file of the names.
        first: number of the first name in the table.
        columns: names of the table's columns after the first and the last frame: person, camera and clothes.
        variable: name of the table in a MATLAB file.
    """

    def listing(root: Path) -> list[Tracklet]:
        rows = numbers(table, columns=2 + len(columns), variable=variable)(root)
        words, folder = _text(root / names).split(), root / f"bbox_{half}"
        found = []
        for row, (begin, end, *rest) in enumerate(rows.tolist()):
            said = dict(zip(columns, rest, strict=True))
            places = (begin - first, end - first + 1)
            found.append(named_track(folder, words, places, said, f"{half}/{row}", may_be_empty=True))
        return found

    return listing


def named_track(
    folder: Path,
    names: Sequence[str],
    places: tuple[int, int],
    said: Mapping[str, int],
    name: str,
    *,
    start: str = "",
    may_be_empty: bool = False,
) -> Tracklet:
    """Return a track of frames whose names begin with their person.

    Args:
        folder: folder of the folders of frames.
        names: names of all frames.
        places: place of the track's first name, and of the one after its last.
        said: person, camera and, if known, clothes.
        name: name of the track.
        start: text that follows the person in the names.
        may_be_empty: whether a track may have no name, if its last comes before its first.

    Raises:
        ValueError: the track is not within the names, or they are of somebody else.
    """
    begin, end = places
    if not 0 <= begin < end <= len(names) and not (may_be_empty and end <= begin):
        raise ValueError(f"track {name} has the lines {begin + 1} to {end} of {len(names):,}")
    own = tuple(names[begin:end]) if begin < end else ()
    person, camera = said["person"], said["camera"]
    start = ("00-1" if person == JUNK else f"{person:04d}") + start
    if (other := next((one for one in own if not one.startswith(start) or "/" in one), None)) is not None:
        raise ValueError(
            f"track {name}, lines {begin + 1} to {end}, is of person {person} and camera {camera}, and names as "
            f"{other!r} say otherwise, which are no file names that begin with {start}: is the name list in the "
            "published order?"
        )
    clothes = str(said["clothes"]) if "clothes" in said else ""
    return Tracklet(person, camera, NamedFrames(folder, own, 4), "", name=name, clothes=clothes)


def numbers(file: str, *, columns: int | None = None, variable: str = "") -> Callable[[Path], np.ndarray]:
    """Return a function of the data's folder that reads a table of whole numbers, int64 (rows, columns).

    Args:
        file: file of the table: MATLAB's, or text.
        columns: number of the columns; None for a list, int64 (rows,).
        variable: name of the table in a MATLAB file.
    """

    def read(root: Path) -> np.ndarray:
        if variable:
            table = read_table(root / file, variable, (None, columns))
        else:
            try:
                table = np.array([line.split() for line in _text(root / file).splitlines() if line.strip()], float)
                if columns and table.shape[1:] != (columns,):
                    raise ValueError(f"its table is of shape {table.shape}")
            except ValueError as error:
                raise ValueError(f"{root / file} is no table of {columns or 'some'} columns: {error}") from error
            if not (np.isfinite(table) & (table == np.floor(table))).all():
                raise ValueError(f"{root / file} holds what is no whole number")
        return table.astype(np.int64) if columns else table.astype(np.int64).reshape(-1)

    return read


def _tracklet(
    folder: Path, names: list[str], name: str, said: Said, frame: str, camera: Callable[[Said], int]
) -> Tracklet:
    """Return the tracklet of a folder's images, in the order of their numbers."""
    ordered: list[tuple[int, str]] = []
    shown: set[str] = set()
    for one in names:
        if (match := re.fullmatch(frame, one)) is None:
            raise ValueError(f"{folder / one} is not named as frames here are, {frame}")
        ordered.append((int(match["frame"]), one))
        shown.add(match.groupdict().get("camera", ""))
    if not ordered:
        raise ValueError(f"there are no frames of {name} in {folder}")
    if len(shown) > 1:
        raise ValueError(f"the frames of {name} in {folder} are by several cameras: {', '.join(sorted(shown))}")
    frames = NamedFrames(folder, tuple(one for _, one in sorted(ordered)))
    by = camera({**said, "camera": shown.pop()})
    return Tracklet(int(said["person"]), by, frames, "", name=name, clothes=said.get("clothes", ""))


def _frames_of(root: Path, paths: Sequence[str]) -> dict[str, tuple[Path, list[str]]]:
    """Return the folder and the names of the frames of each path: a folder, or how their paths begin.

    A frame that two of them begin belongs to the longer one.
    """
    found: dict[str, tuple[Path, list[str]]] = {}
    starts: dict[Path, list[str]] = {}
    for path in paths:
        if (root / path).is_dir():
            found[path] = (root / path, _images(root / path))
        else:
            parent = (root / path).parent
            starts.setdefault(parent, []).append(path)
            found[path] = (parent, [])
    for folder, own in starts.items():
        longest_first = sorted(own, key=len, reverse=True)
        for name in _images(folder):
            of = next((path for path in longest_first if name.startswith(path.rpartition("/")[2])), None)
            if of is not None:
                found[of][1].append(name)
    return found


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    return sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))


def _images(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    names = sorted(one.name for one in folder.iterdir())
    return [one for one in names if one.lower().endswith(IMAGE_ENDINGS) and not one.startswith(".")]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
