"""From frames to the networks' inputs, as a cache of the same tracklet has them."""

import cv2
import numpy as np
import pytest

from backbone.data.cache import FrameCache
from backbone.data.clips import consecutive_clips
from backbone.data.inputs import network_inputs, resize_frame
from backbone.data.tracklet import FrameFiles, Tracklet
from backbone.flow import optical_flow


@pytest.mark.parametrize("method", ["dis-fast", None])
@pytest.mark.parametrize("num_frames", [1, 4, 5])
def test_the_inputs_are_what_training_and_embedding_read(tmp_path, method, num_frames):
    generator, paths = np.random.default_rng(0), []
    for number, height in enumerate([90, 64, 30, 90, 90][:num_frames]):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), cv2.resize(generator.integers(0, 256, (9, 5, 3), np.uint8), (45, height)))
    tracklet = Tracklet(0, 0, FrameFiles(tuple(paths)), "here")
    clip, flow, num_different = network_inputs(tracklet.frames.read(), 64, 32, 3, method)
    indices = consecutive_clips(num_frames, 3)
    assert num_different.tolist() == [len(set(chosen.tolist())) for chosen in indices]
    cache = FrameCache(tmp_path / "cache", 64, 32, method)
    for number, chosen in enumerate(indices):
        frames, maps = cache.clip(tracklet, chosen)
        np.testing.assert_array_equal(clip[number], frames)
        if method is None:
            assert flow is None
        else:
            np.testing.assert_array_equal(flow[number], maps.astype(np.float32))
    if (num_frames, method) == (5, "dis-fast"):  # frames 3 4 4: by itself such a clip ends with no motion
        assert np.abs(flow[1, 1]).max() > 0.1
        assert np.abs(optical_flow(clip[1])[1]).max() < 0.1
        np.testing.assert_array_equal(flow[1, 1], flow[1, 0])


def test_frames_are_averaged_down_and_interpolated_up():
    frame = np.zeros((4, 2, 3), np.uint8)
    frame[0] = 200
    assert resize_frame(frame, 2, 1)[:, 0, 0].tolist() == [100, 0]
    assert resize_frame(frame[:2], 4, 2)[:, 0, 0].tolist() == [200, 150, 50, 0]


def test_no_frames_are_an_error():
    with pytest.raises(ValueError, match="one frame or more, got none"):
        network_inputs([], 64, 32, 3, None)
