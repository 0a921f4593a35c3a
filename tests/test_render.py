"""Bins are drawn where they are, and only in the frames that they cover."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import torch

from a3d_env import render
from a3d_env.bank import FeatureBank
from a3d_env.bins import BinGrid
from a3d_env.env import Attention3DEnv
from a3d_env.render import COLOURS, INK, MARGIN, TAG_SIZE, draw_glimpses


@pytest.fixture(scope="module")
def bank():
    """Grey clips without truth, of 64 x 32 pixels: drawn 4 times as large."""
    grid = BinGrid((6, 16, 8), (4, 6, 3), (6, 64, 32))
    return dataclasses.replace(FeatureBank.blank(grid, 1), frames=np.full((1, 6, 64, 32, 3), 120, dtype=np.uint8))


def panels(bank, picture):
    """Cut the drawn frames out of the picture, (L, height, width, 3)."""
    num_frames, frame_height, frame_width = bank.grid.clip_size
    scale = max(1, round(256 / frame_height))
    height, width = frame_height * scale, frame_width * scale
    strip = picture[-MARGIN - height : -MARGIN, MARGIN:].reshape(height, num_frames, width + MARGIN, 3)
    return strip[:, :, :width].swapaxes(0, 1)


@pytest.mark.parametrize("index", [0, 5, 100, 117, 197])
def test_a_bin_is_drawn_where_it_is(bank, index):
    frames = panels(bank, draw_glimpses(bank, 0, [index]))
    start, stop = bank.grid.frame_ranges[index]
    x0, y0, x1, y1 = bank.grid.boxes[index] * 4
    for frame, picture in enumerate(frames):
        drawn = (picture != 120).any(2)
        assert drawn.any() == (start <= frame < stop)
        if drawn.any():
            rows, columns = np.nonzero(drawn)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
            assert not drawn[y0 + 3 + TAG_SIZE[1] : y1 - 3, x0 + 3 : x1 - 3].any()  # hollow
            assert (picture[y1 - 1, x0:x1] == COLOURS[0]).all()


def test_the_frames_are_the_clips(played):
    bank, _ = played
    frames = panels(bank, draw_glimpses(dataclasses.replace(bank, truth_boxes=None), 3, []))
    wanted = np.stack([cv2.resize(frame, (128, 256), interpolation=cv2.INTER_LINEAR) for frame in bank.frames[3]])
    np.testing.assert_array_equal(frames, wanted)


def test_the_truth_is_drawn_where_it_is_seen(played):
    bank, _ = played
    for frame, picture in enumerate(panels(bank, draw_glimpses(bank, 3, []))):
        green = (picture == render.TRUTH_COLOUR).all(2)
        assert green.any() == (not np.isnan(bank.truth_boxes[3, frame, 0, 0]))
        if green.any():
            rows, columns = np.nonzero(green)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == (2 * bank.truth_boxes[3, frame, 0]).tolist()


@pytest.fixture
def tags(monkeypatch):
    """Where tags are drawn, by the picture (its memory) they are drawn into."""
    drawn, draw_tag = {}, render._draw_tag

    def note(picture, tag, order):
        drawn.setdefault(id(picture), []).append((order, tag))
        kept.append(picture)
        draw_tag(picture, tag, order)

    kept = []  # no two pictures may have one id
    monkeypatch.setattr(render, "_draw_tag", note)
    return drawn


CENTRE = BinGrid().centre
VISITS = [[CENTRE] * 4, [CENTRE, CENTRE + 1, CENTRE + 8, 197], [0] * 12, [0, 1, 2, 3, 4, 5, 6, 7], [197] * 5]


@pytest.mark.parametrize("bins", VISITS)
def test_every_number_is_readable(bank, tags, bins):
    draw_glimpses(bank, 0, bins)
    legend, *frames = tags.values()
    assert [order for order, _ in legend] == list(range(len(bins)))
    for frame in frames:
        for order, (x0, y0, x1, y1) in frame:
            box = bank.grid.boxes[bins[order]] * 4
            assert box[0] <= x0 < x1 <= box[2]
            assert box[1] <= y0 < y1 <= box[3]
        for (_, a), (_, b) in itertools.combinations(frame, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


@pytest.mark.parametrize("bins", VISITS[:2])
def test_every_box_is_seen_even_where_bins_coincide(bank, bins):
    frames = panels(bank, draw_glimpses(bank, 0, bins))
    for order, index in enumerate(bins):
        start, stop = bank.grid.frame_ranges[index]
        x0, y0, x1, y1 = bank.grid.boxes[index] * 4
        for picture in frames[start:stop]:
            coloured = (picture[y0:y1, x0:x1] == COLOURS[order]).all(2)
            assert coloured.sum() > 200  # more than its tag and one side
            assert (coloured.mean(0) > 0.5).any()  # an upright line


@pytest.mark.parametrize(
    "grid",
    [
        BinGrid((1, 2, 1), (1, 1, 1), (1, 64, 32)),  # narrow: the legend needs rows
        BinGrid((8, 16, 16), (1, 1, 1), (8, 16, 16)),  # bins of 16 drawn pixels
        BinGrid((2, 8, 4), (2, 8, 4), (2, 600, 300)),  # larger than is drawn
    ],
)
def test_other_sizes(grid):
    clips = np.zeros((1, *grid.clip_size, 3), dtype=np.uint8)
    bank = dataclasses.replace(
        FeatureBank.blank(grid, 1), frames=clips, truth_boxes=np.ones((1, grid.clip_size[0], 4))
    )
    picture = draw_glimpses(bank, 0, [0] * 12)
    assert picture.dtype == np.uint8
    assert (panels(bank, picture)[0] == COLOURS[0]).all(2).any()
    assert (picture == INK).all(2).any()


def test_a_caption_is_a_row_above_the_frames(played):
    frames = draw_glimpses(played[0], 0, [3], has_legend=False)
    captioned = draw_glimpses(played[0], 0, [3], "query 0: right" * 20, has_legend=False)
    np.testing.assert_array_equal(captioned[-len(frames) :], frames)
    caption = captioned[: -len(frames)]
    assert len(caption) < len(draw_glimpses(played[0], 0, [3])) - len(frames) + 1
    assert (caption[:, :-MARGIN].max(2) > 100).any()
    assert (caption[:, -MARGIN:] == caption[0, 0]).all()  # however long it is, it ends before the edge


def test_the_environment_draws_what_it_visited(played):
    env = Attention3DEnv(*played, render_mode="rgb_array")
    env.reset(options={"clip": 9})
    env.step(np.full(3, -1, dtype=np.float32))
    np.testing.assert_array_equal(env.render(), draw_glimpses(played[0], 9, [played[0].grid.centre, 0]))


def test_a_bank_without_frames_is_an_error():
    with pytest.raises(ValueError, match="holds no frames to draw"):
        draw_glimpses(FeatureBank.blank(BinGrid(), 1), 0, [0])


def test_without_render_mode_gymnasium_is_told(played):
    env = Attention3DEnv(*played)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None
    assert torch.is_tensor(env.episodes.bins)
