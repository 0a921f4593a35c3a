"""`a3d data`: make data sets ready to train on."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from backbone.data.cut import CutReport, cut_video
from backbone.data.video import Progress

DESCRIPTION = """Make data ready to train on.

Example: a3d data cut --video street.avi --tracks gt.txt --out street/
"""


@dataclass(frozen=True)
class Cut:
    """Cut a video and its tracks (MOT format) into a folder of tracklets.

    Long tracks become several tracklets with a gap between, in turns as camera 1 and camera 2, so
    that one camera serves as two views in time.

    For example, and then again with shorter tracklets:

    `a3d data cut --video street.avi --tracks gt.txt --out street`

    `a3d data cut --video street.avi --tracks gt.txt --out street --chunk-frames 16 --overwrite`
    """

    video: Path
    """The video file, in any format that OpenCV decodes."""
    tracks: Path
    """Text file of boxes, one a line: frame,id,left,top,width,height,... (frames from 1, pixels)."""
    out: Path
    """Folder to write: <out>/<person>/<camera>/<tracklet>/<frame>.png. Must be missing or empty."""
    chunk_frames: int = 32
    """Frames of a tracklet."""
    gap_frames: int = 16
    """Frames left out between two tracklets of a person."""
    min_frames: int = 6
    """Tracklets shorter than this are left out."""
    overwrite: bool = False
    """Replace what an earlier cut wrote to the same folder, once the new one is complete."""
    json: bool = False
    """Print the report as JSON, and nothing else, on standard output."""

    def run(self) -> None:
        """Cut the video and print what came of it."""
        with _progress_bars() as progress:
            report = cut_video(
                self.video,
                self.tracks,
                self.out,
                chunk_frames=self.chunk_frames,
                gap_frames=self.gap_frames,
                min_frames=self.min_frames,
                overwrite=self.overwrite,
                progress=progress,
            )
        print(json.dumps(asdict(report), indent=2) if self.json else _summary(report, self.out))


def main(argv: list[str] | None = None) -> int:
    """Run `a3d data` with these arguments, or the process's own; return its exit status."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"cut": Cut},
        prog="a3d data",
        description=DESCRIPTION,
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        command.run()
    except (ValueError, OSError) as error:
        print(f"a3d data: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("a3d data: stopped; nothing half-written was left", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _progress_bars() -> Iterator[Progress]:
    """Give a function that shows progress on standard error, a bar for each stage."""
    bars: dict[str, tqdm] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = tqdm(desc=stage, total=total, unit=" frames")
        bars[stage].total = total
        bars[stage].update(done - bars[stage].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def _summary(report: CutReport, out: Path) -> str:
    """Return the report for a person to read, and what to type next."""
    omissions = [
        f"  {item.count:>7,} x {item.reason}"
        + (f" [{item.boxes:,} boxes]" if item.boxes != item.count and item.boxes else "")
        + f": {', '.join(item.first)}{', ...' if item.count > len(item.first) else ''}"
        for item in report.omissions
    ]
    return "\n".join(
        [
            f"Wrote {out}: {report.people:,} people, {report.people_with_two_views:,} of them in two views, "
            f"{report.tracklets:,} tracklets,",
            f"{report.frames:,} frames of the {report.boxes:,} boxes in {report.tracks}.",
            "Left out or altered:" if omissions else "Nothing was left out.",
            *omissions,
            "",
            f"Next: a3d train --preset small --data {shlex.quote(f'folder:{out}')}",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
