"""Tracks to tracklets: chunks and omissions counted by hand, damaged input, a cut that is whole or absent."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import video as video_module
from backbone.data.folder import read_folder
from backbone.data.tracklet import Tracklet, VideoSlice
from backbone.data.video import Omissions, Tracks, cut_video, read_tracks, video_tracklets

PETS = Path(__file__).resolve().parents[1].parent / "shared/data/pets2009_s2l1"
WIDTH, HEIGHT, NUM_FRAMES = 64, 48, 40
BOX = (10.0, 10.0, 12.0, 20.0)


def write_video(path: Path, num_frames: int = NUM_FRAMES) -> Path:
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for _ in range(num_frames):
        writer.write(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.avi")


def make_tracks(*rows: tuple[int, list[int], tuple[float, float, float, float]]) -> Tracks:
    """Tracks from (person, 1-based frames, box)."""
    flat = [(person, frame - 1, box) for person, frames, box in rows for frame in frames]
    people, frame_index, boxes = zip(*flat, strict=True)
    return Tracks(np.array(people), np.array(frame_index), np.array(boxes, dtype=float))


def spans(tracklets: list[Tracklet]) -> list[tuple[int, int, int, int]]:
    """(person, camera, first 1-based frame, length) of each."""
    found = []
    for tracklet in tracklets:
        assert isinstance(tracklet.frames, VideoSlice)
        found.append((tracklet.person, tracklet.camera, tracklet.frames.start + 1, len(tracklet)))
    return found


def counts(omissions: Omissions) -> dict[str, tuple[int, int]]:
    """The first three words of each reason, with its count and boxes."""
    return {" ".join(key.split()[:3]): (one.count, one.boxes) for key, one in omissions.by_reason.items()}


def frames(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# reading tracks


def test_rows_in_any_order_bom_crlf_blank_lines(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_bytes(b"\xef\xbb\xbf2,7,1.5,2,3,4,1,-1,-1,-1\r\n\r\n1,7, 5,6,7,8\r\n3.0,2,1,1,9,9,\r\n")
    tracks, omissions = read_tracks(path)
    assert tracks.people.tolist() == [2, 7, 7]
    assert tracks.frame_index.tolist() == [2, 0, 1]
    assert tracks.boxes.tolist() == [[1, 1, 9, 9], [5, 6, 7, 8], [1.5, 2, 3, 4]]
    assert not omissions.by_reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,1,1,1,9", "fewer than 6 columns"),
        ("1 1 1 1 9 9", "fewer than 6 columns"),
        ("frame,id,x,y,w,h", "no number"),
        ("1,1,1,,9,9", "no number"),
        ("1,1,1,1,9,9,high", "no number"),
        ("1,1,nan,1,9,9", "NaN or infinity"),
        ("1,1,1,1,inf,9", "NaN or infinity"),
        ("1,1,1,1,9,9,nan", "NaN or infinity"),
        ("0,1,1,1,9,9", "frame is no whole number"),
        ("1.5,1,1,1,9,9", "frame is no whole number"),
        ("1e300,1,1,1,9,9", "frame is no whole number"),
        ("1,-1,1,1,9,9", "id is no whole number"),
        ("1,1.5,1,1,9,9", "id is no whole number"),
        ("1,1,1,1,0,9", "width or height"),
        ("1,1,1,1,9,-9", "width or height"),
        ("1,1,1,1,9,9,0", "confidence 0"),
        ("5,5,2,2,9,9,1", "repeats a frame and id"),
    ],
)
def test_bad_row_is_counted_with_its_line(tmp_path, row, reason):
    path = tmp_path / "gt.txt"
    path.write_text(f"5,5,1,1,9,9,1\n{row}\n")
    tracks, omissions = read_tracks(path)
    assert tracks.boxes.tolist() == [[1, 1, 9, 9]]
    (omission,) = omissions.by_reason.values()
    assert reason in omission.reason
    assert (omission.count, omission.boxes, omission.first) == (1, 1, ("line 2",))


def test_first_three_lines_are_named(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,1,1,1,9,9\n" + "broken\n" * 5)
    (omission,) = read_tracks(path)[1].by_reason.values()
    assert (omission.count, omission.first) == (5, ("line 2", "line 3", "line 4"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the tracks"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf\r\n \n", "is empty"),
        (b"\x00\x01\x02", "is no text file"),
        (b"\xff\xd8\xff\xe0", "is no text file"),
        (b"1 1 1 1 9 9\n", "no valid row: 1 x row with fewer than 6 columns"),
    ],
)
def test_unusable_file_is_named(tmp_path, content, message):
    path = tmp_path / "gt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"gt\.txt.*{message}|{message}.*gt\.txt") as error:
        read_tracks(path)
    assert content is None or "1,9,312.00" in str(error.value)


# tracklets


def test_chunks_counted_by_hand(video):
    # 40 frames in chunks of 10 with gaps of 4: 1-10, 15-24, 29-38; 39-40 fall into the next gap
    tracklets, omissions = video_tracklets(
        video, make_tracks((3, frames(1, 40), BOX)), chunk_frames=10, gap_frames=4, min_frames=3
    )
    assert spans(tracklets) == [(3, 1, 1, 10), (3, 2, 15, 10), (3, 1, 29, 10)]
    assert [item.source for item in tracklets] == [
        "street.avi/0003/cam1/0001",
        "street.avi/0003/cam2/0002",
        "street.avi/0003/cam1/0003",
    ]
    assert counts(omissions) == {"gap between chunks": (3, 10)}
    first = tracklets[0].frames
    assert isinstance(first, VideoSlice)
    assert first.boxes.dtype.kind == "i"
    assert first.boxes[0].tolist() == [10, 10, 22, 30]


def test_track_is_split_at_a_missing_frame_and_the_gap_holds_across_it(video):
    # 1-8, then 10-20: the next chunk may start 4 frames after frame 8, at 13
    tracks = make_tracks((1, [*frames(1, 8), *frames(10, 20)], BOX))
    tracklets, omissions = video_tracklets(video, tracks, chunk_frames=10, gap_frames=4, min_frames=3)
    assert spans(tracklets) == [(1, 1, 1, 8), (1, 2, 13, 8)]
    assert counts(omissions) == {"gap between chunks": (1, 3)}
    tracklets, omissions = video_tracklets(video, tracks, chunk_frames=10, gap_frames=0, min_frames=3)
    assert spans(tracklets) == [(1, 1, 1, 8), (1, 2, 10, 10)]
    assert counts(omissions) == {"chunk shorter than": (1, 1)}


def test_short_chunks_and_people_lost_are_counted(video):
    tracks = make_tracks((1, [*frames(1, 2), *frames(10, 20), *frames(30, 31)], BOX), (2, [5, 7, 9], BOX))
    tracklets, omissions = video_tracklets(video, tracks, chunk_frames=32, gap_frames=2, min_frames=3)
    assert spans(tracklets) == [(1, 1, 10, 11)]
    assert counts(omissions) == {"chunk shorter than": (5, 7), "person without a": (1, 0)}
    assert omissions.by_reason["person without a tracklet"].first == ("person 2",)


def test_boxes_outside_are_omitted_and_boxes_at_the_edge_clipped(video):
    run = frames(1, 6)
    tracks = make_tracks(
        (1, run, (-5.4, 10.4, 20, 60)),  # clipped: x -5.4..14.6, y 10.4..70.4
        (2, run, (64, 0, 20, 20)),  # begins where the frame ends
        (3, run, (-30, -30, 20, 20)),
        (4, run, (-16, 0, 20, 20)),  # a fifth inside
        (5, run, (-15, 0, 20, 20)),  # a quarter inside: kept for the share, but 5 px wide
        (6, run, (20, 20, 7, 30)),
        (7, run, (20, 20, 7.6, 8)),  # rounds from 20 to 28
        (8, run, (1e308, 1, 1e308, 9)),
        (9, frames(38, 45), BOX),
    )
    tracklets, omissions = video_tracklets(video, tracks, min_frames=3)
    assert [tracklet.person for tracklet in tracklets] == [1, 7, 9]
    assert counts(omissions) == {
        "box in a": (5, 5),  # beyond the end
        "box wholly outside": (18, 18),
        "box with less": (6, 6),
        "box smaller than": (12, 12),
        "box clipped at": (6, 0),
        "person without a": (6, 0),
    }
    assert omissions.by_reason["box in a frame beyond the video's end"].first[0] == "person 9, frame 41"
    first = tracklets[0].frames
    assert isinstance(first, VideoSlice)
    assert first.boxes[0].tolist() == [0, 10, 15, HEIGHT]
    assert spans(tracklets)[2] == (9, 1, 38, 3)


def test_nothing_left_says_why(video):
    with pytest.raises(ValueError, match=r"no tracklet remains of 6 boxes.*6 x box wholly outside"):
        video_tracklets(video, make_tracks((1, frames(1, 6), (500, 0, 9, 9))))


@pytest.mark.parametrize(
    "settings", [{"chunk_frames": 5}, {"min_frames": 0}, {"gap_frames": -1}, {"chunk_frames": 0}]
)
def test_settings_out_of_range(video, settings):
    with pytest.raises(ValueError, match="1 <= min_frames <= chunk_frames"):
        video_tracklets(video, make_tracks((1, frames(1, 40), BOX)), **settings)


def test_truncated_video_is_reported_and_its_last_frames_omitted(video, tmp_path):
    content = video.read_bytes()
    broken = tmp_path / "broken.avi"
    broken.write_bytes(content[: len(content) // 2])
    tracklets, omissions = video_tracklets(broken, make_tracks((1, frames(1, 40), BOX)), chunk_frames=40)
    (reported, beyond) = omissions.by_reason.values()
    assert "truncated" in reported.reason
    decoded = NUM_FRAMES - reported.count
    assert 10 < decoded < 25
    assert (beyond.reason, beyond.count) == ("box in a frame beyond the video's end", reported.count)
    assert spans(tracklets) == [(1, 1, 1, decoded)]
    assert len(list(tracklets[0].frames.read())) == decoded


# cutting


@pytest.fixture
def tracks_file(tmp_path: Path) -> Path:
    rows = [f"{frame},{person},{5 * person},8.3,10.6,30" for person in (1, 2) for frame in frames(1, 20)]
    path = tmp_path / "gt.txt"
    path.write_text("\n".join([*rows, "21,1,nan,1,9,9", "broken"]))
    return path


SETTINGS = {"chunk_frames": 8, "gap_frames": 2, "min_frames": 4}


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
    monkeypatch.setattr(video_module, "read_video", lambda path: calls.append(path) or real(path))
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


# the real one


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
