"""The built-in data: drawn pedestrians who share clothes and differ in a thing that they carry.

What makes real tracklets hard is here: the thing sits in one place of the body and is seen in some frames
only; passers-by with things of their own cross in front and behind; two cameras have colours and backgrounds of
their own. And the truth is known: where the thing is in each frame, so that attention can be scored.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from backbone.data.array_file import read_verified, write_array, write_parts
from backbone.data.sets.camera import Camera
from backbone.data.sets.drawing import (
    NUM_OUTFITS,
    PLACES,
    SHAPES,
    THING_COLOURS,
    THING_MARK,
    THING_SIZE,
    Colour,
    Look,
    Pose,
    draw_walker,
    dressed,
)
from backbone.data.tracklet import FrameArray, Tracklet
from backbone.files import explaining_no_room, temporary_folder

LOG = logging.getLogger("a3d")

# Part of the cache's key: raise it when the drawing changes.
DRAWING_VERSION = 4

NUM_CAMERAS = 2
GAIT_PERIODS = (5.0, 20.0)  # frames of the fastest and the slowest walking cycle, where people share gaits
MOST_BYTES = 2**36  # of drawn frames: 64 GiB
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
    wardrobe: tuple[int, int] = (0, NUM_OUTFITS)
    """Where the people's clothes come from: outfits from the first number up to, but not including, the second.
    Without look_alikes passers-by wear any."""
    seen_frames: tuple[int, int] = (5, 9)
    """The thing is seen for so many frames at a stretch (least, most)..."""
    hidden_frames: tuple[int, int] = (3, 6)
    """...and then hidden for so many."""
    passers_by: float = 1.0
    """Expected number of people who cross in a tracklet."""
    look_alikes: bool = False
    """Passers-by wear the clothes of the people, not any; their things are of the same kinds in either case."""
    num_colours: int = len(THING_COLOURS)
    """Different colours of things."""
    num_shapes: int = len(SHAPES)
    """Different shapes of things."""
    thing_size: float = THING_SIZE
    """Half of a thing's width, in body heights."""
    num_gaits: int = 0
    """Different rhythms of walking, of one stride: two doubles walk in two of them, all others in the first; 0:
    everyone has a gait of their own."""
    doubles: float = 0.0
    """Share of the people, 0 to 1, who have a double: the same clothes and thing in another rhythm, so that the
    motion, and a build that differs a little, tell the two apart; above 0 it takes 2 gaits or more."""
    seed: int = 0
    """The data's own seed, apart from the training's."""

    def __post_init__(self) -> None:
        first, end = self.wardrobe
        if not 0 <= first < end <= NUM_OUTFITS:
            raise ValueError(f"wardrobe must be (first, end) of the outfits 0 to {NUM_OUTFITS}, got {first, end}")
        if not 1 <= self.num_outfits <= end - first:
            raise ValueError(f"num_outfits must be 1 to the wardrobe's {end - first}, got {self.num_outfits}")
        for name, most in (("num_colours", len(THING_COLOURS)), ("num_shapes", len(SHAPES))):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {getattr(self, name)}")
        if not 0.02 <= self.thing_size <= 0.15:
            raise ValueError(f"thing_size must be 0.02 to 0.15 body heights, got {self.thing_size}")
        if self.num_gaits < 0 or not 0 <= self.doubles <= 1 or (self.doubles > 0 and self.num_gaits < 2):
            raise ValueError(
                "num_gaits must be 0 or more, and doubles 0 to 1, above 0 only with 2 gaits or more; got "
                f"{self.num_gaits} and {self.doubles}"
            )
        wanted, looks = sum(self.num_looks), len(self.all_looks())
        if min(self.num_train_people, self.num_test_people) < 2 or wanted > looks:
            raise ValueError(
                f"synthetic data needs 2 or more train and test people and at most {looks} looks with "
                f"{self.num_outfits} outfits, got {self.num_train_people} and {self.num_test_people} people"
            )
        if min(self.num_frames, self.tracklets_per_camera) < 1:
            raise ValueError("synthetic data needs at least 1 frame a tracklet and 1 tracklet per camera")
        if self.height < 32 or self.width < 16:
            raise ValueError(f"a pedestrian needs 32 x 16 pixels or more, got {self.height} x {self.width}")
        tracklets = 2 * (self.num_train_people * self.tracklets_per_camera + self.num_test_people)
        size = 3 * tracklets * self.num_frames * self.height * self.width
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes of synthetic frames are too many: at most {MOST_BYTES:,} are drawn")
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
        shapes = list(SHAPES)[: self.num_shapes]
        return list(product(range(self.num_outfits), PLACES, shapes, THING_COLOURS[: self.num_colours]))

    @property
    def num_looks(self) -> tuple[int, int]:
        """The looks of the train and of the test people: two doubles share one."""
        train, test = (
            people - min(round(self.doubles * people / 2), people // 2)
            for people in (self.num_train_people, self.num_test_people)
        )
        return train, test

    @property
    def key(self) -> str:
        """A name for the cache, of everything that the pixels depend on."""
        text = json.dumps({**asdict(self), "version": DRAWING_VERSION}, sort_keys=True)
        return f"synthetic-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# The benchmark's people and the walkers that the small backbone starts from wear different clothes, so that
# nobody of the one is anybody of the other.
BENCHMARK_WARDROBE, WALKERS_WARDROBE = (0, 14), (14, NUM_OUTFITS)


def benchmark(seed: int = 0) -> SyntheticConfig:
    """Return the variant on which looking matters: small frames, so that many runs fit into hours on a CPU.

    People share clothes; the thing that they carry names them, and it is out of sight a third of the time.
    One in five has a double, who differs in the rhythm of walking and a little in build. Passers-by wear the same
    outfits and carry things of the same kinds, so that the clip as a whole shows strangers' things beside the
    person's; only where it is, on the walker in the middle, tells it apart. How much bins set on the truth gain
    over no attention and over random bins is measured in benchmarks/attention.md.
    """
    return SyntheticConfig(
        num_train_people=240,
        num_test_people=200,
        tracklets_per_camera=4,
        num_frames=12,
        height=64,
        width=32,
        num_outfits=5,
        wardrobe=BENCHMARK_WARDROBE,
        num_shapes=2,
        thing_size=0.1,
        num_gaits=2,
        doubles=0.2,
        hidden_frames=(2, 4),
        look_alikes=True,
        passers_by=1.0,
        seed=seed,
    )


def without_clutter(seed: int = 0) -> SyntheticConfig:
    """Return walkers in other clothes, alone, things in sight: for the small backbone's first weights."""
    return replace(
        benchmark(seed),
        num_train_people=420,
        num_test_people=100,
        wardrobe=WALKERS_WARDROBE,
        doubles=0.5,
        seen_frames=(12, 12),
        hidden_frames=(0, 0),
        passers_by=0.0,
    )


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
    boxes = np.load(folder / "truth_boxes.npy")
    # In the sources, by which a run notices that its tracklets are now drawn in another way.
    drawing = config.key.removeprefix("synthetic-")
    tracklets = [
        Tracklet(person, camera, FrameArray(folder / "frames.npy", row), f"synthetic/{drawing}/{row}", boxes[row])
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
    thing_px = look.thing_size * walk[0].height  # a walker keeps its height
    boxes = np.stack([_seen_box(canvas[:, :, 3], thing_px) for canvas in canvases])
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
    boxes = np.empty((*shape[:2], 4), dtype=np.float32)

    def drawn() -> Iterator[np.ndarray]:
        for row, (person, camera) in enumerate(plan):
            generator = np.random.default_rng([config.seed, 2, row])
            frames, boxes[row] = draw_tracklet(looks[person], config, cameras[camera], generator)
            yield frames

    with temporary_folder(folder, is_alone=False) as partial:
        # written, not mapped: where a disk is full, a map's writer is killed without a word
        with explaining_no_room(folder, math.prod(shape)):
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
            outfit, place, shape, colour = looks[next(unused)]
            gaits = generator.permutation(config.num_gaits)[:2] if number < num_doubles else [0]
            people += [
                dressed(outfits[outfit], place, shape, colour, generator, _period(config, gait), config.thing_size)
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
            shows_thing=True,
        )
        for frame in range(n)
    ]
    return look, poses, in_front


def _stranger(config: SyntheticConfig, generator: np.random.Generator) -> Look:
    """Return the look of anyone: any outfit (or any of the people's) and any thing."""
    outfits = _outfits(config) if config.look_alikes else range(NUM_OUTFITS)
    return dressed(
        outfits[generator.integers(len(outfits))],
        str(generator.choice(list(PLACES))),
        str(generator.choice(list(SHAPES)[: config.num_shapes])),
        THING_COLOURS[generator.integers(config.num_colours)],
        generator,
        _period(config, gait=0),
        config.thing_size,
    )


def _seen_box(mark: np.ndarray, thing_px: float) -> np.ndarray:
    """Return the box of the thing's mark, float32 (4,) in pixels, or NaN if too little of it is seen."""
    seen = mark > THING_MARK // 2
    full_area = (2 * thing_px) ** 2 * 0.7
    if seen.sum() < MIN_SEEN_SHARE * full_area:
        return np.full(4, np.nan, dtype=np.float32)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
