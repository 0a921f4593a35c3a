"""A folder of one's own: natural order, numbers for names, every stray file named; people divided."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data.sets.folder import frames_in, read_folder, split_people
from backbone.data.tracklet import FrameFiles, Tracklet, read_image


def write_image(root: Path, name: str, level: int = 0) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(".png", np.full((4, 4, 3), level, dtype=np.uint8))[1]
    path.write_bytes(data.tobytes())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for name in ("p10/camB/1/1.png", "p2/camB/t10/f10.PNG", "p2/camB/t9/f2.png", "p2/camB/t9/f10.Jpeg"):
        write_image(root, name)
    write_image(root, "p2/camA/1/f1.jpg", 200)
    return root


def test_natural_order_and_numbers(root):
    tracklets = read_folder(root)
    assert [(item.source, item.person, item.camera) for item in tracklets] == [
        ("mine/p2/camA/1", 1, 1),
        ("mine/p2/camB/t9", 1, 2),
        ("mine/p2/camB/t10", 1, 2),
        ("mine/p10/camB/1", 2, 2),  # camB is camera 2 though this person has no camA
    ]
    frames = tracklets[1].frames
    assert isinstance(frames, FrameFiles)
    assert [path.name for path in frames.paths] == ["f2.png", "f10.Jpeg"]
    assert int(next(tracklets[0].frames.read()).mean()) == 200


def test_same_number_written_twice_stays_apart(tmp_path):
    for person in ("1", "01", "001"):
        write_image(tmp_path, f"{person}/c/t/0.png")
    assert [item.source.split("/")[1] for item in read_folder(tmp_path)] == ["001", "01", "1"]


def test_hidden_is_passed_over(root):
    (root / ".cut_report.json").write_text("{}")
    write_image(root, ".trash/c/t/0.png")
    (root / "p2/camA/1/.DS_Store").write_bytes(b"x")
    assert len(read_folder(root)) == 4


@pytest.mark.parametrize(
    "name",
    ["f.png", "p2/f.png", "p2/camA/f.png", "p2/camA/1/deeper/f.png", "notes.txt", "p2/camA/1/notes.txt"],
)
def test_stray_file_is_named_with_the_layout(root, name):
    write_image(root, name)
    with pytest.raises(ValueError, match="<root>/<person>/<camera>/<tracklet>/<frame>") as error:
        read_folder(root)
    assert str(root / name).removesuffix("/f.png") in str(error.value)


@pytest.mark.parametrize("name", ["p3", "p3/camA", "p3/camA/1"])
def test_empty_folder_is_named(root, name):
    (root / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{name} is empty"):
        read_folder(root)


def test_missing_and_empty_root(tmp_path):
    with pytest.raises(ValueError, match=r"no folder at .*nowhere"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is empty, person folders must be in it"):
        read_folder(tmp_path)


def test_frames_that_cannot_be_read_are_named_when_they_are(root):
    """Until then they count: with --on-bad-frame skip a neighbour takes their place."""
    (root / "p2/camA/1/f2.png").write_bytes(b"")
    (root / "p2/camA/1/f3.png").symlink_to("nowhere")
    (tracklet,) = (one for one in read_folder(root) if one.source.endswith("p2/camA/1"))
    paths = {path.name: path for path in tracklet.frames.paths}
    with pytest.raises(ValueError, match=r"p2/camA/1/f2\.png \(0 bytes\) is no image"):
        read_image(paths["f2.png"])
    with pytest.raises(ValueError, match=r"cannot read the frame .*p2/camA/1/f3\.png"):
        read_image(paths["f3.png"])


def tracklets_of(two_cameras: int, one_camera: int) -> list[Tracklet]:
    people = [(person, camera) for person in range(two_cameras) for camera in (1, 2)]
    people += [(100 + person, 1) for person in range(one_camera)]
    return [Tracklet(person, camera, FrameFiles(()), f"{person}/{camera}") for person, camera in people]


def people_of(tracklets: list[Tracklet]) -> set[int]:
    return {tracklet.person for tracklet in tracklets}


@pytest.mark.parametrize(
    ("two", "one", "fraction", "num_test_two", "num_test_one"),
    [
        (10, 0, 0.5, 5, 0),
        (10, 6, 0.3, 3, 2),
        (10, 0, 0.01, 2, 0),  # never fewer than two queries
        (10, 0, 0.99, 8, 0),  # never fewer than two to train on
        (2, 5, 0.5, 2, 3),  # all with two cameras are needed for the test
        (4, 3, 0.99, 4, 1),
    ],
)
def test_split_counts(two, one, fraction, num_test_two, num_test_one):
    train, test = split_people(tracklets_of(two, one), test_fraction=fraction, seed=3)
    assert not people_of(train) & people_of(test)
    assert len(people_of(train)) + len(people_of(test)) == two + one
    assert sum(person < 100 for person in people_of(test)) == num_test_two
    assert sum(person >= 100 for person in people_of(test)) == num_test_one
    assert len(train) + len(test) == 2 * two + one


def test_split_depends_on_the_seed_alone():
    tracklets = tracklets_of(20, 5)
    train, test = split_people(tracklets, test_fraction=0.5, seed=1)
    turned_train, turned_test = split_people(tracklets[::-1], test_fraction=0.5, seed=1)
    assert turned_train[::-1] == train
    assert turned_test[::-1] == test
    assert people_of(split_people(tracklets, test_fraction=0.5, seed=2)[1]) != people_of(test)


@pytest.mark.parametrize(("two", "one"), [(0, 0), (0, 9), (1, 9), (3, 0), (2, 1)])
def test_too_few_people(two, one):
    with pytest.raises(ValueError, match=f"^{two} of {two + one} people are seen by two cameras"):
        split_people(tracklets_of(two, one), test_fraction=0.5, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, float("nan")])
def test_bad_fraction(fraction):
    with pytest.raises(ValueError, match="test_fraction is"):
        split_people(tracklets_of(9, 0), test_fraction=fraction, seed=0)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0.5.png", "0.25.png", "12.png", "12.5.png", "1.jpg"], ["0.25", "0.5", "1", "12", "12.5"]),
        (["f10.png", "f9.png", "f9.5.png"], ["f9.5", "f9", "f10"]),  # no times: naturally, as before
    ],
)
def test_frames_named_by_times_are_in_the_order_of_time(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert [path.stem for path in frames_in(tmp_path)] == expected
