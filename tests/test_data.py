"""Data sets by name: who is trained on, who asks, and who is searched."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from backbone import own
from backbone.data import DATASETS, DataConfig, ReidData, load_data
from backbone.data.division import everybody
from backbone.data.sets.synthetic import SyntheticConfig
from backbone.data.source import read_source
from backbone.data.spec import check_trusted_data, parse_spec, trust_data
from backbone.data.tracklet import JUNK, FrameFiles, Tracklet
from scripts.cli import main

CONFIG = DataConfig(
    synthetic=SyntheticConfig(num_train_people=3, num_test_people=2, num_frames=2, height=32, width=16)
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four people in both cameras with two tracklets in each, and two in the first camera alone."""
    root = tmp_path / "people"
    for person in range(6):
        for camera in ("a", "b") if person < 4 else ("a",):
            for number in ("1", "2"):
                path = root / f"p{person}" / camera / number
                path.mkdir(parents=True)
                cv2.imwrite(str(path / "0.png"), np.zeros((8, 4, 3), np.uint8))
    return root


def names(tracklets, *_) -> list[str]:
    return [tracklet.source for tracklet in tracklets or ()]


def test_registry():
    own, published = list(DATASETS)[:4], list(DATASETS)[4:]
    assert own == ["synthetic", "folder", "csv", "planted"]
    assert published == ["prid", "ilids", "mars", "lsvid", "g2a", "agvpreid", "mevid", "ccvid"]


def test_synthetic_queries_one_camera_in_the_other(tmp_path):
    data = load_data("synthetic", CONFIG, tmp_path)
    assert data.name == "synthetic"
    assert data.train_people == [0, 1, 2]
    assert [(one.person, one.camera) for one in data.query] == [(3, 0), (4, 0)]
    assert [(one.person, one.camera) for one in data.gallery] == [(3, 1), (4, 1)]
    assert all(one.source == f"synthetic/{one.name}" for one in data.train)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG.synthetic.key]


def test_synthetic_may_be_drawn_elsewhere(tmp_path):
    load_data(f"synthetic:{tmp_path / 'own'}", CONFIG, tmp_path / "cache")
    assert (tmp_path / "own" / CONFIG.synthetic.key).is_dir()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("seed", range(4))
def test_folder_queries_and_gallery(folder, tmp_path, seed):
    data = load_data(f"folder:{folder}", DataConfig(split_seed=seed), tmp_path)
    assert data.name == f"folder:{folder}"
    test_people = {one.person for one in data.gallery}
    assert len(test_people) == 3
    assert not test_people & set(data.train_people)
    assert test_people | set(data.train_people) == {1, 2, 3, 4, 5, 6}
    seen_twice = sorted(person for person in test_people if person <= 4)
    assert len(seen_twice) == 2
    # the first tracklet of each camera asks, of those whom another camera has seen
    expected = [f"people/p{person - 1}/{camera}/1" for person in seen_twice for camera in "ab"]
    assert names(data.query) == expected
    assert set(names(data.query)) <= set(names(data.gallery))
    assert all(one.source == f"people/{one.name}" for one in [*data.train, *data.gallery])
    assert len(data.gallery) == 2 * 4 + 2
    assert len(data.train) + len(data.gallery) == 4 * 4 + 2 * 2


def test_share_of_people_kept_for_the_test(folder, tmp_path):
    data = load_data(f"folder:{folder}", DataConfig(test_fraction=0.7), tmp_path)
    assert len({one.person for one in data.gallery}) == 4
    assert len(data.train_people) == 2


def test_everybody_of_a_folder_without_dividing_its_people(folder, tmp_path):
    for person in (3, 4, 5):
        shutil.rmtree(folder / f"p{person}")
    with pytest.raises(ValueError, match="people are seen by two cameras or more"):
        load_data(f"folder:{folder}", DataConfig(), tmp_path)
    data = load_data(f"folder:{folder}", DataConfig(), tmp_path, part="all")
    assert (len(data.train), len(data.query), len(data.gallery)) == (0, 6, 12)
    assert names(data.query)[:3] == ["people/p0/a/1", "people/p0/b/1", "people/p1/a/1"]


def test_everybody_of_other_data(tmp_path):
    data = load_data("synthetic", CONFIG, tmp_path, part="all")
    assert data.train == []
    assert {one.person for one in data.gallery} == {one.person for one in data.query} == {0, 1, 2, 3, 4}
    assert len(data.query) == 10


def test_junk_and_distractors_do_not_ask():
    tracklets = [Tracklet(person, camera, None, "") for person in (JUNK, 0, 7) for camera in (1, 2)]
    data = everybody(ReidData("some", [], tracklets[:1], tracklets, frozenset({0})))
    assert data.query == tracklets[4:]
    assert data.gallery == tracklets


def test_home_is_expanded(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("folder:~/people", DataConfig(), tmp_path).train


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mars2", "unknown data 'mars2'; known: synthetic, folder:<directory>, csv:<file>"),
        ("", "unknown data ''"),
        (
            "no_such_module:read",
            "'no_such_module:read' can't be imported: .*; known: synthetic, .* module:function",
        ),
        ("test_data:CONFIG", "test_data:CONFIG is no function that reads a data set"),
        ("test_data:names", "names has to return backbone.data.ReidData, and returned \\[\\]"),
        ("folder", "the data needs a directory"),
        ("folder:", "the data needs a directory"),
        ("folder:/no/such/place", "no folder at /no/such/place"),
    ],
)
def test_wrong_specs(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        load_data(spec, DataConfig(), tmp_path)


def pairs(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    """A data set of one's own: of each image a tracklet, in pairs of one person."""
    paths = sorted(directory.glob("*.png"))
    tracklets = [Tracklet(row // 2, row % 2, FrameFiles((path,)), path.name) for row, path in enumerate(paths)]
    return ReidData("pairs", tracklets[config.split :], tracklets[:2], tracklets[:2])


def test_a_data_set_of_ones_own(tmp_path):
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 4, 3), np.uint8))
    text = f"test_data:pairs:{tmp_path}"
    data = load_data(f"{text}@split=4", DataConfig(), tmp_path)
    assert (data.train_people, names(data.query)) == ([2], ["0.png", "1.png"])
    assert data.query[0].person_name == "test_data:pairs 0"
    assert len(read_source(text, "all", DataConfig(), tmp_path)) == 6
    spec = parse_spec(text)
    assert (spec.name, spec.place, spec.absolute()) == ("test_data:pairs", str(tmp_path), text)


OWN = """
from pathlib import Path

from backbone.data import DataConfig, ReidData
from backbone.data.tracklet import FrameFiles, Tracklet


def read(directory: Path | None, config: DataConfig, cache: Path) -> ReidData:
    names = ["ann-1", "ann-2", "bob-1", "bob-2"]
    tracklets = []
    for name in names:
        person, camera = name.split("-")
        frames = FrameFiles(tuple(sorted((directory / name).iterdir())))
        tracklets.append(Tracklet(len(person) + ord(person[0]), int(camera), frames, name, person_name=person))
    return ReidData("mine", tracklets[:2], tracklets[2:3], tracklets[3:])
"""


def test_the_command_finds_a_data_set_of_ones_own_in_the_current_folder(tmp_path, monkeypatch, capsys):
    for name in ("ann-1", "ann-2", "bob-1", "bob-2"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "pictures" / name / "0.png"), np.zeros((8, 4, 3), np.uint8))
    (tmp_path / "my_own_data.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["data", "check", "--data", "my_own_data:read:pictures"]) == 0
    printed = capsys.readouterr().out
    assert "my_own_data:read:pictures: 4 images by name and size, 4 of them decoded" in printed
    assert "train: 2 tracklets of 1 person" in printed


def test_a_file_does_not_choose_whose_data_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(own, "_TRUSTED", set())
    check_trusted_data("folder:x", "c.pt")
    for text in ("mine:read", "mine:read:/data@split=1"):
        with pytest.raises(ValueError, match=r"c\.pt names a data set .* mine:read: .* --trust mine:read "):
            check_trusted_data(text, "c.pt")
    trust_data("mine:read:/other")
    check_trusted_data("mine:read:/data", "c.pt")
