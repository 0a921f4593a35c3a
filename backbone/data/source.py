"""Tracklets to be described or searched, from wherever they are: a data set, folders, a video with its tracks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from backbone.data import DataConfig, load_data
from backbone.data.registry import EXAMPLES
from backbone.data.sets.folder import frames_in
from backbone.data.spec import VIDEO, DataSpec, parse_spec
from backbone.data.tracklet import UNKNOWN, FrameFiles, Tracklet
from backbone.data.tracks import TrackFormat, name_of_video, read_tracks
from backbone.data.video import video_tracklets
from backbone.progress import Progress

Part = Literal["test", "query", "gallery", "train", "all"]

FORMS = (
    f"a data set ({EXAMPLES}, or module:function[:DIRECTORY] of your own), a folder of frames (one tracklet) or "
    "of such folders, or video:VIDEO,TRACKS (a video file or a folder of its frames; MOT format)"
)
# Longer than any track: a track stays whole where no frame of it is missing.
ENDLESS_TRACK = 2**31


def read_source(
    spec: str,
    part: Part,
    config: DataConfig,
    cache: Path,
    *,
    progress: Progress | None = None,
    log_line: Callable[[str], None] = lambda text: None,
) -> list[Tracklet]:
    """Read the tracklets that a text names.

    Args:
        spec: text in one of the forms in `FORMS`.
        part: part of a data set: its queries, its gallery, both (test), its training half, or all; of videos, and
            of folders and tables without a division, all tracklets are taken, those of people trained on, too.
        config: settings of the data set, or of the video.
        cache: folder of drawn data.
        progress: function that is told of a video's frames.
        log_line: function that is told what of a video or its tracks could not be used.

    Raises:
        ValueError: there is nothing of that name, or the data can't be read.
    """
    if part not in get_args(Part):
        raise ValueError(f"unknown part {part!r}; known: {', '.join(get_args(Part))}")
    named = parse_spec(spec)
    config = named.options(config)
    if named.name == VIDEO:
        return _of_video(named, config.bridge_gaps, progress, log_line)
    if named.is_data_set:
        if (tracklets := named.data_set.everybody(named.directory)) is not None:
            return tracklets
        return _of_data_set(spec, part, config, cache)
    if not (folder := Path(str(named)).expanduser()).is_dir():
        raise ValueError(f"there are no tracklets at {spec!r}; possible are {FORMS}")
    return _of_folder(folder)


def _of_data_set(spec: str, part: Part, config: DataConfig, cache: Path) -> list[Tracklet]:
    data = load_data(spec, config, cache)
    halves = {"query": data.query, "gallery": data.gallery, "train": data.train}
    parts = {"test": ("query", "gallery"), "all": ("train", "query", "gallery")}.get(part, (part,))
    # of some data sets a query is in the gallery, too
    return list({id(tracklet): tracklet for name in parts for tracklet in halves[name]}.values())


def _of_folder(folder: Path) -> list[Tracklet]:
    """Read a folder of frames, or each folder of frames in a folder, as tracklets of unknown people."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if any(path.is_dir() for one in inside for path in one.iterdir()):
        raise ValueError(f"{folder} holds folders of folders: write folder:{folder} if they are people's")
    return [Tracklet(UNKNOWN, 0, FrameFiles(frames_in(one)), one.absolute().name) for one in inside or [folder]]


def _of_video(
    spec: DataSpec, bridge_gaps: int, progress: Progress | None, log_line: Callable[[str], None]
) -> list[Tracklet]:
    video, tracks = spec.video_and_tracks
    boxes, omitted = read_tracks(tracks, TrackFormat(bridge_gaps=bridge_gaps))
    tracklets, lost = video_tracklets(
        # one camera: two views of it, by turns in time, are for training
        video,
        boxes,
        chunk_frames=ENDLESS_TRACK,
        gap_frames=0,
        min_frames=1,
        num_views=1,
        progress=progress,
    )
    for name, omissions in ((tracks, omitted), (video, lost)):
        if omissions.by_reason:
            log_line(f"{name}: {omissions}")
    people = name_of_video(video, tracks)
    return [dataclasses.replace(one, person_name=f"{people} {one.person}") for one in tracklets]
