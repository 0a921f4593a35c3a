"""Tracklets listed in a CSV file: the folder of each one's frames, its person, its camera, and its part."""

import csv
from collections.abc import Iterator
from pathlib import Path

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.division import PARTS, as_divided, divide
from backbone.data.sets.folder import frames_in, numbers
from backbone.data.tracklet import FrameFiles, Tracklet

NEEDED = ("path", "person", "camera")
COLUMNS = (
    "path (a folder of frames), person, camera and, if the file divides the people, part (train, query, gallery)"
)


def read_csv(file: Path) -> list[tuple[str, Tracklet]]:
    """Read a CSV file whose first line names the columns path, person, camera and, if it divides them, part.

    A path is a tracklet's folder of frames, relative to the file's. People and cameras have any names, and are
    numbered from 1 in natural order of these. A path in two lines, of the query and of the
    gallery, is one tracklet.

    Returns:
        The part of each line, empty where there is none, and the tracklet, in the file's order.

    Raises:
        ValueError: an error of the file; the message names file and line.
    """
    rows = list(_rows(file))
    people = numbers(row["person"] for _, row in rows)
    cameras = numbers(row["camera"] for _, row in rows)
    first: dict[str, tuple[int, dict[str, str]]] = {}
    seen: dict[tuple[str, str], int] = {}
    made: dict[str, Tracklet] = {}
    for line, row in rows:
        path = row["path"]
        at, before = first.setdefault(path, (line, row))
        if any(row[name] != before[name] for name in ("person", "camera")):
            raise ValueError(f"{file}, line {line}: {path} has another person or camera than in line {at}")
        if (again := seen.setdefault((path, row["part"]), line)) != line:
            raise ValueError(f"{file}, line {line}: {path} was in line {again} already")
        if bool(row["part"]) != bool(rows[0][1]["part"]):
            raise ValueError(f"{file}, line {line}: all lines have a part, or none has; line {rows[0][0]} differs")
        if path not in made:
            try:
                frames = FrameFiles(frames_in(file.parent / path))
            except ValueError as error:
                raise ValueError(f"{file}, line {line}: {error}") from error
            person, camera = people[row["person"]], cameras[row["camera"]]
            source = f"{file.stem}/{path}"
            made[path] = Tracklet(person, camera, frames, source, name=path, person_name=row["person"])
    return [(row["part"], made[row["path"]]) for _, row in rows]


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line, from 1, and what it says by column."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
                found = ", ".join(reader.fieldnames or ())
                raise ValueError(f"{file}, line 1: no column {missing[0]} in {found!r}; the columns are {COLUMNS}")
            number = None
            for row in reader:
                number = reader.line_num
                values = {name: (row.get(name) or "").strip() for name in (*NEEDED, "part")}
                if empty := [name for name in NEEDED if not values[name]]:
                    raise ValueError(f"{file}, line {number}: there is no {empty[0]}; the columns are {COLUMNS}")
                if values["part"] not in ("", *PARTS):
                    raise ValueError(
                        f"{file}, line {number}: the part is {', '.join(PARTS)} or empty, got {values['part']!r}"
                    )
                yield number, values
            if number is None:
                raise ValueError(f"{file} lists no tracklet; the columns are {COLUMNS}")
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV file in UTF-8: {error}") from error


def _undivided(file: Path) -> list[Tracklet] | None:
    rows = read_csv(file)
    return None if rows[0][0] else [tracklet for _, tracklet in rows]


def _read(file: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert file is not None
    rows = read_csv(file)
    if rows[0][0]:
        return as_divided(f"csv:{file}", rows)
    return divide(f"csv:{file}", [tracklet for _, tracklet in rows], config)


TABLE = DataSet("csv", _read, example="csv:<file>", options=("test_fraction", "split_seed"), undivided=_undivided)
