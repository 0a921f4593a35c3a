"""The built-in data: drawn pedestrians who share clothes and differ in a thing that they carry.

What makes real tracklets hard is here: the thing sits in one place of the body and is seen in some frames
only; passers-by with things of their own cross in front and behind; two cameras have colours and backgrounds of
their own. And the truth is known: where the thing is in each frame, so that attention can be scored.
"""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from backbone.data.camera import Camera
from backbone.data.drawing import (
    NUM_OUTFITS,
    PLACES,
    SHAPES,
    THING_COLOURS,
    THING_MARK,
    Colour,
    Look,
    Pose,
    draw_walker,
    dressed,
    random_look,
)
from backbone.data.tracklet import FrameArray, Tracklet

# Part of the cache's key: raise it when the drawing changes.
DRAWING_VERSION = 1

NUM_CAMERAS = 2
MIN_SEEN_SHARE = 0.4  # a thing counts as seen if at least this share of it is not occluded


@dataclass(frozen=True)
class SyntheticConfig:
    """What is drawn. Equal settings give equal pixels."""

    num_train_people: int = 80
    """Identities to train on."""
    num_test_people: int = 100
    """Other identities to test on."""
    tracklets_per_camera: int = 3
    """Tracklets of each training person in each of the two cameras; test people have one."""
    num_frames: int = 16
    """Frames of a tracklet."""
    height: int = 128
    """Of a frame, in pixels."""
    width: int = 64
    """Of a frame, in pixels."""
    num_outfits: int = 4
    """Different clothes; people share them."""
    seen_frames: tuple[int, int] = (5, 9)
    """The thing is seen for so many frames at a stretch (least, most)..."""
    hidden_frames: tuple[int, int] = (3, 6)
    """...and then hidden for so many."""
    passers_by: float = 1.0
    """Expected number of people who cross in a tracklet."""
    seed: int = 0
    """The data's own seed, apart from the training's."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_outfits <= NUM_OUTFITS:
            raise ValueError(f"num_outfits must be 1 to {NUM_OUTFITS}, got {self.num_outfits}")
        people, looks = self.num_train_people + self.num_test_people, len(self.all_looks())
        if min(self.num_train_people, self.num_test_people) < 2 or people > looks:
            raise ValueError(
                f"synthetic data needs 2 or more train and test people and at most {looks} with "
                f"{self.num_outfits} outfits, got {self.num_train_people} and {self.num_test_people}"
            )
        if min(self.num_frames, self.tracklets_per_camera) < 1:
            raise ValueError("synthetic data needs at least 1 frame a tracklet and 1 tracklet per camera")
        if self.height < 32 or self.width < 16:
            raise ValueError(f"a pedestrian needs 32 x 16 pixels or more, got {self.height} x {self.width}")
        for name, least_allowed in (("seen_frames", 1), ("hidden_frames", 0)):
            least, most = getattr(self, name)
            if not least_allowed <= least <= most:
                raise ValueError(
                    f"{name} must be (least, most) with {least_allowed} <= least <= most, got {least, most}"
                )
        if not 0 <= self.passers_by <= 100 or self.seed < 0:
            raise ValueError(
                f"synthetic data needs passers_by from 0 to 100 and a seed of 0 or more, got {self.passers_by} "
                f"and {self.seed}"
            )

    def all_looks(self) -> list[tuple[int, str, str, Colour]]:
        """Return every combination of outfit, place, shape and colour: the identities there can be."""
        return list(product(range(self.num_outfits), PLACES, SHAPES, THING_COLOURS))

    @property
    def key(self) -> str:
        """A name for the cache, of everything that the pixels depend on."""
        text = json.dumps({**asdict(self), "version": DRAWING_VERSION}, sort_keys=True)
        return f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_synthetic(config: SyntheticConfig, cache: Path) -> tuple[list[Tracklet], list[Tracklet]]:
    """Return the train and the test tracklets, drawn at the first call and read from `cache` afterwards.

    Persons are numbered through, train people first; cameras are 0 and 1. Test people have a tracklet in each.
    """
    folder = cache / config.key
    if not _is_complete(folder, config):
        shutil.rmtree(folder, ignore_errors=True)
        _draw_into(config, folder)
    boxes = np.load(folder / "truth_boxes.npy")
    tracklets = [
        Tracklet(person, camera, FrameArray(folder / "frames.npy", row), f"synthetic/{row}", boxes[row])
        for row, (person, camera) in enumerate(_plan(config))
    ]
    train = [tracklet for tracklet in tracklets if tracklet.person < config.num_train_people]
    return train, tracklets[len(train) :]


def draw_tracklet(
    look: Look, config: SyntheticConfig, camera: Camera, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one tracklet.

    Returns:
        Frames uint8 (num_frames, height, width, 3), and the thing's box in each, float32 (num_frames, 4): x0,
        y0, x1, y1 as shares of the frame; NaN where it is out of sight.
    """
    height, width = config.height, config.width
    walk = _walk(look, config, generator)
    passers = [_passer_by(config, generator) for _ in range(generator.poisson(config.passers_by))]
    canvases = camera.background(config.num_frames, generator)
    for frame, canvas in enumerate(canvases):
        for stranger, poses, in_front in passers:
            if not in_front:
                draw_walker(canvas, stranger, poses[frame])
        draw_walker(canvas, look, walk[frame], mark=THING_MARK)
        for stranger, poses, in_front in passers:
            if in_front:
                draw_walker(canvas, stranger, poses[frame])
    boxes = np.stack([_seen_box(canvas[:, :, 3], walk[frame].height) for frame, canvas in enumerate(canvases)])
    boxes /= np.array([width, height, width, height], dtype=np.float32)
    return camera.film(canvases[..., :3], generator), boxes


def _plan(config: SyntheticConfig) -> list[tuple[int, int]]:
    """Return person and camera of each tracklet, in order."""
    train = product(range(config.num_train_people), range(NUM_CAMERAS), range(config.tracklets_per_camera))
    people = config.num_train_people + config.num_test_people
    test = product(range(config.num_train_people, people), range(NUM_CAMERAS))
    return [(person, camera) for person, camera, _ in train] + list(test)


def _is_complete(folder: Path, config: SyntheticConfig) -> bool:
    """Tell whether both files are there, whole and of the expected shape."""
    shape = (len(_plan(config)), config.num_frames)
    try:
        arrays = [np.load(folder / name, mmap_mode="r") for name in ("frames.npy", "truth_boxes.npy")]
    except (OSError, ValueError, EOFError):  # not drawn yet, or damaged since
        return False
    return all(array.shape[:2] == shape for array in arrays)


def _draw_into(config: SyntheticConfig, folder: Path) -> None:
    """Draw everything into a temporary folder, then give it its name."""
    plan = _plan(config)
    looks = _people(config)
    cameras = [
        Camera(config.height, config.width, np.random.default_rng([config.seed, 1, number]))
        for number in range(NUM_CAMERAS)
    ]
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    try:
        shape = (len(plan), config.num_frames, config.height, config.width, 3)
        frames = np.lib.format.open_memmap(partial / "frames.npy", "w+", np.uint8, shape)
        boxes = np.empty((*shape[:2], 4), dtype=np.float32)
        for row, (person, camera) in enumerate(plan):
            generator = np.random.default_rng([config.seed, 2, row])
            frames[row], boxes[row] = draw_tracklet(looks[person], config, cameras[camera], generator)
        frames.flush()
        np.save(partial / "truth_boxes.npy", boxes)
        _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():  # else another process drew the same meanwhile
            raise


def _people(config: SyntheticConfig) -> list[Look]:
    """Draw the people: different looks, clothes shared by many, gait and build of their own."""
    generator = np.random.default_rng([config.seed, 0])
    outfits = generator.permutation(NUM_OUTFITS)
    looks = config.all_looks()
    people = config.num_train_people + config.num_test_people
    chosen = generator.choice(len(looks), people, replace=False)
    people_looks = [looks[number] for number in chosen]
    return [
        dressed(int(outfits[outfit]), place, shape, colour, generator)
        for outfit, place, shape, colour in people_looks
    ]


def _walk(look: Look, config: SyntheticConfig, generator: np.random.Generator) -> list[Pose]:
    """Return the person's pose in each frame: walking on the spot, as the tracker's box follows, with jitter."""
    n = config.num_frames
    facing = int(generator.choice((-1, 1)))
    phase = generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(n) / look.period
    drift = np.cumsum(generator.normal(0, 0.4, (n, 2)), axis=0) + generator.normal(0, 1.5, 2)
    scale = config.height / 128
    height = 108 * scale * generator.uniform(0.95, 1.05)
    seen = _seen_frames(config, generator)
    return [
        Pose(
            x=config.width / 2 + drift[i, 0] * scale,
            y=config.height / 2 + (drift[i, 1] - 1.5 * abs(np.sin(phase[i]))) * scale,
            height=height,
            phase=phase[i],
            facing=facing,
            shows_thing=bool(seen[i]),
        )
        for i in range(n)
    ]


def _seen_frames(config: SyntheticConfig, generator: np.random.Generator) -> np.ndarray:
    """Return in which frames the thing is seen: stretches of seen and hidden ones, from a random start."""
    pattern: list[bool] = []
    while len(pattern) < 2 * config.num_frames + config.seen_frames[1] + config.hidden_frames[1]:
        for is_seen, (least, most) in ((True, config.seen_frames), (False, config.hidden_frames)):
            pattern += [is_seen] * int(generator.integers(least, most + 1))
    start = int(generator.integers(config.num_frames))
    return np.array(pattern[start : start + config.num_frames])


def _passer_by(config: SyntheticConfig, generator: np.random.Generator) -> tuple[Look, list[Pose], bool]:
    """Return a stranger, its poses as it crosses the picture, and whether it passes in front."""
    look, n = random_look(generator), config.num_frames
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
            shows_thing=True,
        )
        for frame in range(n)
    ]
    return look, poses, in_front


def _seen_box(mark: np.ndarray, body_height: float) -> np.ndarray:
    """Return the box of the thing's mark, float32 (4,) in pixels, or NaN if too little of it is seen."""
    seen = mark > THING_MARK // 2
    full_area = (2 * 0.066 * body_height) ** 2 * 0.7
    if seen.sum() < MIN_SEEN_SHARE * full_area:
        return np.full(4, np.nan, dtype=np.float32)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
