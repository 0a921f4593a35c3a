"""iLIDS-VID: 300 people seen by two cameras, in 10 splits of 150 people to train on and 150 to search for."""

import re
from pathlib import Path

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.images import images_in
from backbone.data.sets.layout import find_root, numbered_folders
from backbone.data.sets.mat import read_table
from backbone.data.tracklet import FrameFiles, Tracklet

LAYOUT = "<dir>/i-LIDS-VID/sequences/cam{1,2}/personNNN/cam1_personNNN_<frame>.png"
SOURCE = "iLIDS-VID, from its authors at Queen Mary University of London"
SPLITS = Path("train-test people splits", "train_test_splits_ilidsvid.mat")
CAMERAS = ("cam1", "cam2")
NUM_PEOPLE, NUM_SPLITS, NUM_TRAIN = 300, 10, 150
LARGEST_NUMBER = 319  # of a person
FRAMES = (22, 193)  # the shortest and the longest tracklet


def read_ilids(directory: Path, split: int = 0, *, swap_halves: bool = False) -> ReidData:
    """Read a split: queries by camera 1, gallery by camera 2, one match each.

    Args:
        directory: directory of the data set.
        split: number of the split, 0 to 9, a row of the splits' table. Its values, 1 to 300, index the sorted list
            of folders; the first 150 of a row are the test people.
        swap_halves: whether to train on the first 150, as some code does.

    Raises:
        ValueError: no such split, or files that are missing or not as published; the message names them.
    """
    root = find_root(directory, "sequences", inside=("i-LIDS-VID", ""), layout=LAYOUT, source=SOURCE)
    folders = [numbered_folders(root / camera, "person", LAYOUT) for camera in CAMERAS]
    people = sorted(folders[0])
    if people != sorted(folders[1]):
        differing = sorted(folders[0].keys() ^ folders[1].keys())
        raise ValueError(
            f"persons {differing[:5]} are in one of {root}/cam1 and cam2 only; the layout is {LAYOUT}"
        )
    if len(people) != NUM_PEOPLE or people[0] < 1 or people[-1] > LARGEST_NUMBER:
        raise ValueError(
            f"{root} has {len(people)} people, numbered {people[:1]} to {people[-1:]}, expected {NUM_PEOPLE} "
            f"within 1 to {LARGEST_NUMBER}"
        )
    tracklets = [[_tracklet(by_number[person], person, camera) for camera, by_number in enumerate(folders, 1)]
                 for person in people]  # fmt: skip
    first, second = _row(directory, root, split)
    train, test = (first, second) if swap_halves else (second, first)
    return ReidData(
        "ilids",
        [tracklet for index in sorted(train) for tracklet in tracklets[index]],
        [tracklets[index][0] for index in sorted(test)],
        [tracklets[index][1] for index in sorted(test)],
    )


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    return read_ilids(directory, config.split, swap_halves=config.swap_halves)


ILIDS = DataSet(
    "ilids",
    _read,
    example="ilids:<directory>",
    options=("split", "swap_halves"),
    num_splits=NUM_SPLITS,
    frame_folders=("sequences",),
    frame_name=re.compile(r"(?P<above>cam[12])_(?P<folder>person\d{3})_\d+\.png"),
)


def _tracklet(folder: Path, person: int, camera: int) -> Tracklet:
    paths = tuple(images_in(folder, LAYOUT).values())
    low, high = FRAMES
    if not low <= len(paths) <= high:
        raise ValueError(f"{folder} has {len(paths)} frames, expected {low} to {high}: are files missing?")
    name = f"{folder.parent.name}/{folder.name}"
    return Tracklet(person, camera, FrameFiles(paths), f"ilids/{name}", name=name)


def _row(directory: Path, root: Path, split: int) -> tuple[list[int], list[int]]:
    """Return the places of the first and the second 150 people of a split, from 0.

    Raises:
        ValueError: no such split, or a table that is not as published.
    """
    if not 0 <= split < NUM_SPLITS:
        raise ValueError(f"iLIDS-VID's splits are numbered 0 to {NUM_SPLITS - 1}, got {split}")
    places = [folder / SPLITS for folder in (directory, root.parent, root.parent.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(f"there is no file {places[0]}, which has the splits ({SOURCE})")
    row = (read_table(path, "ls_set", (NUM_SPLITS, NUM_PEOPLE))[split] - 1).tolist()
    if sorted(row) != list(range(NUM_PEOPLE)):
        raise ValueError(f"row {split} of ls_set in {path} is no order of the numbers 1 to {NUM_PEOPLE}")
    return row[:NUM_TRAIN], row[NUM_TRAIN:]
