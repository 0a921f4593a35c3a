"""Fill a cache ahead of its use."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone.data.cache import FrameCache
from backbone.data.frame_files import crop, read_video
from backbone.data.tracklet import Tracklet, VideoSlice
from backbone.progress import Progress

# Share of the free disk that is left free.
SPARE = 0.05


@dataclass(frozen=True)
class FillReport:
    """Report of `fill_cache`.

    Attributes:
        tracklets: number of tracklets.
        frames: number of their frames.
        kept: number of tracklets that were there already.
        written: number of bytes written, about.
        damaged: number of files that were made anew, as their content was not what had been written.
    """

    tracklets: int
    frames: int
    kept: int
    written: int
    damaged: int = 0


def fill_cache(
    cache: FrameCache,
    tracklets: Sequence[Tracklet],
    *,
    workers: int = 2,
    verify: bool = False,
    progress: Progress | None = None,
    log_line: Callable[[str], None] = lambda text: None,
) -> FillReport:
    """Decode the frames of tracklets and compute their flow into a cache; what is there stays.

    Frames that the cache replaced, then or now, are in `cache.replaced`.

    Args:
        cache: cache to write to.
        tracklets: tracklets to decode.
        workers: number of threads; decoding and flow are computed outside of Python.
        verify: whether to read all files that are there, and make those anew that do not match their digest.
        progress: function that is told the stage, the frames done and all of them.
        log_line: function that is told how much room it takes before it begins.

    Raises:
        ValueError: the disk has no room, or a frame can't be decoded; files written by then stay.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    damaged = _remove_damaged(cache, tracklets, workers, progress) if verify else 0
    missing = {number: size for number, one in enumerate(tracklets) if (size := cache.missing_bytes(one))}
    needed, frames = sum(missing.values()), sum(len(tracklets[number]) for number in missing)
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    if frames:
        log_line(
            f"{frames:,} frames take {needed / 2**30:.2f} GiB in {cache.folder}, "
            f"where {free / 2**30:.1f} GiB are free"
        )
    if needed > (1 - SPARE) * free:
        raise ValueError(
            f"{cache.folder} has {free / 2**30:.1f} GiB free, and {needed / 2**30:.1f} are needed: give another "
            "folder (--cache), smaller frames, or no flow"
        )

    def fill(number: int) -> int:
        cache.frames(tracklets[number])
        if cache.flow_method is not None:
            cache.flow(tracklets[number])
        return len(tracklets[number])

    done = 0
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(fill, number) for number in missing]
        try:
            for future in as_completed(waiting):
                done += future.result()
                if progress is not None:
                    progress("caching", done, frames)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or an interruption nothing more is begun
    if cache.on_bad_frame == "skip":
        for number, tracklet in enumerate(tracklets):
            if number not in missing:
                cache.frames(tracklet)  # which notes the frames that were replaced before
    return FillReport(len(tracklets), sum(map(len, tracklets)), len(tracklets) - len(missing), needed, damaged)


def _remove_damaged(
    cache: FrameCache, tracklets: Sequence[Tracklet], workers: int, progress: Progress | None
) -> int:
    damaged, done, frames = 0, 0, sum(map(len, tracklets))
    with ThreadPoolExecutor(workers) as pool:
        for tracklet, found in zip(tracklets, pool.map(cache.remove_damaged, tracklets), strict=True):
            damaged, done = damaged + found, done + len(tracklet)
            if progress is not None:
                progress("verifying", done, frames)
    return damaged


def fill_from_videos(cache: FrameCache, tracklets: Sequence[Tracklet], progress: Progress | None = None) -> None:
    """Decode each video once for all tracklets that are slices of it; one by one, each would begin at its start.

    What is held in memory is the frames of the tracklets under way, at the cache's size.

    Args:
        cache: cache to write to; what is there stays.
        tracklets: tracklets, of which those that are no slices of videos are passed over.
        progress: function that is told the stage, the video's frames done and all of them.

    Raises:
        ValueError: a video can't be decoded, or ends too early.
    """
    by_video: dict[Path, dict[int, list[Tracklet]]] = defaultdict(lambda: defaultdict(list))
    for tracklet in tracklets:
        if isinstance(tracklet.frames, VideoSlice) and not cache.has_frames(tracklet):
            by_video[tracklet.frames.video][tracklet.frames.start].append(tracklet)
    for video, beginning in by_video.items():
        last = max(start + len(one) for start, some in beginning.items() for one in some)
        under_way: list[tuple[Tracklet, VideoSlice, np.ndarray]] = []
        done = 0
        for done, frame in enumerate(read_video(video), 1):
            for tracklet in beginning.get(done - 1, ()):
                assert isinstance(tracklet.frames, VideoSlice)
                room = np.empty((len(tracklet), cache.height, cache.width, 3), dtype=np.uint8)
                under_way.append((tracklet, tracklet.frames, room))
            for tracklet, part, frames in under_way:
                number = done - 1 - part.start
                frames[number] = cache.resized(crop(frame, part.boxes[number]))
                if number + 1 == len(part):
                    cache.keep_frames(tracklet, frames)
            under_way = [one for one in under_way if done < one[1].start + len(one[1])]
            if progress is not None:
                progress("decoding", done, last)
            if done == last:
                break
        if done < last:
            raise ValueError(f"{video} ends after {done} frames, and {last} are needed: is the file truncated?")
