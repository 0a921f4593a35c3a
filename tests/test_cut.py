"""A cut equals the tracklets of the video, and is whole or absent."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import cut as cut_module
from backbone.data import video as video_module
from backbone.data.cut import cut_video
from backbone.data.sets.folder import read_folder
from backbone.data.tracks import read_tracks
from backbone.data.video import video_tracklets

PETS = Path(__file__).resolve().parents[1].parent / "shared/data/pets2009_s2l1"
SETTINGS = {"chunk_frames": 8, "gap_frames": 2, "min_frames": 4}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "street.avi"
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(40):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture
def tracks_file(tmp_path: Path) -> Path:
    rows = [f"{frame},{person},{5 * person},8.3,10.6,30" for person in (1, 2) for frame in range(1, 21)]
    path = tmp_path / "gt.txt"
    path.write_text("\n".join([*rows, "21,1,nan,1,9,9", "broken"]))
    return path


def test_files_cut_equal_the_slices(video, tracks_file, tmp_path):
    out = tmp_path / "new/cut"
    report = cut_video(video, tracks_file, out, **SETTINGS)
    expected, _ = video_tracklets(video, read_tracks(tracks_file)[0], **SETTINGS)
    found = read_folder(out)
    assert [(one.person, one.camera) for one in found] == [(one.person, one.camera) for one in expected]
    assert [one.source.split("/")[1:] for one in found] == [one.source.split("/")[1:] for one in expected]
    for cut, slice_ in zip(found, expected, strict=True):
        for image, frame in zip(cut.frames.read(), slice_.frames.read(), strict=True):
            np.testing.assert_array_equal(image, frame)
    assert sorted(path.name for path in (out / "0001/cam2/0002").iterdir())[0] == "000011.png"
    # 20 frames: 1-8, gap, 11-18, gap
    assert (report.people, report.people_with_two_views, report.tracklets, report.frames) == (2, 2, 4, 32)
    assert [(one.count, one.boxes) for one in report.omissions] == [(1, 1), (1, 1), (4, 8)]
    assert report.boxes == 42 == report.frames + sum(one.boxes for one in report.omissions)
    assert json.loads((out / ".cut_report.json").read_text())["omissions"][0]["first"] == ["line 41"]
    assert [path.name for path in out.parent.iterdir()] == ["cut"]


def test_video_is_decoded_twice_whatever_the_number_of_tracklets(video, tracks_file, tmp_path, monkeypatch):
    calls = []
    real = video_module.read_video
    for module in (video_module, cut_module):
        monkeypatch.setattr(module, "read_video", lambda path, *given: calls.append(path) or real(path, *given))
    cut_video(video, tracks_file, tmp_path / "cut", **SETTINGS)
    assert len(calls) == 2  # to count, and to cut


def interrupt(stage: str, done: int, total: int) -> None:
    if stage == "cutting" and done == 12:
        raise KeyboardInterrupt


def test_interrupted_cut_leaves_nothing(video, tracks_file, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        cut_video(video, tracks_file, tmp_path / "new/deep/cut", **SETTINGS, progress=interrupt)
    assert sorted(tmp_path.iterdir()) == before


def test_overwrite_replaces_only_when_complete(video, tracks_file, tmp_path):
    out = tmp_path / "cut"
    cut_video(video, tracks_file, out, **SETTINGS)
    before = sorted(out.rglob("*"))
    with pytest.raises(ValueError, match="not empty"):
        cut_video(video, tracks_file, out, **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        cut_video(video, tracks_file, out, chunk_frames=20, overwrite=True, progress=interrupt)
    assert sorted(out.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "gt.txt"]
    cut_video(video, tracks_file, out, chunk_frames=20, overwrite=True)
    assert [len(one) for one in read_folder(out)] == [20, 20]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "gt.txt"]


def test_failed_rename_puts_the_old_cut_back(video, tracks_file, tmp_path, monkeypatch):
    out = tmp_path / "cut"
    cut_video(video, tracks_file, out, **SETTINGS)
    real = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError("no")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        cut_video(video, tracks_file, out, chunk_frames=20, overwrite=True)
    assert len(read_folder(out)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "gt.txt"]


def test_overwrite_spares_what_no_cut_wrote(video, tracks_file, tmp_path):
    with pytest.raises(ValueError, match="not written by a cut"):
        cut_video(video, tracks_file, tmp_path, overwrite=True)
    cut_video(video, tracks_file, tmp_path / "cut", **SETTINGS)
    inside = tracks_file.rename(tmp_path / "cut/gt.txt")
    with pytest.raises(ValueError, match="would be overwritten"):
        cut_video(video, inside, tmp_path / "cut", overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        cut_video(video, inside, inside, overwrite=True)


@pytest.mark.slow
@pytest.mark.skipif(not PETS.is_dir(), reason="the PETS video is not here")
def test_pets(tmp_path):
    tracks, omissions = read_tracks(PETS / "gt.txt")
    assert (len(tracks), len(set(tracks.people.tolist())), omissions.by_reason) == (4650, 19, {})
    # each track is one unbroken run, so its chunks follow from its length n alone
    expected = frames_kept = 0
    for number in np.unique(tracks.people, return_counts=True)[1].tolist():
        lengths = [min(32, number - start) for start in range(0, number, 48)]
        expected += sum(length >= 6 for length in lengths)
        frames_kept += sum(length for length in lengths if length >= 6)
    report = cut_video(PETS / "view1.avi", PETS / "gt.txt", tmp_path / "pets")
    assert (report.boxes, report.people, report.people_with_two_views) == (4650, 19, 19)
    assert (report.tracklets, report.frames) == (expected, frames_kept) == (103, 3170)
    assert [(one.count, one.boxes) for one in report.omissions] == [(94, 1464), (5, 16)]
    found = read_folder(tmp_path / "pets")
    assert (len(found), found[-1].person, {one.camera for one in found}) == (103, 19, {1, 2})
