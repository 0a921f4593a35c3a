"""Optical flow of known motion, its mirror image, and the maps of a clip."""

import cv2
import numpy as np
import pytest

from backbone.flow import FLOW_METHODS, flow_indices, mirror_flow, optical_flow

REAL_METHODS = [name for name in FLOW_METHODS if name != "none"]
MOTION_PX = (3, -2)
"""To the right and upwards, pixels per frame."""


def moving_texture(num_frames: int, height: int = 128, width: int = 64) -> np.ndarray:
    """A smooth random texture that moves by MOTION_PX from frame to frame, RGB."""
    x, y = MOTION_PX
    margin = 4 * num_frames
    noise = np.random.default_rng(0).random((height + 2 * margin, width + 2 * margin, 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 2.5)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    corners = [(margin - i * y, margin - i * x) for i in range(num_frames)]
    return np.stack([texture[top : top + height, left : left + width] for top, left in corners])


def end_point_error(flow_px: np.ndarray, expected: np.ndarray | tuple, margin: int = 6) -> float:
    interior = (flow_px - np.asarray(expected, np.float32))[:, margin:-margin, margin:-margin]
    return float(np.linalg.norm(interior, axis=-1).mean())


@pytest.mark.parametrize("method", REAL_METHODS)
@pytest.mark.parametrize("size", [(256, 128), (128, 64), (64, 32), (33, 24), (24, 120)])
def test_known_translation(method: str, size: tuple[int, int]) -> None:
    frames = moving_texture(3, *size)
    flow_px = optical_flow(frames, method)
    assert flow_px.shape == (3, *size, 2)
    assert flow_px.dtype == np.float32
    assert end_point_error(flow_px, MOTION_PX) < 0.3


@pytest.mark.parametrize("method", FLOW_METHODS)
def test_the_last_map_is_repeated(method: str) -> None:
    frames = moving_texture(3, 64, 32)
    flow_px = optical_flow(frames, method)
    np.testing.assert_array_equal(flow_px[2], flow_px[1])


@pytest.mark.parametrize("method", FLOW_METHODS)
@pytest.mark.parametrize("size", [(128, 64), (64, 32), (32, 16)])
def test_a_pair_has_one_flow_wherever_it_stands(method: str, size: tuple[int, int]) -> None:
    # OpenCV's DIS, left alone, takes other pyramid levels for the first pair of small frames.
    frames = moving_texture(3, *size)
    np.testing.assert_array_equal(optical_flow(frames, method)[1], optical_flow(frames[1:], method)[0])


@pytest.mark.parametrize("method", FLOW_METHODS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (11, 7), (9, 100), (100, 9), (16, 300)])
def test_any_size_works(method: str, size: tuple[int, int]) -> None:
    flow_px = optical_flow(moving_texture(3, *size), method)
    assert flow_px.shape == (3, *size, 2)
    assert np.isfinite(flow_px).all()


@pytest.mark.parametrize("method", FLOW_METHODS)
def test_a_single_frame_has_a_zero_map(method: str) -> None:
    flow_px = optical_flow(moving_texture(1, 64, 32), method)
    assert flow_px.dtype == np.float32
    np.testing.assert_array_equal(flow_px, np.zeros((1, 64, 32, 2)))


def test_none_is_zero() -> None:
    assert not optical_flow(moving_texture(3), "none").any()


def test_frames_may_be_a_view() -> None:
    frames = moving_texture(4, 64, 32)
    frames.flags.writeable = False
    expected = optical_flow(np.ascontiguousarray(frames[::2, :, ::-1]))
    np.testing.assert_array_equal(optical_flow(frames[::2, :, ::-1]), expected)


def test_mirror_by_hand() -> None:
    flow_px = np.array([[[[1, 2], [3, 4], [5, 6]]]], np.float32)  # (1, 1, 3, 2)
    original = flow_px.copy()
    np.testing.assert_array_equal(mirror_flow(flow_px), [[[[-5, 6], [-3, 4], [-1, 2]]]])
    np.testing.assert_array_equal(flow_px, original)
    np.testing.assert_array_equal(mirror_flow(mirror_flow(flow_px)), flow_px)


@pytest.mark.parametrize("method", REAL_METHODS)
@pytest.mark.parametrize("size", [(128, 64), (64, 32)])
def test_flow_of_the_mirrored_frames_is_the_mirrored_flow(method: str, size: tuple[int, int]) -> None:
    frames = moving_texture(3, *size)
    of_mirrored = optical_flow(np.ascontiguousarray(frames[:, :, ::-1]), method)
    assert end_point_error(of_mirrored, mirror_flow(optical_flow(frames, method))) < 0.3


@pytest.mark.parametrize(
    ("clip", "maps"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 2]),
        ([4, 5, 6, 7], [4, 5, 6, 6]),
        ([4, 5, 6, 6], [4, 5, 5, 5]),  # padded by its last frame
        ([3, 5, 9], [3, 5, 8]),
        ([0, 1], [0, 0]),
        ([7, 7, 7], [7, 7, 7]),
        ([0], [0]),
    ],
)
def test_flow_indices_by_hand(clip: list[int], maps: list[int]) -> None:
    np.testing.assert_array_equal(flow_indices(np.array(clip)), maps)


def test_flow_indices_give_the_flow_of_the_clip_alone() -> None:
    frames, clip = moving_texture(6, 64, 32), np.array([1, 2, 3, 4])
    np.testing.assert_array_equal(optical_flow(frames)[flow_indices(clip)], optical_flow(frames[clip]))


def test_errors() -> None:
    frames = moving_texture(2, 64, 32)
    with pytest.raises(ValueError, match="'raft': known are dis-fast, dis-medium, farneback, none"):
        optical_flow(frames, "raft")
    with pytest.raises(ValueError, match=r"uint8 RGB frames .* got float32 of shape"):
        optical_flow(frames.astype(np.float32))
    for wrong in (frames[0], frames[..., :1], frames[:0], frames.transpose(0, 3, 1, 2)):
        with pytest.raises(ValueError, match=r"\(n, H, W, 3\) with n, H, W >= 1, got uint8 of shape"):
            optical_flow(wrong)
    with pytest.raises(ValueError, match="got float64 of shape"):
        flow_indices(np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        flow_indices(np.array([], int))
    with pytest.raises(ValueError, match="from 0 up, got -1"):
        flow_indices(np.array([-1, 0]))
