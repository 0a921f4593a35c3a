"""Augmentation changes all frames, both streams and the boxes alike."""

import numpy as np
import pytest

from backbone.data.transforms import (
    FILL,
    AugmentConfig,
    augment,
    change_colors,
    crop,
    erase,
    erased_rectangle,
    mirror,
)

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
FLOW = RNG.normal(size=(3, 8, 6, 2)).astype(np.float16)
BOXES = np.array([[0.1, 0.2, 0.4, 0.6], [np.nan] * 4, [0, 0, 1, 1]], dtype=np.float32)


def config(mirrored: float, erased: float) -> AugmentConfig:
    return AugmentConfig(mirror_probability=mirrored, erase_probability=erased)


def test_mirror_by_hand():
    clip = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    flow = np.array([[[[1.0, 2.0], [-3.0, 4.0]]]])
    boxes = np.array([[0.1, 0.2, 0.4, 0.6], [np.nan] * 4])
    mirrored = mirror(clip, flow, boxes)
    assert mirrored[0].tolist() == [[[[3, 4, 5], [0, 1, 2]]]]
    assert mirrored[1].tolist() == [[[[3.0, 4.0], [-1.0, 2.0]]]]  # to the right becomes to the left
    np.testing.assert_allclose(mirrored[2], [[0.6, 0.2, 0.9, 0.6], [np.nan] * 4])
    assert flow[0, 0, 0].tolist() == [1.0, 2.0]  # the caller's, possibly the cache's, is untouched


def test_mirrored_box_covers_the_same_pixels():
    clip = np.zeros((1, 10, 10, 3), dtype=np.uint8)
    clip[0, 2:6, 1:4] = 9
    mirrored, _, boxes = mirror(clip, None, np.array([[0.1, 0.2, 0.4, 0.6]]))
    x0, y0, x1, y1 = np.rint(boxes[0] * 10).astype(int)
    assert (mirrored[0, y0:y1, x0:x1] == 9).all()
    assert (mirrored == 9).sum() == 4 * 3 * 3


def test_mirrored_twice_is_the_same():
    for twice, once in zip(mirror(*mirror(CLIP, FLOW, BOXES)), (CLIP, FLOW, BOXES), strict=True):
        np.testing.assert_allclose(twice, once, rtol=1e-6)
        assert twice.dtype == once.dtype


def test_erase_by_hand():
    clip, flow = erase(CLIP, FLOW, (slice(2, 5), slice(1, 3)))
    inside = np.zeros((8, 6), dtype=bool)
    inside[2:5, 1:3] = True
    for frame in range(3):
        assert (clip[frame][inside] == FILL).all()
        assert (flow[frame][inside] == 0).all()
        np.testing.assert_array_equal(clip[frame][~inside], CLIP[frame][~inside])
        np.testing.assert_array_equal(flow[frame][~inside], FLOW[frame][~inside])
    assert CLIP[0, 2, 1].tolist() != FILL.tolist()


def test_fill_is_the_mean_colour():
    np.testing.assert_allclose(FILL, 255 * np.array([0.485, 0.456, 0.406]), atol=0.5)


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
@pytest.mark.parametrize("erased", [0.0, 1.0])
def test_augment_does_both_or_neither(mirrored, erased):
    clip, flow, boxes = augment(CLIP, FLOW, BOXES, config(mirrored, erased), np.random.default_rng(3))
    expected = mirror(CLIP, FLOW, BOXES) if mirrored else (CLIP, FLOW, BOXES)
    np.testing.assert_array_equal(boxes, expected[2])
    changed = (clip != expected[0]).any(axis=3)
    assert changed.any() == bool(erased)
    if erased:
        rows, columns = np.nonzero(changed.any(axis=0))
        rectangle = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        expected = (*erase(*expected[:2], rectangle), expected[2])
    np.testing.assert_array_equal(clip, expected[0])
    np.testing.assert_array_equal(flow, expected[1])


def test_augment_without_flow_and_boxes():
    clip, flow, boxes = augment(CLIP, None, None, config(1, 1), np.random.default_rng(0))
    assert clip.shape == CLIP.shape
    assert flow is None
    assert boxes is None


def test_mirror_and_erase_come_as_often_as_they_should():
    generator = np.random.default_rng(0)
    boxes = BOXES[:1]
    drawn = [augment(CLIP, None, boxes, config(0.25, 0.75), generator) for _ in range(400)]
    mirrored = [float(new[0, 0]) > 0.5 for _, _, new in drawn]
    erased = [(clip == FILL).all(axis=3).any() for clip, _, _ in drawn]
    assert 0.18 < np.mean(mirrored) < 0.32
    assert 0.68 < np.mean(erased) < 0.82
    assert abs(np.corrcoef(mirrored, erased)[0, 1]) < 0.15  # independent


def test_the_same_generator_gives_the_same_augmentation():
    first, again = (augment(CLIP, FLOW, BOXES, AugmentConfig(), np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [(256, 128), (128, 64)])
def test_rectangles_have_the_area_asked_for_and_lie_inside(size):
    height, width = size
    generator = np.random.default_rng(0)
    shares, aspects, corners = [], [], set()
    for _ in range(300):
        rows, columns = erased_rectangle(height, width, (0.02, 0.2), generator)
        assert 0 <= rows.start < rows.stop <= height
        assert 0 <= columns.start < columns.stop <= width
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        shares.append(num_rows * num_columns / (height * width))
        aspects.append(num_rows / num_columns)
        corners.add((rows.start, columns.start))
    assert min(shares) > 0.015
    assert max(shares) < 0.21
    assert 0.09 < np.mean(shares) < 0.13
    assert min(aspects) > 0.28
    assert max(aspects) < 3.5
    assert len(corners) > 200


@pytest.mark.parametrize("size", [(1, 1), (4, 90)])
def test_rectangles_of_odd_frames_stay_inside(size):
    generator = np.random.default_rng(0)
    for _ in range(50):
        rows, columns = erased_rectangle(*size, (0.5, 1.0), generator)
        assert np.zeros(size)[rows, columns].size > 0
        assert rows.stop <= size[0]
        assert columns.stop <= size[1]


def test_crop_by_hand():
    clip, flow, boxes = crop(CLIP, FLOW, BOXES, 2, -1)
    np.testing.assert_array_equal(clip[:, 2:, :-1], CLIP[:, :-2, 1:])
    np.testing.assert_array_equal(flow[:, 2:, :-1], FLOW[:, :-2, 1:])
    for maps in (clip, flow):
        assert not maps[:, :2].any()
        assert not maps[:, :, -1].any()
    np.testing.assert_allclose(boxes[0], BOXES[0] + [-1 / 6, 2 / 8, -1 / 6, 2 / 8], rtol=1e-6)


def test_colours_by_hand():
    clip = np.array([[[[0, 51, 255]]]], dtype=np.uint8)
    changed = change_colors(clip, np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.0, 0.0]), np.array([1.0]))
    assert changed.tolist() == [[[[26, 102, 128]]]]  # 25.5 rounded to even, 2 * 51, 127.5
    squared = change_colors(clip, np.ones(3), np.zeros(3), np.array([2.0]))
    assert squared[0, 0, 0].tolist() == [0, 10, 255]  # 255 / 25


def test_one_draw_of_colours_and_place_holds_for_all_frames():
    still = np.repeat(CLIP[:1], 3, axis=0)
    settings = AugmentConfig(0.0, 0.0, crop_padding=0.4, color_jitter=0.4)
    clip, _, _ = augment(still, None, None, settings, np.random.default_rng(3))
    assert (clip[0] == clip[1]).all()
    assert (clip[0] == clip[2]).all()
    assert not np.array_equal(clip, still)


def test_shares_outside_of_their_range_are_errors():
    with pytest.raises(ValueError, match=r"augment.color_jitter must be in \[0, 1\], got 2"):
        AugmentConfig(color_jitter=2)
