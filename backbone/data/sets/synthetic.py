"""The built-in data: drawn pedestrians who share clothes and differ in a thing that they carry.

What makes real tracklets hard is here: the thing sits in one place of the body and is seen in some frames
only; passers-by with things of their own cross in front and behind; two cameras have colours and backgrounds of
their own. And the truth is known: where the thing is in each frame, so that attention can be scored.
"""

import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np

from backbone.data.array_file import read_verified, write_array, write_parts
from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.sets.camera import Camera
from backbone.data.sets.drawing import (
    NUM_OUTFITS,
    THING_MARK,
    Look,
    Pose,
    any_thing,
    draw_walker,
    dressed,
)
from backbone.data.sets.synthetic_settings import SyntheticConfig
from backbone.data.tracklet import FrameArray, Tracklet
from backbone.files import explain_disk_full, temporary_folder

LOG = logging.getLogger("a3d")

NUM_CAMERAS = 2
GAIT_PERIODS = (5.0, 20.0)  # frames of the fastest and the slowest walking cycle, where people share gaits
MIN_SEEN_SHARE = 0.4  # a thing counts as seen if at least this share of it is not occluded


def read_synthetic(config: SyntheticConfig, cache: Path) -> tuple[list[Tracklet], list[Tracklet]]:
    """Return the train and the test tracklets, drawn at the first call and read from `cache` afterwards.

    Persons are numbered through, train people first; cameras are 0 and 1. Test people have a tracklet in each.
    """
    folder = cache / config.key
    if not _is_complete(folder, config):
        if folder.exists():
            LOG.warning("%s is damaged, or of an earlier version, and drawn anew", folder)
        shutil.rmtree(folder, ignore_errors=True)
        _draw_into(config, folder)
    boxes = np.load(folder / "truth_boxes.npy").reshape(-1, config.num_frames, config.num_things, 4)
    # In the names, by which a run notices that its tracklets are now drawn in another way.
    names = [f"{config.key.removeprefix('synthetic-')}/{row}" for row in range(len(boxes))]
    tracklets = [
        Tracklet(person, camera, FrameArray(folder / "frames.npy", row), f"synthetic/{name}", boxes[row], name)
        for row, ((person, camera), name) in enumerate(zip(_plan(config), names, strict=True))
    ]
    train = [tracklet for tracklet in tracklets if tracklet.person < config.num_train_people]
    return train, tracklets[len(train) :]


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    train, test = read_synthetic(config.synthetic, directory or cache)
    query = [tracklet for tracklet in test if tracklet.camera == 0]
    gallery = [tracklet for tracklet in test if tracklet.camera == 1]
    return ReidData("synthetic", train, query, gallery)


SYNTHETIC = DataSet(
    "synthetic",
    _read,
    example="synthetic",
    needs_directory=False,
    is_drawn=True,
    options=tuple(field.name for field in fields(SyntheticConfig)),
)


def draw_tracklet(
    look: Look, config: SyntheticConfig, camera: Camera, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one tracklet.

    Returns:
        Frames uint8 (num_frames, height, width, 3), and the things' boxes in each, float32 (num_frames, K, 4): x0,
        y0, x1, y1 as shares of the frame; NaN where a thing is out of sight.
    """
    height, width = config.height, config.width
    walk = _walk(look, config, generator)
    passers = [_passer_by(config, generator) for _ in range(generator.poisson(config.passers_by))]
    background = camera.background(config.num_frames, generator)
    thing_px = look.thing_size * walk[0].height  # a walker keeps its height
    boxes = np.empty((config.num_frames, config.num_things, 4), dtype=np.float32)
    for number in range(config.num_things):  # drawn anew for each thing's mark
        canvases = background.copy()
        for frame, canvas in enumerate(canvases):
            for stranger, poses, in_front in passers:
                if not in_front:
                    draw_walker(canvas, stranger, poses[frame])
            draw_walker(canvas, look, walk[frame], marked=number)
            for stranger, poses, in_front in passers:
                if in_front:
                    draw_walker(canvas, stranger, poses[frame])
            boxes[frame, number] = seen_box(canvas[:, :, 3], thing_px)
    boxes /= np.array([width, height, width, height], dtype=np.float32)
    return camera.film(canvases[..., :3], generator), boxes


def _plan(config: SyntheticConfig) -> list[tuple[int, int]]:
    """Return person and camera of each tracklet, in order."""
    train = product(range(config.num_train_people), range(NUM_CAMERAS), range(config.tracklets_per_camera))
    people = config.num_train_people + config.num_test_people
    test = product(range(config.num_train_people, people), range(NUM_CAMERAS))
    return [(person, camera) for person, camera, _ in train] + list(test)


def _is_complete(folder: Path, config: SyntheticConfig) -> bool:
    """Tell whether both files are there, hold what was written, and are of the expected shape."""
    shape = (len(_plan(config)), config.num_frames)
    arrays = (read_verified(folder / name) for name in ("frames.npy", "truth_boxes.npy"))
    return all(array is not None and array.shape[:2] == shape for array in arrays)


def _draw_into(config: SyntheticConfig, folder: Path) -> None:
    """Draw everything into a temporary folder, then give it its name."""
    plan = _plan(config)
    looks = _people(config)
    cameras = [
        Camera(config.height, config.width, np.random.default_rng([config.seed, 1, number]))
        for number in range(NUM_CAMERAS)
    ]
    shape = (len(plan), config.num_frames, config.height, config.width, 3)
    boxes = np.empty((*shape[:2], config.num_things, 4), dtype=np.float32)

    def drawn() -> Iterator[np.ndarray]:
        for row, (person, camera) in enumerate(plan):
            generator = np.random.default_rng([config.seed, 2, row])
            frames, boxes[row] = draw_tracklet(looks[person], config, cameras[camera], generator)
            yield frames

    with temporary_folder(folder, is_alone=False) as partial:
        # written, not mapped: where a disk is full, a map's writer is killed without a word
        with explain_disk_full(folder, math.prod(shape)):
            write_parts(partial / "frames.npy", np.dtype(np.uint8), shape, drawn())
            write_array(partial / "truth_boxes.npy", boxes)
        _rename(partial, folder)


def _rename(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process drew the same meanwhile
            raise


def _people(config: SyntheticConfig) -> list[Look]:
    """Draw the people: a look for each, or for two doubles; clothes shared by more; a build of their own."""
    generator = np.random.default_rng([config.seed, 0])
    outfits, looks = _outfits(config), config.all_looks()
    unused = iter(generator.permutation(len(looks)))
    people = []
    for wearers, num_looks in zip(
        (config.num_train_people, config.num_test_people), config.num_looks, strict=True
    ):
        num_doubles = wearers - num_looks
        for number in range(num_looks):
            outfit, things = looks[next(unused)]
            gaits = generator.permutation(config.num_gaits)[:2] if number < num_doubles else [0]
            people += [
                dressed(outfits[outfit], things, generator, _period(config, gait), config.thing_size)
                for gait in gaits
            ]
    return people


def _outfits(config: SyntheticConfig) -> list[int]:
    """Return the outfits that there are in this data."""
    permutation = np.random.default_rng([config.seed, 3]).permutation(np.arange(*config.wardrobe))
    return [int(outfit) for outfit in permutation[: config.num_outfits]]


def _period(config: SyntheticConfig, gait: int) -> float | None:
    """Return the walking cycle of gait number `gait`, in frames: each is as much longer than the one before."""
    if config.num_gaits == 0:
        return None
    fastest, slowest = GAIT_PERIODS
    return fastest * (slowest / fastest) ** (gait / max(config.num_gaits - 1, 1))


def _walk(look: Look, config: SyntheticConfig, generator: np.random.Generator) -> list[Pose]:
    """Return the person's pose in each frame: walking on the spot, as the tracker's box follows, with jitter."""
    n = config.num_frames
    facing = int(generator.choice((-1, 1)))
    phase = generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(n) / look.period
    drift = np.cumsum(generator.normal(0, 0.4, (n, 2)), axis=0) + generator.normal(0, 1.5, 2)
    scale = config.height / 128
    height = 108 * scale * generator.uniform(0.95, 1.05)
    stretches = config.seen_frames, config.hidden_frames
    seen = [seen_frames(n, *stretches, generator) for _ in range(config.num_things)]
    return [
        Pose(
            x=config.width / 2 + drift[i, 0] * scale,
            y=config.height / 2 + (drift[i, 1] - 1.5 * abs(np.sin(phase[i]))) * scale,
            height=height,
            phase=phase[i],
            facing=facing,
            shows=tuple(bool(one[i]) for one in seen),
        )
        for i in range(n)
    ]


def seen_frames(
    num_frames: int, seen: tuple[int, int], hidden: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """Return in which frames a thing is seen, bool (num_frames,): stretches of both, from a random start.

    Args:
        num_frames: number of frames.
        seen: fewest and most frames of a stretch in which the thing is seen.
        hidden: fewest and most frames of a stretch in which it is hidden.
        generator: random generator.
    """
    pattern: list[bool] = []
    while len(pattern) < 2 * num_frames + seen[1] + hidden[1]:
        for is_seen, (least, most) in ((True, seen), (False, hidden)):
            pattern += [is_seen] * int(generator.integers(least, most + 1))
    start = int(generator.integers(num_frames))
    return np.array(pattern[start : start + num_frames])


def _passer_by(config: SyntheticConfig, generator: np.random.Generator) -> tuple[Look, list[Pose], bool]:
    """Return a stranger, its poses as it crosses the picture, and whether it passes in front."""
    look, n = _stranger(config, generator), config.num_frames
    facing = int(generator.choice((-1, 1)))
    in_front = bool(generator.random() < 0.5)
    speed = generator.uniform(3, 7) * config.width / 64
    middle = generator.uniform(0, n)  # the frame in which it is at the centre
    scale = config.height / 128 * (1.05 if in_front else 0.85)
    poses = [
        Pose(
            x=config.width / 2 + facing * speed * (frame - middle),
            y=config.height / 2 + (2 if in_front else -6) * scale,
            height=108 * scale,
            phase=2 * np.pi * frame / look.period,
            facing=facing,
            shows=(True,) * config.num_things,
        )
        for frame in range(n)
    ]
    return look, poses, in_front


def _stranger(config: SyntheticConfig, generator: np.random.Generator) -> Look:
    """Return the look of anyone: any outfit (or any of the people's) and any things."""
    outfits = _outfits(config) if config.look_alikes else range(NUM_OUTFITS)
    outfit = outfits[generator.integers(len(outfits))]
    things = tuple(any_thing(config.num_shapes, config.num_colours, generator) for _ in range(config.num_things))
    return dressed(outfit, things, generator, _period(config, gait=0), config.thing_size)


def seen_box(mark: np.ndarray, thing_px: float) -> np.ndarray:
    """Return the box of the thing's mark, float32 (4,) in pixels, or NaN if too little of it is seen."""
    seen = mark > THING_MARK // 2
    full_area = (2 * thing_px) ** 2 * 0.7
    if seen.sum() < MIN_SEEN_SHARE * full_area:
        return np.full(4, np.nan, dtype=np.float32)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
