"""`a3d data check` on data that is damaged on purpose."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from backbone.data.check import check_data
from backbone.data.frame_files import is_truncated, read_image
from backbone.data.sets.prid import EXCLUDED
from scripts.cli import main


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A picture with so much in it that its files are longer than what is looked through for the last mark."""
    path = tmp_path_factory.mktemp("image") / "one.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    return path


@pytest.fixture
def prid(tmp_path, image):
    for camera in ("cam_a", "cam_b"):
        for person in range(1, 201):
            folder = tmp_path / "multi_shot" / camera / f"person_{person:04d}"
            folder.mkdir(parents=True)
            for frame in range(1, 27 if person in EXCLUDED else 28):
                os.link(image, folder / f"{frame:04d}.png")
    return tmp_path


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


@pytest.mark.slow
def test_whole_data_has_counts_and_no_problems(prid, capsys):
    assert main(["data", "check", "--data", f"prid:{prid}", "--sample", "0.05"]) == 0
    printed = capsys.readouterr().out
    files = 2 * (178 * 27 + 22 * 26)
    assert (
        f"prid:{prid}: {files:,} images by name and size, {int(np.ceil(files * 0.05)):,} of them decoded"
        in printed
    )
    assert "train: 178 tracklets of 89 people, 4,806 frames, 27 to 27 a tracklet" in printed
    assert "query: 89 tracklets of 89 people" in printed
    assert printed.endswith("nothing is wrong\n")


@pytest.mark.slow
def test_seven_kinds_of_damage_are_all_found(prid, image, tmp_path, capsys):
    person = prid / "multi_shot" / "cam_a" / "person_0001"
    content = image.read_bytes()
    replace(person / "0002.png", b"")  # 1
    replace(person / "0003.png", content[: len(content) // 2])  # 2: a picture cut short
    replace(person / "0004.png", b"this is no picture, but it has a picture's name")  # 3
    broken = bytearray(content)
    broken[30:400] = bytes(370)  # 4: overwritten inside, with its end in place
    replace(person / "0005.png", bytes(broken))
    (person / "0006.png").rename(person / "six.png")  # 5
    (person / "notes.txt").write_text("hello")  # 6
    shutil.rmtree(prid / "multi_shot" / "cam_b" / "person_0007")  # 7
    report = tmp_path / "report.json"
    assert main(["data", "check", "--data", f"prid:{prid}", "--json", str(report)]) == 1
    printed = capsys.readouterr().out
    found = {(one["kind"], one["path"]) for one in json.loads(report.read_text())["problems"]}
    assert found == {
        ("structure", f"prid:{prid}"),
        ("wrongly named", str(person / "six.png")),
        ("wrongly named", str(person / "notes.txt")),
        ("empty", str(person / "0002.png")),
        ("truncated", str(person / "0003.png")),
        ("unreadable", str(person / "0004.png")),
        ("unreadable", str(person / "0005.png")),
    }
    assert "structure: 1\n" in printed  # a reader stops at the first
    assert "7 problems" in printed


def test_frames_that_are_not_there_are_missing(tmp_path, image):
    """A link to nowhere, a folder behind a link, and data without a single frame."""
    for person in range(4):
        for camera in "ab":
            folder = tmp_path / "data" / f"p{person}" / camera / "1"
            folder.mkdir(parents=True)
            for frame in range(2):
                os.link(image, folder / f"{frame}.png")
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "data" / "p1" / "a" / "1", moved)
    (tmp_path / "data" / "p1" / "a" / "1").symlink_to(moved)
    replace(moved / "1.png", image.read_bytes()[:500])
    report = check_data(f"folder:{tmp_path / 'data'}")
    assert report.files == 16
    assert [(one.kind, one.path) for one in report.problems] == [
        ("truncated", str(tmp_path / "data" / "p1" / "a" / "1" / "1.png"))
    ]
    lost = tmp_path / "data" / "p2" / "a" / "1" / "1.png"
    lost.unlink()
    lost.symlink_to(tmp_path / "nowhere.png")
    kinds = {(one.kind, one.path) for one in check_data(f"folder:{tmp_path / 'data'}").problems}
    assert ("missing", str(lost)) in kinds
    (tmp_path / "empty").mkdir()
    assert "there is not one image where mars has its frames" in str(
        check_data(f"mars:{tmp_path / 'empty'}").problems
    )


@pytest.mark.slow
def test_every_split_is_looked_at(tmp_path, image):
    for camera in ("cam1", "cam2"):
        for person in range(1, 301):
            folder = tmp_path / "sequences" / camera / f"person{person:03d}"
            folder.mkdir(parents=True)
            for frame in range(22):
                os.link(image, folder / f"{camera}_person{person:03d}_{frame}.png")
    rows = np.stack([np.random.default_rng(split).permutation(300) + 1 for split in range(10)])
    rows[5] = 1
    (tmp_path / "train-test people splits").mkdir()
    table = tmp_path / "train-test people splits" / "train_test_splits_ilidsvid.mat"
    scipy.io.savemat(table, {"ls_set": rows})
    strange = tmp_path / "sequences" / "cam1" / "person004" / "cam2_person004_7.png"
    (strange.parent / "cam1_person004_7.png").rename(strange)
    report = check_data(f"ilids:{tmp_path}", sample=0.001)
    assert [problem.kind for problem in report.problems] == ["structure", "wrongly named"]
    assert "row 5 of ls_set" in report.problems[0].text
    assert report.problems[1].text == f"{strange} is named as a frame of cam2"


def test_only_some_are_printed(tmp_path, image, capsys):
    folder = tmp_path / "data" / "p1" / "a" / "1"
    folder.mkdir(parents=True)
    for frame in range(25):
        (folder / f"{frame}.png").write_bytes(image.read_bytes()[:200])
    assert main(["data", "check", "--data", f"folder:{tmp_path / 'data'}"]) == 1
    printed = capsys.readouterr().out
    assert "truncated: 25\n" in printed
    assert "... and 5 more (--json FILE has all)" in printed


def test_names_of_mars_and_ilids(tmp_path, image):
    for name in (
        "bbox_train/0001/0001C1T0001F001.jpg",
        "bbox_test/00-1/0002C1T0001F001.jpg",
        "bbox_test/0002/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(image, tmp_path / name)
    (tmp_path / "readme.txt").write_text("not where frames lie")
    report = check_data(f"mars:{tmp_path}")
    assert report.files == 3
    texts = [problem.text for problem in report.problems if problem.kind == "wrongly named"]
    assert texts == [
        f"{tmp_path}/bbox_test/00-1/0002C1T0001F001.jpg is named as a frame of 0002",
        f"{tmp_path}/bbox_test/0002/1.jpg is not named as frames of mars are",
    ]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_what_is_cut_short_is_an_error_in_training_too(kind, tmp_path):
    path = tmp_path / f"one.{kind}"
    picture = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(path), picture)
    assert read_image(path).shape == (40, 30, 3)
    content = path.read_bytes()
    path.write_bytes(content + bytes(5000))  # some cameras leave a few bytes
    read_image(path)
    for length in (len(content) // 3, len(content) - 13):
        path.write_bytes(content[:length])
        with pytest.raises(
            ValueError, match=r"one\.\w+ \(\d+ bytes\) ends before its image does: it is truncated"
        ):
            read_image(path)


def test_other_kinds_of_files_have_no_such_mark():
    assert not is_truncated(np.frombuffer(b"BM some bitmap", dtype=np.uint8))
    assert not is_truncated(np.zeros(0, dtype=np.uint8))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "prid"], "there is no folder to check: write NAME:DIRECTORY"),
        (["--data", "prid:nowhere"], "there is no folder to check"),
        (["--data", "folder:.", "--sample", "0"], "sample must be above 0"),
        (["--data", "folder:.", "--workers", "0"], "workers 1 or more"),
    ],
)
def test_mistakes_are_explained(flags, message, capsys):
    assert main(["data", "check", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_table_that_can_not_be_read_is_one_problem(tmp_path):
    (tmp_path / "a.csv").write_text("path,person\na,1\n")
    (problem,) = check_data(f"csv:{tmp_path}/a.csv").problems
    assert "no column camera" in problem.text
