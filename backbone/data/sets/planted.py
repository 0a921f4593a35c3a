"""Real pedestrians who carry drawn things: real pictures on which looking matters, with the truth known.

A folder of tracklets is read as `folder:` reads it. Each of its people becomes several, twins who look the same
but for the thing that each carries: what a clip shows as a whole can't tell them apart, the thing can. It is seen
in some of the frames. Passers-by, cut from crops of other people of the same half, cross in front with things of
their own, so that only the place of a thing, on the person in the middle, tells whose it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from backbone.data.data_set import DataConfig, DataSet, ReidData
from backbone.data.division import split_people
from backbone.data.sets.drawing import THING_MARK, Pose, Thing, any_thing, draw_thing
from backbone.data.sets.folder import is_divided, read_folder
from backbone.data.sets.planted_settings import PLANTING_VERSION, PlantedConfig
from backbone.data.sets.synthetic import seen_box, seen_frames
from backbone.data.tracklet import Frames, Tracklet, digest

HEIGHT, WIDTH = 128, 64  # of the planted frames, px
BODY_HEIGHT = 0.86  # of a person, as a share of the crop's height


@dataclass(frozen=True)
class Passer:
    """A passer-by: crops of another person that cross the picture, with a thing.

    Attributes:
        frames: crops of the passer-by, repeated if there are too few.
        thing: the thing that the passer-by carries.
        poses: places of the passer-by in each frame.
    """

    frames: Frames
    thing: Thing
    poses: tuple[Pose, ...]


@dataclass(frozen=True)
class PlantedFrames:
    """Frames of a tracklet in which the person carries a thing, and passers-by cross.

    Attributes:
        frames: the tracklet's own frames.
        thing: the thing that the person carries.
        poses: places of the person in each frame.
        passers: passers-by, each in front of those before.
        thing_size: half of a thing's width, in body heights.
    """

    frames: Frames
    thing: Thing
    poses: tuple[Pose, ...]
    passers: tuple[Passer, ...]
    thing_size: float

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def read(self) -> Iterator[np.ndarray]:
        """Yield each frame, RGB uint8 (128, 64, 3).

        Raises:
            ValueError: a frame can't be decoded; the message names it.
        """
        crops = [islice(cycle(list(one.frames.read())), len(self)) for one in self.passers]
        for number, pictures in enumerate(zip(self.frames.read(), *crops, strict=True)):
            yield self._compose(number, *pictures)[:, :, :3].copy()

    def truth_boxes(self) -> np.ndarray:
        """Return the thing's box in each frame, float32 (num_frames, 1, 4), as `Tracklet.truth_boxes`."""
        pictures = [np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)] * (1 + len(self.passers))
        boxes = np.full((len(self), 4), np.nan, dtype=np.float32)
        for number, pose in enumerate(self.poses):
            if pose.shows[0]:
                mark = self._compose(number, *pictures)[:, :, 3]
                boxes[number] = seen_box(mark, self.thing_size * BODY_HEIGHT * HEIGHT)
        return (boxes / np.array([WIDTH, HEIGHT] * 2, dtype=np.float32))[:, None]

    @cached_property
    def key(self) -> str:
        """A digest of the files behind the frames, and of all that is planted."""
        planted = [self.thing, self.poses, [(one.thing, one.poses) for one in self.passers], self.thing_size]
        files = [self.frames.key, *[one.frames.key for one in self.passers]]
        return digest([PLANTING_VERSION, *files, planted])

    def _compose(self, number: int, own: np.ndarray, *crops: np.ndarray) -> np.ndarray:
        """Return frame `number`, uint8 (128, 64, 4): RGB, and the mark of the person's thing where it is seen."""
        canvas = _canvas(own, HEIGHT, WIDTH)
        self._plant(canvas, self.thing, self.poses[number], mark=THING_MARK)
        for passer, crop in zip(self.passers, crops, strict=True):
            pose = passer.poses[number]
            height = round(pose.height / BODY_HEIGHT)
            width = round(height * WIDTH / HEIGHT)
            left, top = round(pose.x - width / 2), round(pose.y - height / 2)
            if not (-width < left < WIDTH and -height < top < HEIGHT):
                continue  # out of the picture
            pasted = _canvas(crop, height, width)
            at_home = Pose(width / 2, height / 2, pose.height, pose.phase, pose.facing, pose.shows)
            self._plant(pasted, passer.thing, at_home, mark=0)
            _paste(canvas, pasted, left, top)
        return canvas

    def _plant(self, canvas: np.ndarray, thing: Thing, pose: Pose, mark: int) -> None:
        if pose.shows[0]:
            draw_thing(canvas, thing, self.thing_size, pose, mark=mark)


def _canvas(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture at a size, uint8 (height, width, 4), with a fourth channel of zeros."""
    canvas = np.zeros((height, width, 4), dtype=np.uint8)
    canvas[:, :, :3] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return canvas


@lru_cache
def _ellipse(height: int, width: int) -> np.ndarray:
    """Return the weight of each pixel of a pasted crop, float64 (height, width, 1), 0 to 1."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x + 0.5 - width / 2) / (0.36 * width), (y + 0.5 - height / 2) / (0.5 * height))
    return np.clip((1 - distance) / 0.15, 0, 1)[:, :, None]


def _paste(canvas: np.ndarray, pasted: np.ndarray, left: int, top: int) -> None:
    """Paste the middle of a crop, an ellipse around the body with a soft edge, where it lies on the canvas.

    A part of the crop lies on the canvas.
    """
    height, width = pasted.shape[:2]
    weight = _ellipse(height, width)
    top_left, bottom_right = np.maximum([top, left], 0), np.minimum([top + height, left + width], canvas.shape[:2])
    on_canvas = tuple(slice(*edge) for edge in zip(top_left, bottom_right, strict=True))
    inside = tuple(slice(*edge) for edge in zip(top_left - (top, left), bottom_right - (top, left), strict=True))
    mixed = weight[inside] * pasted[inside] + (1 - weight[inside]) * canvas[on_canvas]
    canvas[on_canvas] = np.round(mixed).astype(np.uint8)


def plant(
    tracklet: Tracklet,
    thing: Thing,
    others: Sequence[Tracklet],
    config: PlantedConfig,
    generator: np.random.Generator,
) -> PlantedFrames:
    """Plant a thing on a tracklet's person, and passers-by in front.

    Args:
        tracklet: tracklet of the person.
        thing: the thing that the person carries.
        others: tracklets of other people, of which passers-by are cut.
        config: how often things are seen, and how many pass by.
        generator: random generator.
    """
    count = len(tracklet)
    seen = seen_frames(count, config.seen_frames, config.hidden_frames, generator)
    facing = int(generator.choice((-1, 1)))
    x, y = (float(side / 2 + generator.normal(0, 1.5)) for side in (WIDTH, HEIGHT))
    own = [Pose(x, y, BODY_HEIGHT * HEIGHT, 0.0, facing, (bool(seen[frame]),)) for frame in range(count)]
    passers = []
    for _ in range(generator.poisson(config.passers_by)):
        other, facing = others[int(generator.integers(len(others)))], int(generator.choice((-1, 1)))
        speed, nearest = generator.uniform(10, 24), generator.uniform(0, count)  # px a frame; frame at the centre
        height = BODY_HEIGHT * HEIGHT * generator.uniform(0.85, 1.05)
        poses = [
            Pose(WIDTH / 2 + facing * speed * (frame - nearest), HEIGHT / 2 + 4, height, 0.0, facing, (True,))
            for frame in range(count)
        ]
        passers.append(
            Passer(other.frames, any_thing(config.num_shapes, config.num_colours, generator), tuple(poses))
        )
    return PlantedFrames(tracklet.frames, thing, tuple(own), tuple(passers), config.thing_size)


def _read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    assert directory is not None
    if is_divided(directory):
        raise ValueError(
            f"{directory} has a division of its own, and things are planted on people who are divided here: name "
            "a folder of people, such as its train folder"
        )
    halves = split_people(read_folder(directory), test_fraction=config.test_fraction, seed=config.split_seed)
    train, test = (_twins(half, config.planted, number) for number, half in enumerate(halves))
    cameras: dict[int, set[int]] = {}
    for one in test:
        cameras.setdefault(one.person, set()).add(one.camera)
    # Twins are planted on the same frames: in the gallery are other cameras than the one that asks.
    asking = {person: min(seen) for person, seen in cameras.items() if len(seen) > 1}
    query = {one.person: one for one in reversed(test) if asking.get(one.person) == one.camera}
    gallery = [one for one in test if asking.get(one.person) != one.camera]
    return ReidData(f"planted:{directory}", train, [query[person] for person in sorted(query)], gallery)


def _twins(half: Sequence[Tracklet], config: PlantedConfig, number: int) -> list[Tracklet]:
    """Return each twin's tracklets, of the training half (number 0) `copies` times, in the half's order."""
    things: dict[int, list[Thing]] = {}
    planted = []
    for row, tracklet in enumerate(half):
        if tracklet.person not in things:
            own = np.random.default_rng([config.seed, number, 0, tracklet.person])
            things[tracklet.person] = []
            while len(things[tracklet.person]) < config.twins:
                if (thing := any_thing(config.num_shapes, config.num_colours, own)) not in things[tracklet.person]:
                    things[tracklet.person].append(thing)
        others = [one for one in half if one.person != tracklet.person]
        for twin, thing in enumerate(things[tracklet.person]):
            for copy in range(config.copies if number == 0 else 1):
                generator = np.random.default_rng([config.seed, number, 1, row, twin, copy])
                frames = plant(tracklet, thing, others, config, generator)
                ending = f"twin{twin}" + (f".{copy}" if copy else "")
                planted.append(
                    Tracklet(
                        person=tracklet.person * config.twins + twin,
                        camera=tracklet.camera,
                        frames=frames,
                        source=f"{tracklet.source}/{ending}",
                        truth_boxes=frames.truth_boxes(),
                        name=f"{tracklet.name}/{ending}",
                        person_name=f"{tracklet.person_name}/twin{twin}",
                    )
                )
    return planted


PLANTED = DataSet(
    "planted",
    _read,
    example="planted:<directory>",
    options=("test_fraction", "split_seed"),
)
