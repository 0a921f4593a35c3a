"""Tracklets to be described or searched, from wherever they are: a data set, folders, a video with its tracks."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from backbone.data import DataConfig, load_data
from backbone.data.cut import REPORT_NAME
from backbone.data.sets.folder import frames_in, read_folder
from backbone.data.spec import VIDEO, DataSpec, parse_spec
from backbone.data.tracklet import JUNK, UNKNOWN, FrameFiles, Tracklet
from backbone.data.tracks import TrackFormat, read_tracks
from backbone.data.video import video_tracklets
from backbone.progress import Progress

Part = Literal["test", "query", "gallery", "train", "all"]

FORMS = (
    "NAME:DIRECTORY of a data set, folder:DIRECTORY (<person>/<camera>/<tracklet>/<frame>), a folder of frames "
    "(one tracklet) or of such folders, or video:VIDEO,TRACKS (a video file or a folder of its frames; MOT format)"
)
# Longer than any track: a track stays whole where no frame of it is missing.
WHOLE = 2**31


def read_source(
    spec: str,
    part: Part,
    config: DataConfig,
    cache: Path,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Tracklet]:
    """Read the tracklets that a text names.

    Args:
        spec: one of `FORMS`.
        part: of a data set: its queries, its gallery, both (test), its training half, or all; of folders and
            videos all tracklets are taken, those of people trained on, too.
        config: settings of the data set, or of the video.
        cache: where drawn data is kept.
        progress: told of a video's frames.
        say: told what of a video or its tracks could not be used.

    Raises:
        ValueError: there is nothing of that name, or it can't be read.
    """
    if part not in get_args(Part):
        raise ValueError(f"unknown part {part!r}; known: {', '.join(get_args(Part))}")
    named = parse_spec(spec)
    config = named.options(config)
    if named.name == VIDEO:
        return _of_video(named, config.bridge_gaps, progress, say)
    if named.name == "folder" and named.directory is not None:
        return read_folder(named.directory)
    if named.is_data_set:
        return _of_data_set(spec, part, config, cache)
    if not (folder := Path(spec).expanduser()).is_dir():
        raise ValueError(f"there are no tracklets at {spec!r}; possible are {FORMS}")
    return _of_folder(folder)


def person_name(tracklet: Tracklet, spec: str) -> str:
    """Return a tracklet's person for people: of `folder:` the folder's name, otherwise where from, and the id.

    The folders of a video that was cut are ids of its tracker, which another video's gives to other people: the
    name begins with the video's.
    """
    if tracklet.person == UNKNOWN:
        return ""
    named = parse_spec(spec)
    name, place = named.name, named.place
    if name == "folder":
        person, video = tracklet.source.split("/")[-3], _video_of_cut(place)
        return f"{video} {int(person)}" if video and person.isdecimal() else person
    where = _named(*named.video_and_tracks) if name == "video" else name
    return f"{where} {'junk' if tracklet.person == JUNK else tracklet.person}"


def _named(video: Path, tracks: Path) -> str:
    """Return a name of a video's people by a tracker: others have the same video's or file's name."""
    both = hashlib.sha256(f"{video.resolve()}\n{tracks.resolve()}".encode(errors="surrogateescape"))
    return f"{video.name} {both.hexdigest()[:4]}"


@functools.cache
def _video_of_cut(folder: str) -> str:
    """Return the name of the video that a folder was cut from, empty if it was not."""
    try:
        report = json.loads((Path(folder).expanduser() / REPORT_NAME).read_text(encoding="utf-8"))
        return _named(Path(report["video"]), Path(report["tracks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _of_data_set(spec: str, part: Part, config: DataConfig, cache: Path) -> list[Tracklet]:
    data = load_data(spec, config, cache)
    halves = {"query": data.query, "gallery": data.gallery, "train": data.train}
    parts = {"test": ("query", "gallery"), "all": ("train", "query", "gallery")}.get(part, (part,))
    # of some data sets a query is in the gallery, too
    return list({id(tracklet): tracklet for name in parts for tracklet in halves[name]}.values())


def _of_folder(folder: Path) -> list[Tracklet]:
    """Read a folder of frames, or each folder of frames in a folder: nobody says of whom."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if any(path.is_dir() for one in inside for path in one.iterdir()):
        raise ValueError(f"{folder} holds folders of folders: write folder:{folder} if they are people's")
    return [Tracklet(UNKNOWN, 0, FrameFiles(frames_in(one)), one.absolute().name) for one in inside or [folder]]


def _of_video(
    spec: DataSpec, bridge_gaps: int, progress: Progress | None, say: Callable[[str], None]
) -> list[Tracklet]:
    video, tracks = spec.video_and_tracks
    boxes, omitted = read_tracks(tracks, TrackFormat(bridge_gaps=bridge_gaps))
    tracklets, lost = video_tracklets(
        video, boxes, chunk_frames=WHOLE, gap_frames=0, min_frames=1, progress=progress
    )
    for name, omissions in ((tracks, omitted), (video, lost)):
        if omissions.by_reason:
            say(f"{name}: {omissions}")
    # One camera: its two views in time are for training.
    return [dataclasses.replace(one, camera=1, source=one.source.replace("/cam2/", "/cam1/")) for one in tracklets]
