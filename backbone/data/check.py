"""Checks of a data set: counts by the protocol, files by name and size, and frames by decoding them."""

import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone.data import DataConfig, ReidData, load_data
from backbone.data.data_set import DataSet
from backbone.data.frame_files import read_image
from backbone.data.images import IMAGE_ENDINGS
from backbone.data.spec import parse_spec
from backbone.data.tracklet import JUNK
from backbone.progress import Progress, counted

# Number of files that a worker takes at a time.
CHUNK = 256

ANY_IMAGE = re.compile(rf".*({'|'.join(IMAGE_ENDINGS)})", re.IGNORECASE)
KINDS = ("structure", "missing", "wrongly named", "empty", "truncated", "unreadable")


@dataclass(frozen=True)
class Problem:
    """A problem of the data.

    Attributes:
        kind: a name of `KINDS`.
        path: the file, or the data's folder.
        text: description of the problem, with the file's name.
    """

    kind: str
    path: str
    text: str


@dataclass(frozen=True)
class CheckReport:
    """Results of a check.

    Attributes:
        files: number of images found.
        decoded: number of images decoded.
        counts: lines that say what the data holds; none if it can't be read as a whole.
        problems: problems found, by kind, then by path.
    """

    files: int
    decoded: int
    counts: list[str]
    problems: list[Problem]


def check_data(
    spec: str, *, sample: float = 1.0, seed: int = 0, workers: int = 2, progress: Progress | None = None
) -> CheckReport:
    """Check a data set on disk.

    Damage in the middle of a JPEG that its decoder forgives, with a warning at most, is not found.

    Args:
        spec: NAME:DIRECTORY.
        sample: share of the frames that are decoded.
        seed: seed that chooses the frames to decode.
        workers: number of threads that decode.
        progress: function that is told the stage, the files done and all of them.

    Raises:
        ValueError: there is no such folder, or a setting is out of range.
    """
    parsed = parse_spec(spec)
    root, data_set = parsed.directory, parsed.data_set
    if root is None or not root.exists():
        raise ValueError(f"there is no folder to check: write NAME:DIRECTORY, got {spec}")
    if not 0 < sample <= 1 or workers < 1:
        raise ValueError(f"sample must be above 0 and at most 1 and workers 1 or more, got {sample} and {workers}")
    counts, problems, wanted = _structure(spec, data_set.num_splits or 1)
    files, unreadable = _images(root, set(data_set.frame_folders)) if root.is_dir() else (sorted(wanted), [])
    problems += unreadable
    if not files and (root.is_dir() or not problems):
        problems.append(
            Problem("structure", spec, f"there is not one image where {data_set.name} has its frames, in {root}")
        )
    problems += [
        Problem("missing", str(path), f"there is no frame {path}") for path in sorted(wanted - set(files))
    ]
    problems += [problem for path in files if (problem := _name_or_size(path, data_set))]
    bad = {problem.path for problem in problems if problem.kind in ("empty", "missing")}
    whole = [path for path in files if str(path) not in bad and path.name.lower().endswith(IMAGE_ENDINGS)]
    chosen = np.random.default_rng(seed).permutation(len(whole))[: int(np.ceil(sample * len(whole)))]
    paths = [whole[place] for place in np.sort(chosen).tolist()]
    chunks = [paths[first : first + CHUNK] for first in range(0, len(paths), CHUNK)]
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        for chunk, found in zip(chunks, pool.map(_decode, chunks), strict=True):
            problems += found
            done += len(chunk)
            if progress is not None:
                progress("decoding", done, len(paths))
    problems.sort(key=lambda problem: (KINDS.index(problem.kind), problem.path))
    return CheckReport(len(files), len(paths), counts, problems)


def _structure(spec: str, num_splits: int) -> tuple[list[str], list[Problem], set[Path]]:
    """Read the data as training does, each published split of it: counts, problems, and the frames it needs."""
    data = None
    with tempfile.TemporaryDirectory() as cache:
        for split in range(num_splits):
            try:
                read = load_data(spec, DataConfig(split=split), Path(cache))
            except ValueError as error:
                return [], [Problem("structure", spec, str(error))], set()
            data = data or read
    assert data is not None
    wanted = {path for one in data.tracklets for path in getattr(one.frames, "paths", ())}
    return counts_of(data), [], wanted


def counts_of(data: ReidData) -> list[str]:
    """Return lines that say how many tracklets, people and frames there are."""
    lines = []
    for half, tracklets in (("train", data.train), ("query", data.query), ("gallery", data.gallery)):
        lengths = [len(tracklet) for tracklet in tracklets] or [0]
        people = {tracklet.person for tracklet in tracklets} - {JUNK}
        lines.append(
            f"{half}: {counted(len(tracklets), 'tracklet')} of {counted(len(people), 'person')}, "
            f"{counted(sum(lengths), 'frame')}, "
            f"{min(lengths)} to {max(lengths)} a tracklet"
        )
    return lines


def _images(root: Path, parts: set[str]) -> tuple[list[Path], list[Problem]]:
    """Find everything that lies where frames do, of a folder of one's own every file; and what can't be opened.

    Links to folders are followed, each folder once.
    """
    found: list[Path] = []
    problems: list[Problem] = []
    seen: set[str] = set()

    def note(error: OSError) -> None:
        problems.append(Problem("unreadable", str(error.filename), f"{error.filename}: {error.strerror}"))

    for folder, folders, names in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if parts and not parts & set(Path(folder).relative_to(root).parts):
            continue
        found += (Path(folder, one) for one in names if not one.startswith("."))
    return sorted(found), problems


def _name_or_size(path: Path, data_set: DataSet) -> Problem | None:
    match = (data_set.frame_name or ANY_IMAGE).fullmatch(path.name)
    if match is None:
        return Problem("wrongly named", str(path), f"{path} is not named as frames of {data_set.name} are")
    for group, folder in (("folder", path.parent), ("above", path.parent.parent)):
        if (named := match.groupdict().get(group, folder.name)) != folder.name:
            return Problem("wrongly named", str(path), f"{path} is named as a frame of {named}")
    try:
        size = path.stat().st_size
    except OSError as error:  # a link to nowhere
        return Problem("missing", str(path), f"cannot read {path}: {error.strerror}")
    if size == 0:
        return Problem("empty", str(path), f"{path} is empty (0 bytes)")
    return None


def _decode(paths: list[Path]) -> list[Problem]:
    problems = []
    for path in paths:
        try:
            read_image(path)
        except ValueError as error:
            kind = "truncated" if "it is truncated" in str(error) else "unreadable"
            problems.append(Problem(kind, str(path), str(error)))
    return problems
