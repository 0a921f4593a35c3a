"""A folder of one's own: natural order, numbers for names, every stray file named; people divided."""

import itertools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone.data import DataConfig, load_data
from backbone.data.check import check_data
from backbone.data.division import split_people
from backbone.data.frame_files import read_image
from backbone.data.sets.folder import frames_in, read_divided_folder, read_folder
from backbone.data.source import read_source
from backbone.data.tracklet import FrameFiles, Tracklet


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


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for name in ("train/p2/camA/1", "train/p2/camB/1", "train/p1/camB/1", "query/p10/camA/1", "gallery/p9/camB/1"):
        write_image(root, f"{name}/0.png")
    write_image(root, "gallery/p10/camB/7/0.png")
    return root


def numbered(tracklets: list[Tracklet]) -> list[tuple[str, int, int]]:
    return [(one.source, one.person, one.camera) for one in tracklets]


def test_a_division_of_the_folders_own_is_taken(divided):
    data = load_data(f"folder:{divided}", DataConfig(), Path("unused"))
    assert numbered(data.train) == [
        ("mine/train/p1/camB/1", 1, 2),
        ("mine/train/p2/camA/1", 2, 1),
        ("mine/train/p2/camB/1", 2, 2),
    ]
    assert numbered(data.query) == [("mine/query/p10/camA/1", 4, 1)]
    assert numbered(data.gallery) == [("mine/gallery/p9/camB/1", 3, 2), ("mine/gallery/p10/camB/7", 4, 2)]
    assert (data.query[0].person_name, data.query[0].name) == ("p10", "query/p10/camA/1")
    counts = {
        part: len(read_source(f"folder:{divided}", part, DataConfig(), Path("unused")))
        for part in ("query", "gallery", "test", "train", "all")
    }
    assert counts == {"query": 1, "gallery": 2, "test": 3, "train": 3, "all": 6}


def test_a_division_without_train_is_for_tests(divided):
    shutil.rmtree(divided / "train")
    assert load_data(f"folder:{divided}", DataConfig(), Path("unused")).train == []


def test_what_is_wrong_with_a_division_is_named(divided):
    write_image(divided, "query/p2/camA/1/0.png")
    with pytest.raises(
        ValueError, match=r"people of the train part .* are in its query or gallery, too: p2 \(1 in all\)"
    ):
        read_divided_folder(divided)
    write_image(divided, "p3/camA/1/0.png")
    with pytest.raises(ValueError, match="division of its own, query and gallery, and p3 beside them"):
        read_divided_folder(divided)


TABLE = """person,path,part,camera,note
p2,train/p2/camA/1,train,A,x
p2,train/p2/camB/1,train,B,
p10,query/p10/camA/1,query,A,
p10,query/p10/camA/1,gallery,A,
p10,gallery/p10/camB/7,gallery,B,
"""


def write_table(divided: Path, text: str) -> str:
    (divided / "list.csv").write_text(text, encoding="utf-8-sig")
    return f"csv:{divided}/list.csv"


def test_a_table_is_read(divided):
    data = load_data(write_table(divided, TABLE), DataConfig(), Path("unused"))
    assert numbered(data.train) == [("list/train/p2/camA/1", 1, 1), ("list/train/p2/camB/1", 1, 2)]
    assert numbered(data.query) == [("list/query/p10/camA/1", 2, 1)]
    assert data.gallery[0] is data.query[0]
    assert [one.person_name for one in data.gallery] == ["p10", "p10"]
    assert data.gallery[1].frames.paths == (divided / "gallery/p10/camB/7/0.png",)
    report = check_data(f"csv:{divided}/list.csv")
    assert (report.files, report.problems) == (4, [])


def test_a_table_without_parts_is_divided_by_people(tmp_path):
    lines = ["path,person,camera"]
    for person, camera in itertools.product("abcd", "12"):
        write_image(tmp_path, f"{person}{camera}/0.png")
        lines.append(f"{person}{camera},{person},{camera}")
    spec = write_table(tmp_path, "\n".join(lines))
    data = load_data(f"{spec}@test_fraction=0.5", DataConfig(), Path("unused"))
    assert (len(data.train), len(data.query), len(data.gallery)) == (4, 4, 4)
    assert len(read_source(spec, "query", DataConfig(), Path("unused"))) == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("camera,note", "cam,note", "line 1: no column camera in 'person,? path, part, cam, note'"),
        ("p2,train/p2/camB/1,train,B", "p2,train/p2/camB/1,train,", "line 3: there is no camera"),
        ("p2/camB/1,train", "p2/camB/1,test", "line 3: the part is train, query, gallery or empty, got 'test'"),
        ("p2/camB/1,train", "p2/camB/1,", "line 3: all lines have a part, or none has; line 2 differs"),
        ("train/p2/camB/1", "nowhere", "line 3: cannot read the folder .*nowhere"),
        (
            "train/p2/camB/1",
            "train/p2/camA/1",
            "line 3: train/p2/camA/1 has another person or camera than in line 2",
        ),
        (",gallery,A", ",query,A", "line 5: query/p10/camA/1 was in line 4 already"),
        (TABLE[TABLE.index("p2") :], "", "lists no tracklet"),
        (",query,", ",gallery,", "already"),
        ("camera,note\np2,", "camera,note\np10,", "people of the train part of csv:.* too: p10 "),
    ],
)
def test_what_is_wrong_with_a_table_is_named_by_line(divided, old, new, message):
    spec = write_table(divided, TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_data(spec, DataConfig(), Path("unused"))


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
