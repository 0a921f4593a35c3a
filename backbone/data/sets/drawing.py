"""Drawn pedestrians: one walker, its clothes and the thing it carries, on a canvas that knows the thing."""

from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[int, int, int]

SUBPIXEL_BITS = 4  # OpenCV takes coordinates in 1/16 px
THING_MARK = 255  # the canvas's fourth channel: where the thing is seen

TOPS: tuple[Colour, ...] = ((70, 74, 84), (112, 96, 84), (74, 92, 80), (104, 104, 110), (84, 72, 92))
BOTTOMS: tuple[Colour, ...] = ((44, 48, 62), (86, 80, 68), (58, 58, 58), (66, 78, 92))
HAIR: tuple[Colour, ...] = ((40, 32, 28), (92, 66, 42), (24, 24, 26))
SKIN: tuple[Colour, ...] = ((224, 188, 162), (176, 128, 98), (120, 84, 62))
THING_COLOURS: tuple[Colour, ...] = (
    (225, 40, 40),
    (40, 170, 60),
    (50, 90, 230),
    (240, 210, 40),
    (230, 60, 200),
    (40, 210, 220),
    (245, 130, 20),
    (240, 240, 240),
)
NUM_OUTFITS = len(TOPS) * len(BOTTOMS)
THING_SIZE = 0.066  # half of a thing's width, in body heights
PERIODS = (8.0, 16.0)  # fewest and most frames of one walking cycle
STRIDES = (0.3, 0.65)  # least and most swing of the legs, radians

# Where a thing sits: sideways (1 = the side that the walker turns its back to) and down, in body heights.
PLACES = {
    "hat": (0.0, -0.47),
    "back": (0.15, -0.24),
    "chest": (-0.09, -0.20),
    "hip": (0.12, 0.03),
    "hand": (-0.19, 0.12),
    "ankle": (0.05, 0.40),
}
# Corners of each shape around its middle; a disc has many.
_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
SHAPES = {
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.9,
    "bar": np.array([(-0.5, -1.6), (0.5, -1.6), (0.5, 1.6), (-0.5, 1.6)]),
    "disc": np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1) * 1.05,
    "triangle": np.array([(0, -1.2), (1.2, 0.9), (-1.2, 0.9)]),
}


@dataclass(frozen=True)
class Thing:
    """A thing that a walker carries.

    Attributes:
        place: place of the thing on the body, a name of `PLACES`.
        shape: the thing's shape, a name of `SHAPES`.
        colour: the thing's colour, RGB.
    """

    place: str
    shape: str
    colour: Colour


@dataclass(frozen=True)
class Look:
    """Appearance of a walker, the same whoever films it.

    Attributes:
        top: the jacket's colour, RGB.
        bottom: the trousers' colour, RGB.
        hair: the hair's colour, RGB.
        skin: the skin's colour, RGB.
        things: the things that the walker carries, one or more.
        stride: largest angle of the legs' swing, in radians.
        period: frames of one walking cycle.
        build: width of the body over the usual.
        thing_size: half of a thing's width, in body heights.
    """

    top: Colour
    bottom: Colour
    hair: Colour
    skin: Colour
    things: tuple[Thing, ...]
    stride: float
    period: float
    build: float
    thing_size: float = THING_SIZE


@dataclass(frozen=True)
class Pose:
    """Place of a walker in one frame: middle of the body and its height in pixels, phase in radians.

    Attributes:
        x: middle of the body, px.
        y: middle of the body, px.
        height: height of the body, px.
        phase: phase of the walking cycle, radians.
        facing: walking direction, 1 or -1.
        shows: whether each thing is seen (not behind the body).
    """

    x: float
    y: float
    height: float
    phase: float
    facing: int
    shows: tuple[bool, ...]


def draw_walker(canvas: np.ndarray, look: Look, pose: Pose, *, marked: int | None = None) -> None:
    """Draw a walker on a canvas, uint8 (height, width, 4): RGB and a thing's mark.

    Everything drawn covers what is under it, in the mark channel too: an occluded thing loses its mark.

    Args:
        canvas: canvas, which is drawn on in place.
        look: appearance of the walker.
        pose: place of the walker.
        marked: number of the walker's thing that leaves `THING_MARK` in the fourth channel where it is seen; None:
            none does.
    """
    size = pose.height
    swing = look.stride * np.sin(pose.phase)
    hip = (pose.x, pose.y + 0.06 * size)
    neck = (pose.x, pose.y - 0.30 * size)
    limb = max(1, round(0.075 * size * look.build))
    darker = _shade(look.bottom, 0.75)

    _limb(canvas, hip, 0.24 * size, (-swing, -swing + 0.25 * swing), limb, darker)
    _limb(canvas, neck, 0.19 * size, (0.8 * swing, 0.8 * swing), limb, _shade(look.top, 0.7))
    _limb(canvas, hip, 0.24 * size, (swing, swing + -0.25 * swing), limb, look.bottom)
    _polygon(canvas, _torso(pose, look), look.top)
    _ellipse(canvas, (pose.x, pose.y - 0.40 * size), 0.062 * size, 0.08 * size, look.skin)
    _ellipse(canvas, (pose.x, pose.y - 0.44 * size), 0.064 * size, 0.05 * size, look.hair)
    _limb(canvas, neck, 0.19 * size, (-0.8 * swing, -0.8 * swing), limb, _shade(look.top, 0.85))
    for number, thing in enumerate(look.things):
        if pose.shows[number]:
            draw_thing(canvas, thing, look.thing_size, pose, mark=THING_MARK if number == marked else 0)


def any_thing(num_shapes: int, num_colours: int, generator: np.random.Generator) -> Thing:
    """Return a thing at any place, of any of the first shapes and colours."""
    place, shape = str(generator.choice(list(PLACES))), str(generator.choice(list(SHAPES)[:num_shapes]))
    return Thing(place, shape, THING_COLOURS[generator.integers(num_colours)])


def draw_thing(canvas: np.ndarray, thing: Thing, thing_size: float, pose: Pose, *, mark: int) -> None:
    """Draw a thing at its place on a body, with a value for the canvas's fourth channel, as `draw_walker` does."""
    sideways, down = PLACES[thing.place]
    middle = (pose.x - pose.facing * sideways * pose.height, pose.y + down * pose.height)
    outline = np.array(middle) + SHAPES[thing.shape] * thing_size * pose.height
    _polygon(canvas, outline, thing.colour, mark)


def dressed(
    outfit: int,
    things: tuple[Thing, ...],
    generator: np.random.Generator,
    period: float | None = None,
    thing_size: float = THING_SIZE,
) -> Look:
    """Return a look in outfit number `outfit`, with a build of its own, and a gait of its own unless one is given.

    Walkers whose `period` is given have the same stride.
    """
    return Look(
        top=TOPS[outfit % len(TOPS)],
        bottom=BOTTOMS[outfit // len(TOPS)],
        hair=HAIR[outfit % len(HAIR)],
        skin=SKIN[outfit % len(SKIN)],
        things=things,
        stride=generator.uniform(*STRIDES) if period is None else sum(STRIDES) / 2,
        period=generator.uniform(*PERIODS) if period is None else period,
        build=generator.uniform(0.9, 1.15),
        thing_size=thing_size,
    )


def _torso(pose: Pose, look: Look) -> np.ndarray:
    half = 0.105 * pose.height * look.build
    top, bottom = pose.y - 0.32 * pose.height, pose.y + 0.09 * pose.height
    return np.array(
        [
            (pose.x - half, top),
            (pose.x + half, top),
            (pose.x + 0.8 * half, bottom),
            (pose.x - 0.8 * half, bottom),
        ]
    )


def _limb(
    canvas: np.ndarray,
    start: tuple[float, float],
    length: float,
    angles: tuple[float, float],
    thickness: int,
    colour: Colour,
) -> None:
    """Draw two joined lines of `length` px, each at its angle from straight down, in radians."""
    upper, lower = angles
    knee = (start[0] + length * np.sin(upper), start[1] + length * np.cos(upper))
    foot = (knee[0] + length * np.sin(lower), knee[1] + length * np.cos(lower))
    points = [_subpixel(np.array([start, knee, foot]))]
    cv2.polylines(canvas, points, False, (*colour, 0), thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _polygon(canvas: np.ndarray, outline: np.ndarray, colour: Colour, mark: int = 0) -> None:
    cv2.fillPoly(canvas, [_subpixel(outline)], (*colour, mark), cv2.LINE_AA, SUBPIXEL_BITS)


def _ellipse(
    canvas: np.ndarray, middle: tuple[float, float], half_width: float, half_height: float, colour: Colour
) -> None:
    outline = np.array(middle) + np.stack([np.cos(_TURN) * half_width, np.sin(_TURN) * half_height], axis=1)
    _polygon(canvas, outline, colour)


def _subpixel(points: np.ndarray) -> np.ndarray:
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (round(channel * factor) for channel in colour)
    return red, green, blue
