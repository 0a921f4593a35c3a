"""Frames are read in order, cropped to the half-open box, and damage is an error that names the file."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from backbone.data.frame_files import crop, read_image, read_video
from backbone.data.tracklet import FrameArray, FrameFiles, Tracklet, VideoSlice

RNG = np.random.default_rng(0)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for level in range(12):
        writer.write(np.full((48, 64, 3), 20 * level, dtype=np.uint8))
    writer.release()
    return path


def test_image_is_rgb_and_lossless(tmp_path):
    image = np.zeros((2, 3, 3), dtype=np.uint8)
    image[0, 0] = (255, 0, 7)  # red, in RGB
    cv2.imwrite(str(tmp_path / "a.png"), image[:, :, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n cut off"])
def test_damaged_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png"):
        read_image(path)


def test_crop_is_half_open():
    frame = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    np.testing.assert_array_equal(crop(frame, np.array([1, 2, 3, 4])), frame[2:4, 1:3])


def test_files_are_read_in_the_order_given(tmp_path):
    images = RNG.integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    paths = tuple(tmp_path / f"{index}.png" for index in range(3))
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image[:, :, ::-1])
    tracklet = Tracklet(person=4, camera=1, frames=FrameFiles(paths[::-1]), source="here")
    assert len(tracklet) == 3
    np.testing.assert_array_equal(list(tracklet.frames.read()), images[::-1])


def test_key_changes_with_the_file_and_the_order(tmp_path):
    paths = (tmp_path / "0.png", tmp_path / "1.png")
    for path in paths:
        path.write_bytes(b"x")
    first = FrameFiles(paths).key
    assert first == FrameFiles(paths).key
    assert first != FrameFiles(paths[::-1]).key
    os.utime(paths[0], ns=(1, 1))
    assert first != FrameFiles(paths).key


def test_video_is_read_frame_by_frame(video):
    levels = [float(frame.mean()) for frame in read_video(video)]
    np.testing.assert_allclose(levels, np.arange(12) * 20, atol=2)


def test_slice_starts_and_ends_where_it_says(video):
    boxes = np.array([[0, 0, 10, 20], [1, 2, 9, 18], [4, 8, 64, 48]])
    frames = list(VideoSlice(video, 3, boxes).read())
    assert [frame.shape for frame in frames] == [(20, 10, 3), (16, 8, 3), (40, 60, 3)]
    np.testing.assert_allclose([frame.mean() for frame in frames], [60, 80, 100], atol=2)


def test_slice_key_knows_start_and_boxes(video):
    boxes = np.array([[0, 0, 10, 20]])
    keys = {VideoSlice(video, start, box).key for start in (0, 1) for box in (boxes, boxes + 1)}
    assert len(keys) == 4
    assert VideoSlice(video, 0, boxes).key in keys


def test_slice_beyond_the_end_is_an_error(video):
    frames = VideoSlice(video, 10, np.tile([0, 0, 8, 8], (5, 1))).read()
    with pytest.raises(ValueError, match="ends before frame 15"):
        list(frames)


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_damaged_video_is_named(tmp_path, content):
    path = tmp_path / "broken.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.avi"):
        list(read_video(path))


def test_frame_array_reads_its_row(tmp_path):
    data = RNG.integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "clips.npy", data)
    frames = FrameArray(tmp_path / "clips.npy", 1)
    assert len(frames) == 3
    np.testing.assert_array_equal(list(frames.read()), data[1])
    assert frames.key != FrameArray(tmp_path / "clips.npy", 0).key


def test_a_text_file_is_no_video(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,9,312.00,98.56,19.39,46.98,1\n" * 100)
    with pytest.raises(ValueError, match=f"{path} is a text file, no video"):
        next(read_video(path))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(28_000, 28_000), (8_000, 7_000)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    Image.new("1", size).save(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r"bomb\.png announces [\d,]+ pixels, and at most 50,000,000 are decoded"):
        read_image(path)


def test_a_pipe_is_no_frame(tmp_path):
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is no regular file"):
        read_image(tmp_path / "1.png")


def test_a_file_larger_than_any_is_not_read(tmp_path):
    (tmp_path / "1.png").touch()
    os.truncate(tmp_path / "1.png", 2**40)  # of which nothing is on the disk
    with pytest.raises(ValueError, match=r"1\.png is no regular file of at most 536,870,912 bytes"):
        read_image(tmp_path / "1.png")
