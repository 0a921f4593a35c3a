"""Tracks are read row by row: what is wrong with a row is counted with its line, an unusable file is an error."""

import pytest

from backbone.data.tracks import read_tracks


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
