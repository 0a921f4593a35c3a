"""`a3d data cache`: what it writes is what training would, and only what is missing."""

import shutil
import tracemalloc
from collections import namedtuple

import cv2
import numpy as np
import pytest

from backbone.data.array_file import read_array
from backbone.data.cache import FrameCache
from backbone.data.fill import fill_cache, fill_from_videos
from backbone.data.sets.folder import read_folder
from backbone.data.tracklet import Tracklet, VideoSlice
from scripts.cli import main

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for person in range(4):
        for camera in "ab":
            path = tmp_path / "data" / f"p{person}" / camera / "1"
            path.mkdir(parents=True)
            for frame in range(6):
                picture = generator.integers(0, 255, (32, 16, 3), dtype=np.uint8)
                cv2.imwrite(str(path / f"{frame}.png"), picture)
    return tmp_path / "data"


def test_it_writes_what_training_reads(folder, tmp_path, monkeypatch):
    tracklets = read_folder(folder)
    filled, plain = (FrameCache(tmp_path / name, 32, 16, "dis-fast") for name in ("filled", "plain"))
    said = []
    report = fill_cache(filled, tracklets, log_line=said.append)
    assert (report.tracklets, report.frames, report.kept) == (8, 48, 0)
    assert report.written == 48 * 32 * 16 * 7
    assert said[0].startswith("48 frames take 0.00 GiB")
    written = sum(path.stat().st_size for path in (tmp_path / "filled").rglob("*.npy"))
    assert written == report.written + 16 * (128 + 16)  # and a head and a digest in each of 16 files
    for tracklet in tracklets:
        np.testing.assert_array_equal(filled.frames(tracklet), plain.frames(tracklet))
        np.testing.assert_array_equal(filled.flow(tracklet), plain.flow(tracklet))
    monkeypatch.setattr(FrameCache, "_decode", None)  # nothing is decoded again
    assert fill_cache(filled, tracklets, log_line=said.append).kept == 8
    assert len(said) == 1  # and no room is needed


def test_it_goes_on_where_it_was_stopped(folder, tmp_path):
    tracklets, cache = read_folder(folder), FrameCache(tmp_path / "cache", 32, 16, "farneback")
    fill_cache(cache, tracklets[:3])
    cache.frames(tracklets[3])  # but not its flow
    report = fill_cache(cache, tracklets)
    assert report.kept == 3
    assert report.written == 4 * 6 * 32 * 16 * 7 + 6 * 32 * 16 * 4


def test_files_that_changed_are_made_anew(folder, tmp_path, capsys):
    tracklets, cache = read_folder(folder), FrameCache(tmp_path / "cache", 32, 16, "dis-fast")
    fill_cache(cache, tracklets)
    # flow first: of frames with a flipped bit, flow would be made anew, too
    files = sorted((tmp_path / "cache").rglob("*.npy"), key=lambda path: read_array(path).shape[-1])
    contents = {path: path.read_bytes() for path in files}
    for number, damage in enumerate(
        [
            lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],  # a bit of the array
            lambda content: content[:-16],  # no digest, as of an earlier version
            lambda content: content[: len(content) // 2],
            lambda content: b"",
        ]
    ):
        files[number].write_bytes(damage(contents[files[number]]))
    report = fill_cache(cache, tracklets)
    assert report.damaged == 0  # not looked for, but lengths are seen
    assert {path: path.read_bytes() for path in files[1:]} == {path: contents[path] for path in files[1:]}
    report = fill_cache(cache, tracklets, verify=True)
    assert report.damaged == 1
    assert {path: path.read_bytes() for path in files} == contents
    flags = ["--height", "32", "--width", "16", "--cache", str(tmp_path / "cache"), "--verify"]
    assert main(["data", "cache", "--data", f"folder:{folder}", *flags]) == 0
    assert "8 tracklets were there; 0 files were damaged, and made anew" in capsys.readouterr().out


def test_of_a_video_only_small_frames_are_held(tmp_path):
    video = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (400, 300))
    generator = np.random.default_rng(0)
    for _ in range(60):
        writer.write(cv2.resize(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8), (400, 300)))
    writer.release()
    boxes = np.array([[10 + number, 5, 390, 295] for number in range(60)])
    places = [(0, 60), (0, 50), (30, 30)]
    slices = [VideoSlice(video, start, boxes[start : start + count]) for start, count in places]
    tracklets = [Tracklet(number, 1, part, f"person {number}") for number, part in enumerate(slices)]
    cache, plain = (FrameCache(tmp_path / name, 32, 16, None) for name in ("cache", "plain"))
    tracemalloc.start()
    try:
        fill_from_videos(cache, tracklets)
        assert tracemalloc.get_traced_memory()[1] < 4e6  # the crops of 140 frames are 45 MB, a frame is 0.4
    finally:
        tracemalloc.stop()
    for tracklet in tracklets:
        assert cache.has_frames(tracklet)
        np.testing.assert_array_equal(cache.frames(tracklet), plain.frames(tracklet))


def test_no_room_is_refused_before_anything_is_written(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 48 * 32 * 16 * 7))
    flags = ["--height", "32", "--width", "16", "--cache", str(tmp_path / "cache")]
    assert main(["data", "cache", "--data", f"folder:{folder}", *flags]) == 2
    assert "0.0 are needed: give another folder (--cache)" in capsys.readouterr().err
    assert not list((tmp_path / "cache").iterdir())


def test_the_command(folder, tmp_path, capsys):
    flags = ["--height", "32", "--width", "16", "--cache", str(tmp_path / "cache"), "--flow", "None"]
    assert main(["data", "cache", "--data", f"folder:{folder}", *flags]) == 0
    printed = capsys.readouterr()
    assert "8 tracklets, 48 frames of 32 x 16, flow None; 0.00 GiB written, 0 tracklets were there" in printed.out
    assert "48 frames take 0.00 GiB" in printed.err


def test_a_damaged_frame_is_named(folder, tmp_path):
    path = folder / "p2" / "a" / "1" / "3.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"3\.png .*truncated"):
        fill_cache(FrameCache(tmp_path / "cache", 32, 16, None), read_folder(folder))
    with pytest.raises(ValueError, match="workers must be 1 or more"):
        fill_cache(FrameCache(tmp_path / "cache", 32, 16, None), [], workers=0)
