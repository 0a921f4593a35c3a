"""Optical flow of known motion, its mirror image, and the maps of a clip."""

import cv2
import numpy as np
import pytest
import torch
import torchvision

from backbone.flow import FLOW_METHODS, flow_indices, mirror_flow, optical_flow
from backbone.flownet import weights_file
from backbone.raft import load_raft, network_device, raft_file

REAL_METHODS = ["dis-fast", "dis-medium", "farneback"]
TRAINED_METHODS = ["raft-small", "raft-large", "flownet-s"]
METHODS = [*REAL_METHODS, "none"]
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


def skip_without_weights(method: str) -> None:
    if method.startswith("raft") and not raft_file(method).is_file():
        pytest.skip(f"the weights of {method} are not here: no {raft_file(method)}")
    if method == "flownet-s":
        try:
            weights_file()
        except ValueError as error:
            pytest.skip(str(error))


def report(method: str, what: str, flow_px: np.ndarray, expected: np.ndarray | tuple, margin: int) -> None:
    """Print the end-point error of known motion, and hold it."""
    error, motion = end_point_error(flow_px, expected, margin), end_point_error(0 * flow_px, expected, margin)
    height, width = flow_px.shape[1:3]
    print(f"{method}, {what}, {height} x {width}: end-point error {error:.3f} px of a motion of {motion:.2f} px")
    # Published weights have not been at hand, so that all that is asked of them is that they see the motion.
    assert error < (motion / 2 if method in TRAINED_METHODS else 0.3)


SIZES = [(256, 128), (128, 64), (64, 32), (33, 24), (24, 120)]


@pytest.mark.parametrize(
    ("method", "size"),
    [(method, size) for method in REAL_METHODS for size in SIZES]
    + [(method, (256, 128)) for method in TRAINED_METHODS],
)
def test_known_translation(method: str, size: tuple[int, int]) -> None:
    skip_without_weights(method)
    flow_px = optical_flow(moving_texture(3, *size), method)
    assert flow_px.shape == (3, *size, 2)
    assert flow_px.dtype == np.float32
    report(method, "translation", flow_px, MOTION_PX, margin=6)


@pytest.mark.parametrize("method", [*REAL_METHODS, *TRAINED_METHODS])
def test_known_rotation(method: str) -> None:
    """A degree and a half about the middle of the picture."""
    skip_without_weights(method)
    size, turn = 128, np.deg2rad(1.5)
    (texture,) = moving_texture(1, size, size)
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), -1.5, 1)  # OpenCV's angles run the other way round
    turned = cv2.warpAffine(texture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    y, x = np.mgrid[:size, :size] - centre
    expected = np.stack(
        [np.cos(turn) * x - np.sin(turn) * y - x, np.sin(turn) * x + np.cos(turn) * y - y], axis=-1
    )
    report(method, "rotation", optical_flow(np.stack([texture, turned]), method)[:1], expected, margin=12)


def test_every_method_is_measured_on_known_motion() -> None:
    assert {*REAL_METHODS, *TRAINED_METHODS, "none"} == set(FLOW_METHODS)


@pytest.fixture
def untrained_raft(monkeypatch):
    """RAFT without its published weights, which are not here: shapes and padding are the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.optical_flow.raft_small(weights=None).eval()
    monkeypatch.setattr("backbone.raft.load_raft", lambda name, device: network)
    monkeypatch.setattr("backbone.raft.network_device", lambda: torch.device("cpu"))
    return network


@pytest.mark.parametrize("size", [(128, 128), (64, 32), (130, 90)])
def test_raft_is_torchvisions_on_padded_frames(untrained_raft, size: tuple[int, int]) -> None:
    frames = moving_texture(3, *size)
    flow_px = optical_flow(frames, "raft-small")
    assert flow_px.shape == (3, *size, 2)
    assert flow_px.dtype == np.float32
    if size == (128, 128):
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            expected = untrained_raft(images[:2], images[1:])[-1]
        np.testing.assert_allclose(flow_px[:2], expected.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.slow
def test_pairs_beyond_one_batch_are_all_estimated(untrained_raft) -> None:
    frames = moving_texture(10, 128, 128)
    flow_px = optical_flow(frames, "raft-small")
    for first in (0, 7, 8):  # 8 pairs at once
        np.testing.assert_allclose(
            flow_px[first], optical_flow(frames[first : first + 2], "raft-small")[0], atol=1e-4
        )


@pytest.mark.parametrize(("worker", "expected"), [(None, "cuda"), ("a worker", "cpu")])
def test_networks_run_on_a_gpu_but_in_no_worker(monkeypatch, worker: str | None, expected: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.utils.data.get_worker_info", lambda: worker)
    assert network_device() == torch.device(expected)


def test_weights_that_cannot_be_had_are_explained(monkeypatch, tmp_path) -> None:
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    load_raft.cache_clear()
    with pytest.raises(
        ValueError, match=r"weights of raft-large can't be fetched.*download http.*raft_large.*put the"
    ):
        optical_flow(moving_texture(2), "raft-large")


@pytest.mark.parametrize("method", METHODS)
def test_the_last_map_is_repeated(method: str) -> None:
    frames = moving_texture(3, 64, 32)
    flow_px = optical_flow(frames, method)
    np.testing.assert_array_equal(flow_px[2], flow_px[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(128, 64), (64, 32), (32, 16)])
def test_a_pair_has_one_flow_wherever_it_stands(method: str, size: tuple[int, int]) -> None:
    # OpenCV's DIS, left alone, takes other pyramid levels for the first pair of small frames.
    frames = moving_texture(3, *size)
    np.testing.assert_array_equal(optical_flow(frames, method)[1], optical_flow(frames[1:], method)[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (11, 7), (9, 100), (100, 9), (16, 300)])
def test_any_size_works(method: str, size: tuple[int, int]) -> None:
    flow_px = optical_flow(moving_texture(3, *size), method)
    assert flow_px.shape == (3, *size, 2)
    assert np.isfinite(flow_px).all()


@pytest.mark.parametrize("method", METHODS)
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
        ([3, 5, 9], [3, 5, 9]),  # spread: each keeps its own
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
    with pytest.raises(ValueError, match="'raft': known are dis-fast, dis-medium, farneback, raft-small"):
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


def test_half_precision_is_mirrored_as_arithmetic_does():
    flow = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float16)
    flow[0, 0, 0] = 0
    mirrored = mirror_flow(flow)
    assert mirrored.dtype == np.float16
    np.testing.assert_array_equal(mirrored, mirror_flow(flow.astype(np.float32)).astype(np.float16))
