"""Tracks to tracklets: chunks and omissions counted by hand, and a video that ends too early."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data.frame_files import read_video
from backbone.data.tracklet import Tracklet, VideoSlice
from backbone.data.tracks import Omissions, Tracks
from backbone.data.video import video_tracklets

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


def test_corners_are_not_taken_for_sizes(video):
    corners = (WIDTH - 30, HEIGHT - 40, WIDTH - 10, HEIGHT)  # as left, top, width, height far beyond the frame
    with pytest.raises(ValueError, match=r"12 of 18 boxes reach beyond the frame .* a3d data cut --corners"):
        video_tracklets(video, make_tracks((1, frames(1, 12), corners), (2, frames(1, 6), BOX)), min_frames=3)


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


def levels(path: Path) -> list[int]:
    """What `write_levels` gave each frame."""
    return [round(float(frame[-8:, -8:].mean()) / 6) for frame in read_video(path)]


def write_levels(path: Path) -> bytearray:
    """A video of grey frames, each lighter than the one before; above, red and noise."""
    rng = np.random.default_rng(0)
    code = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (WIDTH, HEIGHT))
    for number in range(30):
        frame = np.full((HEIGHT, WIDTH, 3), 6 * number, np.uint8)
        frame[: HEIGHT // 2, : WIDTH // 2] = (0, 0, 255)
        frame[: HEIGHT // 2, WIDTH // 2 :] = rng.integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3))
        writer.write(frame)
    writer.release()
    return bytearray(path.read_bytes())


def chunks(content: bytes) -> list[slice]:
    """Where an AVI file's frames are."""
    found, place = [], content.find(b"movi") + 4
    while content[place : place + 4] == b"00dc":
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        found.append(slice(place + 8, place + 8 + size))
        place += 8 + size + size % 2
    return found


@pytest.mark.parametrize(
    ("damaged", "shown"), [([12], {12: 11}), ([12, 13, 14], {12: 11, 13: 11, 14: 11}), ([0], {0: 1})]
)
def test_frames_that_cannot_be_decoded_are_named_and_the_others_keep_their_numbers(tmp_path, damaged, shown):
    path = tmp_path / "damaged.avi"
    content = write_levels(path)
    for place in [chunks(content)[number] for number in damaged]:
        content[place] = bytes(place.stop - place.start)
    path.write_bytes(content)
    assert levels(path) == [shown.get(number, number) for number in range(30)]
    tracklets, omissions = video_tracklets(path, make_tracks((1, frames(1, 30), BOX)), chunk_frames=30)
    assert spans(tracklets) == [(1, 1, 1, 30)]
    (lost,) = omissions.by_reason.values()
    assert lost.reason == "video frame that can't be decoded (its neighbour takes its place)"
    assert (lost.count, lost.boxes) == (len(damaged), 0)
    assert lost.first == tuple(f"frame {number + 1}" for number in damaged)


@pytest.mark.parametrize("promised", [0, 10, 100])
def test_a_wrong_number_of_frames_in_the_header_is_not_believed(tmp_path, promised):
    path = tmp_path / "promising.avi"
    content = write_levels(path)
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        place = content.find(name) + offset
        content[place : place + 4] = promised.to_bytes(4, "little")
    path.write_bytes(content)
    assert levels(path) == list(range(30))
    _, omissions = video_tracklets(path, make_tracks((1, frames(1, 30), BOX)))
    assert sum(one.count for one in omissions.by_reason.values()) == max(promised - 30, 0)


@pytest.mark.parametrize(
    ("degrees", "matrix", "corner"),
    [(90, (0, 1, -1, 0), (0, -1)), (180, (-1, 0, 0, -1), (-1, -1)), (270, (0, -1, 1, 0), (-1, 0))],
)
def test_a_video_that_says_so_is_turned(tmp_path, degrees, matrix, corner):
    path = tmp_path / "phone.mp4"
    content = write_levels(path)
    place = content.find(b"tkhd") + 44  # of the 3 x 3 matrix, fixed point
    (a, b, c, d) = (65536 * number for number in matrix)
    content[place : place + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content)
    size = (HEIGHT, WIDTH) if degrees == 180 else (WIDTH, HEIGHT)
    found = list(read_video(path))
    assert len(found) == 30
    for frame in found:
        assert frame.shape == (*size, 3)
        assert frame[corner][0] > 200  # red, which was to the upper left
        assert frame[corner][1] < 60
    tall = (0.0, 0.0, 12.0, size[0])
    tracklets, omissions = video_tracklets(path, make_tracks((1, frames(1, 30), tall)))
    assert tracklets[0].frames.boxes[0].tolist() == [0, 0, 12, size[0]]
    assert not omissions.by_reason


def test_frames_of_several_sizes(tmp_path, monkeypatch):
    path = tmp_path / "sizes.avi"
    content = write_levels(path)
    for number, place in enumerate(chunks(content)[20:], start=20):
        small = cv2.imencode(".jpg", np.full((8, 16, 3), 6 * number, np.uint8))[1]
        assert small.size <= place.stop - place.start
        content[place] = small.tobytes().ljust(place.stop - place.start, b"\0")
    path.write_bytes(content)
    assert {frame.shape for frame in read_video(path)} == {(HEIGHT, WIDTH, 3)}  # OpenCV brings them to one
    assert levels(path) == list(range(30))

    class Changing:
        """A decoder that leaves them as they are."""

        sizes = iter([(4, 8), (4, 8), (6, 8)])

        def isOpened(self):
            return True

        def set(self, *_):
            pass

        def read(self):
            return True, np.zeros((*next(self.sizes), 3), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", lambda name: Changing())
    with pytest.raises(ValueError, match=r"frame 3 of .*sizes.avi is of 8 x 6 pixels, those before it of 8 x 4"):
        list(read_video(path))
