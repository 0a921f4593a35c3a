"""One walker on a canvas: its thing is drawn, marked and covered again where it should be."""

from dataclasses import replace

import numpy as np
import pytest

from backbone.data.sets.drawing import (
    NUM_OUTFITS,
    PLACES,
    SHAPES,
    THING_MARK,
    Look,
    Pose,
    Thing,
    draw_walker,
    dressed,
)

RED = (225, 40, 40)
LOOK = dressed(0, (Thing("chest", "square", RED),), np.random.default_rng(0))
HAT = Thing("hat", "disc", RED)
POSE = Pose(x=32, y=64, height=108, phase=0.7, facing=1, shows=(True,))


def carrying(place: str = "chest", shape: str = "square") -> Look:
    return replace(LOOK, things=(Thing(place, shape, RED),))


def draw(
    look: Look = LOOK, pose: Pose = POSE, canvas: np.ndarray | None = None, marked: int | None = 0
) -> np.ndarray:
    canvas = np.zeros((128, 64, 4), dtype=np.uint8) if canvas is None else canvas
    draw_walker(canvas, look, pose, marked=marked)
    return canvas


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", SHAPES)
def test_marked_pixels_have_the_things_colour_and_sit_in_its_place(place, shape):
    canvas = draw(carrying(place, shape))
    rows, columns = np.nonzero(canvas[:, :, 3] == 255)
    assert np.all(canvas[rows, columns, :3] == RED)
    assert len(rows) > 60
    sideways, down = PLACES[place]
    assert abs(columns.mean() - (32 - 108 * sideways)) < 1.5
    assert abs(rows.mean() - (64 + 108 * down)) < 2.5


def test_places_do_not_overlap_and_shapes_differ():
    marks = [draw(carrying(place))[:, :, 3] == 255 for place in PLACES]
    assert np.sum(marks, axis=0).max() == 1
    outlines = {draw(carrying(shape=shape))[:, :, 3].tobytes() for shape in SHAPES}
    assert len(outlines) == len(SHAPES)


def test_facing_the_other_way_puts_the_thing_on_the_other_side():
    look = carrying("hand")
    right, left = (np.nonzero(draw(look, replace(POSE, facing=facing))[:, :, 3])[1].mean() for facing in (1, -1))
    assert right - 32 == pytest.approx(32 - left, abs=1)
    assert abs(right - left) > 30


def test_hidden_thing_is_neither_drawn_nor_marked():
    canvas = draw(pose=replace(POSE, shows=(False,)))
    assert not canvas[:, :, 3].any()
    assert not np.all(canvas[:, :, :3] == RED, axis=2).any()
    assert canvas[:, :, :3].any()


def test_what_is_drawn_over_the_thing_removes_its_mark():
    canvas = draw()
    marked = canvas[:, :, 3].copy()
    far = replace(POSE, x=-80)
    assert np.array_equal(draw(pose=far, canvas=canvas, marked=None)[:, :, 3], marked)
    in_front = replace(POSE, x=32 + 0.09 * 108, shows=(False,))  # the middle of its body where the thing is
    assert not draw(pose=in_front, canvas=canvas, marked=None)[:, :, 3].any()


def test_a_strangers_thing_has_no_mark():
    canvas = draw(marked=None)
    assert np.all(canvas[:, :, :3] == RED, axis=2).any()
    assert not canvas[:, :, 3].any()


def test_legs_and_arms_swing_and_the_head_does_not():
    first, second = (draw(pose=replace(POSE, phase=phase)) for phase in (np.pi / 2, 0))
    changed = np.any(first != second, axis=(1, 2))
    assert not changed[:28].any()  # the arms begin at 64 - 0.30 * 108 = 31.6 and are 8 wide
    assert changed[90:110].all()


def test_a_walker_is_as_high_as_its_pose_says():
    rows = np.flatnonzero(draw(pose=replace(POSE, phase=0, shows=(False,))).any(axis=(1, 2)))
    assert np.ptp(rows) == pytest.approx(108, rel=0.1)


def test_outfits_are_all_different():
    generator = np.random.default_rng(0)
    looks = [dressed(outfit, (HAT,), generator) for outfit in range(NUM_OUTFITS)]
    assert len({(look.top, look.bottom) for look in looks}) == NUM_OUTFITS == 20


def test_a_given_period_leaves_nothing_else_to_chance_in_the_gait():
    generator = np.random.default_rng(0)
    own, other = (dressed(0, (HAT,), generator) for _ in range(2))
    assert own.stride != other.stride
    assert own.period != other.period
    slow, fast = (dressed(0, (HAT,), generator, period) for period in (20.0, 5.0))
    assert (slow.stride, slow.period, fast.period) == (fast.stride, 20.0, 5.0)


def test_things_are_as_large_as_asked_for():
    small, large = (draw(replace(LOOK, thing_size=size))[:, :, 3] == THING_MARK for size in (0.05, 0.1))
    assert large.sum() == pytest.approx(4 * small.sum(), rel=0.15)
