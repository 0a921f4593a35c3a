"""MARS: 625 people to train on, 634 others and distractors to search among, in tracks by a detector."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.sets.layout import find_root
from backbone.data.sets.listings import named_track
from backbone.data.sets.mat import read_table
from backbone.data.tracklet import DISTRACTOR, JUNK, Tracklet

LAYOUT = "<dir>/bbox_{train,test}/<person>/<name>.jpg and <dir>/info/{*.mat, *_name.txt}"
SOURCE = "MARS, from its authors at Tsinghua University and UTS"


@dataclass(frozen=True)
class MarsCounts:
    """Published numbers of lines and tracks; tests have smaller ones."""

    train_names: int = 509_914
    test_names: int = 681_089
    train_tracks: int = 8298
    test_tracks: int = 12_180
    queries: int = 1980
    train_people: int = 625
    junk_tracks: int = 870
    distractor_tracks: int = 3248
    query_people: int = 626
    test_people: int = 634


def read_mars(directory: Path, counts: MarsCounts = MarsCounts()) -> ReidData:
    """Read the tracks by the official tables.

    The queries are some of the gallery's tracks, as published. Junk (person -1) is in the gallery, too, and left
    out by scoring; distractors (person 0) stay. Which queries and gallery tracks count is the scoring's
    (`backbone.metrics.SCORINGS`).

    Args:
        directory: directory of the data set; the .mat tables are needed, name lists that are missing are made by
            sorting the files.
        counts: expected numbers of lines and tracks.

    Raises:
        ValueError: files that are missing or not as published; the message names them.
    """
    info = find_root(directory, "info", inside=("", "MARS"), layout=LAYOUT, source=SOURCE)
    root = info.parent
    for half in ("train", "test"):
        if not (root / f"bbox_{half}").is_dir():
            raise ValueError(f"there is no folder {root / f'bbox_{half}'}; the layout is {LAYOUT} ({SOURCE})")
    train_names = _names(root, "train", counts.train_names)
    test_names = _names(root, "test", counts.test_names)
    train_table = read_table(info / "tracks_train_info.mat", "track_train_info", (counts.train_tracks, 4))
    test_table = read_table(info / "tracks_test_info.mat", "track_test_info", (counts.test_tracks, 4))
    query_rows = read_table(info / "query_IDX.mat", "query_IDX", (1, counts.queries))[0] - 1
    train = _tracks(root / "bbox_train", train_names, train_table, "train")
    gallery = _tracks(root / "bbox_test", test_names, test_table, "test")
    if len(set(query_rows.tolist())) < len(query_rows) or query_rows.min() < 0 or query_rows.max() >= len(gallery):
        raise ValueError(f"{info / 'query_IDX.mat'} has rows twice, or beyond the {len(gallery)} test tracks")
    query = [gallery[row] for row in query_rows.tolist()]
    _check_people(train, query, gallery, counts, info)
    return ReidData("mars", train, query, gallery, distractors=frozenset({DISTRACTOR}))


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    return read_mars(directory)


MARS = DataSet(
    "mars",
    _read,
    example="mars:<directory>",
    frame_folders=("bbox_train", "bbox_test"),
    frame_name=re.compile(r"(?P<folder>\d{4}|00-1)C\dT\d{4}F\d{3,}\.jpg"),
)


def _names(root: Path, half: str, expected: int) -> list[str]:
    """Return the names of a half's frames in order."""
    path, folder = root / "info" / f"{half}_name.txt", root / f"bbox_{half}"
    if path.is_file():
        names, found = path.read_text(errors="replace", encoding="utf-8").split(), str(path)
    else:
        people = sorted(person for person in folder.iterdir() if person.is_dir())
        # by ASCII, so that 00-1 comes before 0000
        names = [name for person in people for name in sorted(file.name for file in person.glob("[!.]*.jpg"))]
        found = f"{folder} (there is no {path})"
    if len(names) != expected:
        raise ValueError(f"{found} has {len(names):,} names, expected {expected:,}")
    return names


def _tracks(folder: Path, names: list[str], table: np.ndarray, half: str) -> list[Tracklet]:
    """Return the tracks of a table (first and last line from 1, person, camera), checked against the names."""
    return [
        dataclasses.replace(
            named_track(
                folder,
                names,
                (first - 1, last),
                {"person": person, "camera": camera},
                f"{half}/{row}",
                start=f"C{camera}",
            ),
            source=f"mars/{half}/{row}",
        )
        for row, (first, last, person, camera) in enumerate(table.tolist())
    ]


def _check_people(
    train: list[Tracklet], query: list[Tracklet], gallery: list[Tracklet], counts: MarsCounts, info: Path
) -> None:
    known = {tracklet.person for tracklet in train}
    searched = [tracklet.person for tracklet in gallery]
    test_people = set(searched) - {JUNK, DISTRACTOR}
    found = {
        "training people": (len(known), counts.train_people),
        "test people": (len(test_people), counts.test_people),
        "junk tracks": (searched.count(JUNK), counts.junk_tracks),
        "distractor tracks": (searched.count(DISTRACTOR), counts.distractor_tracks),
        "people asked for": (len({tracklet.person for tracklet in query}), counts.query_people),
        "people in both halves": (len(known & test_people), 0),
    }
    for what, (got, wanted) in found.items():
        if got != wanted:
            raise ValueError(f"the tables in {info} have {got} {what}, expected {wanted}")
