"""Fill a cache ahead of training."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from backbone.data.cache import FrameCache
from backbone.data.tracklet import Tracklet
from backbone.data.video import Progress

# What is left free on the disk, of what is free before.
SPARE = 0.05


@dataclass(frozen=True)
class FillReport:
    """What was done.

    Attributes:
        tracklets: all of them.
        frames: of them.
        kept: tracklets that were there already.
        written: bytes, about.
    """

    tracklets: int
    frames: int
    kept: int
    written: int


def fill_cache(
    cache: FrameCache,
    tracklets: Sequence[Tracklet],
    *,
    workers: int = 2,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> FillReport:
    """Decode the frames of tracklets and compute their flow into a cache; what is there stays.

    Args:
        cache: where to.
        tracklets: all of them.
        workers: threads; decoding and flow are computed outside of Python.
        progress: told the stage, the frames done and all of them.
        say: told how much room it takes before it begins.

    Raises:
        ValueError: the disk has no room, or a frame can't be decoded; what was done by then stays.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    missing = {number: size for number, one in enumerate(tracklets) if (size := cache.missing_bytes(one))}
    needed, frames = sum(missing.values()), sum(len(tracklets[number]) for number in missing)
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    say(f"{frames:,} frames take {needed / 2**30:.2f} GiB in {cache.folder}, where {free / 2**30:.1f} are free")
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
    return FillReport(len(tracklets), sum(map(len, tracklets)), len(tracklets) - len(missing), needed)
