"""Is a data set whole? Its counts by the protocol, its files by name and size, and its frames by decoding them."""

import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backbone.data import DataConfig, ReidData, load_data
from backbone.data.folder import IMAGE_ENDINGS
from backbone.data.tracklet import read_image
from backbone.data.video import Progress
from backbone.metrics import JUNK

# How many files are given to a worker at a time.
CHUNK = 256

# Where the frames of published data are, and what they are called; a first group is the folder they lie in.
NAMES = {
    "prid": (("multi_shot",), re.compile(r"\d{4}\.png")),
    "ilids": (("sequences",), re.compile(r"cam[12]_(person\d{3})_\d+\.png")),
    "mars": (("bbox_train", "bbox_test"), re.compile(r"(\d{4}|00-1)C\dT\d{4}F\d{3,}\.jpg")),
}


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        kind: structure, wrongly named, empty, truncated or unreadable.
        path: the file, or the data's folder.
        text: what is wrong, with the file's name.
    """

    kind: str
    path: str
    text: str


@dataclass(frozen=True)
class CheckReport:
    """What a check came to.

    Attributes:
        files: images found.
        decoded: of them.
        counts: what the data holds, in lines for people; nothing if it can't be read as a whole.
        problems: by kind, then by path.
    """

    files: int
    decoded: int
    counts: list[str]
    problems: list[Problem]


def check_data(
    spec: str, *, sample: float = 1.0, seed: int = 0, workers: int = 2, progress: Progress | None = None
) -> CheckReport:
    """Check a data set on disk.

    Args:
        spec: NAME:DIRECTORY.
        sample: the share of the frames that are decoded.
        seed: of the sample.
        workers: threads that decode.
        progress: told the stage, the files done and all of them.

    Raises:
        ValueError: there is no such folder, or a setting is out of range.
    """
    name, _, directory = spec.partition(":")
    root = Path(directory).expanduser()
    if not directory or not root.is_dir():
        raise ValueError(f"there is no folder to check: write NAME:DIRECTORY, got {spec}")
    if not 0 < sample <= 1 or workers < 1:
        raise ValueError(f"sample must be above 0 and at most 1 and workers 1 or more, got {sample} and {workers}")
    counts, problems = _structure(spec)
    files = sorted(_images(root, name))
    problems += [problem for path in files if (problem := _name_or_size(path, name))]
    bad = {problem.path for problem in problems if problem.kind == "empty"}
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
    order = ("structure", "wrongly named", "empty", "truncated", "unreadable")
    problems.sort(key=lambda problem: (order.index(problem.kind), problem.path))
    return CheckReport(len(files), len(paths), counts, problems)


def _structure(spec: str) -> tuple[list[str], list[Problem]]:
    """Read the data as training does, and count."""
    with tempfile.TemporaryDirectory() as cache:
        try:
            data = load_data(spec, DataConfig(), Path(cache))
        except ValueError as error:
            return [], [Problem("structure", spec, str(error))]
    return counts_of(data), []


def counts_of(data: ReidData) -> list[str]:
    """Return how many tracklets, people and frames there are, in lines for people."""
    lines = []
    for half, tracklets in (("train", data.train), ("query", data.query), ("gallery", data.gallery)):
        lengths = [len(tracklet) for tracklet in tracklets] or [0]
        people = {tracklet.person for tracklet in tracklets} - {JUNK}
        lines.append(
            f"{half}: {len(tracklets):,} tracklets of {len(people):,} people, {sum(lengths):,} frames, "
            f"{min(lengths)} to {max(lengths)} a tracklet"
        )
    return lines


def _images(root: Path, name: str) -> Iterator[Path]:
    """Find everything that lies where frames do; of a folder of one's own, every file."""
    parts, _ = NAMES.get(name, ((), None))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if parts and not set(parts) & set(Path(folder).relative_to(root).parts):
            continue
        yield from (Path(folder, one) for one in names if not one.startswith("."))


def _name_or_size(path: Path, name: str) -> Problem | None:
    pattern = NAMES[name][1] if name in NAMES else re.compile(rf".*({'|'.join(IMAGE_ENDINGS)})", re.IGNORECASE)
    match = pattern.fullmatch(path.name)
    if match is None:
        return Problem("wrongly named", str(path), f"{path} is not named as frames of {name} are")
    if name in ("ilids", "mars") and match[1] != path.parent.name:
        return Problem("wrongly named", str(path), f"{path} is named as a frame of {match[1]}")
    if path.stat().st_size == 0:
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
