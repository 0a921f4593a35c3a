"""Make data ready to train on.

Examples: a3d data cut --video street.avi --tracks gt.txt --out street/
          a3d data check --data mars:/data/MARS
          a3d data cache --data mars:/data/MARS
"""

import inspect
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from agents.runs.config import DataName
from agents.runs.presets import PRESETS, get_preset
from backbone.data import DataConfig, load_data
from backbone.data.cache import FrameCache, default_cache
from backbone.data.check import CheckReport, check_data
from backbone.data.cut import CutReport, cut_video
from backbone.data.fill import fill_cache
from backbone.data.spec import parse_spec
from backbone.data.tracks import TrackFormat
from backbone.files import check_writable, write_json
from backbone.flags import BadFrame, CacheFolder, read_flags
from backbone.progress import counted, log_line, print_result, progress_bars

SHOWN = 20  # problems of each kind


@dataclass(frozen=True)
class Cut:
    """Cut a video and its tracks (MOT format) into a folder of tracklets.

    Long tracks become several tracklets with a gap between, in turns as camera 1 and camera 2, so
    that one camera serves as two views in time.

    A video: `a3d data cut --video street.avi --tracks gt.txt --out street`

    Again, with shorter tracklets:
    `a3d data cut --video street.avi --tracks gt.txt --out street --chunk-frames 16 --overwrite`

    A MOT sequence: `a3d data cut --video MOT17-02 --tracks MOT17-02/gt/gt.txt --classes 1 --out street`
    """

    video: Path
    """Video file, in any format that OpenCV decodes (turned as its file says, as a phone's); or a folder: a MOT
    sequence, or images numbered from 0 or 1."""
    tracks: Path
    """Text file of boxes in pixels, one a line: frame,id,left,top,width,height,confidence,class,visibility. What
    comes after the height may be missing."""
    out: Path
    """Folder to write: <out>/<person>/<camera>/<tracklet>/<frame>.png. Must be missing or empty."""
    chunk_frames: int = 32
    """Number of frames of a tracklet."""
    gap_frames: int = 16
    """Number of frames left out between two tracklets of a person."""
    min_frames: int = 6
    """Fewest frames of a tracklet; shorter ones are left out."""
    how: Annotated[TrackFormat, tyro.conf.arg(name="")] = field(default_factory=TrackFormat)
    overwrite: bool = False
    """Replace the result of an earlier cut in the same folder, once the new one is complete."""
    json: bool = False
    """Print the report as JSON, and nothing else, on standard output."""

    def run(self) -> int:
        """Cut the video and print what came of it."""
        with progress_bars() as progress:
            report = cut_video(
                self.video,
                self.tracks,
                self.out,
                chunk_frames=self.chunk_frames,
                gap_frames=self.gap_frames,
                min_frames=self.min_frames,
                overwrite=self.overwrite,
                how=self.how,
                progress=progress,
            )
        print_result(json.dumps(asdict(report), indent=2) if self.json else _summary(report, self.out))
        return 0


@dataclass(frozen=True)
class Check:
    """Check a data set before days are spent on it: counts, names, and that every frame can be decoded.

    Prints what is wrong, file by file, and ends with the exit status 1 if anything is.

    All frames: `a3d data check --data mars:/data/MARS`

    A twentieth of the frames, for a first look: `a3d data check --data ilids:/data/iLIDS-VID --sample 0.05`
    """

    data: DataName
    sample: float = 1.0
    """Share of the frames that are decoded, drawn by --seed; the names and sizes of all are checked."""
    seed: int = 0
    """Seed that chooses the frames of --sample."""
    workers: int = 2
    """Number of frames decoded at once."""
    json: Path | None = None
    """Write all problems to this file, too; otherwise the first 20 of each kind are printed."""

    def run(self) -> int:
        """Check, print, and return the exit status."""
        if self.json is not None:
            check_writable(self.json)
        with progress_bars() as progress:
            report = check_data(
                self.data, sample=self.sample, seed=self.seed, workers=self.workers, progress=progress
            )
        print_result(check_summary(report, self.data))
        if self.json is not None:
            write_json(self.json, asdict(report), default=str)
        return 1 if report.problems else 0


@dataclass(frozen=True)
class Cache:
    """Decode all frames of a data set once, and compute their optical flow, before training does it bit by bit.

    What is there already is kept, so that an interrupted run goes on. Training finds it under the same folder, for
    the same frame size and flow method.

    By eight workers: `a3d data cache --data mars:/data/MARS --workers 8`

    After a disk has failed: `a3d data cache --data mars:/data/MARS --verify`

    Another size and method: `a3d data cache --data folder:street --height 64 --width 32 --flow farneback`
    """

    data: DataName
    height: int | None = None
    """Height of the frames in pixels; by default that of the preset named as the data (prid, ilids, mars), else
    that of small."""
    width: int | None = None
    """Width of the frames in pixels; by default that of the same preset."""
    flow: str | None = "dis-fast"
    """Optical-flow method; None for frames alone."""
    cache: CacheFolder = None
    on_bad_frame: BadFrame = "error"
    verify: bool = False
    """Read all files that are there already, and make those anew whose content does not match their digest."""
    workers: int = 2
    """Number of tracklets decoded at once."""

    def run(self) -> int:
        """Say what it takes, and do it."""
        name = parse_spec(self.data).name
        load = get_preset(name if name in PRESETS else "small").load
        size = (self.height or load.height, self.width or load.width)
        cache = FrameCache(self.cache or default_cache(), *size, self.flow, self.on_bad_frame)
        check_writable(cache.folder, is_folder=True)
        tracklets = load_data(self.data, DataConfig(), cache.folder).tracklets
        with progress_bars() as progress:
            report = fill_cache(
                cache, tracklets, workers=self.workers, verify=self.verify, progress=progress, log_line=log_line
            )
        print_result(
            f"{cache.folder}: {counted(report.tracklets, 'tracklet')}, {counted(report.frames, 'frame')} of "
            f"{size[0]} x {size[1]}, flow {self.flow}; {report.written / 2**30:.2f} GiB written, "
            f"{report.kept:,} tracklets were there"
            + (f"; {report.damaged:,} files were damaged, and made anew" if self.verify else "")
        )
        if text := cache.describe_replaced():
            print_result(text)
        return 0


def check_summary(report: CheckReport, data: str) -> str:
    """Return a text that says what was checked and what is wrong."""
    lines = [f"{data}: {report.files:,} images by name and size, {report.decoded:,} of them decoded"]
    lines += [f"  {line}" for line in report.counts]
    if not report.problems:
        return "\n".join([*lines, "nothing is wrong"])
    for kind in dict.fromkeys(problem.kind for problem in report.problems):
        found = [problem for problem in report.problems if problem.kind == kind]
        lines.append(f"{kind}: {len(found):,}")
        lines += [f"  {problem.text}" for problem in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"  ... and {len(found) - SHOWN:,} more (--json FILE has all)")
    return "\n".join([*lines, counted(len(report.problems), "problem")])


COMMANDS: dict[str, type[Cut | Check | Cache]] = {"cut": Cut, "check": Check, "cache": Cache}


def read(argv: list[str]) -> tuple[Cut | Check | Cache]:
    """Read the flags of one of `a3d data`'s commands; --help alone lists them, each in a line."""
    name = argv[0] if argv else ""
    if name in ("-h", "--help"):
        lines = [f"  {name:<6} {(kind.__doc__ or '').splitlines()[0]}" for name, kind in COMMANDS.items()]
        print_result(f"usage: a3d data COMMAND [options]\n\n{__doc__}\ncommands:")
        print_result("\n".join([*lines, "", "`a3d data COMMAND --help` shows a command's options and examples."]))
        raise SystemExit(0)
    if name not in COMMANDS:
        raise ValueError(f"the first word has to be {', '.join(COMMANDS)}, got {name!r}; see a3d data --help")
    kind = COMMANDS[name]
    return (read_flags(kind, argv[1:], f"data {name}", inspect.getdoc(kind)),)


def run(config: Cut | Check | Cache) -> int:
    """Do what one of `a3d data`'s commands says."""
    return config.run()


def _summary(report: CutReport, out: Path) -> str:
    """Return the report as text, and the command to type next."""
    omissions = [
        f"  {item.count:>7,} x {item.reason}"
        + (f" [{item.boxes:,} boxes]" if item.boxes != item.count and item.boxes > 0 else "")
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
            f"Next: a3d train --preset street --data {shlex.quote(f'folder:{out}')}",
        ]
    )
