"""Tracklets from a folder of your own, and the division of its people into train and test."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.images import IMAGE_ENDINGS
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.data.tracks import CUT_REPORT, name_of_video

TIME = re.compile(r"(\d+(?:\.\d+)?)\.(?:jpe?g|png)", re.IGNORECASE)
LAYOUT = "<root>/<person>/<camera>/<tracklet>/<frame>.jpg, .jpeg or .png"


def read_folder(root: Path) -> list[Tracklet]:
    """Read `<root>/<person>/<camera>/<tracklet>/<frame>.jpg`, `.jpeg` or `.png` (in any case).

    Everything is sorted naturally (numbers inside names compare as numbers; frames named by decimal numbers, as by
    times, in the order of these) and what begins with a
    dot is passed over. People and cameras are numbered from 1 by their sorted folder names, cameras
    over the whole root: one camera name is one number for every person. No image is decoded here.

    Returns:
        The tracklets, `FrameFiles`, by person, then camera, then tracklet name.

    Raises:
        ValueError: the root is missing or empty, a folder is empty, a file is empty or lies where
            the layout has none. The message names the path and states the layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder at {root}; the layout is {LAYOUT}")
    found = [
        (person.name, camera.name, tracklet)
        for person in _folders(root, "person folders")
        for camera in _folders(person, "camera folders")
        for tracklet in _folders(camera, "tracklet folders")
    ]
    people = _numbers(person for person, _, _ in found)
    cameras = _numbers(camera for _, camera, _ in found)
    root_name, video = root.resolve().name, _video_of_cut(root)
    return [
        Tracklet(
            people[person],
            cameras[camera],
            FrameFiles(frames_in(tracklet)),
            f"{root_name}/{person}/{camera}/{tracklet.name}",
            name=f"{person}/{camera}/{tracklet.name}",
            person_name=f"{video} {int(person)}" if video and person.isdecimal() else person,
        )
        for person, camera, tracklet in found
    ]


def _video_of_cut(root: Path) -> str:
    """Return the name for the people of the video that a folder was cut from, empty if it was not.

    The folders are ids of its tracker then, which another video's gives to other people.
    """
    try:
        report = json.loads((root / CUT_REPORT).read_text(encoding="utf-8"))
        return name_of_video(Path(report["video"]), Path(report["tracks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def split_people(
    tracklets: Sequence[Tracklet], *, test_fraction: float, seed: int
) -> tuple[list[Tracklet], list[Tracklet]]:
    """Divide tracklets into train and test by person: no person is on both sides.

    A query is a person seen again by another camera, so people with two or more cameras are divided
    first. People with one camera are divided after them: they can be trained on, and in the test
    half they are distractors in the gallery. The division depends on the people and the seed, not
    on the order of the tracklets, which is kept.

    Args:
        tracklets: the tracklets of all people.
        test_fraction: share of people in the test half, between 0 and 1; it is rounded to whole
            people, and bent where it would leave fewer than 2 people on a side.
        seed: of numpy's `default_rng`.

    Returns:
        The train tracklets and the test tracklets.

    Raises:
        ValueError: `test_fraction` is not between 0 and 1, or there are too few people.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; it must lie between 0 and 1, both excluded")
    cameras_of: dict[int, set[int]] = {}
    for tracklet in tracklets:
        cameras_of.setdefault(tracklet.person, set()).add(tracklet.camera)
    several = sorted(person for person, cameras in cameras_of.items() if len(cameras) > 1)
    single = sorted(person for person, cameras in cameras_of.items() if len(cameras) == 1)
    if len(several) < 2 or len(cameras_of) < 4:
        raise ValueError(
            f"{len(several)} of {len(cameras_of)} people are seen by two cameras or more. The test half "
            "needs at least 2 of these (a query must be found again by another camera, among other people), "
            "and the train half at least 2 people more, of any kind. Add people, or name a second view "
            "of them as a second camera."
        )
    rng = np.random.default_rng(seed)
    most = min(len(several), len(cameras_of) - 2)
    num_several = min(max(int(test_fraction * len(several) + 0.5), 2), most)
    most = len(cameras_of) - 2 - num_several
    num_single = min(int(test_fraction * len(single) + 0.5), most)
    test = {*rng.permutation(several)[:num_several].tolist(), *rng.permutation(single)[:num_single].tolist()}
    return (
        [tracklet for tracklet in tracklets if tracklet.person not in test],
        [tracklet for tracklet in tracklets if tracklet.person in test],
    )


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    train, test = split_people(read_folder(directory), test_fraction=config.test_fraction, seed=config.split_seed)
    # The first tracklet of each person in each camera asks, if another camera has an answer.
    cameras: dict[int, set[int]] = {}
    for tracklet in test:
        cameras.setdefault(tracklet.person, set()).add(tracklet.camera)
    first = {(tracklet.person, tracklet.camera): tracklet for tracklet in reversed(test)}
    query = [tracklet for (person, _), tracklet in sorted(first.items()) if len(cameras[person]) > 1]
    return ReidData(f"folder:{directory}", train, query, test)


FOLDER = DataSet("folder", _read, example="folder:<directory>", options=("test_fraction", "split_seed"))


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: text and numbers by turns, so that `cam10` comes after `cam9`; then the name itself."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Number the names from 1 in their natural order."""
    return {name: number for number, name in enumerate(sorted(set(names), key=_natural), start=1)}


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    return sorted(visible, key=_order([entry.name for entry in visible]))


def _order(names: list[str]) -> Callable[[os.DirEntry[str]], Any]:
    """Return what entries are sorted by: images named by times as times (12.25.png, 12.5.png), else naturally."""
    times = [TIME.fullmatch(name) for name in names]
    if all(times):
        numbers = {name: Decimal(time[1]) for name, time in zip(names, times, strict=True) if time}
        return lambda entry: (numbers[entry.name], entry.name)
    return lambda entry: _natural(entry.name)


def _folders(folder: Path, kind: str) -> list[Path]:
    """Return the folders in a folder that must hold folders alone, at least one."""
    entries = _entries(folder)
    for entry in entries:
        if not entry.is_dir():
            what = "an image" if entry.name.lower().endswith(IMAGE_ENDINGS) else "a file"
            raise ValueError(
                f"{entry.path} is {what} where only {kind} may be; the layout is {LAYOUT}. Move or remove it."
            )
    if not entries:
        raise ValueError(f"{folder} is empty, {kind} must be in it; the layout is {LAYOUT}")
    return [folder / entry.name for entry in entries]


def frames_in(folder: Path) -> tuple[Path, ...]:
    """Return the frames of a tracklet's folder, which must hold images alone, at least one."""
    entries = _entries(folder)
    for entry in entries:
        # What can't be read, such as a link to nowhere, is an error when it is: some want to go on without it.
        if entry.is_dir() or not entry.name.lower().endswith(IMAGE_ENDINGS):
            raise ValueError(
                f"{entry.path} is no image file, and a tracklet's folder may hold nothing else; "
                f"the layout is {LAYOUT}. Move or remove it."
            )
    if not entries:
        raise ValueError(f"{folder} is empty, frames must be in it; the layout is {LAYOUT}")
    return tuple(folder / entry.name for entry in entries)
