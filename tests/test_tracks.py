"""Tracks are read row by row: what is wrong with a row is counted with its line, an unusable file is an error."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data.cut import cut_video
from backbone.data.tracks import TrackFormat, read_tracks


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
        ("1,1,nan,1,9,9", "NaN or infinity"),
        ("1,1,1,1,inf,9", "NaN or infinity"),
        ("-1,1,1,1,9,9", "frame is no whole number"),
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
        (b"1 1 1 1 9\n", "no valid row: 1 x row with fewer than 6 columns"),
        (b"1,1,0.1,0.2,0.3,0.4\n", "are they shares of the frame"),
        ("1,1,1,1,9,9\n".encode("utf-16-le"), "is no text file"),  # without its mark
    ],
)
def test_unusable_file_is_named(tmp_path, content, message):
    path = tmp_path / "gt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"gt\.txt.*{message}|{message}.*gt\.txt") as error:
        read_tracks(path)
    assert content is None or "1,9,312.00" in str(error.value)


EXPECTED = [[10.5, 20.0, 30.0, 60.0], [50.5, 20.0, 30.0, 60.0]]


@pytest.mark.parametrize(
    "content",
    [
        b"1;1;10,5;20;30;60;1\r\n1;2;50,5;20;30;60;1\r\n",
        b"1;1;10,50;20,00;30,00;60,00;0,95\n1;2;50,50;20,00;30,00;60,00;0,9\n",
        b"1,1,10.5,20,30,60,0.95,person,-1\n1,2,50.5,20,30,60,,NaN,high\n",
        b"1\t1\t10.5\t20\t30\t60\n1\t2\t50.5\t20\t30\t60\n",
        b"1 1  10.5 20 30 60 1\n1 2  50.5 20 30 60 1\n",
        b'"1","1","10.5","20","30","60"\n"1","2","50.5","20","30","60"\n',
        "1,1,10.5,20,30,60\n1,2,50.5,20,30,60\n".encode("utf-16"),
    ],
)
def test_what_producers_write_is_read(tmp_path, content):
    path = tmp_path / "gt.txt"
    path.write_bytes(content)
    tracks, omissions = read_tracks(path)
    assert tracks.boxes.tolist() == EXPECTED
    assert (tracks.people.tolist(), tracks.frame_index.tolist()) == ([1, 2], [0, 0])
    assert not omissions.by_reason


def read(tmp_path, text, **how):
    path = tmp_path / "gt.txt"
    path.write_text(text)
    return read_tracks(path, TrackFormat(**how))


def test_a_file_with_a_frame_0_counts_from_0_and_says_so(tmp_path):
    tracks, omissions = read(tmp_path, "4,1,1,1,9,9\n0,1,2,2,9,9\n")
    assert tracks.frame_index.tolist() == [0, 4]
    assert str(omissions).startswith("1 x file that counts frames from 0")
    assert "line 2" in str(omissions)
    tracks, omissions = read(tmp_path, "4,1,1,1,9,9\n0,1,2,2,9,9\n", first_frame=1)
    assert tracks.frame_index.tolist() == [3]
    assert "row whose frame is 0" in str(omissions)
    tracks, omissions = read(tmp_path, "4,1,1,1,9,9\n", first_frame=0)
    assert tracks.frame_index.tolist() == [4]
    with pytest.raises(ValueError, match="is 0 or 1, got 2"):
        TrackFormat(first_frame=2)


def test_corners_classes_and_visibility(tmp_path):
    rows = "1,1,10,20,40,80,1,1,0.9\n1,2,50,20,80,80,1,3,1\n1,3,50,20,80,80,1,1,0.1\n"
    tracks, omissions = read(tmp_path, rows, corners=True)
    assert tracks.boxes[0].tolist() == [10, 20, 30, 60]
    assert "all taken for people (--classes chooses): 1: 2 boxes, 3: 1 boxes" in str(omissions)
    tracks, omissions = read(tmp_path, rows, classes=(1,), min_visibility=0.5)
    assert tracks.people.tolist() == [1]
    assert str(omissions) == (
        "1 x row of another class than 1 (line 2); 1 x row of which less than 0.5 is visible (line 3)"
    )


def test_ids_keep_all_their_digits(tmp_path):
    tracks, _ = read(tmp_path, f"1,{2**60 + 1},1,1,9,9\n1,{2**60 + 2},1,1,9,9\n")
    assert tracks.people.tolist() == [2**60 + 1, 2**60 + 2]


CASES = Path(__file__).parents[2] / "shared" / "data" / "cases"


@pytest.mark.skipif(not CASES.exists(), reason="the small cases are not here")
def test_tracks_from_0_and_from_1_are_the_same_people(tmp_path):
    """A white box that moves: a frame off, its crops are not white."""
    folder = CASES / "zero_based"
    for name in ("from0", "from1"):
        cut_video(folder / "walk.avi", folder / f"{name}.txt", tmp_path / name, min_frames=2)
    first, second = (sorted((tmp_path / name).rglob("*.png")) for name in ("from0", "from1"))
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()
        assert cv2.imread(str(one)).mean() > 250


def test_a_pipe_or_a_device_is_no_file_of_tracks(tmp_path):
    os.mkfifo(tmp_path / "gt.txt")
    for path in (tmp_path / "gt.txt", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            read_tracks(path)


def test_short_gaps_are_bridged_on_a_straight_line(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,7,10,20,30,40\n4,7,16,17,33,34\n9,7,1,1,9,9\n5,2,50,50,9,9\n6,7,16,17,33,34")
    tracks, omissions = read_tracks(path, TrackFormat(bridge_gaps=2))
    assert tracks.people.tolist() == [2, 7, 7, 7, 7, 7, 7, 7, 7, 7]
    assert tracks.frame_index.tolist() == [4, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert tracks.boxes[1:7] == pytest.approx(
        np.array(
            [
                (10, 20, 30, 40),
                (12, 19, 31, 38),
                (14, 18, 32, 36),
                (16, 17, 33, 34),
                (16, 17, 33, 34),
                (16, 17, 33, 34),
            ]
        )
    )
    (omission,) = omissions.by_reason.values()
    assert (omission.reason, omission.count) == ("box put into a gap of at most 2 frames", 5)
    assert (omission.boxes, omission.first) == (
        -5,
        ("person 7, frame 2", "person 7, frame 5", "person 7, frame 7"),
    )
    shorter, _ = read_tracks(path, TrackFormat(bridge_gaps=1))
    assert shorter.frame_index.tolist() == [4, 0, 3, 4, 5, 8]
    with pytest.raises(ValueError, match="bridge_gaps must be 0 frames or more, got -1"):
        TrackFormat(bridge_gaps=-1)


def test_a_file_larger_than_any_is_not_read(tmp_path):
    path = tmp_path / "gt.txt"
    path.touch()
    os.truncate(path, 2**40)  # of which nothing is on the disk
    with pytest.raises(ValueError, match=r"gt\.txt are no regular file of at most 1,073,741,824 bytes"):
        read_tracks(path)
