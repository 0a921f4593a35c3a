"""Tracklets from a folder of your own, with or without a division into train, query and gallery."""

import json
import os
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.division import PARTS, as_divided, divide
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
    return [tracklet for _, tracklet in _tracklets(root, {"": root})]


def is_divided(root: Path) -> bool:
    """Tell whether a folder comes with a division: its people are in `query/`, `gallery/` and `train/`."""
    return (root / "query").is_dir() and (root / "gallery").is_dir()


def read_divided_folder(root: Path) -> ReidData:
    """Read a folder with a division of its own, `read_folder`'s layout in each of `train/`, `query/`, `gallery/`.

    People and cameras are numbered over all three; `train/` may be missing.

    Raises:
        ValueError: the errors of `read_folder`, other folders beside the three, or people in both halves.
    """
    folders = {folder.name: folder for folder in _folders(root, "the folders train, query and gallery")}
    if others := sorted(folders.keys() - set(PARTS)):
        raise ValueError(
            f"{root} has a division of its own, query and gallery, and {others[0]} beside them: only train, query "
            f"and gallery may be there, each with {LAYOUT.replace('root', 'part')}. Move or rename it."
        )
    return as_divided(
        f"folder:{root}", _tracklets(root, {part: folders[part] for part in PARTS if part in folders})
    )


def _tracklets(root: Path, parts: dict[str, Path]) -> list[tuple[str, Tracklet]]:
    """Return the tracklets in the folders of some parts, with the parts' names."""
    found = [
        (part, person.name, camera.name, tracklet)
        for part, folder in parts.items()
        for person in _folders(folder, "person folders")
        for camera in _folders(person, "camera folders")
        for tracklet in _folders(camera, "tracklet folders")
    ]
    people = numbers(person for _, person, _, _ in found)
    cameras = numbers(camera for _, _, camera, _ in found)
    root_name, video = root.resolve().name, _video_of_cut(root)
    tracklets = []
    for part, person, camera, tracklet in found:
        name = tracklet.relative_to(root).as_posix()
        label = f"{video} {int(person)}" if video and person.isdecimal() else person
        frames = FrameFiles(frames_in(tracklet))
        source = f"{root_name}/{name}"
        one = Tracklet(people[person], cameras[camera], frames, source, name=name, person_name=label)
        tracklets.append((part, one))
    return tracklets


def _video_of_cut(root: Path) -> str:
    """Return the name for the people of the video that a folder was cut from, empty if it was not.

    The folders are ids of its tracker then, which another video's gives to other people.
    """
    try:
        report = json.loads((root / CUT_REPORT).read_text(encoding="utf-8"))
        return name_of_video(Path(report["video"]), Path(report["tracks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _undivided(root: Path) -> list[Tracklet] | None:
    return None if is_divided(root) else read_folder(root)


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    if (tracklets := _undivided(directory)) is None:
        return read_divided_folder(directory)
    return divide(f"folder:{directory}", tracklets, config)


FOLDER = DataSet(
    "folder",
    _read,
    example="folder:<directory>",
    options=("test_fraction", "split_seed"),
    undivided=_undivided,
)


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: text and numbers by turns, so that `cam10` comes after `cam9`; then the name itself."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def numbers(names: Iterable[str]) -> dict[str, int]:
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
