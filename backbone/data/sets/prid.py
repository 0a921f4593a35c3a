"""PRID-2011: 178 people seen by two cameras, in 10 splits of 89 people to train on and 89 to search for."""

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.images import images_in
from backbone.data.sets.layout import find_root, numbered_folders
from backbone.data.tracklet import FrameFiles, Tracklet

LAYOUT = "<dir>/multi_shot/cam_{a,b}/person_XXXX/NNNN.png, <dir> or <dir>/prid_2011"
SOURCE = "PRID-2011, multi-shot version, from its authors at Graz University of Technology"
CAMERAS = ("cam_a", "cam_b")
NUM_PEOPLE, NUM_SPLITS, NUM_TRAIN = 178, 10, 89
PEOPLE_IN_BOTH = 200  # numbers 1 to this are in both cameras
MIN_FRAMES = 27
# Those of 1 to 200 with fewer frames in a camera.
EXCLUDED = frozenset(
    (6, 19, 31, 52, 57, 62, 71, 94, 106, 120, 136, 138, 139, 142, 145, 158, 159, 166, 183, 190, 199, 200)
)
SPLITS_FILE = "splits_prid2011.json"


def read_prid(directory: Path, split: int = 0) -> ReidData:
    """Read a split: queries by camera a (0), gallery by camera b (1), one match each.

    Args:
        directory: directory of the data set. A file splits_prid2011.json in it takes the place of the splits built
            in.
        split: number of the split, 0 to 9.

    Raises:
        ValueError: no such split, or files that are missing or not as published; the message names them.
    """
    root = find_root(directory, "multi_shot", inside=("", "prid_2011"), layout=LAYOUT, source=SOURCE)
    folders = [numbered_folders(root / camera, "person_", LAYOUT) for camera in CAMERAS]
    tracklets: dict[int, list[Tracklet]] = {}
    for person in range(1, PEOPLE_IN_BOTH + 1):
        for camera, by_number in enumerate(folders):
            if person not in by_number:
                raise ValueError(
                    f"there is no {root / CAMERAS[camera]}/person_{person:04d}; the layout is {LAYOUT}"
                )
        frames = [tuple(images_in(by_number[person], LAYOUT).values()) for by_number in folders]
        if min(map(len, frames)) >= MIN_FRAMES:
            tracklets[person] = [_tracklet(person, camera, paths) for camera, paths in enumerate(frames)]
    expected = set(range(1, PEOPLE_IN_BOTH + 1)) - EXCLUDED
    if tracklets.keys() != expected:
        missing, more = sorted(expected - tracklets.keys()), sorted(tracklets.keys() - expected)
        raise ValueError(
            f"{root} has {len(tracklets)} people with {MIN_FRAMES} frames or more in both cameras, expected "
            f"{NUM_PEOPLE}: persons {missing} are short of frames, persons {more} are too many"
        )
    train = set(_train_people((root.parent, directory), split, expected))
    data = ReidData("prid", [], [], [])
    for person, (query, match) in sorted(tracklets.items()):
        if person in train:
            data.train.extend((query, match))
        else:
            data.query.append(query)
            data.gallery.append(match)
    return data


def _tracklet(person: int, camera: int, paths: tuple[Path, ...]) -> Tracklet:
    name = f"{CAMERAS[camera]}/person_{person:04d}"
    return Tracklet(person, camera, FrameFiles(paths), f"prid/{name}", name=name)


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    return read_prid(directory, config.split)


PRID = DataSet(
    "prid",
    _read,
    example="prid:<directory>",
    options=("split",),
    num_splits=NUM_SPLITS,
    frame_folders=("multi_shot",),
    frame_name=re.compile(r"\d{4}\.png"),
)


def _train_people(folders: Sequence[Path], split: int, people: set[int]) -> list[int]:
    """Return the training people of a split, from one of the data's folders or as built in.

    Raises:
        ValueError: no such split, or a file that holds others.
    """
    path = next((place for folder in folders if (place := folder / SPLITS_FILE).is_file()), None)
    splits = built_in_splits() if path is None else _own_splits(path, people)
    if not 0 <= split < len(splits):
        raise ValueError(f"PRID-2011's splits are numbered 0 to {len(splits) - 1}, got {split}")
    return splits[split]


@cache
def built_in_splits() -> list[list[int]]:
    """Return the training people of the 10 splits."""
    return json.loads(files("backbone.data").joinpath("splits", "prid.json").read_text(encoding="utf-8"))


def _own_splits(path: Path, people: set[int]) -> list[list[int]]:
    try:
        own = json.loads(path.read_text(encoding="utf-8"))
        halves = [
            [{int(name.rpartition("_")[2]) for name in one[half]} for half in ("train", "test")] for one in own
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(
            f'{path} is no list of splits, [{{"train": ["person_0001", ...], "test": [...]}}, ...]: {error}'
        ) from error
    if not halves:
        raise ValueError(f"{path} holds no split")
    for number, (train, test) in enumerate(halves):
        if train & test or train | test != people or len(train) != NUM_TRAIN:
            raise ValueError(
                f"split {number} of {path} has {len(train)} and {len(test)} people, {len(train & test)} of them "
                f"in both, expected {NUM_TRAIN} and {NUM_PEOPLE - NUM_TRAIN} of the {NUM_PEOPLE}"
            )
    return [sorted(train) for train, _ in halves]
