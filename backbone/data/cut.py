"""A video and its tracks cut into a folder of tracklets, whole or not at all."""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from backbone.data.division import cameras_of_people
from backbone.data.frame_files import crop, read_video
from backbone.data.tracklet import Tracklet, VideoSlice
from backbone.data.tracks import CUT_REPORT, Omission, TrackFormat, read_tracks
from backbone.data.video import video_tracklets
from backbone.files import check_writable, explain_disk_full, temporary_folder
from backbone.progress import Progress


@dataclass(frozen=True)
class CutReport:
    """Report of `cut_video`. `boxes` = `frames` + the boxes of all omissions."""

    video: str
    tracks: str
    how: TrackFormat
    chunk_frames: int
    gap_frames: int
    min_frames: int
    boxes: int
    people: int
    people_with_two_views: int
    tracklets: int
    frames: int
    omissions: tuple[Omission, ...]


def cut_video(
    video: Path,
    tracks: Path,
    out: Path,
    *,
    chunk_frames: int = 32,
    gap_frames: int = 16,
    min_frames: int = 6,
    overwrite: bool = False,
    how: TrackFormat | None = None,
    progress: Progress | None = None,
) -> CutReport:
    """Write the tracklets of a video as `<out>/<person>/<camera>/<tracklet>/<frame>.png`.

    Frames are named by their 1-based number in the video. After the count of `video_tracklets` the
    video is decoded once more, in one pass for all tracklets. Everything goes to a hidden folder
    beside `out`, which takes its name at the end; after a failure or Ctrl-C nothing of it stays. The
    report is kept in `<out>/.cut_report.json`, which `read_folder` passes over.

    Args:
        video: video file, or a folder of its frames.
        tracks: MOT-format file, in the form that `read_tracks` takes.
        out: folder to write; missing, or empty.
        chunk_frames: frames of a tracklet, an argument of `video_tracklets`.
        gap_frames: frames left out between two tracklets, an argument of `video_tracklets`.
        min_frames: fewest frames of a tracklet, an argument of `video_tracklets`.
        overwrite: whether to replace `out` if an earlier cut wrote it, once the new one is complete.
        how: format of the file of tracks, if it differs from MOT's.
        progress: function that is called after each frame counted and cut.

    Raises:
        ValueError: `out` is in use, or an error of `read_tracks` or `video_tracklets`.
        OSError: a file can't be written.
    """
    out = out.resolve()
    _check_out(out, overwrite, (video, tracks))
    check_writable(out.parent, is_folder=True)
    rows, omitted = read_tracks(tracks, how)
    tracklets, lost = video_tracklets(
        video,
        rows,
        chunk_frames=chunk_frames,
        gap_frames=gap_frames,
        min_frames=min_frames,
        progress=progress,
    )
    cameras = cameras_of_people(tracklets)
    report = CutReport(
        video=str(video.resolve()),
        tracks=str(tracks.resolve()),
        how=how or TrackFormat(),
        chunk_frames=chunk_frames,
        gap_frames=gap_frames,
        min_frames=min_frames,
        boxes=len(rows) + sum(item.boxes for item in omitted.by_reason.values()),
        people=len(cameras),
        people_with_two_views=sum(len(views) == 2 for views in cameras.values()),
        tracklets=len(tracklets),
        frames=sum(map(len, tracklets)),
        omissions=(*omitted.by_reason.values(), *lost.by_reason.values()),
    )
    missing = [folder for folder in out.parents if not folder.exists()]
    try:
        with temporary_folder(out) as partial:
            with explain_disk_full(out):
                _write_frames(video, tracklets, partial, progress)
                (partial / CUT_REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
            _rename_over(partial, out)
    except BaseException:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise
    return report


def _rename_over(partial: Path, out: Path) -> None:
    """Give a folder its name; the one that had it is removed, or stays if that fails."""
    old = partial.with_name(f".{partial.name}.old")
    try:
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_out(out: Path, overwrite: bool, inputs: tuple[Path, ...]) -> None:
    """Refuse a folder in use, unless it may be overwritten: then it must be an earlier cut."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder that is missing or empty")
    if not out.exists() or not any(out.iterdir()):
        return
    if not overwrite:
        raise ValueError(f"{out} is not empty; name another folder, or overwrite it (--overwrite)")
    if not (out / CUT_REPORT).is_file():
        raise ValueError(f"{out} was not written by a cut (no {CUT_REPORT} in it); remove it yourself first")
    for path in inputs:
        if out in path.resolve().parents:
            raise ValueError(f"{path} lies in {out}, which would be overwritten; name another folder")


def _write_frames(video: Path, tracklets: list[Tracklet], root: Path, progress: Progress | None) -> None:
    """Write all crops in one pass over the video."""
    at_frame: dict[int, list[tuple[np.ndarray, Path]]] = {}
    for tracklet in tracklets:
        folder = root / tracklet.name
        folder.mkdir(parents=True)
        frames = tracklet.frames
        assert isinstance(frames, VideoSlice)
        for offset, box in enumerate(frames.boxes):
            at_frame.setdefault(frames.start + offset, []).append((box, folder))
    last = max(at_frame)
    digits = max(6, len(str(last + 1)))
    for frame_index, frame in enumerate(read_video(video)):
        for box, folder in at_frame.pop(frame_index, ()):
            # to memory, then to disk: OpenCV's own writing says nothing of a full disk
            _, data = cv2.imencode(".png", crop(frame, box)[:, :, ::-1])
            (folder / f"{frame_index + 1:0{digits}d}.png").write_bytes(data.tobytes())
        if progress:
            progress("cutting", frame_index + 1, last + 1)
        if frame_index == last:
            return
    raise ValueError(f"{video} ended before frame {last + 1}, which could be decoded a moment ago")
